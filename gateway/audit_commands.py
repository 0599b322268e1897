"""The commands about the history in Postgres: `gateway database` and `gateway audit`.

What talks to servers is imported when it is needed: commands start fast.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from .config import Settings, load
from .errors import ConfigurationError, StoreUnavailable
from .ports import Witnessed

if TYPE_CHECKING:
    from .audit.verify import Verdict

_config = click.option(
    "--config", "path", type=click.Path(dir_okay=False), help="The TOML file.", envvar="GW_CONFIG"
)


@click.group()
def database() -> None:
    """The database of the event history (postgres.dsn)."""


@database.command()
@_config
def migrate(path: str | None) -> None:
    """Bring the schema up to date; may be repeated, and run by several at once."""
    from .audit.migrate import migrate as apply

    settings = _settings(path)
    timeout_s = settings.postgres.connect_timeout / 1000
    applied = asyncio.run(apply(settings.postgres.dsn.get_secret_value(), timeout_s))
    click.echo(f"applied {', '.join(applied)}" if applied else "nothing to do")


@click.group()
def audit() -> None:
    """The history of events as evidence."""


@audit.command("verify")
@_config
def verify_chains(path: str | None) -> None:
    """Tell whether any event was removed, changed or moved; exit 1 if so."""
    sys.exit(asyncio.run(_verify(_settings(path))))


async def _verify(settings: Settings) -> int:
    from .audit.verify import verify

    witnessed = await _witnessed(settings)
    rows = wrong = 0
    dsn = settings.postgres.dsn.get_secret_value()
    async for verdict in verify(dsn, settings.postgres.connect_timeout / 1000, witnessed):
        _print_verdict(verdict)
        rows += verdict.rows
        wrong += bool(verdict.problems)
    click.echo(f"{rows} events, {wrong} partitions with problems")
    return 1 if wrong else 0


def _print_verdict(verdict: Verdict) -> None:
    state = "WRONG" if verdict.problems else "good"
    click.echo(f"{verdict.partition}: {state}, {verdict.rows} events, head {verdict.head}")
    for problem in verdict.problems:
        click.echo(f"  {problem}")


async def _witnessed(settings: Settings) -> dict[str, Witnessed]:
    """Return what Redis remembers of each chain."""
    from .store import RedisOutbox, connect

    redis = settings.redis
    client = connect(
        redis.url.get_secret_value(), username=redis.username,
        password=redis.password.get_secret_value(),
    )  # fmt: skip
    outbox = RedisOutbox(
        client, prefix=redis.prefix, partitions=redis.partitions,
        limit=settings.events.outbox_limit, takeover_ms=settings.events.takeover,
        count_error=lambda _: None,
    )  # fmt: skip
    try:
        return {each: await outbox.seen(each) for each in outbox.partitions}
    except StoreUnavailable as error:
        raise ConfigurationError(
            f"Redis, which remembers where the chains end, cannot be asked: {error}"
        ) from None
    finally:
        await outbox.close()


def _settings(path: str | None) -> Settings:
    loaded = load(path)
    if loaded.settings is None:
        raise ConfigurationError("; ".join(map(str, loaded.problems)))
    if not loaded.settings.postgres.dsn.get_secret_value():
        raise ConfigurationError("postgres.dsn is empty; set it to the address of the database")
    if not loaded.settings.redis.url.get_secret_value():
        raise ConfigurationError("redis.url is empty; set it to the gateway's Redis")
    return loaded.settings
