"""Two sign-ins so far apart that nobody travels so fast."""

from __future__ import annotations

from collections.abc import Iterator
from math import asin, cos, radians, sin, sqrt

from .finding import Finding, Limits, day_of
from .history import History, SignIn, Spot

EARTH_KM = 6371.0  # mean radius
_NEAR_KM = 100  # addresses of one town are spread over its region
_HOUR_MS = 3_600_000


def find(sign_in: SignIn, history: History, limits: Limits) -> Iterator[Finding]:
    """Give both places the benefit of their doubt: the shortest way between the two circles."""
    before, now = history.spot, sign_in.spot
    if before is None or now is None:
        return
    way_km = distance_km(before, now) - before.radius_km - now.radius_km
    hours = max(now.at_ms - before.at_ms, 1000) / _HOUR_MS
    if way_km > _NEAR_KM and way_km / hours > limits.speed_kmh:
        ends = sorted(f"{spot.latitude:.0f},{spot.longitude:.0f}" for spot in (before, now))
        yield Finding(
            f"impossible_travel {ends[0]} {ends[1]} {day_of(now.at_ms)}",
            {
                "previous_country": before.country,
                "previous_city": before.city,
                "new_country": now.country,
                "city": now.city,
                "distance_km": round(way_km),
                "minutes": round(hours * 60),
            },
        )


def distance_km(one: Spot, other: Spot) -> float:
    """Return the great-circle distance (haversine formula)."""
    north, east, north2, east2 = map(
        radians, (one.latitude, one.longitude, other.latitude, other.longitude)
    )
    chord = sin((north2 - north) / 2) ** 2
    chord += cos(north) * cos(north2) * sin((east2 - east) / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(min(1.0, chord)))
