"""Settings of Triggers for the shop; environment variables of the same names win over them."""

# Many machines. On one machine without any service: "sqlite" and "threading".
TRIGGER_STORAGE_TYPE = "redis"
TRIGGER_RUNNER = "celery"

TRIGGER_PLUGIN_OPTIONS = {"celery": {"app": "shop.worker:app"}}
TRIGGER_IMPORTS = ["shop.tasks"]

# Every order is a session, and begins with these tasks.
TRIGGER_CONFIGURATION = {
    "t_ship": {"after": ["paid", "reserved"], "run": "shop.ship"},
    "t_tell": {"after": ["t_ship"], "run": "shop.tell"},
}
