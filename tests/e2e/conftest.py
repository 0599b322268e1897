"""One gateway for all, each proxy once, and a table of what was shown on which proxy."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .client import Client
from .stack import IN_DOUBT, INSTALLED, PROXIES, BackEnd, Session, Stack, running_stack, start_proxy


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A gateway that is never disturbed: tests that break something start their own."""
    with EmbeddedValkey(port=servers.free_port()) as valkey, running_stack(valkey.url) as stack:
        yield stack


@pytest.fixture
def back_end(stack: Stack) -> BackEnd:
    """Where sessions are made and ended."""
    return stack.back_end


@pytest.fixture(
    scope="session",
    params=[pytest.param(p, marks=pytest.mark.xdist_group(f"e2e-{p}")) for p in PROXIES],
)
def proxy(request: pytest.FixtureRequest) -> str:
    """The name of a proxy; skips where this machine has none."""
    name = str(request.param)
    binary = INSTALLED.get(name)
    if binary is not None and not servers.installed(binary):
        pytest.skip(f"there is no {binary}; apt-get install the package that has it")
    return name


@pytest.fixture(scope="session")
def client(proxy: str, stack: Stack) -> Iterator[Client]:
    """A visitor of the proxy under test."""
    program, port = start_proxy(proxy, stack.port_for(proxy), stack.application_port)
    with program:
        yield Client(port, patience=2)


@pytest.fixture
def member(back_end: BackEnd) -> Session:
    """Somebody signed in, of no particular role."""
    return back_end.sign_in(roles=("member",))


@pytest.fixture
def admin(back_end: BackEnd) -> Session:
    """Somebody signed in who may open /admin."""
    return back_end.sign_in(roles=("member", "admin"))


# --- the table -------------------------------------------------------------------------------

_LONGEST_FIRST = "|".join(sorted(PROXIES, key=len, reverse=True))
_CASE = re.compile(rf"e2e/test_\w+\.py::test_(?P<case>\w+)\[(?P<proxy>{_LONGEST_FIRST})")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each proxy has shown: a row for a case, a column for a proxy."""
    outcomes = _outcomes(terminalreporter)
    if not outcomes:
        return
    terminalreporter.section("cases per proxy")
    terminalreporter.write_line(f"{'':58}" + "".join(f"{proxy:>14}" for proxy in PROXIES))
    for case, row in outcomes.items():
        cells = "".join(f"{_cell(row[proxy]):>14}" for proxy in PROXIES)
        terminalreporter.write_line(f"{case.replace('_', ' '):58}{cells}")
    terminalreporter.write_line(_in_doubt_line(terminalreporter))


def _in_doubt_line(reporter: pytest.TerminalReporter) -> str:
    """Return the last row: how many of a thousand at once the gateway refused, not knowing."""
    counts = dict.fromkeys(PROXIES, "-")
    for report in reporter.stats.get("passed", []) + reporter.stats.get("failed", []):
        found = _CASE.search(report.nodeid)
        if found:
            told = dict(report.user_properties)
            counts[found["proxy"]] = str(told.get(IN_DOUBT, counts[found["proxy"]]))
    return f"{'(refused in doubt, of a thousand at once)':58}" + "".join(
        f"{count:>14}" for count in counts.values()
    )


def _outcomes(reporter: pytest.TerminalReporter) -> dict[str, dict[str, Counter[str]]]:
    table: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in reporter.stats.get(outcome, []):
            found = _CASE.search(report.nodeid)
            if found:
                table[found["case"]][found["proxy"]][outcome] += 1
    return table


def _cell(counts: Counter[str]) -> str:
    """Return "26 ok", "skipped" or "1 of 26 FAIL"."""
    total = counts.total()
    failed = counts["failed"] + counts["error"]
    if failed:
        return f"{failed} of {total} FAIL"
    if counts["skipped"]:
        return "skipped"
    return f"{total} ok" if total > 1 else "ok" if total else "-"
