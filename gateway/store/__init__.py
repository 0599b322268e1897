"""Sessions in Redis or Valkey: keys, records, one Lua file for each atomic move."""

from .event_log import OutboxLog
from .memory import MemoryOptions
from .outbox import RedisOutbox, Survey
from .redis_store import RedisStore, connect

__all__ = ["MemoryOptions", "OutboxLog", "RedisOutbox", "RedisStore", "Survey", "connect"]
