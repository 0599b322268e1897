"""The identity headers: which there are, and what their values may hold.

Values are ASCII. Other characters travel percent-encoded as UTF-8, and so does `%` itself: else
the users `caf%C3%A9` and `café` would be the same to the application.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

from .model import NOTHING_BESIDES, Besides, Session, Standing

FIELDS = ("user", "email", "name", "roles", "session", "device")
METADATA = "metadata."  # before the key of a value that the application gave the session
SEPARATORS = ",;| "  # a role that holds the one in use would be read as two


def lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines as they go over the wire."""
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """The identity headers of some endpoints: each name, and where its value comes from.

    A source is one of `FIELDS`, or `metadata.` and a key. `raw_utf8` leaves values as they are, for
    applications that do not decode. `assertion` names one more header, which `assertion` signs; "":
    there is none.
    """

    headers: tuple[tuple[str, str], ...]
    separator: str = ","
    raw_utf8: bool = False
    assertion: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.headers)

    @property
    def nobody(self) -> bytes:
        """The header lines where nobody is known: all there, all empty."""
        signed = (self.assertion,) if self.assertion else ()
        return lines((name, "") for name in (*self.names, *signed))


# Our own names, and those of the peers whose place the gateway can take. The preferred username is
# the user id: names that people choose for themselves would let one sign in as another.
NATIVE = HeaderSet(
    (
        ("X-Auth-User", "user"),
        ("X-Auth-Email", "email"),
        ("X-Auth-Name", "name"),
        ("X-Auth-Roles", "roles"),
        ("X-Auth-Session", "session"),
        ("X-Auth-Device", "device"),
    )
)
OAUTH2_PROXY = HeaderSet(
    (
        ("X-Auth-Request-User", "user"),
        ("X-Auth-Request-Email", "email"),
        ("X-Auth-Request-Preferred-Username", "user"),
        ("X-Auth-Request-Groups", "roles"),
    )
)
AUTHELIA = HeaderSet(
    (
        ("Remote-User", "user"),
        ("Remote-Groups", "roles"),
        ("Remote-Name", "name"),
        ("Remote-Email", "email"),
    )
)
HEADERS = NATIVE.names
NOBODY = NATIVE.nobody

# nginx answers 500 from about 4 kB of head; with our other headers this keeps below 3 kB.
MAX_BLOCK = 2560
# An assertion's head, issuer, audience, times and signature, and the name of its header.
_AROUND_CLAIMS = 640

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^\s|\s\Z")
_KEPT = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def problem_of(text: str) -> str | None:
    """Return why `text` cannot be a header value, or None."""
    if _UNFIT.search(text):
        return "must not hold control characters or lone surrogates, nor begin or end with a space"
    return None


def encode(text: str) -> str:
    """Return `text` as an ASCII header value; `urllib.parse.unquote` undoes it."""
    return text if text.isascii() and "%" not in text else quote(text, safe=_KEPT)


def headers_of(session: Session, told: HeaderSet = NATIVE) -> tuple[tuple[str, str], ...]:
    """Return every managed header with its value, empty where nothing is known.

    Raises ValueError for a value that no header can carry: creation refused it once, and a store is
    not believed.
    """
    return tuple((name, _written(session, source, told)) for name, source in told.headers)


def _written(session: Session, source: str, told: HeaderSet) -> str:
    value = _value(session, source)
    if isinstance(value, tuple):
        if any(told.separator in part for part in value):
            raise ValueError("holds the separator of its list")
        value = told.separator.join(value)
    if _UNFIT.search(value):
        raise ValueError("does not fit into a header")
    return value if told.raw_utf8 else encode(value)


def _value(session: Session, source: str) -> str | tuple[str, ...]:
    if source.startswith(METADATA):
        return _metadata(session.metadata.get(source.removeprefix(METADATA)))
    if source == "session":
        return session.id
    if source == "device":
        return session.device.id
    value: str | tuple[str, ...] = getattr(session, source)
    return value


def _metadata(value: object) -> str | tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(map(_scalar, value))
    return _scalar(value)


def _scalar(value: object) -> str:
    """Return text as it is, numbers and truth as JSON, nothing as ""."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float):
        return json.dumps(value)
    raise ValueError("is neither text, nor a number, nor a list of these")


def problems_of(session: Session, told: HeaderSet) -> list[tuple[str, str]]:
    """Return what keeps a session from being told intact, as (field, message) pairs."""
    found: list[tuple[str, str]] = []
    for name, source in told.headers:
        try:
            _written(session, source, told)
        except ValueError as error:
            found.append((source, f"{error}, so {name} cannot tell it"))
    if not found and _length(session, told) > MAX_BLOCK:
        found.append(("roles", f"with all identity headers exceed {MAX_BLOCK} bytes"))
    return found


def _length(session: Session, told: HeaderSet) -> int:
    """Return how long the lines become, an assertion by its greatest length."""
    signed = (len(claims_of(session)) + _AROUND_CLAIMS) * 4 // 3 if told.assertion else 0
    return len(lines(headers_of(session, told))) + signed


# What proxies and servers act on, and what the answers of the gateway say themselves.
_TAKEN = re.compile(
    r"""accept(-.*)? | authorization | cache-control | connection | content-.* | cookie2? | date
    | expect | forwarded | host | http2-settings | keep-alive | location | origin | pragma | range
    | referer | refresh | retry-after | server | set-cookie2? | status | te | trailer
    | transfer-encoding | upgrade | user-agent | vary | via | www-authenticate | x-real-ip
    | x-auth-(login|reason|step-up) | x-forwarded-(for|host|method|port|prefix|proto|server|uri)
    | (access-control|if|proxy|sec|x-accel|x-envoy|x-original|x-rewrite)-.*
    | x-http-method(-override)? | x-method-override""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*", re.ASCII)


def name_problems(told: HeaderSet) -> list[tuple[str, str]]:
    """Return what is wrong with the names and sources, as (header, message) pairs."""
    found, seen = [], set[str]()
    signed = ((told.assertion, "user"),) if told.assertion else ()
    for name, source in (*told.headers, *signed):
        folded = re.sub("[_.]", "-", name.lower())
        if not _NAME.fullmatch(name):
            found.append((name, "write letters, digits and single - only: proxies drop the rest"))
        if _TAKEN.fullmatch(folded):
            found.append((name, "means something to proxies and servers; choose another name"))
        if folded in seen:
            found.append((name, "is there twice: names differ by more than case, _ and ."))
        if source not in FIELDS and not re.fullmatch(rf"{re.escape(METADATA)}.+", source):
            found.append((name, f"{source!r} is none of {', '.join(FIELDS)}, metadata.<key>"))
        seen.add(folded)
    if not told.headers:
        found.append(("", "is empty: what the client claims to be would reach the application"))
    if len(told.nobody) > MAX_BLOCK // 2:
        found.append(("", f"has names of over {MAX_BLOCK // 2} bytes: little is left for values"))
    return found


Shared = TypeVar("Shared", bound=Hashable)
Stand = Callable[[Session], Standing]


def standing_of(
    session: Session,
    native: HeaderSet = NATIVE,
    profiles: tuple[HeaderSet, ...] = (),
    *,
    bound: bool = False,
) -> Standing:
    """Return what checks need of a session; its header lines are rendered here and only here."""
    return Standing(
        partition=session.key.partition,
        digest=session.key.digest,
        roles=_one_of(session.roles),
        expires_ms=session.expires_ms,
        idle_ms=_one_of(session.idle_ms),
        last_seen_ms=session.last_seen_ms,
        identity=lines(headers_of(session, native)),
        user=session.user,
        aal=session.aal,
        authenticated_ms=session.authenticated_ms,
        alerts=_one_of(session.alerts),
        besides=_besides(session, native, profiles, bound=bound),
    )


def _besides(
    session: Session, native: HeaderSet, profiles: tuple[HeaderSet, ...], *, bound: bool
) -> Besides:
    if not (native.assertion or profiles or bound):
        return NOTHING_BESIDES
    return Besides(
        profiles=tuple([lines(headers_of(session, each)) for each in profiles]),
        email=session.email if profiles else "",
        claims=claims_of(session) if native.assertion else b"",
        caller=session.client.caller if bound else None,
    )


def claims_of(session: Session) -> bytes:
    """Return what an assertion says of a session: names of RFC 7519, OpenID Connect, RFC 9068."""
    claims: dict[str, object] = {"sub": session.user, "sid": session.id}
    if session.email:
        claims["email"] = session.email
    if session.name:
        claims["name"] = session.name
    claims |= {"roles": session.roles, "aal": session.aal}
    if session.authenticated_ms:
        claims["auth_time"] = session.authenticated_ms // 1000
    return json.dumps(claims, separators=(",", ":")).encode()


@lru_cache(maxsize=1024)
def _one_of(value: Shared) -> Shared:
    """Return the first of equal values: hundreds of thousands of sessions share a few of them."""
    return value
