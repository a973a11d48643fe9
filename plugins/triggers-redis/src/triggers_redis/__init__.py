"""The storage `redis` of Triggers: sessions in Redis or Valkey, shared by many machines."""

from triggers_redis.storage import RedisStorage
from triggers_redis.store import RedisStore

__version__ = "0.2.0"

__all__ = ["RedisStorage", "RedisStore", "__version__"]
