"""Sessions in Redis or Valkey: keys, records, one Lua file for each atomic move."""

from .alert_queue import AlertQueue, Lists
from .dead_letters import DeadLetter, DeadLetters
from .event_log import OutboxLog
from .histories import link_with, no_link
from .memory import MemoryOptions
from .outbox import RedisOutbox, Survey
from .redis_store import MAX_CONNECTIONS, RedisStore, connect

__all__ = [
    "MAX_CONNECTIONS",
    "AlertQueue",
    "DeadLetter",
    "DeadLetters",
    "Lists",
    "MemoryOptions",
    "OutboxLog",
    "RedisOutbox",
    "RedisStore",
    "Survey",
    "connect",
    "link_with",
    "no_link",
]
