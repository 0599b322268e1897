"""Sessions in Redis or Valkey: keys, records, one Lua file for each atomic move."""

from .memory import MemoryOptions
from .redis_store import RedisStore, connect

__all__ = ["MemoryOptions", "RedisStore", "connect"]
