"""More devices, countries or networks at once than one person has."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Limits, day_of
from .history import History, SignIn


def find(sign_in: SignIn, history: History, limits: Limits) -> Iterator[Finding]:
    """Count what was seen within the window, this sign-in included."""
    known = history.with_sign_in(sign_in)
    kind = "id:" if any(name.startswith("id:") for name in sign_in.devices) else "ua:"
    seen = {
        "devices": (limits.devices, {k: v for k, v in known.devices.items() if k.startswith(kind)}),
        "countries": (limits.countries, known.countries),
        "networks": (limits.networks, known.networks),
    }
    since_ms = sign_in.at_ms - limits.window_ms
    for what, (most, all_seen) in seen.items():
        recent = sum(each.last_ms > since_ms for each in all_seen.values())
        if recent > most:
            fact = f"shared_account {what} {day_of(sign_in.at_ms)}"
            yield Finding(fact, {"of": what, "count": recent})
