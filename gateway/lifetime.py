"""Idle and absolute timeouts, and the presets that name well-known pairs of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+)(ms|s|m|h|d)", re.ASCII)


def parse_duration_ms(text: str) -> int:
    """Return a duration such as `15m`, `1h30m` or `500ms` in milliseconds.

    Raises ValueError, with an example, when it is not one.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write for example 500ms, 15m, 4h or 30d")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))


def duration_text(time_ms: int) -> str:
    """Return milliseconds as `parse_duration_ms` reads them, in the largest unit that fits."""
    for unit in ("d", "h", "m", "s"):
        if time_ms % _UNITS_MS[unit] == 0:
            return f"{time_ms // _UNITS_MS[unit]}{unit}"
    return f"{time_ms}ms"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session may rest (`idle_ms`) and live at most (`absolute_ms`)."""

    idle_ms: int
    absolute_ms: int

    @property
    def touch_interval_ms(self) -> int:
        """How stale the last activity may get before it is written again.

        A twentieth of the idle time, at most a minute: a session ends at most 5 % early, and a
        busy one costs one write a minute.
        """
        return max(1, min(60_000, self.idle_ms // 20))


_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000

# NIST SP 800-63B-4 sections 2.1.3, 2.2.3, 2.3.3; PCI DSS 4.0.1 requirement 8.2.8.
PRESETS = {
    "aal1": Lifetime(30 * _DAY, 30 * _DAY),
    "aal2": Lifetime(_HOUR, 24 * _HOUR),
    "aal3": Lifetime(15 * _MINUTE, 12 * _HOUR),
    "pci": Lifetime(15 * _MINUTE, 24 * _HOUR),
}


def beyond(lifetime: Lifetime, preset: str) -> list[str]:
    """Return which of the two timeouts are longer than the preset allows."""
    limit = PRESETS[preset]
    return [
        name
        for name, ours, most in (
            ("idle", lifetime.idle_ms, limit.idle_ms),
            ("absolute", lifetime.absolute_ms, limit.absolute_ms),
        )
        if ours > most
    ]
