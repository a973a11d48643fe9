"""A shop that ships an order once it has been paid and its goods are reserved."""

import os

os.environ.setdefault("TRIGGERS_SETTINGS_MODULE", "fastapi_shop.settings")
