"""Whether a session is still used by whom it was made for: pure, but for telling what it finds.

Compared is who signed in, as the application said, with who sends a request. An unchanged caller
of whom enough is known costs one comparison; what another comes to is remembered for the pair of
them, as a fact.

**What passes is proven to be the same; what is told is proven to be another.** What is unknown on
either side proves neither: under an action that refuses it is refused, and nobody is told.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from .alerts import Action, Alert
from .conditions import Locate, nowhere
from .devices import describe, traits_of
from .model import Breach, Caller, Narrowing, Place, Standing

LADDER = ("asn", "network", "address")  # from the widest to the narrowest
_PREFIXES = {4: 24, 6: 56}  # of a network: what one access, or one home, gets
_STRICTNESS = {action: place for place, action in enumerate(Action)}
_REFUSING = (Action.STEP_UP, Action.DENY, Action.END)
_MOST_KNOWN = 4096
# What browsers send for sound and pictures that move (Fetch standard), whatever else they accept.
_OF_MEDIA = "identity;q=1, *;q=0"


class Verdict(NamedTuple):
    """What becomes of a request by another caller than the one who signed in."""

    breach: Breach | None = None
    alerts: tuple[Alert, ...] = ()


Tell = Callable[[Standing, Caller, tuple[Alert, ...]], None]


@dataclass(frozen=True, slots=True)
class Bonds:
    """What follows when the fingerprint has changed, and on each rung of the ladder."""

    fingerprint: Action = Action.OFF
    asn: Action = Action.OFF
    network: Action = Action.OFF
    address: Action = Action.OFF

    @property
    def are_on(self) -> bool:
        return any(action is not Action.OFF for action in (self.fingerprint, *self.rungs.values()))

    @property
    def rungs(self) -> Mapping[str, Action]:
        return {"asn": self.asn, "network": self.network, "address": self.address}


class Binding:
    """Holds sessions to those who signed in. `tell` hears of changes; it must return at once."""

    def __init__(self, bonds: Bonds, locate: Locate = nowhere, tell: Tell | None = None) -> None:
        self._bonds = bonds
        self._climbs = any(action is not Action.OFF for action in bonds.rungs.values())
        self._locate = locate
        self._tell = tell
        self._verdict = lru_cache(maxsize=_MOST_KNOWN)(self._compare)
        # By address, user agent, languages and encodings: what a request asks of its session.
        self.hold = lru_cache(maxsize=_MOST_KNOWN)(self._hold)

    def forget(self) -> None:
        """Look addresses up again."""
        self._verdict.cache_clear()

    def _hold(self, address: str, user_agent: str, language: str, encoding: str) -> Narrowing:
        caller = Caller.of(address, user_agent, language, encoding)
        # Two who are alike in that nothing is known of them are not proven to be the same.
        is_proof = self._compare(caller, caller).breach is None

        def breach(session: Standing) -> Breach | None:
            if is_proof and session.besides.caller == caller:
                return None
            return self._judge(session, caller)

        return Narrowing("caller", breach=breach)

    def _judge(self, session: Standing, caller: Caller) -> Breach | None:
        verdict = self._verdict(session.besides.caller or Caller(), caller)
        if verdict.alerts and self._tell is not None:
            self._tell(session, caller, verdict.alerts)
        return verdict.breach

    def _compare(self, known: Caller, now: Caller) -> Verdict:
        """Let the strictest of all changes decide."""
        found = (self._fingerprint(known, now), self._address(known, now))
        refusing = [each.breach for each in found if each.breach is not None]
        denying = [breach for breach in refusing if breach is not Breach.STEP_UP]
        return Verdict(
            next(iter(denying or refusing), None),
            tuple(alert for each in found for alert in each.alerts),
        )

    def _fingerprint(self, known: Caller, now: Caller) -> Verdict:
        action = self._bonds.fingerprint
        if action is Action.OFF or (same := same_fingerprint(known, now)):
            return Verdict()
        breach = _breach(action, Breach.FINGERPRINT)
        if same is None:
            return Verdict(breach)
        fact = f"fingerprint_changed {fingerprint_of(now)}"
        return Verdict(breach, (Alert("fingerprint_changed", action, fact, {}),))

    def _address(self, known: Caller, now: Caller) -> Verdict:
        """Take the strictest action of the rungs that do not hold; tell of the widest of them."""
        if not self._climbs:
            return Verdict()
        held = _rungs_that_hold(known.address, now.address, self._locate)
        fallen = [
            (rung, action)
            for rung, action in self._bonds.rungs.items()
            if action is not Action.OFF and not held[rung]
        ]
        told = [(rung, action) for rung, action in fallen if held[rung] is False]
        breach = _breach(_strictest(fallen), Breach.ADDRESS)
        if not told:
            return Verdict(breach)
        rung = told[0][0]
        value = {"network": network_of(now.address), "address": now.address}
        fact = f"address_changed {rung} {value.get(rung) or self._locate(now.address).asn}"
        changed = {"changed": rung}
        return Verdict(breach, (Alert("address_changed", _strictest(told), fact, changed),))


def detailed(alert: Alert, known: Caller, now: Caller, locate: Locate) -> Alert:
    """Return an alert of `Binding` with all that is told: too dear for the answer's path."""
    if alert.type == "fingerprint_changed":
        more = _looks(known, now)
    else:
        more = _places(known, now, locate(known.address), locate(now.address))
    return replace(alert, details={**alert.details, **more})


def same_fingerprint(known: Caller, now: Caller) -> bool | None:
    """Tell whether the traits that the sign-in had are still those; None if that is unknown."""
    if now.encoding == _OF_MEDIA:  # then the encodings prove nothing
        known = known._replace(encoding="")
    before = _traits(known)
    after = before if known[1:] == now[1:] else _traits(now)  # to read them costs more
    pairs = [pair for pair in zip(before, after, strict=True) if pair[0]]
    if any(theirs and theirs != ours for ours, theirs in pairs):
        return False
    return True if pairs and all(theirs for _, theirs in pairs) else None


def fingerprint_of(caller: Caller) -> str:
    """Return a digest of the traits, short and without anything that a client wrote."""
    return hashlib.sha256(repr(_traits(caller)).encode("utf-8", "replace")).hexdigest()[:16]


def network_of(address: str) -> str:
    """Return the network around an address, "" if it is none."""
    ip = _parse(address)
    if ip is None:
        return ""
    return str(ipaddress.ip_network((ip, _PREFIXES[ip.version]), strict=False))


def _traits(caller: Caller) -> tuple[str, str, str]:
    """Return what stays the same over updates: family of the user agent, languages, encodings."""
    agent = traits_of(caller.user_agent) or caller.user_agent.partition("/")[0]
    return agent, ",".join(_names(caller.language)), ",".join(sorted(_names(caller.encoding)))


def _names(accepted: str) -> list[str]:
    """Return what a client accepts, without how much it likes each."""
    return [part.partition(";")[0].strip().lower() for part in accepted.split(",")]


def _rungs_that_hold(
    known: str, now: str, locate: Locate
) -> Mapping[str, bool | None]:
    """Tell for each rung whether it is the same; None if that is unknown."""
    ours, theirs = _parse(known), _parse(now)
    if ours is None or theirs is None:
        return dict.fromkeys(LADDER)
    if ours == theirs:
        return dict.fromkeys(LADDER, True)
    network = network_of(known) == network_of(now)
    owner = True if network else _same_owner(locate(known), locate(now))
    return {"asn": owner, "network": network, "address": False}


def _same_owner(before: Place, after: Place) -> bool | None:
    return before.asn == after.asn if before.asn and after.asn else None


def _breach(action: Action, otherwise: Breach) -> Breach | None:
    if action is Action.STEP_UP:
        return Breach.STEP_UP
    return otherwise if action in _REFUSING else None


def _strictest(rungs: Sequence[tuple[str, Action]]) -> Action:
    return max((action for _, action in rungs), key=_STRICTNESS.__getitem__, default=Action.OFF)


def _looks(known: Caller, now: Caller) -> Mapping[str, object]:
    before, after = _sound(known.user_agent), _sound(now.user_agent)
    return {
        "previous_device": describe(before)[0],
        "device": describe(after)[0],
        "previous_user_agent": before,
        "user_agent": after,
    }


def _places(known: Caller, now: Caller, before: Place, after: Place) -> Mapping[str, object]:
    return {
        "previous_ip": known.address,
        "ip": now.address,
        "previous_country": before.country,
        "country": after.country,
        "previous_asn": before.asn,
        "new_asn": after.asn,
    }


def _sound(text: str) -> str:
    """Return a header's text as others can take it: what is no UTF-8 came as lone surrogates."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=_MOST_KNOWN)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
