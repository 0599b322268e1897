"""The cases: every known way past a proxy that asks somebody else whether a request may pass.

Data only. A text is filled in for an installation by `Place.fill`:

| name | is | name | is |
|---|---|---|---|
| {P} | the protected page, `/admin` | {U} {V} | the public page, `/public`; {U} of `/` is empty |
| {p} | the same without the slash | {up:X} | X as often as {U} is deep |
| {p1} {p2} {p3} | its first letter escaped, 1 to 3 times | {S} | where the sender may go |
| {G} | a page that the session may open | {H} | the host |
| {C} | the cookie `name=token` | {N} {n} {N1} {T} | its name; in other case, escaped; its token |
| {W} | a token that nobody has | {M} | a mark to find again |
| {I:how} | the identity headers, spelt so | | |

A lone surrogate stands for a byte: `\\udca0` is sent as A0. Everything else is sent as UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .place import SPELLINGS, Place


class Must(Enum):
    """What must hold for the answer to a case; the value says what must not happen."""

    SHUT = "the protected page is reached"
    REFUSED = "the application is reached at all"
    IDENTITY = "the application sees another identity than without the trick"
    DROPPED = "the header, or what it says, reaches the application"
    HOME = "the answer leads to another site, or holds a header of the client's"
    UNCACHED = "a refusal may be kept and shown to others"
    HIDDEN = "the gateway answers the client itself"


class Who(Enum):
    """Who sends a case."""

    STRANGER = "stranger"
    MEMBER = "member"


# What is shut for strangers is shut for a session without the rights, too: where the operator's
# cookie is such a one, SHUT is tried with it as well.
SENDERS = {
    Must.SHUT: (Who.STRANGER, Who.MEMBER),
    Must.IDENTITY: (Who.STRANGER, Who.MEMBER),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One trick. `kind` is the class of advisory that it belongs to."""

    kind: str
    what: str
    must: Must
    target: str = "{P}"
    lines: tuple[str, ...] = ()
    method: str = "GET"
    host: tuple[str, ...] = ("Host: {H}",)
    body: str = ""
    version: str = "HTTP/1.1"
    after: tuple[str, ...] = ()  # pages that the member opens first
    only: Who | None = None
    harmless: bool = True  # False: it could disturb other people's requests, where it works

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.what}"

    @property
    def senders(self) -> tuple[Who, ...]:
        """Return who sends it, as far as there is somebody with a cookie."""
        return (self.only,) if self.only else SENDERS.get(self.must, (Who.STRANGER,))

    @property
    def needs_cookie(self) -> bool:
        """Tell whether there is nothing to send without a live session."""
        text = self.target + "".join(self.lines)
        return self.only is Who.MEMBER or bool(self.after) or "{C}" in text or "{T}" in text

    def request(self, place: Place, who: Who) -> bytes:
        """Return the bytes to send."""
        start = place.public if who is Who.STRANGER else place.page
        lines = [f"{self.method} {self.target} {self.version}", *self.host, *self.lines]
        if who is Who.MEMBER:
            lines.append("Cookie: {C}")
        if not any(line.lower().startswith("connection:") for line in lines):
            lines.append("Connection: close")
        text = "\r\n".join(lines) + "\r\n\r\n" + self.body
        return place.fill(text, start).encode("utf-8", "surrogateescape")


# --- path confusion --------------------------------------------------------------------------

_PATHS = {
    "plain": "{P}",
    "trailing-slash": "{P}/",
    "below": "{P}/x",
    "query": "{P}?x={U}/",
    "leading-slashes": "//{p}",
    "many-slashes": "///{p}//x",
    "dot": "/./{p}",
    "dot-behind": "{P}/.",
    "up-from-nowhere": "/x/../{p}",
    "up-from-public": "{U}/{up:../}{p}",
    "up-past-a-dot": "{U}/./{up:../}{p}/x",
    "up-from-below-public": "{U}/x/../{up:../}{p}",
    "up-too-far": "{U}/{up:../}../{p}",
    "up-past-slashes": "{U}//{up:../}{p}",
    "up-then-slashes": "{U}/{up:..//}{p}",
    "escaped-letter": "/{p1}",
    "escaped-letter-twice": "/{p2}",
    "escaped-letter-thrice": "/{p3}",
    "escaped-dot": "/%2e/{p}",
    "escaped-dots": "{U}/{up:%2e%2e/}{p}",
    "escaped-dots-upper": "{U}/{up:%2E%2E/}{p}",
    "half-escaped-dots": "{U}/{up:.%2e/}{p}",
    "half-escaped-dots-turned": "{U}/{up:%2e./}{p}",
    "dots-escaped-twice": "{U}/{up:%252e%252e/}{p}",
    "dots-escaped-thrice": "{U}/{up:%25252e%25252e/}{p}",
    "dots-in-nested-escapes": "{U}/{up:%%32%65%%32%65/}{p}",
    "escaped-slash": "/%2f{p}",
    "escaped-slash-before-dots": "{U}%2f{up:..%2f}{p}",
    "escaped-slash-after-dots": "{U}/{up:..%2f}{p}",
    "escaped-slash-after-dots-upper": "{U}/{up:..%2F}{p}/x",
    "all-escaped": "{U}/{up:%2e%2e%2f}{p}",
    "all-escaped-twice": "{U}/{up:%252e%252e%252f}{p}",
    "all-escaped-and-letter": "{U}%2f{up:%2e%2e%2f}{p1}",
    "escaped-slash-inside": "/x%2f..%2f{p}",
    "escaped-slash-behind": "{P}%2fx",
    "escaped-slash-behind-twice": "{P}%252fx",
    "overlong-slash": "{U}/{up:..%c0%af}{p}",
    "overlong-dots": "{U}/{up:%c0%ae%c0%ae/}{p}",
    "overlong-dots-long": "{U}/{up:%e0%80%ae%e0%80%ae/}{p}",
    "backslash": "/\\{p}",
    "backslashes-up": "{U}{up:\\..}\\{p}",
    "backslash-after-dots": "{U}/{up:..\\}{p}",
    "escaped-backslash": "{U}/{up:..%5c}{p}",
    "escaped-backslash-twice": "{U}/{up:..%255c}{p}",
    "semicolon": "/;/{p}",
    "parameter-before": "/;x=1/{p}",
    "parameter-behind": "{P};x=1",
    "parameter-inside": "{P};x/y",
    "parameter-like-a-file": "{P};x.css",
    "dots-with-semicolon": "{U}/{up:..;/}{p}",
    "dots-with-parameter": "{U}/{up:..;x=1/}{p}",
    "dot-with-semicolon": "{U}/.;/{up:../}{p}",
    "root-dots-semicolon": "/..;/{p}",
    "public-semicolon": "{U};/{up:../}{p}",
    "escaped-semicolon": "/%3b/{p}",
    "dots-escaped-semicolon": "{U}/{up:..%3b/}{p}",
    "dots-semicolon-escaped-twice": "{U}/{up:..%253b/}{p}",
    "escaped-dots-semicolon": "{U}/{up:%2e%2e;/}{p}",
    "parameter-then-dots": "/x;/..;/{p}",
    "escaped-parameter-behind": "{P}%3bx",
    "fragment": "{P}#{U}/",
    "fragment-then-dots": "{U}/#/../{up:../}{p}",
    "escaped-fragment": "{P}%23{U}/",
    "escaped-fragment-then-dots": "{U}/%23/../{up:../}{p}",
    "escaped-query": "{P}%3f{U}/",
    "escaped-query-like-a-file": "{P}%3f.css",
    "escaped-query-then-dots": "{U}/%3f/../{up:../}{p}",
    "escaped-query-twice": "{P}%253fx",
    "nul": "{P}%00",
    "nul-like-a-file": "{P}%00.css",
    "nul-then-dots": "{U}/%00/../{up:../}{p}",
    "space-behind": "{P}%20",
    "tab-behind": "{P}%09",
    "tab-before": "/%09/{p}",
    "dot-glued": "{P}.",
    "line-feed-behind": "{P}%0a",
    "line-feed-before": "/%0a{p}",
    "line-feed-like-a-file": "{P}%0a.css",
    "line-break-after-dots": "{U}/{up:..%0d%0a/}{p}",
    "percent-u": "/%u0061{p}",
    "percent-u-dots": "{U}/{up:%uff0e%uff0e/}{p}",
    "fullwidth-slash": "{U}/{up:..%ef%bc%8f}{p}",
    "fullwidth-dots": "{U}/{up:%ef%bc%8e%ef%bc%8e/}{p}",
    "raw-fullwidth-slash": "{U}/{up:..\uff0f}{p}",
    "lone-percent": "/%/../{p}",
    "bad-escape": "/%zz/../{p}",
    "broken-utf-8": "/%e0/../{p}",
    "raw-byte": "/\udcff/../{p}",
    "two-slashes-and-a-host": "//evil.example{P}",
    "two-slashes-and-public": "/{U}{P}",
    "escaped-slash-and-a-host": "/%2fevil.example{P}",
    "like-a-file": "{P}/x.css",
    "asterisk": "*",
    "no-slash": "{p}",
    "query-only": "?{P}",
    "very-long": "{U}/" + "x/" * 1500 + "../" * 1500 + "{up:../}{p}",
}

_ABSOLUTE = {
    "own-host": "http://{H}{P}",
    "own-host-slashes": "http://{H}//{p}",
    "own-host-dots": "http://{H}{U}/{up:../}{p}",
    "own-host-escaped": "http://{H}/{p1}",
    "https": "https://{H}{P}",
    "upper-scheme": "HTTP://{H}{P}",
    "other-host": "http://other.example.com{P}",
    "user-information": "http://{H}@evil.example{P}",
    "password": "http://x:y@{H}{P}",
    "no-host": "http://{P}",
    "one-slash": "http:{P}",
    "other-scheme": "ftp://{H}{P}",
    "file-scheme": "file://{P}",
    "port": "http://{H}:80{P}",
    "query-host": "http://{H}?@evil.example{P}",
}

# --- headers ---------------------------------------------------------------------------------

# Headers by which some proxy or framework is told another path, host or method than the request's.
_PATH_HEADERS = (
    "X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Rewrite-URI", "X-Forwarded-Uri",
    "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Script-Name",
)  # fmt: skip
_HOST_HEADERS = ("X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host")
_ASSERTION = "X-Auth-Jwt-Assertion"  # one that is kept could be replayed
_METHOD_HEADERS = (
    "X-Original-Method", "X-Forwarded-Method", "X-HTTP-Method", "X-HTTP-Method-Override",
    "X-Method-Override",
)  # fmt: skip
# Their other spellings, which frameworks fold together just as those of the identity.
_ALIASES = (
    "X_Original_URL", "X.Original.URL", "X_Rewrite_URL", "X_Forwarded_Uri", "X_Forwarded_Host",
    "X_Forwarded_Prefix", "X_HTTP_Method_Override", "X~Original~URL",
)  # fmt: skip
_ADDRESS_HEADERS = (
    "X-Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Originating-IP", "X-Remote-IP",
    "X-Remote-Addr", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP",
    "X-Envoy-External-Address",
)  # fmt: skip

_LINES = {
    "space-before-colon": "X-Auth-User : {M}",
    "tab-before-colon": "X-Auth-User\t: {M}",
    "leading-space": " X-Auth-User: {M}",
    "folded": "X-Other: a\r\n X-Auth-User: {M}",
    "folded-identity": "X-Auth-User:\r\n {M}",
    "folded-with-tab": "X-Auth-User: a\r\n\t{M}",
    "nul-in-name": "X-Auth-User\x00: {M}",
    "nul-in-value": "X-Auth-User: \x00{M}",
    "bare-line-feed": "X-Other: a\nX-Auth-User: {M}",
    "bare-carriage-return": "X-Other: a\rX-Auth-User: {M}",
    "no-name": ": {M}\r\nX-Auth-User: {M}",
    "no-colon": "X-Auth-User\r\nX-Auth-User {M}",
    "vertical-tab": "X-Auth-User\x0b: {M}",
    "quoted-name": '"X-Auth-User": {M}',
    "escaped-name": "X%2DAuth%2DUser: {M}",
    "escaped-line-break": "X-Other: a%0d%0aX-Auth-User: {M}",
    "unicode-line-break": "X-Other: a\u560d\u560aX-Auth-User: {M}",
    "next-line": "X-Other: a\u0085X-Auth-User: {M}",
}

_AGENTS = {
    "google": "GoogleHC/1.0",
    "kubernetes": "kube-probe/1.30",
    "amazon": "ELB-HealthChecker/2.0",
    "envoy": "Envoy/HC",
    "consul": "Consul Health Check",
    "azure": "Load Balancer Agent",
    "uptime": "Edge Health Probe",
    "empty": "",
    "crawler": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
}

# --- cookies and credentials -----------------------------------------------------------------

_WORTHLESS = {
    "empty-line": "",
    "empty-value": "{N}=",
    "no-equals": "{N}",
    "only-equals": "=",
    "only-semicolons": ";;;",
    "quoted-nothing": '{N}=""',
    "quotes": '{N}="',
    "null": "{N}=null",
    "undefined": "{N}=undefined",
    "true": "{N}=true",
    "zero": "{N}=0",
    "asterisk": "{N}=*",
    "json": "{N}={{}}",
    "array-name": "{N}[]=1",
    "deleted": "{N}=deleted",
    "dots": "{N}=../../etc/passwd",
    "query": "{N}=' OR '1'='1",
    "key-pattern": "{N}=gw:s:*",
    "unknown-token": "{N}={W}",
    "short-token": "{N}=00AAAA",
    "escaped-token": "{N}=%30%30" + "A" * 43,
    "nul": "{N}=\x00",
    "not-utf-8": "{N}=\udcff\udcfe",
    "unsigned": "{N}=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "signed-by-express": "{N}=s%3AAAAA.AAAA",
    "line-break": "{N}=\r\n x",
    "very-long": "{N}=" + "A" * 6000,
    "very-many": "; ".join(f"{{N}}={n:02x}{'A' * 43}" for n in range(60)),
}

_AUTHORIZATION = {
    "empty": "",
    "bearer-nothing": "Bearer",
    "bearer-null": "Bearer null",
    "bearer-unsigned": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "bearer-unknown-token": "Bearer {W}",
    "basic-nothing": "Basic Og==",
    "basic-admin": "Basic YWRtaW46YWRtaW4=",
}

# The session's cookie and one that nobody has: a proxy or gateway that takes either is wrong.
_DUPLICATES = {
    "good-first": ("Cookie: {C}; {N}={W}",),
    "good-last": ("Cookie: {N}={W}; {C}",),
    "good-between": ("Cookie: {N}={W}; {C}; {N}={W}",),
    "two-lines-good-first": ("Cookie: {C}", "Cookie: {N}={W}"),
    "two-lines-good-last": ("Cookie: {N}={W}", "Cookie: {C}"),
    "comma-good-first": ("Cookie: {C}, {N}={W}",),
    "comma-good-last": ("Cookie: {N}={W}, {C}",),
    "empty-first": ("Cookie: {N}=; {C}",),
    "empty-last": ("Cookie: {C}; {N}=",),
    "other-case-of-line": ("cookie: {C}", "COOKIE: {N}={W}"),
    "set-cookie": ("Set-Cookie: {C}",),
    "cookie2": ("Cookie2: {C}",),
    "cookie-in-query": ("X-Cookie: {C}",),
}

# The session's token under a name that only a lenient reader takes for the session's.
_NAMES = {
    "other-case": "{n}={T}",
    "zero-width-non-joiner": "\u200c{N}={T}",
    "unicode-space": "\u2000{N}={T}",
    "wide-space": "\u3000{N}={T}",
    "no-break-space": "\u00a0{N}={T}",
    "raw-no-break-space": "\udca0{N}={T}",
    "next-line": "\u0085{N}={T}",
    "zero-width-space": "\u200b{N}={T}",
    "byte-order-mark": "\ufeff{N}={T}",
    "line-separator": "\u2028{N}={T}",
    "behind-unicode-space": "{N}\u2000={T}",
    "prefix": "x{N}={T}",
    "suffix": "{N}x={T}",
    "brackets": "{N}[]={T}",
    "quoted-name": '"{N}"={T}',
    "escaped-name": "{N1}={T}",
    "version": "$Version=1, {N}={T}",
    "in-quotes": 'a="; {C}"',
    "in-brackets": "a=[{C}]",
    "in-a-value": "a={C}",
    "in-a-value-of-its-prefix": "{N}x={C}",
    "behind-comma": "a=b, {C}",
    "behind-ampersand": "a=b&{C}",
    "behind-line-feed": "a=b\n{C}",
}

_HOSTS = {
    "other": ("Host: other.example.com",),
    "second-behind": ("Host: {H}", "Host: other.example.com"),
    "second-before": ("Host: other.example.com", "Host: {H}"),
    "comma-behind": ("Host: {H}, other.example.com",),
    "comma-before": ("Host: other.example.com, {H}",),
    "missing": (),
    "empty": ("Host:",),
    "space": ("Host: {H} other.example.com",),
    "tab": ("Host: {H}\tother.example.com",),
    "space-before-colon": ("Host : {H}",),
    "user-information": ("Host: x@{H}",),
    "path": ("Host: {H}{V}",),
    "query": ("Host: {H}?{V}",),
    "fragment": ("Host: {H}#{V}",),
    "backslash": ("Host: {H}\\other.example.com",),
    "trailing-dot": ("Host: {H}.",),
    "bad-port": ("Host: {H}:x",),
    "port-zero": ("Host: localhost:0",),
    "loopback": ("Host: 127.0.0.1",),
    "ipv6": ("Host: [::1]",),
    "underscore": ("Host: _",),
    "nul": ("Host: {H}\x00other.example.com",),
    "unicode": ("Host: \uff41.example.com",),
    "folded": ("Host:\r\n {H}",),
}

# --- answers ---------------------------------------------------------------------------------

EVIL = "evil.example"
_PAGE = "Accept: text/html"
_REDIRECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "two-slashes": ("//evil.example{P}", ()),
    "slash-backslash": ("/\\evil.example{P}", ()),
    "escaped-backslash": ("/%5cevil.example{P}", ()),
    "at-sign": ("/@evil.example{P}", ()),
    "dot-host": ("/.evil.example{P}", ()),
    "absolute-form": ("http://evil.example{P}", ()),
    "return-address-in-query": ("{P}?rd=https://evil.example/&next=//evil.example", ()),
    "return-address-breaks-out": ("{P}?x=%26rd=https://evil.example/", ()),
    "line-break-in-path": ("{P}/%0d%0aX-Injected:{M}", ()),
    "line-break-in-query": ("{P}?x=%0d%0aX-Injected:{M}", ()),
    "line-feed-in-query": ("{P}?x=%0aX-Injected:{M}", ()),
    "unicode-line-break": ("{P}?x=%e5%98%8d%e5%98%8aX-Injected:{M}", ()),
    "forwarded-host": ("{P}", ("X-Forwarded-Host: evil.example",)),
    "forwarded-host-list": ("{P}", ("X-Forwarded-Host: {H}, evil.example",)),
    "forwarded-proto": ("{P}", ("X-Forwarded-Proto: javascript",)),
    "forwarded-proto-and-host": ("{P}", ("X-Forwarded-Proto: https://evil.example/?",)),
    "forwarded-port": ("{P}", ("X-Forwarded-Port: 80@evil.example",)),
    "forwarded-prefix": ("{P}", ("X-Forwarded-Prefix: //evil.example",)),
    "forwarded-uri": ("{P}", ("X-Forwarded-Uri: //evil.example/",)),
    "forwarded": ("{P}", ("Forwarded: host=evil.example;proto=https",)),
    "original-url": ("{P}", ("X-Original-URL: https://evil.example/",)),
    "return-header": ("{P}", ("X-Auth-Request-Redirect: https://evil.example/",)),
    "login-header": ("{P}", ("X-Auth-Login: https://evil.example/",)),
    "referrer": ("{P}", ("Referer: https://evil.example/", "Origin: https://evil.example")),
}

_ENDPOINTS = {
    "nginx-location": "/_gateway",
    "auth-request": "/check/auth_request",
    "ingress": "/check/ingress",
    "forward-auth": "/check/forward_auth",
    "ext-authz": "/check/ext_authz{V}",
    "oauth2-proxy": "/oauth2/auth",
    "authelia": "/api/authz/auth-request",
    "sessions": "/v1/users/admin/sessions",
    "metrics": "/metrics",
}

_UPGRADES = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    "h2c-alone": ("Connection: Upgrade", "Upgrade: h2c"),
    "websocket": (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
    "websocket-wrong-version": (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 777",
    ),
    "tls": ("Connection: Upgrade", "Upgrade: TLS/1.0"),
}  # fmt: skip

# However they are read, there is no body: nothing is left over for anybody's next request.
_LENGTHS = {
    "twice": ("Content-Length: 0", "Content-Length: 0"),
    "list": ("Content-Length: 0, 0",),
    "plus": ("Content-Length: +0",),
    "minus": ("Content-Length: -0",),
    "hexadecimal": ("Content-Length: 0x0",),
    "space-before-colon": ("Content-Length : 0",),
    "empty": ("Content-Length:",),
    "te-header": ("TE: trailers", "Trailer: X-Auth-User"),
    "expect": ("Expect: 100-continue",),
    "expect-other": ("Expect: nothing",),
}

# Where two servers disagree about these, somebody else's request may suffer.
_DISTURBING: dict[str, tuple[tuple[str, ...], str]] = {
    "both-lengths": (("Content-Length: 5", "Transfer-Encoding: chunked"), "0\r\n\r\n"),
    "both-lengths-turned": (("Transfer-Encoding: chunked", "Content-Length: 4"), "0\r\n\r\n"),
    "chunked-twice": (("Transfer-Encoding: chunked", "Transfer-Encoding: x"), "0\r\n\r\n"),
    "chunked-misspelt": (("Transfer-Encoding: xchunked",), "0\r\n\r\n"),
    "chunked-space": (("Transfer-Encoding : chunked",), "0\r\n\r\n"),
    "chunked-folded": (("Transfer-Encoding:\r\n chunked",), "0\r\n\r\n"),
    "chunked-upper-and-tab": (("Transfer-Encoding:\tCHUNKED",), "0\r\n\r\n"),
    "two-lengths": (("Content-Length: 0", "Content-Length: 5"), "xxxxx"),
    "second-request": (
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        "0\r\n\r\nGET {P} HTTP/1.1\r\nHost: {H}\r\n\r\n",
    ),
    "head-ended-by-line-feeds": (("X-Other: a\n\nX-Auth-User: {M}",), ""),
    "pipelined": ((), "GET {P} HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\n\r\n"),
}


def _all() -> Iterator[Case]:
    yield from _of_targets()
    yield from _of_headers()
    yield from _of_cookies()
    yield from _of_answers()
    yield from _of_framing()


def _of_targets() -> Iterator[Case]:
    for what, target in _PATHS.items():
        yield Case("path-confusion", what, Must.SHUT, target)
    for what, target in _ABSOLUTE.items():
        yield Case("absolute-form", what, Must.SHUT, target)
    for what, host in _HOSTS.items():
        yield Case("host", what, Must.SHUT, host=host)
    yield Case("host", "other-than-in-target", Must.DROPPED, "http://{H}{V}",
               host=("Host: {M}.example.com",))  # fmt: skip
    for what, target in _ENDPOINTS.items():
        yield Case("exposed-endpoint", what, Must.HIDDEN, target)


def _of_headers() -> Iterator[Case]:
    for spelling in SPELLINGS:
        yield Case("identity-header", spelling, Must.IDENTITY, "{S}", (f"{{I:{spelling}}}",))
    for spelling, spelt in SPELLINGS.items():
        claims = tuple(f"{name}: {{M}}" for name in spelt(_ASSERTION))
        yield Case("identity-header", f"assertion-{spelling}", Must.IDENTITY, "{S}", claims)
    for what, line in _LINES.items():
        yield Case("malformed-line", what, Must.IDENTITY, "{S}", (line,))
    for name in _PATH_HEADERS:
        what = name.lower()
        yield Case("forwarding-header", what, Must.SHUT, lines=(f"{name}: {{V}}",))
        yield Case("rerouting-header", what, Must.DROPPED, "{V}", (f"{name}: {{P}}/{{M}}",))
    for name in _HOST_HEADERS:
        what = name.lower()
        yield Case("forwarding-header", what, Must.SHUT, lines=(f"{name}: other.example.com",))
        yield Case("rerouting-header", what, Must.DROPPED, "{V}", (f"{name}: {{M}}.example.com",))
    for name in _METHOD_HEADERS:
        what = name.lower()
        yield Case("method-override", what, Must.SHUT, lines=(f"{name}: OPTIONS",))
        yield Case("rerouting-header", what, Must.DROPPED, "{V}", (f"{name}: {{M}}",))
    for name in _ALIASES:
        yield Case("rerouting-alias", name.lower(), Must.DROPPED, "{V}", (f"{name}: {{P}}/{{M}}",))
    for name in _ADDRESS_HEADERS:
        yield Case("spoofed-address", name.lower(), Must.SHUT, lines=(f"{name}: 127.0.0.1",))
    yield from _of_few_headers()


def _of_few_headers() -> Iterator[Case]:
    forwarded = "Forwarded: for=127.0.0.1;host={};proto=https"
    everything = tuple(f"{name}: {{V}}" for name in _PATH_HEADERS)
    yield Case("forwarding-header", "forwarded", Must.SHUT, lines=(forwarded.format("x.example"),))
    yield Case("forwarding-header", "all", Must.SHUT, lines=everything)
    yield Case("forwarding-header", "doubled", Must.SHUT, lines=everything * 2)
    yield Case("forwarding-header", "absolute-original-url", Must.SHUT,
               lines=("X-Original-URL: http://{H}{V}",))  # fmt: skip
    yield Case("forwarding-header", "middleware-subrequest", Must.SHUT,
               lines=("X-Middleware-Subrequest: middleware:middleware:middleware",))  # fmt: skip
    yield Case("forwarding-header", "envoy-internal", Must.SHUT,
               lines=("X-Envoy-Internal: true", "X-Envoy-Original-Path: {V}"))  # fmt: skip
    yield Case("rerouting-header", "forwarded", Must.DROPPED, "{V}", (forwarded.format("{M}"),))
    yield Case("rerouting-header", "x-forwarded-proto", Must.DROPPED, "{V}",
               ("X-Forwarded-Proto: {M}",))  # fmt: skip
    yield Case("spoofed-address", "forwarded", Must.SHUT, lines=("Forwarded: for=127.0.0.1",))
    for what, agent in _AGENTS.items():
        yield Case("health-check-agent", what, Must.SHUT, lines=(f"User-Agent: {agent}",))
    for name in ("cookie", "authorization", "host", "x-forwarded-for", "x-original-uri",
                 "x-forwarded-uri", "x-forwarded-method", "x-forwarded-host", "content-length",
                 "keep-alive, te"):  # fmt: skip
        lines = (f"Connection: close, {name}",)
        yield Case("hop-by-hop", f"stranger-{name}", Must.SHUT, lines=lines)
        yield Case("hop-by-hop", f"member-{name}", Must.IDENTITY, "{S}", lines, only=Who.MEMBER)
    lines = ("Connection: close, {I:list}",)
    yield Case("hop-by-hop", "identity", Must.IDENTITY, "{S}", lines)
    yield Case("hop-by-hop", "identity-spoofed", Must.IDENTITY, "{S}", (*lines, "{I:as-is}"))


def _of_cookies() -> Iterator[Case]:
    for what, value in _WORTHLESS.items():
        yield Case("worthless-cookie", what, Must.SHUT, lines=(f"Cookie: {value}",),
                   only=Who.STRANGER)  # fmt: skip
    for what, value in _AUTHORIZATION.items():
        yield Case("worthless-credential", what, Must.SHUT, lines=(f"Authorization: {value}",))
    for what, cookies in _DUPLICATES.items():
        yield Case("duplicate-cookie", what, Must.REFUSED, "{G}", cookies)
    for what, value in _NAMES.items():
        yield Case("cookie-name", what, Must.REFUSED, "{G}", (f"Cookie: {value}",))
    yield Case("cookie-name", "token-in-path", Must.REFUSED, "{G};{C}")
    yield Case("cookie-name", "token-in-query", Must.REFUSED, "{G}?{C}")


def _of_answers() -> Iterator[Case]:
    for what, (target, lines) in _REDIRECTS.items():
        yield Case("open-redirect", what, Must.HOME, target, (_PAGE, *lines))
    yield Case("response-caching", "refusal-of-a-page", Must.UNCACHED, lines=(_PAGE,))
    yield Case("response-caching", "refusal-of-a-script", Must.UNCACHED)
    yield Case("response-caching", "refusal-of-an-unknown-token", Must.UNCACHED,
               lines=("Cookie: {N}={W}",))  # fmt: skip
    yield Case("response-caching", "replayed", Must.REFUSED, "{G}", after=("{G}",))
    yield Case("response-caching", "replayed-with-query", Must.REFUSED, "{G}?{M}",
               after=("{G}?{M}", "{G}?{M}"))  # fmt: skip
    yield Case("response-caching", "replayed-with-unknown-token", Must.REFUSED, "{G}",
               ("Cookie: {N}={W}",), after=("{G}",))  # fmt: skip
    yield Case("response-caching", "replayed-like-a-file", Must.REFUSED, "{G}/{M}.css",
               after=("{G}/{M}.css",))  # fmt: skip
    yield Case("response-caching", "not-modified", Must.SHUT, lines=("If-None-Match: *",))
    yield Case("response-caching", "range", Must.SHUT, lines=("Range: bytes=0-10",))
    yield Case("response-caching", "only-if-cached", Must.SHUT,
               lines=("Cache-Control: only-if-cached, max-stale",))  # fmt: skip


def _of_framing() -> Iterator[Case]:
    preflight = ("Origin: https://evil.example", "Access-Control-Request-Method: PUT")
    yield Case("method", "head", Must.SHUT, method="HEAD")
    yield Case("method", "options", Must.SHUT, method="OPTIONS")
    yield Case("method", "preflight", Must.SHUT, lines=preflight, method="OPTIONS")
    yield Case("method", "options-asterisk", Must.SHUT, "*", method="OPTIONS")
    yield Case("method", "override-in-query", Must.SHUT, "{P}?_method=OPTIONS")
    yield Case("method", "http-1.0", Must.SHUT, version="HTTP/1.0")
    yield Case("method", "http-1.0-without-host", Must.SHUT, version="HTTP/1.0", host=())
    yield Case("method", "http-0.9", Must.SHUT, version="HTTP/0.9")
    yield Case("method", "http-1.2", Must.SHUT, version="HTTP/1.2")
    yield Case("method", "space-in-target", Must.SHUT, "{U} {P}")
    yield Case("method", "tab-in-target", Must.SHUT, "{U}\t{P}")
    for what, lines in _UPGRADES.items():
        yield Case("upgrade", what, Must.SHUT, lines=lines)
    yield Case("upgrade", "unknown-protocol", Must.DROPPED, "{S}",
               ("Connection: Upgrade", "Upgrade: {M}"))  # fmt: skip
    for what, lines in _LENGTHS.items():
        yield Case("request-framing", what, Must.SHUT, lines=lines)
    for name in ("get", "FOO", "TRACE", "CONNECT", "GETX", "PRI"):
        yield Case("method", f"unknown-{name}", Must.SHUT, method=name, harmless=False)
    for what, (lines, body) in _DISTURBING.items():
        yield Case("request-smuggling", what, Must.SHUT, "{V}", lines, body=body, harmless=False,
                   only=Who.STRANGER)  # fmt: skip


CASES = tuple(_all())
KINDS = tuple(dict.fromkeys(case.kind for case in CASES))
