"""What the shop knows of an order, beside its session."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_shop.settings import DATABASE

URL = make_url(DATABASE).set(drivername="postgresql+psycopg")

engine = create_async_engine(URL)
"""That of the web service: its connections belong to the event loop."""
task_engine = create_engine(URL)
"""That of the tasks, which run in threads."""


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    parcel: Mapped[str] = mapped_column(server_default="")  # empty: not shipped yet


class Payment(Base):
    __tablename__ = "payments"
    __table_args__ = (CheckConstraint("cents >= 0"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    order: Mapped[str] = mapped_column(ForeignKey(Order.number))
    cents: Mapped[int]


class Reservation(Base):
    __tablename__ = "reservations"

    id: Mapped[str] = mapped_column(primary_key=True)
    order: Mapped[str] = mapped_column(ForeignKey(Order.number))
    warehouse: Mapped[str]


async def create_tables() -> None:
    """Create what is missing. In earnest, Alembic does that; Triggers makes its tables itself."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
