"""Which address is whose."""

from django.contrib import admin
from django.urls import path
from orders import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("payments", views.payments),
    path("stock", views.stock),
    path("orders/<str:number>", views.order),
]
