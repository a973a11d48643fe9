"""The shop's own pages in the admin; those of Triggers are there by themselves."""

from __future__ import annotations

from django.contrib import admin

from orders.models import Order, Payment, Reservation

admin.site.register([Order, Payment, Reservation])
