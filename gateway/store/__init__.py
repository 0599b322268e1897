"""Sessions in Redis or Valkey: keys, records, one Lua file for each atomic move."""

from .redis_store import RedisStore, connect

__all__ = ["RedisStore", "connect"]
