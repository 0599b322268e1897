"""A sign-in, and what is known of a user from those before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..devices import is_named, traits_of
from ..model import Client, Device, Place

_MOST_KNOWN = 50  # devices, countries or networks of one user; the longest unseen go first
_MOST_CLAIMS = 200


class Seen(NamedTuple):
    """When something of a user was seen first and last."""

    first_ms: int
    last_ms: int


class Spot(NamedTuple):
    """The last place on the map from which a user signed in."""

    at_ms: int
    latitude: float
    longitude: float
    radius_km: int
    country: str
    city: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in with all that was found out about it."""

    user: str
    at_ms: int
    client: Client  # its country is the application's, else the database's
    device: Device
    place: Place = field(default_factory=Place)
    accounts_on_device: int = 0  # how many users signed in on it lately; 0: unknown

    @property
    def devices(self) -> tuple[str, ...]:
        """By what the device can be told again, the best first: its id, its traits."""
        named = (f"id:{self.device.id}",) if is_named(self.device) else ()
        traits = traits_of(self.client.user_agent)
        return (*named, f"ua:{traits}") if traits else named

    @property
    def spot(self) -> Spot | None:
        """Where it came from, if that is on the map."""
        place = self.place
        if place.coordinates is None:
            return None
        return Spot(
            self.at_ms, *place.coordinates, place.radius_km, self.client.country, self.client.city
        )


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a user. Bounded: what was longest unseen is forgotten."""

    devices: Mapping[str, Seen] = field(default_factory=dict)
    countries: Mapping[str, Seen] = field(default_factory=dict)
    networks: Mapping[str, Seen] = field(default_factory=dict)
    spot: Spot | None = None
    claims: Mapping[str, int] = field(default_factory=dict)  # facts alerted of, and when

    def with_sign_in(self, sign_in: SignIn) -> History:
        """Return what is known after a sign-in that nobody doubts."""
        at_ms, asn = sign_in.at_ms, sign_in.place.asn
        country = sign_in.client.country
        return replace(
            self,
            devices=_noted(self.devices, sign_in.devices, at_ms),
            countries=_noted(self.countries, (country,) if country else (), at_ms),
            networks=_noted(self.networks, (str(asn),) if asn else (), at_ms),
            spot=sign_in.spot or self.spot,
        )

    def with_claims(self, claims: Mapping[str, int]) -> History:
        """Return it with these facts alerted of."""
        return replace(self, claims=claims)

    def bounded(self) -> History:
        """Return it without the oldest claims, of which whoever tries often leaves many."""
        if len(self.claims) <= _MOST_CLAIMS:
            return self
        newest = sorted(self.claims, key=self.claims.__getitem__, reverse=True)[:_MOST_CLAIMS]
        return self.with_claims({fact: self.claims[fact] for fact in newest})


def _noted(known: Mapping[str, Seen], names: tuple[str, ...], at_ms: int) -> Mapping[str, Seen]:
    if not names:
        return known
    noted = dict(known)
    for name in names:
        before = known.get(name)
        noted[name] = Seen(before.first_ms if before else at_ms, at_ms)
    while len(noted) > _MOST_KNOWN:
        del noted[min(noted, key=lambda name: noted[name].last_ms)]
    return noted
