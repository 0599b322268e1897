"""The commands about events that a sink could never take: `gateway dead-letters`.

What talks to servers is imported when it is needed: commands start fast.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import orjson

from .config import Settings, load
from .errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from .store import DeadLetter, DeadLetters

_config = click.option(
    "--config", "path", type=click.Path(dir_okay=False), help="The TOML file.", envvar="GW_CONFIG"
)
_sink = click.option("--sink", default="", help="Only of this sink, such as webhook:siem.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Events that a sink could never take, with the reason."""


@dead_letters.command("list")
@_config
@_sink
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_letters(path: str | None, sink: str, *, as_json: bool) -> None:
    """List them, oldest first in each partition."""
    settings = _settings(path)
    asyncio.run(_list(settings, sink, _json_line if as_json else _line))


@dead_letters.command()
@_config
@_sink
@click.option("--all", "every", is_flag=True, help="All of them, or all of --sink.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
def requeue(path: str | None, sink: str, *, every: bool, ids: Sequence[str]) -> None:
    """Give them to their sinks again; exit 1 if one could not be put back."""
    if bool(ids) == every or (sink and ids):
        raise click.UsageError("name the ids, or use --all, alone or with --sink")
    settings = _settings(path)
    sys.exit(asyncio.run(_requeue(settings, sink, ids)))


async def _list(settings: Settings, sink: str, line: Callable[[DeadLetter], str]) -> None:
    async with _opened(settings) as letters:
        async for each in letters.all():
            if sink in ("", each.sink):
                click.echo(line(each))


def _line(letter: DeadLetter) -> str:
    shown = [letter.fields.get(name) or "-" for name in ("type", "user", "id")]
    return "  ".join([letter.id, _time_of(letter), letter.sink, letter.event, *shown, letter.why])


def _json_line(letter: DeadLetter) -> str:
    return orjson.dumps(letter._asdict()).decode()


def _time_of(letter: DeadLetter) -> str:
    """Return when it was given up."""
    buried_ms = int(letter.id.split("-")[1])
    return datetime.fromtimestamp(buried_ms // 1000, UTC).isoformat().replace("+00:00", "Z")


async def _requeue(settings: Settings, sink: str, ids: Sequence[str]) -> int:
    """Put back those that are named, or all; return the exit code."""
    from .delivery import sink_names

    known = sink_names(settings)
    came: Counter[str] = Counter()
    async with _opened(settings) as letters:
        # All are read first: what is put back may be buried again at once.
        found = [each async for each in letters.all()]
        wanted = [each for each in found if each.id in ids or (not ids and sink in ("", each.sink))]
        for missing in sorted(set(ids) - {each.id for each in wanted}):
            came["gone"] += 1
            click.echo(f"{missing}: there is no such dead letter", err=True)
        for each in wanted:
            outcome = await letters.requeue(each.id) if each.sink in known else "unknown"
            came[outcome] += 1
            if outcome != "ok":
                click.echo(f"{each.id}: {_REASONS[outcome].format(sink=each.sink)}", err=True)
    click.echo(f"{came['ok']} put back")
    return 0 if came.total() == came["ok"] else 1


_REASONS = {
    "gone": "there is no such dead letter",
    "full": "the outbox is full, an event would have to go for it; try again when it is not",
    "unknown": "its sink {sink} is not configured here, so nobody would take it",
}


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    from .delivery import sink_names
    from .store import DeadLetters, connect

    redis = settings.redis
    client = connect(
        redis.url.get_secret_value(), username=redis.username,
        password=redis.password.get_secret_value(),
    )  # fmt: skip
    try:
        yield DeadLetters(
            client, prefix=redis.prefix, partitions=redis.partitions,
            limit=settings.events.outbox_limit, sinks=sink_names(settings),
        )  # fmt: skip
    except StoreUnavailable as error:
        raise ConfigurationError(f"Redis cannot be asked: {error}") from None
    finally:
        await client.aclose()


def _settings(path: str | None) -> Settings:
    loaded = load(path)
    if loaded.settings is None:
        raise ConfigurationError("; ".join(map(str, loaded.problems)))
    if not loaded.settings.redis.url.get_secret_value():
        raise ConfigurationError("redis.url is empty; set it to the gateway's Redis")
    return loaded.settings
