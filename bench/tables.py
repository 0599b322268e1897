"""Figures as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose others are figures."""
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)]), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def median(measured: Iterable[object], figure: Callable[..., float]) -> float:
    """Return the median over the rounds of one figure."""
    return statistics.median(figure(each) for each in measured)


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile of some seconds, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1e3


def otherwise(counts: Mapping[str, int]) -> list[str]:
    """Return a line for each row in which some checks were answered as they should not be."""
    return [
        f"\nAnswered otherwise than expected: {count} checks of {name}."
        for name, count in counts.items()
        if count
    ]
