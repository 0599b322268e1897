"""`python -m tests.adversarial table [--write]` and `... planted`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gateway.conformance import report
from gateway.conformance.suite import Result
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.e2e.stack import PROXIES, running_stack

from .planted import plant_all
from .running import red, run_all, start

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- table: make conformance -->\n", "<!-- end of the table -->\n"


def run_proxies() -> dict[str, list[Result]]:
    """Run all cases on every proxy, one after the other."""
    with ExitStack() as running:
        upstream = servers.free_port()
        running.enter_context(servers.start_check_upstream(upstream))
        valkey = running.enter_context(EmbeddedValkey(port=servers.free_port()))
        stack = running.enter_context(running_stack(valkey.url))
        found = {}
        for name in PROXIES:
            program, port = start(name, stack, upstream)
            with program:
                found[name] = run_all(port, stack.back_end)
    return found


def write_table(lines: Sequence[str]) -> None:
    """Put the table between the marks of the page."""
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    table = BEGIN + "\n" + "\n".join(lines) + "\n\n" + END
    PAGE.write_text(pattern.sub(lambda _: table, PAGE.read_text()))


def show_table(*, write: bool) -> int:
    """Print the table; return 1 if anything did not hold."""
    results = run_proxies()
    lines = [*report.summary(results), "", *report.table(results)]
    print("\n".join(lines))
    if write:
        write_table(lines)
    wrong = [f"{name}: {line}" for name, each in results.items() for line in red(each)]
    print("\n".join(wrong) or "all held", file=sys.stderr)
    return bool(wrong)


def show_planted() -> int:
    """Print how many cases each planted fault turns red; return 1 if one shows in none."""
    unseen = 0
    for fault, cases in plant_all():
        print(f"{len(cases):4} red  {fault.what:48} {cases[0][:100] if cases else 'NOT SEEN'}",
              flush=True)  # fmt: skip
        unseen += not cases
    print(f"{unseen} faults were not seen")
    return bool(unseen)


if __name__ == "__main__":
    if sys.argv[1:2] == ["planted"]:
        sys.exit(show_planted())
    sys.exit(show_table(write="--write" in sys.argv))
