"""The values that everything else speaks of. Frozen, without behaviour that needs I/O.

Times are milliseconds since the Unix epoch on Redis' clock (`*_ms`), because Redis is the
one clock that all replicas share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

# Authenticator assurance levels, NIST SP 800-63B-4 section 2.
LOWEST_AAL, HIGHEST_AAL = 1, 3
# Of a session that an alert has put in doubt: no session rule lets it pass until its user has
# signed in again. The application cannot give it.
IN_DOUBT_AAL = 0


class EndState(StrEnum):
    """Why a session is no longer active."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    IDLE = "idle"
    EVICTED = "evicted"
    REPLACED = "replaced"
    ROTATED = "rotated"


@dataclass(frozen=True, slots=True)
class Device:
    """What the user would call "my laptop". It describes; it never authenticates."""

    id: str
    name: str
    type: str  # "desktop", "mobile", "tablet", "bot" or "unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of an address. Empty, None or 0: unknown."""

    country: str = ""  # ISO 3166, two capital letters
    city: str = ""
    coordinates: tuple[float, float] | None = None  # degrees: latitude, longitude
    radius_km: int = 0  # how far off they may be
    asn: int = 0
    network: str = ""  # the name of who runs it


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Client:
    """Where a sign-in came from, as the application saw it."""

    ip: str = ""
    country: str = ""
    city: str = ""
    user_agent: str = ""
    accept_language: str = ""
    accept_encoding: str = ""

    @property
    def caller(self) -> Caller:
        return Caller.of(self.ip, self.user_agent, self.accept_language, self.accept_encoding)

    def at(self, place: Place) -> Client:
        """Return it with what is known of the place, where the application did not say.

        Where it names another country, no city is known.
        """
        country = self.country or place.country
        city = self.city or (place.city if country == place.country else "")
        return replace(self, country=country, city=city)


class Caller(NamedTuple):
    """Who sends a request, as far as that can be told; "" is unknown. See `binding`."""

    address: str = ""
    user_agent: str = ""
    language: str = ""
    encoding: str = ""

    @classmethod
    def of(cls, address: str, user_agent: str, language: str, encoding: str) -> Caller:
        """Return it with bounded texts: a header may have 64 kB."""
        return cls(address, user_agent[:512], language[:256], encoding[:256])


@dataclass(frozen=True, slots=True)
class Login:
    """A sign-in that the application vouches for."""

    user: str
    email: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()
    client: Client = field(default_factory=Client)
    device_id: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    remember: bool = False
    aal: int = LOWEST_AAL


class SessionKey(NamedTuple):
    """Where a session lives: its partition and the first 128 bits of SHA-256(token)."""

    partition: str  # two hex digits
    digest: str  # 32 hex digits

    @property
    def id(self) -> str:
        """The public handle: not secret, and no way back to the token."""
        return self.partition + self.digest


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it was read, together with its three clocks."""

    key: SessionKey
    user: str
    email: str
    name: str
    roles: tuple[str, ...]
    device: Device
    client: Client
    created_ms: int
    expires_ms: int  # the absolute end
    idle_ms: int  # how long it may rest
    last_seen_ms: int  # 0: no activity is known, it rested too long
    metadata: Mapping[str, object] = field(default_factory=dict)
    remember: bool = False
    aal: int = LOWEST_AAL
    authenticated_ms: int = 0  # when the user last proved who it is; 0: so long ago as can be
    alerts: tuple[str, ...] = ()  # types of what its last sign-in raised

    @property
    def id(self) -> str:
        return self.key.id

    @property
    def idle_expires_ms(self) -> int:
        """When it ends if nothing more is heard of it."""
        return min(self.last_seen_ms + self.idle_ms, self.expires_ms)


class Besides(NamedTuple):
    """What only some configurations need of a session: one place in memory where none is on."""

    profiles: tuple[bytes, ...] = ()  # the identity's lines by the names of each profile
    email: str = ""  # with a profile: its proxies may ask for certain addresses
    claims: bytes = b""  # what an assertion says of it, as JSON; where they are signed
    caller: Caller | None = None  # who signed in; where sessions are bound to that


NOTHING_BESIDES = Besides()


@dataclass(frozen=True, slots=True)
class Standing:
    """What checks need of a live session and nothing else: memory holds very many of these.

    The key stands here in its parts: a tuple would take 64 bytes more.
    """

    partition: str
    digest: str
    roles: tuple[str, ...]
    expires_ms: int  # the absolute end
    idle_ms: int
    last_seen_ms: int
    identity: bytes  # the header lines that tell the application who it is
    user: str = ""
    aal: int = LOWEST_AAL
    authenticated_ms: int = 0
    alerts: tuple[str, ...] = ()
    besides: Besides = NOTHING_BESIDES

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.partition, self.digest)

    @property
    def idle_expires_ms(self) -> int:
        return self.last_seen_ms + self.idle_ms

    def seen_at(self, seen_ms: int) -> Standing:
        """Return the same session with a later activity."""
        return replace(self, last_seen_ms=seen_ms)


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that an operation ended, and why."""

    id: str
    why: EndState


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked for a change, for the event: a token's name, never the token."""

    name: str
    reason: str = ""
    request_id: str = ""


class Breach(StrEnum):
    """Why a session may not be used by whoever uses it, who is not who signed in."""

    STEP_UP = "step_up"
    FINGERPRINT = "fingerprint"
    ADDRESS = "address"


class Narrowing(NamedTuple):
    """What is asked of a session beyond the policy: one of these values, of this kind.

    Or, of the kind "caller", that `breach` finds none.
    """

    kind: Literal["groups", "emails", "email_domains", "caller"]
    allowed: frozenset[str] = frozenset()
    breach: Callable[[Standing], Breach | None] | None = None


class EventId(NamedTuple):
    """When Redis recorded an event (ms), a number within that millisecond, and its partition.

    In this order events are listed. Within a partition it is the order in which they happened.
    """

    ms: int
    number: int
    partition: str

    @property
    def stream_id(self) -> str:
        return f"{self.ms}-{self.number}"

    def __str__(self) -> str:
        return f"{self.partition}-{self.stream_id}"


class Event(NamedTuple):
    """What is recorded of one change. `id` tells a repeat from another event."""

    id: EventId
    type: str  # "session.created", "session.ended", ...
    session: str
    user: str
    at_ms: int
    by: str
    reason: str
    request_id: str
    details: Mapping[str, object]  # depends on the type


class CheckRequest(NamedTuple):
    """The request that a proxy asks about, as one adapter read it; nothing is judged yet."""

    method: str
    target: str  # raw, with its query, as the client sent it
    host: str
    scheme: str
    address: str  # the client's, "" when the proxy does not say
    cookies: Sequence[str]  # every Cookie header, in order; what is no UTF-8 as lone surrogates
    navigation: bool = False  # a person waits for a page, not a script for data
    # A browser asks what another site's page may do (CORS). None: servers differ over that.
    preflight: bool | None = False
    header_names: Sequence[str] = ()  # the client's, where the proxy removes what we name
    narrowing: tuple[Narrowing, ...] = ()  # a session must satisfy each of them
