"""Says what will be sent, what came of it, and the table of several proxies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .cases import Case, Who
from .fixes import fix_of
from .suite import Result, Suite
from .verdict import Known, Outcome


def plan(suite: Suite, where: str) -> Iterator[str]:
    """Say what a run sends, before anything is sent."""
    methods = sorted({case.method for case in suite.cases})
    count = suite.requests()
    yield f"{len(suite.cases)} cases for {where}, at most {count} requests ({', '.join(methods)})"
    yield (
        f"at most {suite.per_second:g} a second and {suite.at_once} at once: about "
        f"{count / suite.per_second:.0f} s; without a body, nothing is changed"
    )
    for kind, number in Counter(case.kind for case in suite.cases).items():
        yield f"  {number:4} {kind}"
    yield "They look like attacks: tell those who watch, and ask only your own installation."


def requests(suite: Suite) -> Iterator[str]:
    """Show every request as it would be sent, its line breaks escaped."""
    for case in suite.cases:
        for who in case.senders:
            if suite.place.cookie or not (case.needs_cookie or who is Who.MEMBER):
                yield f"{case.name} ({who.value}): {_shown(case.request(suite.place, who))}"


def _shown(request: bytes) -> str:
    return request.decode("latin-1").encode("unicode_escape").decode()[:2000]


def findings(results: Sequence[Result], known: Known, proxy: str) -> Iterator[str]:
    """Say case by case what passed that must not, with the fix; then what could not be judged."""
    holes = [each for each in results if each.verdict.outcome is Outcome.HOLE]
    for kind in dict.fromkeys(result.case.kind for result in holes):
        for result in (each for each in holes if each.case.kind == kind):
            yield f"HOLE {result.case.name}: {result.verdict.why}"
        yield f"FIX  {kind}{f' ({proxy})' if proxy else ''}: {fix_of(kind, proxy)}"
    if any(result.case.name.startswith("response-caching/replayed") for result in holes):
        yield "Something keeps answers: correct that first, many of the others may be nothing else."
    yield from _not_judged(results, known)
    counts = Counter(result.verdict.outcome for result in results)
    yield ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)


def _not_judged(results: Sequence[Result], known: Known) -> Iterator[str]:
    open_ones = [each for each in results if each.verdict.outcome is Outcome.UNJUDGED]
    reasons: dict[str, list[str]] = {}
    for result in open_ones:
        reasons.setdefault(result.verdict.why, []).append(result.case.name)
    for why, names in reasons.items():
        yield f"not judged, {why}: {', '.join(names)}"
    if not known.exact:
        yield (
            "What the application saw is not known: run `gateway conformance --upstream` in its "
            "place to judge exactly."
        )
    if not known.place.cookie:
        yield "Without --cookie nothing was asked as somebody who is signed in."


def table(columns: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """Return Markdown: a row for a case, a column for a proxy."""
    rows: dict[Case, dict[str, Result]] = {}
    for proxy, results in columns.items():
        for result in results:
            rows.setdefault(result.case, {})[proxy] = result
    yield f"| case | sent | must not happen | {' | '.join(columns)} |"
    yield "|---" * (3 + len(columns)) + "|"
    for case, row in rows.items():
        cells = [_cell(row.get(proxy)) for proxy in columns]
        yield f"| {case.name} | {_gist(case)} | {case.must.value} | {' | '.join(cells)} |"


def summary(columns: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """Return Markdown: a row for a class of cases, how many held behind each proxy."""
    kinds = dict.fromkeys(result.case.kind for each in columns.values() for result in each)
    yield f"| class | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for kind in kinds:
        cells = (_share([r for r in each if r.case.kind == kind]) for each in columns.values())
        yield f"| {kind} | {' | '.join(cells)} |"
    yield f"| all | {' | '.join(_share(each) for each in columns.values())} |"


def _share(results: Sequence[Result]) -> str:
    held = sum(result.verdict.outcome is Outcome.HELD for result in results)
    return f"{held} of {len(results)}"


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    held = result.verdict.outcome is Outcome.HELD
    return result.said if held else f"**{result.verdict.outcome}** {result.said}"


def _gist(case: Case) -> str:
    """Return what is special about a case, as a piece of code that fits into a table."""
    first = case.lines[-1] if case.lines and case.target in ("{P}", "{S}", "{V}", "{G}") else ""
    host = "; ".join(case.host) if case.kind == "host" else ""
    text = first or host or f"{case.method} {case.target}"
    text = text.encode("unicode_escape").decode()
    shown = re.sub(r"\\\\", r"\\", text).replace("|", "&#124;").replace("`", "'").strip()
    return f"`{shown[:67] + '...' if len(shown) > 70 else shown}`"
