"""Rules that can never decide, because one before them takes every request that they are about.

Only what can be told for sure is told: that nothing is found says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .patterns import host_covers
from .rules import RuleSpec, compile_rule

_BELOW = "/**"


def never_reached(specs: Sequence[RuleSpec]) -> Iterator[tuple[int, int]]:
    """Return the numbers of such rules, each with the first that covers it."""
    for number, spec in enumerate(specs, 1):
        before = enumerate(specs[: number - 1], 1)
        by = next((other for other, earlier in before if _covers(earlier, spec)), None)
        if by is not None:
            yield number, by


def _covers(earlier: RuleSpec, later: RuleSpec) -> bool:
    """Tell whether `earlier` surely decides whatever `later` could."""
    return (
        (not earlier.shadow or later.shadow)
        and compile_rule(0, earlier).methods >= compile_rule(0, later).methods
        and _covers_host(earlier.host.lower(), later.host.lower())
        and _covers_path(earlier, later)
        and _covers_conditions(earlier, later)
    )


def _covers_host(earlier: str, later: str) -> bool:
    if not earlier or earlier == later:
        return True
    stars, _, name = later.partition(".")
    if stars not in ("*", "**"):
        return bool(later) and host_covers(earlier, later)
    # All hosts below a name: covered if any one of them is, whatever its first label.
    return earlier.startswith("**.") and host_covers(earlier, f"any.{name}")


def _covers_path(earlier: RuleSpec, later: RuleSpec) -> bool:
    if earlier.path in ("", _BELOW):
        return True
    if later.ignore_case and not earlier.ignore_case:
        return False
    ours, theirs = earlier.path, later.path
    if earlier.ignore_case:
        ours, theirs = ours.lower(), theirs.lower()
    if ours == theirs:
        return True
    top = ours.removesuffix(_BELOW)
    plain_top = top != ours and "*" not in top
    return plain_top and (theirs == top or theirs.startswith(f"{top}/"))


def _covers_conditions(earlier: RuleSpec, later: RuleSpec) -> bool:
    """Tell whether the earlier rule asks nothing of a request that the later does not ask."""
    return (
        set(earlier.query) <= set(later.query)
        and (not earlier.networks or earlier.networks == later.networks)
        and _covers_values(earlier.countries, later.countries)
        and _covers_values(earlier.asns, later.asns)
        and (not earlier.preflight or later.preflight)
    )


def _covers_values(earlier: Sequence[object], later: Sequence[object]) -> bool:
    """Tell whether every value that the later wants is one of the earlier's, if that asks at all.

    An unknown value is in doubt for both: then the earlier decides too.
    """
    return not earlier or (bool(later) and set(later) <= set(earlier))
