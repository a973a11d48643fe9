"""Triggers in a Django project: ``INSTALLED_APPS += ["triggers_django"]``.

`DjangoStore` and `DjangoStorage` can be imported once Django is set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triggers_django.storage import DjangoStorage
    from triggers_django.store import DjangoStore

__version__ = "0.2.0"

__all__ = ["DjangoStorage", "DjangoStore", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "DjangoStorage":
        from triggers_django.storage import DjangoStorage

        return DjangoStorage
    if name == "DjangoStore":
        from triggers_django.store import DjangoStore

        return DjangoStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
