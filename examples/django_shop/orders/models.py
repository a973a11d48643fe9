"""What the shop knows of an order, beside its session."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    number = models.CharField(max_length=40, unique=True)
    parcel = models.CharField(max_length=64, blank=True)  # empty: not shipped yet

    def __str__(self) -> str:
        return self.number

    @property
    def uid(self) -> str:
        """The session of this order."""
        return f"order:{self.number}"


class Payment(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    cents = models.PositiveIntegerField()  # the database refuses less than 0

    def __str__(self) -> str:
        return f"{self.cents / 100:.2f} for {self.order}"


class Reservation(models.Model):
    order = models.OneToOneField(Order, models.CASCADE)
    warehouse = models.CharField(max_length=40)

    def __str__(self) -> str:
        return f"{self.order} in {self.warehouse}"
