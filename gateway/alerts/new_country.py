"""A country that the user has never signed in from."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Limits
from .history import History, SignIn


def find(sign_in: SignIn, history: History, _: Limits) -> Iterator[Finding]:
    """Say nothing while either side is unknown."""
    new, known = sign_in.client.country, history.countries
    if new and known and new not in known:
        previous = max(known, key=lambda country: known[country].last_ms)
        yield Finding(
            f"new_country {new}",
            {"previous_country": previous, "new_country": new, "city": sign_in.client.city},
        )
