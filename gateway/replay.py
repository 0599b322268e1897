"""What the alert rules would have said of sign-ins that were recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from .alerts import Alert, History, SignIn, Watch
from .devices import device_of
from .errors import InvalidInput, Problem
from .model import Client, Place

_ACCOUNTS_MS = 30 * 86_400_000  # as in the store


class Recorded(NamedTuple):
    """One sign-in as it was recorded."""

    at_ms: int
    user: str
    client: Client
    device_id: str


class Fired(NamedTuple):
    """An alert that would have been raised."""

    sign_in: SignIn
    alert: Alert


class Replay:
    """Asks the rules about one sign-in after another, and remembers as Redis would."""

    def __init__(self, watch: Watch, locate: Callable[[str], Place]) -> None:
        self._watch = watch
        self._locate = locate
        self._histories: dict[str, History] = {}
        self._last_ms: defaultdict[str, int] = defaultdict(int)
        self._accounts: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def sign_in(self, recorded: Recorded) -> list[Fired]:
        """Return what would have been raised. Raises InvalidInput for one out of order."""
        user, at_ms = recorded.user, recorded.at_ms
        if at_ms < self._last_ms[user]:
            message = "is older than the user's sign-in before it; sort the file by `at`"
            raise InvalidInput((Problem(f"{user} at {at_ms}", message),))
        history = self._histories.get(user, History())
        if at_ms - self._last_ms[user] > self._watch.memory_ms:
            history = History()
        self._last_ms[user] = at_ms
        sign_in = self._completed(recorded)
        assessment = self._watch.assess(sign_in, history)
        told = dict(assessment.after.claims)
        fired = [Fired(sign_in, alert) for alert in assessment.alerts if alert.fact not in told]
        told |= {each.alert.fact: at_ms for each in fired}
        self._histories[user] = assessment.after.with_claims(told)
        return fired

    def _completed(self, recorded: Recorded) -> SignIn:
        client, place = recorded.client, self._locate(recorded.client.ip)
        device = device_of(recorded.device_id, client.user_agent)
        accounts = self._accounts_on(recorded) if recorded.device_id else 0
        return SignIn(recorded.user, recorded.at_ms, client.at(place), device, place, accounts)

    def _accounts_on(self, recorded: Recorded) -> int:
        accounts = self._accounts[recorded.device_id]
        accounts[recorded.user] = recorded.at_ms
        since_ms = recorded.at_ms - _ACCOUNTS_MS
        return sum(last_ms > since_ms for last_ms in accounts.values())


def recorded_in(lines: Iterable[bytes]) -> Iterator[Recorded]:
    """Return the sign-ins of JSON lines; events of other kinds are passed over.

    A line is an event of the outbox (`session.created`), or the body of a sign-in with `at`. Raises
    InvalidInput for the first that is neither.
    """
    for number, line in enumerate(lines, 1):
        try:
            found = _recorded(orjson.loads(line)) if line.strip() else None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"is no sign-in ({error!r}); docs/alerts.md has the form"
            raise InvalidInput((Problem(f"line {number}", message),)) from None
        if found is not None:
            yield found


def _recorded(event: dict[str, Any]) -> Recorded | None:
    if event.get("type", "session.created") != "session.created":
        return None
    data = event.get("data", event)
    data = orjson.loads(data) if isinstance(data, str) else data
    device = data.get("device") or {"id": data.get("device_id", "")}
    client = Client(*(str(data.get(name) or "") for name in _CLIENT))
    return Recorded(_instant_ms(event["at"]), str(event["user"]), client, str(device["id"]))


_CLIENT = ("ip", "country", "city", "user_agent")


def _instant_ms(value: object) -> int:
    text = str(value)
    if text.isdigit():
        return int(text)
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("`at` needs an offset, such as Z")
    return int(when.timestamp() * 1000)
