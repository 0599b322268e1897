"""What all adapters share: the proxy's subrequest as it came, the answer as it goes, the rules
for reading headers. Missing, repeated, empty or malformed input is refused, never defaulted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol

from multidict import CIMultiDictProxy, istr

from ..decision import Decision, Reason
from ..identity import NOBODY, lines
from ..model import CheckRequest, Standing

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Without all three an nginx `proxy_cache` on the auth location hands one user's 200 to anybody.
NEVER_CACHED = lines((("Cache-Control", "no-store"), ("Vary", "Cookie"), ("X-Accel-Expires", "0")))

COOKIE = istr("Cookie")
ORIGIN = istr("Origin")
REQUEST_METHOD = istr("Access-Control-Request-Method")
X_FORWARDED_PROTO = istr("X-Forwarded-Proto")
_LONGEST_ADDRESS = 64
_ONE = re.compile(r"[^\s,]*")
# Traefik says ws of a WebSocket's handshake; one comes back from signing in to a page.
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_EMPTY = b"Content-Length: 0\r\n\r\n"

_STATUS_LINES = {each: f"HTTP/1.1 {each} {each.phrase}\r\n".encode() for each in HTTPStatus}


class Subrequest(Protocol):
    """The proxy's question, raw, as aiohttp's parser hands it over."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """The target of the subrequest itself, raw, with its query."""

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


def sole(subrequest: Subrequest, name: str) -> str | None:
    """Return the header's value if it is there exactly once and not empty."""
    values = subrequest.headers.getall(name, ())
    return (values[0] or None) if len(values) == 1 else None


class Answer(NamedTuple):
    """What the proxy gets: nothing is added to these headers but the body's length."""

    status: HTTPStatus
    head: bytes  # header lines
    body: bytes = b""

    def on_the_wire(self, *, headless: bool = False, close: bool = False) -> bytes:
        """Return the bytes to send; to a HEAD request (`headless`) an answer has no body.

        No Date, no Server: Gateway API copies all of a check's head upstream.
        """
        if not self.body and not close:
            return _STATUS_LINES[self.status] + self.head + _EMPTY
        return b"".join(
            (
                _STATUS_LINES[self.status],
                self.head,
                b"Connection: close\r\n" if close else b"",
                b"Content-Length: %d\r\n\r\n" % len(self.body),
                b"" if headless else self.body,
            )
        )


Assert = Callable[[Standing, str], bytes]
Without = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Wording:
    """What the operator chose about answers."""

    login_url: str = ""  # with {url} where the return address goes; "": no sign-in page
    nobody: bytes = NOBODY  # the identity headers of an allow that knows nobody
    profile: int | None = None  # which profile's header lines of a session; None: the native ones
    allows: HTTPStatus = HTTPStatus.OK
    assertion: Assert | None = None  # one more header line, signed for the host that is asked
    remove_unset: tuple[str, ...] = ()  # families whose proxies remove what has no value
    without: Without | None = None  # how that is said to the proxy of one endpoint
    opening: bytes = field(init=False)  # of an allow, as it goes over the wire
    plain: bool = field(init=False)  # an allow says a session's own lines and nothing else

    def __post_init__(self) -> None:
        object.__setattr__(self, "opening", _STATUS_LINES[self.allows])
        special = (self.profile, self.assertion, self.without)
        object.__setattr__(self, "plain", special == (None, None, None))

    def told(self, decision: Decision, request: CheckRequest | None) -> bytes:
        """Return the identity lines of an allow."""
        known, session = self.nobody, decision.session
        if session is not None:
            known = session.identity
            if self.profile is not None:
                known = session.besides.profiles[self.profile]
            if self.assertion is not None:
                known += self.assertion(session, "" if request is None else request.host)
        return known if self.without is None else self.without(known)


Read = Callable[[Subrequest, "Trusted"], CheckRequest | Reason]
Write = Callable[[Decision, CheckRequest | None, Wording], Answer]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A protocol in which proxies ask."""

    name: str
    read: Read
    write: Write
    family: str = ""
    without: Without | None = None  # how its proxy is told to remove what has no value


@lru_cache(maxsize=8192)
def split_unset(block: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the header lines that have a value, and the names of the others."""
    every = block.split(b"\r\n")[:-1]
    kept = b"".join(line + b"\r\n" for line in every if not line.endswith(b": "))
    return kept, tuple(line[:-2].decode() for line in every if line.endswith(b": "))


class Endpoint(NamedTuple):
    """What answers at an address."""

    adapter: Adapter
    wording: Wording


@lru_cache(maxsize=64)
def endpoint_of(adapter: Adapter, wording: Wording) -> Endpoint:
    """Return an adapter with the wording that its proxy is to get."""
    if adapter.family not in wording.remove_unset:
        return Endpoint(adapter, wording)
    return Endpoint(adapter, replace(wording, without=adapter.without))


Page = Callable[[Subrequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Profile:
    """The addresses of a peer whose place the gateway takes."""

    wording: Wording
    exact: Mapping[str, Adapter] = field(default_factory=dict)
    below: Mapping[str, Adapter] = field(default_factory=dict)  # by how the path begins
    pages: Mapping[str, Page] = field(default_factory=dict)  # for people, through the proxy


class Trusted:
    """The peers whose word about a request counts, and how many hops of a list are our own.

    `hops` of 0: those that are in the networks, however many.
    """

    _MAX_REMEMBERED = 4096

    def __init__(self, networks: tuple[IpNetwork, ...], hops: int = 0) -> None:
        self._networks = networks
        self.hops = hops
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            known = self._look_up(address)
            if len(self._known) >= self._MAX_REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known

    def _look_up(self, address: str) -> bool:
        ip = parse_address(address)
        return ip is not None and any(ip in network for network in self._networks)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address, with `::ffff:` unmapped, or None."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def sole_address(text: str | None) -> str | None:
    """Return the one address that the proxy put there, in its normal form, or None.

    Not with a zone (`fe80::1%anything`): it is free text, and addresses are logged and compared.
    """
    if text is not None and len(text) > _LONGEST_ADDRESS:
        return None
    address = parse_address(text) if text and "%" not in text else None
    return None if address is None else str(address)


def forwarded_address(text: str | None, trusted: Trusted) -> str | None:
    """Return the client's address from a forwarding list: the last hop that is not our proxy.

    Read from the end, and no further than needed: what stands before it is the client's own text.
    A list that is shorter than our own hops came another way: it names nobody.
    """
    parts = (text or "").split(",")
    if trusted.hops:
        before = parts[: -trusted.hops]
        return sole_address(before[-1].strip(" \t")) if before else None
    hop: str | None = None
    for part in reversed(parts):
        hop = sole_address(part.strip(" \t"))
        if hop is None or hop not in trusted:
            return hop
    return hop


def scheme_of(subrequest: Subrequest) -> str | None:
    """Return the scheme of return addresses: https unless the proxy says otherwise."""
    values = subrequest.headers.getall(X_FORWARDED_PROTO, ("https",))
    return _SCHEMES.get(values[0]) if len(values) == 1 else None


def is_preflight(subrequest: Subrequest) -> bool | None:
    """Tell whether an OPTIONS request is a CORS preflight (Fetch standard).

    It has one Origin and one Access-Control-Request-Method, each with one value. If one of them is
    doubled or empty the answer is None: some servers take the first, or the last, and some do not.
    """
    origins = subrequest.headers.getall(ORIGIN, ())
    methods = subrequest.headers.getall(REQUEST_METHOD, ())
    if not origins or not methods:
        return False
    one = len(origins) == len(methods) == 1 and _ONE.fullmatch(origins[0] + methods[0])
    return True if one and origins[0] and methods[0] else None


def is_navigation(subrequest: Subrequest) -> bool:
    """Tell whether a person waits for a page (Fetch Metadata; Accept where a client has none)."""
    headers = subrequest.headers
    if headers.get("X-Requested-With", "").lower() == "xmlhttprequest":
        return False
    mode = headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode is not None else "text/html" in headers.get("Accept", "")
