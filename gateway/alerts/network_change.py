"""A network (autonomous system) that the user has never signed in from."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Limits
from .history import History, SignIn


def find(sign_in: SignIn, history: History, _: Limits) -> Iterator[Finding]:
    """Say nothing while either side is unknown."""
    place, known = sign_in.place, history.networks
    if place.asn and known and str(place.asn) not in known:
        previous = max(known, key=lambda asn: known[asn].last_ms)
        yield Finding(
            f"network_change {place.asn}",
            {"previous_asn": int(previous), "new_asn": place.asn, "network": place.network},
        )
