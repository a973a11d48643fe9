"""Settings of Triggers for the shop; environment variables of the same names win over them."""

import os

DATABASE = os.environ.get("SHOP_DATABASE", "postgresql://localhost/shop")

# The sessions are where the orders are, so that one transaction may change both.
TRIGGER_STORAGE_TYPE = "postgres"
TRIGGER_STORAGE_OPTIONS = {"url": DATABASE}
TRIGGER_IMPORTS = ["fastapi_shop.tasks"]

# Every order is a session, and begins with these tasks.
TRIGGER_CONFIGURATION = {
    "t_ship": {"after": ["paid", "stockReserved"], "run": "shop.Ship"},
    "t_tell": {"after": ["t_ship"], "run": "shop.Tell"},
}
