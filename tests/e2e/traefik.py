"""What Traefik 3.7 does to a request on its way: a stand-in, since no package has the real one.

Written from reading its source: the entry point (what Go's server parses, forwarded headers, alias
headers, encoded characters, path), the middlewares `chain`, `headers` and `forwardAuth`, the
service. It reads the shipped files, and refuses a key that it does not know, as Traefik does. It
shows that our answers suit Traefik's rules; it cannot show a fault of Traefik itself.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import uvloop
import yaml

AUTH_TIMEOUT_S = 30.0  # fixed in Traefik
UPGRADE_RULE = "!HeaderRegexp(`Upgrade`, `.`) || HeaderRegexp(`Upgrade`, `(?i)^websocket$`)"
HOP = {"Connection", "Keep-Alive", "Te", "Trailer", "Trailers", "Transfer-Encoding", "Upgrade"}
FORWARDED = {
    *("X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-For", "X-Forwarded-Host"),
    *("X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Uri", "X-Forwarded-Method"),
    *("X-Forwarded-Prefix", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info"),
    *("X-Scheme", "X-Real-Ip"),
}
ENCODED = {
    "allowEncodedSlash": "%2F",
    "allowEncodedBackSlash": "%5C",
    "allowEncodedNullCharacter": "%00",
    "allowEncodedSemicolon": "%3B",
    "allowEncodedPercent": "%25",
    "allowEncodedQuestionMark": "%3F",
    "allowEncodedHash": "%23",
}
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+")
_VALID_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@\[\]/-]|%[0-9A-Fa-f]{2})*")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


# --- configuration ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """What the two files say."""

    listen: tuple[str, int]
    trusts: bool  # trustForwardHeader
    trusted_ips: tuple[str, ...]
    aliases: str
    sanitize: bool
    refused_escapes: tuple[str, ...]
    removed: tuple[str, ...]
    gateway: str
    asked_with: tuple[str, ...]
    identity: tuple[str, ...]
    application: str


def of(mapping: Any, *known: str) -> dict[str, Any]:
    """Return a section; a key that is not known is an error, as in Traefik."""
    unknown = set(mapping) - set(known)
    if unknown:
        raise KeyError(f"field not found: {', '.join(sorted(unknown))}")
    return dict(mapping)


def load(static: Path, dynamic: Path) -> Config:
    """Read the shipped files."""
    top = of(yaml.safe_load(static.read_text()), "entryPoints", "providers")
    entry = of(top["entryPoints"]["web"], "address", "forwardedHeaders", "http")
    http = of(entry["http"], "middlewares", "aliasHeadersStrategy", "sanitizePath",
              "encodedCharacters")  # fmt: skip
    forwarded = of(entry["forwardedHeaders"], "insecure", "trustedIPs")
    assert not forwarded["insecure"]
    assert http["middlewares"] == ["session-gateway@file"]
    rest = of(yaml.safe_load(dynamic.read_text())["http"], "routers", "middlewares", "services")
    router = of(rest["routers"]["application"], "entryPoints", "rule", "service")
    assert router == {"entryPoints": ["web"], "rule": UPGRADE_RULE, "service": "application"}
    headers, auth = _middlewares(rest["middlewares"])
    host, _, port = entry["address"].rpartition(":")
    [server] = rest["services"]["application"]["loadBalancer"]["servers"]
    return Config(
        listen=(host, int(port)),
        trusts=auth.get("trustForwardHeader", False),
        trusted_ips=tuple(forwarded["trustedIPs"]),
        aliases=http["aliasHeadersStrategy"],
        sanitize=http["sanitizePath"],
        refused_escapes=tuple(
            ENCODED[name] for name, allowed in http["encodedCharacters"].items() if not allowed
        ),
        removed=tuple(canonical(name) for name, value in headers.items() if value == ""),
        gateway=auth["address"],
        asked_with=tuple(map(canonical, auth.get("authRequestHeaders", []))),
        identity=tuple(map(canonical, auth["authResponseHeaders"])),
        application=server["url"],
    )


def _middlewares(found: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the headers to remove and the options of forwardAuth, if they stand in this order."""
    assert of(found["session-gateway"], "chain")["chain"] == {
        "middlewares": ["remove-claims", "ask-gateway"]
    }
    claims = of(of(found["remove-claims"], "headers")["headers"], "customRequestHeaders")
    auth = of(found["ask-gateway"], "forwardAuth")["forwardAuth"]
    known = ("address", "trustForwardHeader", "authRequestHeaders", "authResponseHeaders",
             "maxResponseBodySize", "preserveLocationHeader")  # fmt: skip
    return claims["customRequestHeaders"], of(auth, *known)


# --- requests --------------------------------------------------------------------------------


class Refused(Exception):
    """An answer of Traefik itself."""

    def __init__(self, status: int) -> None:
        self.status = HTTPStatus(status)


Headers = dict[str, list[bytes]]


@dataclass(frozen=True)
class Request:
    """A request as Go's server hands it on; header names are canonical."""

    method: str
    path: str  # escaped
    query: str  # with its "?", or ""
    host: str
    peer: str
    headers: Headers = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return self.path + self.query

    @property
    def websocket(self) -> bool:
        return any(value.lower() == b"websocket" for value in self.headers.get("Upgrade", []))


def canonical(name: str) -> str:
    """Return the name as Go writes it: a capital at the start and after each hyphen."""
    return "-".join(part.capitalize() for part in name.split("-"))


def parse(head: bytes, peer: str) -> Request:
    """Parse what stands before the body, as strictly and as leniently as Go."""
    first, *lines = head.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    try:
        method, target, version = first.decode("latin-1").split(" ")
    except ValueError:
        raise Refused(400) from None
    if not _TOKEN.fullmatch(method.encode("latin-1")) or not version.startswith("HTTP/1."):
        raise Refused(400)
    headers = _headers(lines)
    if (method, target) == ("OPTIONS", "*"):
        raise Refused(200)  # Go's server answers it itself
    path, query, host = _target(target)
    hosts = [value.decode("latin-1") for value in headers.pop("Host", [])]
    if len(hosts) > 1 or (not hosts and version == "HTTP/1.1"):
        raise Refused(400)
    host = host or "".join(hosts)
    if host and not _HOST.fullmatch(host):
        raise Refused(400)
    return Request(method, path, query, host, peer, headers)


def _headers(lines: list[bytes]) -> Headers:
    found: Headers = {}
    last = b""
    for line in lines:
        if line[:1] in b" \t" and line:  # a folded line goes on with the one before
            if not last:
                raise Refused(400)
            found[canonical(last.decode())][-1] += b" " + line.strip(b" \t")
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Refused(400)
        last = name
        found.setdefault(canonical(name.decode()), []).append(value.strip(b" \t"))
    if any(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", v) for values in found.values() for v in values):
        raise Refused(400)
    return found


def _target(target: str) -> tuple[str, str, str]:
    """Return escaped path, query and host of the request line."""
    host = ""
    absolute = re.fullmatch(r"https?://([^/?#]*)(.*)", target)
    if absolute:
        host, target = absolute[1].rpartition("@")[2], absolute[2]
        target = target if target.startswith("/") else "/" + target
    if not target.startswith("/") or re.search(r"[\x00-\x20\x7f]", target):
        raise Refused(400)
    path, question, query = target.partition("?")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path) or "#" in path:  # Go; denyFragment
        raise Refused(400)
    return _escaped(path), question + query, host


def _escaped(path: str) -> str:
    """Return Go's EscapedPath: as it came if that is a valid spelling, else spelt anew."""
    if _VALID_PATH.fullmatch(path):
        return path
    return quote(unquote_to_bytes(path.encode("latin-1")), safe="/$&+,:;=@")


# --- the entry point -------------------------------------------------------------------------


def enter(request: Request, config: Config) -> Request:
    """Apply what the entry point does before any router."""
    path = _normal(request.path)
    if any(escape in path for escape in config.refused_escapes):
        raise Refused(400)
    headers = dict(request.headers)
    _aliases(headers, config.aliases)
    if request.peer not in config.trusted_ips:
        headers = {name: each for name, each in headers.items() if not _managed(name)}
    secure = False  # the example has no TLS
    scheme = ("wss" if secure else "ws") if request.websocket else ("https" if secure else "http")
    for name, value in (
        ("X-Real-Ip", request.peer),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Port", "80"),
        ("X-Forwarded-Host", request.host),
    ):
        headers.setdefault(name, [value.encode("latin-1")])
    headers["X-Forwarded-Server"] = [socket.gethostname().encode()]
    if config.sanitize:
        path = _clean(path)
    return replace(request, path=path, headers=_without_hop_by_hop(headers))


def _normal(path: str) -> str:
    """Decode escapes of what needs none, and write the others in capitals."""

    def one(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if _UNRESERVED.fullmatch(character) else found[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", one, path)


def _clean(path: str) -> str:
    """Remove dot segments and double slashes; a slash at the end stays."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _aliases(headers: Headers, strategy: str) -> None:
    odd = [name for name in headers if not re.fullmatch(r"[A-Za-z0-9-]+", name)]
    if odd and strategy == "reject":
        raise Refused(400)
    for name in odd if strategy == "delete" else ():
        del headers[name]


def _managed(name: str) -> bool:
    return name in FORWARDED or canonical(name.replace("_", "-")) in FORWARDED


def _without_hop_by_hop(headers: Headers) -> Headers:
    """Remove what `Connection` names, but nothing that Traefik manages."""
    named = [part.strip().decode("latin-1") for value in headers.get("Connection", [])
             for part in value.split(b",")]  # fmt: skip
    upgrade = headers.get("Upgrade", [])[:1] if "upgrade" in map(str.lower, named) else []
    gone = {canonical(name) for name in named if not _managed(canonical(name))} | {"Connection"}
    kept = {name: values for name, values in headers.items() if name not in gone}
    return kept | ({"Connection": [b"Upgrade"], "Upgrade": upgrade} if upgrade else {})


# --- middlewares -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """An answer of the gateway."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if canonical(key.decode()) == name]


def question(request: Request, config: Config) -> Headers:
    """Return the headers of forwardAuth's request."""
    sent = {name: each for name, each in request.headers.items() if name not in HOP}
    if config.asked_with:
        sent = {name: each for name, each in sent.items() if name in config.asked_with}
    prior = request.headers.get("X-Forwarded-For", []) if config.trusts else []
    said = {
        "X-Forwarded-Method": request.method,
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": request.host,
        "X-Forwarded-Uri": request.uri,
    }
    for name, value in said.items():
        trusted = request.headers.get(name, []) if config.trusts else []
        sent[name] = trusted[:1] or [value.encode("latin-1")]
    sent["X-Forwarded-For"] = [b", ".join([*prior, request.peer.encode()])]
    return sent


async def ask(request: Request, config: Config) -> Answered:
    """Ask the gateway; a fault is a 500, and the timeout is long."""
    url = urlsplit(config.gateway)
    lines = [f"GET {url.path} HTTP/1.1", f"Host: {url.netloc}"]
    head = _joined(lines, {**question(request, config), "Connection": [b"close"]})
    try:
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(head)
            raw = await reader.read()
            writer.close()
            return _answered(raw)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        raise Refused(500) from None


def _answered(raw: bytes) -> Answered:
    head, end, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    if not end:
        raise ValueError("no whole answer")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return Answered(int(status.split(b" ")[1]), pairs, body)


def with_identity(request: Request, answer: Answered, config: Config) -> Request:
    """Replace each of authResponseHeaders by the answer's, or remove it."""
    headers = dict(request.headers)
    for name in config.identity:
        headers.pop(name, None)
        if answer.values(name):
            headers[name] = answer.values(name)
    return replace(request, headers=headers)


def handed_on(answer: Answered, method: str) -> bytes:
    """Return the gateway's refusal as the client gets it."""
    dropped = HOP | {"Content-Length"}
    kept = [name + b": " + value for name, value in answer.headers
            if canonical(name.decode()) not in dropped]  # fmt: skip
    phrase = HTTPStatus(answer.status).phrase
    first = f"HTTP/1.1 {answer.status} {phrase}".encode()
    last = [f"Content-Length: {len(answer.body)}".encode(), b"Connection: close", b"", b""]
    return b"\r\n".join([first, *kept, *last]) + (b"" if method == "HEAD" else answer.body)


def _joined(lines: list[str], headers: Headers) -> bytes:
    more = [name.encode() + b": " + value for name, values in headers.items() for value in values]
    return b"\r\n".join([*(line.encode("latin-1") for line in lines), *more]) + b"\r\n\r\n"


# --- one connection --------------------------------------------------------------------------


class Proxy:
    """Serves one request for each connection."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = ""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            came = parse(head, writer.get_extra_info("peername")[0])
            method = came.method
            await self._answer(came, reader, writer)
        except Refused as refused:
            writer.write(_own(refused.status))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.write(_own(HTTPStatus.BAD_GATEWAY if method else HTTPStatus.BAD_REQUEST))
        finally:
            writer.close()

    async def _answer(
        self, came: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = enter(came, self._config)
        if "Upgrade" in request.headers and not request.websocket:
            raise Refused(404)  # UPGRADE_RULE
        claims = self._config.removed
        kept = {name: each for name, each in request.headers.items() if name not in claims}
        request = replace(request, headers=kept)
        answer = await ask(request, self._config)
        if 200 <= answer.status < 300:
            await self._forward(with_identity(request, answer, self._config), reader, writer)
        else:
            writer.write(handed_on(answer, request.method))

    async def _forward(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send it to the application, body and all, and whatever comes back to the client."""
        url = urlsplit(self._config.application)
        application, sink = await asyncio.open_connection(url.hostname, url.port)
        sink.write(_joined(*_outgoing(request)))
        try:
            if request.websocket:
                sending = asyncio.create_task(_pipe(reader, sink))
            else:
                sending = asyncio.create_task(_send_body(request, reader, sink))
            await _pipe(application, writer)
            sending.cancel()
        finally:
            sink.close()


def _outgoing(request: Request) -> tuple[list[str], Headers]:
    """Return request line and headers for the application."""
    headers = {name: each for name, each in request.headers.items() if name not in HOP}
    headers["Connection"] = [b"Upgrade" if request.websocket else b"close"]
    if request.websocket:
        headers["Upgrade"] = request.headers["Upgrade"]
    if "Transfer-Encoding" in request.headers:  # Go: chunked wins over a length
        headers.pop("Content-Length", None)
        headers["Transfer-Encoding"] = [b"chunked"]
    prior = request.headers.get("X-Forwarded-For", [])
    headers["X-Forwarded-For"] = [b", ".join([*prior, request.peer.encode()])]
    return [f"{request.method} {request.uri} HTTP/1.1", f"Host: {request.host}"], headers


async def _send_body(
    request: Request, reader: asyncio.StreamReader, sink: asyncio.StreamWriter
) -> None:
    if "Transfer-Encoding" not in request.headers:
        length = int(b"".join(request.headers.get("Content-Length", [b"0"])))
        sink.write(await reader.readexactly(length))
        return
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        sink.write(line + await reader.readexactly(size + 2))
        await sink.drain()
        if size == 0:
            return


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()


def _own(status: HTTPStatus) -> bytes:
    line = f"HTTP/1.1 {status} {status.phrase}\r\n"
    return f"{line}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def main(static: Path, dynamic: Path) -> None:
    """Serve until the process is ended."""
    config = load(static, dynamic)
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any] = Proxy(config).serve
    host, port = config.listen
    server = await asyncio.start_server(serve, host, port, limit=1 << 20, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
