"""The first table: what one check costs, and how fast checks are answered."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from gateway.embedded import EmbeddedValkey

from .accounting import cpu_seconds
from .contestants import BARE, Contestant, Ground, LeftOut, prepare, rows
from .load import Crowd
from .options import Options
from .tables import median, otherwise, percentile_ms, table

_PACE = 1000  # checks a second: less than the slowest of all can answer
_PACE_S = 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one contestant."""

    cpu_us: float  # of all its processes, for one check
    redis_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    others: int  # checks answered otherwise than they should be


def measure(options: Options) -> str:
    """Return the table, and a line for each contestant that could not take part."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey())
        ground = prepare(stack, valkey.url, valkey.pid)
        contestants, left_out = _start(ground, options)
        crowd = stack.enter_context(Crowd())
        rounds: dict[str, list[Measured]] = {name: [] for name in contestants}
        for _ in range(options.rounds):  # a machine that changes its speed changes it for all
            for name, contestant in contestants.items():
                rounds[name].append(_measure(crowd, contestant, ground, options))
    others = {name: sum(one.others for one in measured) for name, measured in rounds.items()}
    return "\n".join([_table(rounds), *left_out, *otherwise(others)])


def _start(ground: Ground, options: Options) -> tuple[dict[str, Contestant], list[str]]:
    contestants, left_out = {}, []
    for name, start in rows().items():
        if name != BARE and not options.wants(name):
            continue
        try:
            contestants[name] = start(ground)
        except LeftOut as why:
            left_out.append(f"\nLeft out: {name}: {why}.")
    return contestants, left_out


def _measure(crowd: Crowd, contestant: Contestant, ground: Ground, options: Options) -> Measured:
    crowd.meet(contestant.target, options.connections)
    cpu, redis = cpu_seconds(contestant.pid), cpu_seconds(ground.redis_pid)
    flood = crowd.flood(options.checks)
    cpu, redis = cpu_seconds(contestant.pid) - cpu, cpu_seconds(ground.redis_pid) - redis
    paced = crowd.pace(_PACE, _PACE_S)
    done = len(flood.latencies)
    return Measured(
        cpu_us=cpu / done * 1e6,
        redis_us=redis / done * 1e6,
        per_second=done / (flood.ended - flood.began),
        p50_ms=percentile_ms(paced.latencies, 50),
        p99_ms=percentile_ms(paced.latencies, 99),
        others=flood.others + paced.others,
    )


def _table(rounds: dict[str, list[Measured]]) -> str:
    head = ["", "CPU per check, us", "in the best round", f"to {BARE}", "of Redis, us", "checks/s",
            f"p50 at {_PACE}/s, ms", "p99, ms"]  # fmt: skip
    return table(head, [[name, *_figures(each, rounds[BARE])] for name, each in rounds.items()])


def _figures(measured: list[Measured], bare: list[Measured]) -> list[str]:
    """Compare within each round: a machine may be half as fast in the next."""
    pairs = list(zip(measured, bare, strict=True))
    return [
        f"{median(measured, lambda one: one.cpu_us):.1f}",
        f"{min(one.cpu_us for one in measured):.1f}",
        f"{median(pairs, lambda pair: pair[0].cpu_us / pair[1].cpu_us):.2f}",
        f"{median(measured, lambda one: one.redis_us):.1f}",
        f"{median(measured, lambda one: one.per_second):.0f}",
        f"{median(measured, lambda one: one.p50_ms):.2f}",
        f"{median(measured, lambda one: one.p99_ms):.2f}",
    ]
