"""How each proxy asks, byte for byte, and what each can take for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from gateway.identity import AUTHELIA, NATIVE, OAUTH2_PROXY, HeaderSet

from .calls import message

Header = tuple[str, bytes]

HOST = "app.example.com"
ADDRESS = "192.0.2.7"


@dataclass(frozen=True)
class Asked:
    """The client's request, before a proxy put it into words."""

    target: bytes = b"/app/x?tab=1&q=a%20b"
    method: str = "GET"
    host: str = HOST
    scheme: str = "https"
    address: str = ADDRESS
    cookies: tuple[bytes, ...] = ()
    more: tuple[Header, ...] = ()

    @property
    def url(self) -> bytes:
        return f"{self.scheme}://{self.host}".encode() + self.target


@dataclass(frozen=True)
class Family:
    """One way of asking. `inputs` are the headers without which it knows nothing."""

    name: str
    line: Callable[[Asked], bytes]
    headers: Callable[[Asked], list[Header]]
    inputs: tuple[str, ...]
    unknown: int  # the status for "we do not know"
    hands_on: bool  # the proxy gives our denial to the client as it is
    malformed: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    grpc: bool = False
    raw: bool = False  # of gRPC: the headers are sent as they came
    allows: int = 200
    told: HeaderSet = NATIVE
    login: str = "X-Auth-Login"  # the header of a 401 that says where to sign in
    scheme: Literal["header", "url", "fixed"] = "header"  # where the proxy tells it
    tells_host: bool = True  # the Host of the subrequest is the client's
    tells_method: bool = True
    in_line: bool = False  # the client's path and method are those of the subrequest itself

    @property
    def id(self) -> str:
        return f"{self.name}-raw" if self.raw else self.name

    @property
    def user(self) -> str:
        return self.told.names[0]

    def request(self, asked: Asked, drop: str = "", extra: tuple[Header, ...] = ()) -> bytes:
        """Return the whole subrequest, without the header `drop`, with `extra` after the rest."""
        headers = [pair for pair in self.headers(asked) if pair[0] != drop]
        headers += [("Cookie", value) for value in asked.cookies]
        headers += [*asked.more, *extra]
        if self.grpc:
            return message(headers, raw=self.raw)
        return join(self.line(asked), headers)


def join(line: bytes, headers: list[Header]) -> bytes:
    lines = [line, *(name.encode("latin-1") + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _fixed(path: str) -> Callable[[Asked], bytes]:
    return lambda asked: b"GET " + path.encode() + b" HTTP/1.1"


def _auth_request(asked: Asked) -> list[Header]:
    return [
        ("Host", asked.host.encode()),
        ("X-Original-Method", asked.method.encode()),
        ("X-Original-URI", asked.target),
        ("X-Forwarded-For", asked.address.encode()),
        ("X-Forwarded-Proto", asked.scheme.encode()),
    ]


def _ingress(asked: Asked) -> list[Header]:
    return [
        ("Host", b"gateway.internal"),
        ("X-Original-Method", asked.method.encode()),
        ("X-Original-URL", asked.url),
        ("X-Real-IP", asked.address.encode()),
    ]


def _forward_auth(asked: Asked) -> list[Header]:
    return [
        ("Host", b"gateway.internal"),
        ("X-Forwarded-Method", asked.method.encode()),
        ("X-Forwarded-Uri", asked.target),
        ("X-Forwarded-Host", asked.host.encode()),
        ("X-Forwarded-For", asked.address.encode()),
        ("X-Forwarded-Proto", asked.scheme.encode()),
    ]


def _ext_authz(asked: Asked) -> list[Header]:
    return [
        ("Host", asked.host.encode()),
        ("X-Forwarded-For", asked.address.encode()),
        ("X-Forwarded-Proto", asked.scheme.encode()),
    ]


def _attributes(asked: Asked) -> list[Header]:
    return [
        (":method", asked.method.encode()),
        (":path", asked.target),
        (":authority", asked.host.encode()),
        (":source", asked.address.encode()),
        ("X-Forwarded-Proto", asked.scheme.encode()),
    ]


_METHODS = (b"get", b"G ET", b"FETCH", b"CONNECT", b"GET, POST", b"*", b"\xff")
_TARGETS = (b"app", b"http://app.example.com/app/x", b"*", b"/a b", b"/app/\xff", b"/app/x#y", b"?")
_HOSTS = (b"a,b", b"a/b", b"u@a", b"a b", b"-", b"a..b", b"a:x", b"\xff.example.com")
_SOLE = (b"x", b"192.0.2.7, 192.0.2.8", b"192.0.2.07", b"192.0.2.7:80", b"fe80::1%x", b"\xff", b"-")
_LISTS = (b"x", b"192.0.2.7, x", b"192.0.2.7,", b"192.0.2.7:80", b"fe80::1%x", b"\xff", b"unknown")
_URLS = (
    b"/app/x",
    b"app.example.com/app/x",
    b"//app.example.com/app/x",
    b"ftp://app.example.com/app/x",
    b"HTTPS://app.example.com/app/x",
    b"https://app.example.com",
    b"https://app.example.com?x",
    b"https:///app/x",
    b"https://u@app.example.com/app/x",
    b"https://app.example.com,evil/app/x",
    b"https://app.example.com\\x/app/x",
    b"https://app.example.com/app x",
    b"https://app.example.com/app/x#y",
    b"https://app.example.com/app/\xff",
)
_SCHEMES = (b"ftp", b"HTTPS", b"https, http", b"javascript", b"-", b"WS", b"wss:")

AUTH_REQUEST = Family(
    "auth_request",
    _fixed("/check/auth_request"),
    _auth_request,
    ("Host", "X-Original-Method", "X-Original-URI", "X-Forwarded-For"),
    unknown=403,
    hands_on=False,
    malformed={
        "X-Original-Method": _METHODS,
        "X-Original-URI": _TARGETS,
        "Host": _HOSTS,
        "X-Forwarded-For": _SOLE,
        "X-Forwarded-Proto": _SCHEMES,
    },
)
INGRESS = Family(
    "ingress",
    _fixed("/check/ingress"),
    _ingress,
    ("X-Original-Method", "X-Original-URL", "X-Real-IP"),
    unknown=403,
    hands_on=False,
    malformed={"X-Original-Method": _METHODS, "X-Original-URL": _URLS, "X-Real-IP": _SOLE},
    scheme="url",
    tells_host=False,
)
FORWARD_AUTH = Family(
    "forward_auth",
    _fixed("/check/forward_auth"),
    _forward_auth,
    ("X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-For"),
    unknown=503,
    hands_on=True,
    malformed={
        "X-Forwarded-Method": _METHODS,
        "X-Forwarded-Uri": _TARGETS,
        "X-Forwarded-Host": _HOSTS,
        "X-Forwarded-For": _LISTS,
        "X-Forwarded-Proto": _SCHEMES,
    },
    tells_host=False,
)


def _behind(prefix: bytes) -> Callable[[Asked], bytes]:
    return lambda asked: asked.method.encode() + b" " + prefix + asked.target + b" HTTP/1.1"


EXT_AUTHZ = Family(
    "ext_authz_http",
    _behind(b"/check/ext_authz"),
    _ext_authz,
    ("Host",),
    unknown=403,
    hands_on=True,
    malformed={"Host": _HOSTS, "X-Forwarded-For": _LISTS, "X-Forwarded-Proto": _SCHEMES},
    in_line=True,
)
FAMILIES = (AUTH_REQUEST, INGRESS, FORWARD_AUTH, EXT_AUTHZ)


def _grpc(*, raw: bool) -> Family:
    return Family(
        "ext_authz_grpc",
        lambda asked: b"",
        _attributes,
        (":method", ":path", ":authority", ":source"),
        unknown=503,
        hands_on=True,
        malformed={
            ":method": _METHODS,
            ":path": _TARGETS,
            ":authority": _HOSTS,
            ":source": _SOLE,
            "X-Forwarded-Proto": _SCHEMES,
        },
        grpc=True,
        raw=raw,
    )


GRPC = (_grpc(raw=False), _grpc(raw=True))


# --- profiles --------------------------------------------------------------------------------


def _oauth2_nginx(asked: Asked) -> list[Header]:
    return [
        ("Host", asked.host.encode()),
        ("X-Real-IP", asked.address.encode()),
        ("X-Forwarded-Uri", asked.target),
    ]


def _authelia_nginx(asked: Asked) -> list[Header]:
    return [
        ("Host", b"gateway.internal"),
        ("X-Original-Method", asked.method.encode()),
        ("X-Original-URL", asked.url),
        ("X-Forwarded-For", asked.address.encode()),
    ]


OAUTH2 = Family(
    "oauth2_proxy",
    _fixed("/oauth2/auth"),
    _oauth2_nginx,
    ("Host", "X-Forwarded-Uri", "X-Real-IP"),
    unknown=403,
    hands_on=False,
    malformed={"X-Forwarded-Uri": _TARGETS, "Host": _HOSTS, "X-Real-IP": _SOLE},
    allows=202,
    told=OAUTH2_PROXY,
    scheme="fixed",
    tells_method=False,
)
AUTHELIA_AUTH_REQUEST = Family(
    "authelia_auth_request",
    _fixed("/api/authz/auth-request"),
    _authelia_nginx,
    ("X-Original-Method", "X-Original-URL", "X-Forwarded-For"),
    unknown=403,
    hands_on=False,
    malformed={"X-Original-Method": _METHODS, "X-Original-URL": _URLS, "X-Forwarded-For": _SOLE},
    told=AUTHELIA,
    login="Location",
    scheme="url",
    tells_host=False,
)
AUTHELIA_FORWARD_AUTH = replace(
    FORWARD_AUTH,
    name="authelia_forward_auth",
    line=_fixed("/api/authz/forward-auth"),
    told=AUTHELIA,
)
AUTHELIA_EXT_AUTHZ = replace(
    EXT_AUTHZ, name="authelia_ext_authz", line=_behind(b"/api/authz/ext-authz/"), told=AUTHELIA
)
PROFILES = (OAUTH2, AUTHELIA_AUTH_REQUEST, AUTHELIA_FORWARD_AUTH, AUTHELIA_EXT_AUTHZ)
