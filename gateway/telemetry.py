"""Metrics and logs. Hot counters are plain integers; a collector reads them at scrape time."""

from __future__ import annotations

import json
import logging
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from .allowance import Allowance
from .decision import Decision, Kind, Reason, kind_of
from .model import CheckRequest

BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0,
)  # fmt: skip

STRANGERS_PER_SECOND = 10  # lines of the log


class NearCacheFigures(NamedTuple):
    """What memory holds now, and how often it could answer since the start."""

    reads: Mapping[str, int]
    entries: int
    bytes: int
    lease_valid: bool


# Type of the family, name of the sample, labels.
Figures = dict[tuple[str, str, tuple[tuple[str, str], ...]], float]
_COMBINED: dict[str, Callable[[Iterable[float]], float]] = {
    "gateway_lease_valid": min,
    "gateway_ready": max,  # one process of several looks
}


@dataclass(slots=True)
class OutboxFigures:
    """How it stands with the events, and what this replica did about them."""

    length: int = 0
    fullest: float = 0.0
    dropped: int = 0
    dead_letters: int = 0
    lag_s: Mapping[str, float] = field(default_factory=dict)
    delivered: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)


class Histogram:
    """Counts of durations below each of `BUCKETS_S`, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class Tally(Histogram):
    """The checks of one adapter: how many of each outcome, and how long they took."""

    __slots__ = ("outcomes",)

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: defaultdict[Reason | None, int] = defaultdict(int)


class Metrics(Collector):
    """Everything that is counted."""

    def __init__(self) -> None:
        self.checks: defaultdict[str, Tally] = defaultdict(Tally)  # by adapter
        self.store_errors: defaultdict[str, int] = defaultdict(int)
        self.ended: defaultdict[str, int] = defaultdict(int)
        self.policy_reloads: defaultdict[str, int] = defaultdict(int)
        self.policy_version = ""  # "" where no checks are answered
        self.shadow: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.created = 0
        self.alerts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.alerts_waiting = 0
        self.alerts_pushed = 0
        self.alerts_dropped = 0
        self.geo_reads: defaultdict[str, int] = defaultdict(int)
        self.events_lost = 0
        self.outbox = OutboxFigures()
        self.ready = False
        self.revocation = Histogram()
        self.near_cache: Callable[[], NearCacheFigures | None] = lambda: None

    def text(self, *others: Figures) -> bytes:
        """Return the Prometheus exposition, together with the figures of other processes."""
        total = add_up(self.figures(), *others)
        registry = CollectorRegistry()
        registry.register(_Summed(self, total))
        return generate_latest(registry)

    def figures(self) -> Figures:
        """Return every sample as it is now."""
        return {
            (family.type, sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.collect()
            for sample in family.samples
        }

    def count_store_error(self, kind: str) -> None:
        self.store_errors[kind] += 1

    def collect(self) -> Iterator[Metric]:
        checks = {
            (adapter, kind_of(reason).value, reason or ""): count
            for adapter, tally in self.checks.items()
            for reason, count in tally.outcomes.items()
        }
        yield _counter("gateway_checks", "Checks answered.", checks,
                       ("adapter", "decision", "reason"))  # fmt: skip
        yield self._check_seconds()
        yield _counter("gateway_store_errors", "Faults of Redis by kind.", self.store_errors,
                       ("kind",))  # fmt: skip
        yield _counter("gateway_sessions_ended", "Sessions ended through this replica.",
                       self.ended, ("why",))  # fmt: skip
        yield CounterMetricFamily(
            "gateway_sessions_created", "Sessions created here.", value=self.created
        )
        yield from self._alerts()
        yield CounterMetricFamily(
            "gateway_events_lost", "Events that Redis had no memory for.", value=self.events_lost
        )
        yield from self._outbox()
        yield GaugeMetricFamily("gateway_ready", "1 while Redis can be used.", value=self.ready)
        yield from self._policy()

        revocation = HistogramMetricFamily(
            "gateway_revocation_seconds",
            "From Redis' acknowledgement until no replica could allow any more.",
        )
        revocation.add_metric([], self.revocation.cumulative(), self.revocation.sum)
        yield revocation
        yield from self._near_cache()

    def _outbox(self) -> Iterator[Metric]:
        outbox = self.outbox
        gauges = (
            ("gateway_outbox_dropped_events", "Events that the outbox has had to drop, ever.",
             outbox.dropped),
            ("gateway_outbox_length", "Events in the outbox.", outbox.length),
            ("gateway_outbox_fullest_ratio", "The fullest partition's share of its bound.",
             outbox.fullest),
            ("gateway_dead_letters", "Events that a sink could not take.", outbox.dead_letters),
        )  # fmt: skip
        for name, text, value in gauges:
            yield GaugeMetricFamily(name, text, value=value)
        lag = GaugeMetricFamily(
            "gateway_outbox_lag_seconds", "Age of the oldest event that waits.", labels=["sink"]
        )
        for sink, seconds in outbox.lag_s.items():
            lag.add_metric([sink], seconds)
        yield lag
        yield _counter("gateway_events_delivered", "Events given to a sink from here.",
                       outbox.delivered, ("sink",))  # fmt: skip
        yield _counter("gateway_sink_failures", "Attempts that a sink failed at.",
                       outbox.failures, ("sink",))  # fmt: skip

    def _alerts(self) -> Iterator[Metric]:
        yield _counter("gateway_alerts", "Alerts raised here.", self.alerts,
                       ("type", "action"))  # fmt: skip
        yield GaugeMetricFamily(
            "gateway_alerts_waiting", "Alerts not yet in the lists.", value=self.alerts_waiting
        )
        yield CounterMetricFamily(
            "gateway_alerts_pushed", "Alerts pushed to the lists.", value=self.alerts_pushed
        )
        yield CounterMetricFamily(
            "gateway_alerts_dropped",
            "Alerts that full lists had to drop.",
            value=self.alerts_dropped,
        )
        yield _counter("gateway_geo_reads", "Databases of places read again.", self.geo_reads,
                       ("result",))  # fmt: skip

    def _near_cache(self) -> Iterator[Metric]:
        figures = self.near_cache()
        if figures is None:
            return
        yield _counter("gateway_near_cache_reads", "Looks into memory.", figures.reads, ("result",))
        yield GaugeMetricFamily(
            "gateway_near_cache_entries", "Sessions in memory.", value=figures.entries
        )
        yield GaugeMetricFamily(
            "gateway_near_cache_bytes", "About how much memory they take.", value=figures.bytes
        )
        yield GaugeMetricFamily(
            "gateway_lease_valid", "1 while memory may be trusted.", value=figures.lease_valid
        )

    def _policy(self) -> Iterator[Metric]:
        yield _counter("gateway_policy_reloads", "Attempts to take over new rules.",
                       self.policy_reloads, ("result",))  # fmt: skip
        version = GaugeMetricFamily(
            "gateway_policy_version", "Processes that decide by these rules.", labels=["version"]
        )
        if self.policy_version:
            version.add_metric([self.policy_version], 1)
        yield version
        yield _counter("gateway_shadow_checks", "Checks in which a shadow rule had a part.",
                       self.shadow, ("rule", "decision", "shadow"))  # fmt: skip

    def _check_seconds(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "gateway_check_seconds", "Time from the request read to the answer.",
            labels=["adapter"],
        )  # fmt: skip
        for adapter, tally in self.checks.items():
            family.add_metric([adapter], tally.cumulative(), tally.sum)
        return family


def _counter(
    name: str, text: str, values: Mapping[Any, int], labels: tuple[str, ...]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, count in values.items():
        family.add_metric((label_values,) if isinstance(label_values, str) else label_values, count)
    return family


class _Summed(Collector):
    """The families of one process with the samples of several."""

    def __init__(self, metrics: Metrics, figures: Figures) -> None:
        self._metrics = metrics
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        for family in self._metrics.collect():
            names = {family.name + end for end in ("", "_total", "_bucket", "_sum", "_count")}
            family.samples = [
                Sample(name, dict(labels), value)
                for (kind, name, labels), value in self._figures.items()
                if kind == family.type and name in names
            ]
            yield family


def add_up(*several: Figures) -> Figures:
    """Return the figures of several processes as one: sums, but what must hold in each holds."""
    total: Figures = {}
    for figures in several:
        for what, value in figures.items():
            combine = _COMBINED.get(what[1], sum)
            total[what] = combine((total[what], value)) if what in total else value
    return total


class CheckObserver:
    """Counts every check and logs denials: never the query, never a cookie."""

    def __init__(self, metrics: Metrics, *, log_denials: bool) -> None:
        self._metrics = metrics
        self._checks = metrics.checks
        self._log_denials = log_denials
        self._log = structlog.get_logger("gateway.check")
        self._strangers = Allowance(STRANGERS_PER_SECOND)
        self._unlogged = 0
        self.shadow: Callable[[CheckRequest, Decision], None] | None = None

    def __call__(
        self, adapter: str, request: CheckRequest | None, decision: Decision, seconds: float
    ) -> None:
        tally, reason = self._checks[adapter], decision.reason
        tally.outcomes[reason] += 1
        tally.counts[bisect_left(BUCKETS_S, seconds)] += 1
        tally.sum += seconds
        if (
            reason is not None
            and self._log_denials
            and reason is not Reason.UNTRUSTED_PEER  # `note_stranger` tells who it was
        ):
            self._log.info(
                "denied",
                adapter=adapter,
                reason=reason,
                method=request.method if request else None,
                host=request.host if request else None,
                path=request.target.partition("?")[0] if request else None,
                address=request.address if request else None,
            )
        if self.shadow is not None and request is not None:
            self.shadow(request, decision)

    def note_stranger(self, adapter: str, address: str) -> None:
        """Log who asked without being a proxy; anybody can, so at most so many lines a second.

        `unlogged` says how many were left out since the last line.
        """
        if not self._log_denials:
            return
        if not self._strangers.take():
            self._unlogged += 1
            return
        self._log.info(
            "denied", adapter=adapter, reason=Reason.UNTRUSTED_PEER, peer=address,
            unlogged=self._unlogged,
        )  # fmt: skip
        self._unlogged = 0

    def note_shadow(
        self, rule: int, request: CheckRequest, decision: Decision, would: Decision | None
    ) -> None:
        """Count what a shadow rule would have done, and log it where it differs."""
        shadow = Kind.UNKNOWN if would is None else would.kind
        self._metrics.shadow[str(rule), decision.kind.value, shadow.value] += 1
        if would is not None and would.reason is not decision.reason:
            self._log.info(
                "shadow",
                rule=rule,
                reason=decision.reason,
                would_be=would.reason,
                method=request.method,
                host=request.host,
                path=request.target.partition("?")[0],
                address=request.address,
            )


def configure_logs(level: str) -> None:
    """Write JSON lines to standard error, also what libraries log."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format="%(message)s", force=True)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer(serializer=_dumps)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared,
                    structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )  # fmt: skip
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
        handler.addFilter(_WithoutQuotes())


class _WithoutQuotes(logging.Filter):
    """Takes out of aiohttp's complaints about a broken request what they quote of it.

    That may be a cookie, or an admin token; and the trace shows nothing but aiohttp.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            record.exc_info = record.exc_text = None
            record.msg, record.args = f"bad_request: {type(error).__name__}", ()
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def _dumps(event: object, **_: object) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # bytes of a request that are no UTF-8, here as lone surrogates
        return json.dumps(event, default=str)
