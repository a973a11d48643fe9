"""Migrations of the storage `django`: `python manage.py migrate triggers`."""
