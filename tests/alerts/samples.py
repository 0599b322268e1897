"""Sign-ins from places on the map."""

from __future__ import annotations

from gateway.alerts import RULES, Action, History, SignIn, Watch
from gateway.model import Client, Device, Place

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"

BERLIN = Place("DE", "Berlin", (52.52, 13.405), 20, 3320, "Deutsche Telekom")
POTSDAM = Place("DE", "Potsdam", (52.39, 13.06), 20, 3320, "Deutsche Telekom")
MUNICH = Place("DE", "Munich", (48.137, 11.575), 20, 3320, "Deutsche Telekom")
NEW_YORK = Place("US", "New York", (40.7128, -74.006), 50, 701, "Verizon")
SUVA = Place("FJ", "Suva", (-18.14, 178.44), 10, 4638, "Telecom Fiji")
APIA = Place("WS", "Apia", (-13.83, -171.76), 10, 38800, "Samoa")


def sign_in(
    place: Place = BERLIN, after_ms: int = 0, *, device: str = "laptop", agent: str = CHROME,
    country: str | None = None, accounts: int = 0,
) -> SignIn:  # fmt: skip
    """Return a sign-in of ann; with `device` "" on one that the application does not name."""
    where = place.country if country is None else country
    return SignIn(
        "ann",
        NOW_MS + after_ms,
        Client("81.2.69.142", where, place.city, agent),
        Device(device or f"~{after_ms}", "Chrome on Windows", "desktop"),
        place,
        accounts,
    )


def known(*before: SignIn) -> History:
    """Return what is known after these."""
    history = History()
    for each in before:
        history = history.with_sign_in(each)
    return history


def watch(action: Action = Action.ALERT, **others: Action) -> Watch:
    """Return all rules with one action, but for some."""
    return Watch(dict.fromkeys(RULES, action) | others)
