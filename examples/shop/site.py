"""The shop with pages for whoever works in it, at ``/triggers``: ``uvicorn shop.site:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from shop.web import app as shop
from triggers_core.application import default_application
from triggers_web.pages import everybody
from triggers_web.starlette import pages

# In earnest, ask who is logged in: everybody on this machine may act here.
shown = pages(access=everybody("the shop", act=True), hosts={"localhost", "127.0.0.1"})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """From its start on, the service looks after what a killed one left behind."""
    async with default_application:
        yield


app = Starlette(routes=[Mount("/triggers", app=shown), Mount("/", app=shop)], lifespan=lifespan)
