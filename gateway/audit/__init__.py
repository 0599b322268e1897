"""The history of events in Postgres: written once each, chained, read, and verified."""

from .database import Database, DatabaseOptions
from .history import PostgresLog
from .sink import PostgresSink
from .upkeep import Upkeep

__all__ = ["Database", "DatabaseOptions", "PostgresLog", "PostgresSink", "Upkeep"]
