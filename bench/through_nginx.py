"""The second table: real nginx with the shipped configuration, and who answers its subrequests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

from gateway.embedded import EmbeddedValkey
from tests import servers

from . import gateways
from .contestants import SESSIONS, constant_answer
from .gateways import Variant
from .load import Crowd, Target
from .options import Options
from .sessions import sign_in
from .tables import median, otherwise, percentile_ms, table

CONSTANT = "a constant answer (nginx)"
_PACE = 1000  # requests a second
_PACE_S = 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """One round with one way to answer."""

    per_second: float
    p50_ms: float
    p99_ms: float
    others: int


def measure(options: Options) -> str:
    """Return throughput as a share of what a constant answer allows, and the latency it adds."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey())
        tokens = sign_in(valkey.url, SESSIONS)
        requests = [request(token) for token in tokens]
        ports = _start(stack, valkey.url)
        targets = {name: Target(port, requests, b"HTTP/1.1 200") for name, port in ports.items()}
        crowd = stack.enter_context(Crowd())
        rounds: dict[str, list[Measured]] = {name: [] for name in targets}
        for _ in range(options.rounds):
            for name, target in targets.items():
                rounds[name].append(_measure(crowd, target, options))
    others = {name: sum(one.others for one in measured) for name, measured in rounds.items()}
    return "\n".join([_table(rounds), *otherwise(others)])


def _start(stack: contextlib.ExitStack, redis_url: str) -> dict[str, int]:
    """Return the port of an nginx for each way to answer; all lead to one application."""
    application, _ = constant_answer(stack)
    answering = {
        "nobody (auth_request off)": application,
        CONSTANT: constant_answer(stack)[0],
        "gateway": _gateway(stack, redis_url, workers=1),
        "gateway, 2 workers": _gateway(stack, redis_url, workers=2),
        "gateway, near cache off": _gateway(stack, redis_url, near_cache=False),
    }
    return {
        name: _start_nginx(stack, port, application, asks=port != application)
        for name, port in answering.items()
    }


def _gateway(stack: contextlib.ExitStack, redis_url: str, **variant: Unpack[Variant]) -> int:
    _, port = gateways.start(stack, redis_url, **variant)
    return int(port)


def _start_nginx(stack: contextlib.ExitStack, gateway: int, application: int, *, asks: bool) -> int:
    port = servers.free_port()
    conf = servers.nginx_conf(listen=port, gateway=gateway, application=application)
    # Our connections are few and busy; the default closes each after 1,000 requests.
    conf = conf.replace("http {\n", "http {\n    keepalive_requests 1000000000;\n", 1)
    if not asks:
        conf = conf.replace("auth_request /_gateway;", "auth_request off;")
    stack.enter_context(servers.start_nginx(conf))
    return port


def request(token: str) -> bytes:
    """Return what a browser asks nginx for the page that `gateways.request` is about."""
    return (
        "GET /reports/2026?page=2 HTTP/1.1\r\nHost: app.example.com\r\nAccept: text/html\r\n"
        "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/120.0 Safari/537.36\r\n"
        f"Accept-Language: en\r\nCookie: {gateways.cookie(token)}\r\n\r\n"
    ).encode()


def _measure(crowd: Crowd, target: Target, options: Options) -> Measured:
    crowd.meet(target, options.connections)
    flood = crowd.flood(options.checks)
    paced = crowd.pace(_PACE, _PACE_S)
    return Measured(
        len(flood.latencies) / (flood.ended - flood.began),
        percentile_ms(paced.latencies, 50),
        percentile_ms(paced.latencies, 99),
        flood.others + paced.others,
    )


def _table(rounds: dict[str, list[Measured]]) -> str:
    head = ["who answers nginx", "requests/s", "of a constant answer's", f"p50 at {_PACE}/s, ms",
            "p99, ms", "added to p50, ms", "added to p99, ms"]  # fmt: skip
    return table(head, [[name, *_figures(rounds, name)] for name in rounds])


def _figures(rounds: dict[str, list[Measured]], name: str) -> list[str]:
    def of(name: str, figure: Callable[[Measured], float]) -> float:
        return median(rounds[name], figure)

    def added(figure: Callable[[Measured], float]) -> str:
        return f"{of(name, figure) - of(CONSTANT, figure):+.2f}"

    rate = of(name, lambda one: one.per_second)
    return [
        f"{rate:.0f}",
        f"{rate / of(CONSTANT, lambda one: one.per_second):.0%}",
        f"{of(name, lambda one: one.p50_ms):.2f}",
        f"{of(name, lambda one: one.p99_ms):.2f}",
        added(lambda one: one.p50_ms),
        added(lambda one: one.p99_ms),
    ]
