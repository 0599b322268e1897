"""Brings the schema up to date: plain SQL files, each once, in order, under an advisory lock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from ..errors import ConfigurationError

_LOCK = 0x6757_6D69_6772  # any number that nobody else takes
_TABLE = """
CREATE SCHEMA IF NOT EXISTS gateway;
CREATE TABLE IF NOT EXISTS gateway.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def _shipped() -> tuple[Migration, ...]:
    folder = files(__package__) / "migrations"
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".sql"))
    return tuple(Migration(int(name[:4]), name, (folder / name).read_text()) for name in names)


MIGRATIONS = _shipped()
LATEST = MIGRATIONS[-1].number


async def migrate(dsn: str, timeout_s: float) -> list[str]:
    """Apply what is missing and return its names.

    Raises ConfigurationError if the database was set up by other files than these, or refuses.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout_s)
        try:
            return await _migrate(connection)
        finally:
            await connection.close(timeout=timeout_s)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ConfigurationError(f"Postgres: {error or type(error).__name__}") from None


async def _migrate(connection: asyncpg.Connection) -> list[str]:
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)  # ends with the connection
    await connection.execute(_TABLE)
    applied = {
        row["number"]: row["sha256"]
        for row in await connection.fetch("SELECT number, sha256 FROM gateway.migrations")
    }
    _refuse_others(applied)
    missing = [each for each in MIGRATIONS if each.number not in applied]
    for each in missing:
        async with connection.transaction():
            await connection.execute(each.sql)
            await connection.execute(
                "INSERT INTO gateway.migrations (number, name, sha256) VALUES ($1, $2, $3)",
                each.number, each.name, each.sha256,
            )  # fmt: skip
    return [each.name for each in missing]


def _refuse_others(applied: dict[int, str]) -> None:
    ours = {each.number: each for each in MIGRATIONS}
    for number, sha256 in sorted(applied.items()):
        if number not in ours:
            raise ConfigurationError(
                f"the database has migration {number}, which this version does not know; "
                "use the version that made it"
            )
        if ours[number].sha256 != sha256:
            raise ConfigurationError(
                f"{ours[number].name} is not what was applied to this database; "
                "install the gateway anew from a release"
            )
