"""Envoy's gRPC ext_authz: `envoy.service.auth.v3.Authorization/Check`.

Reads `attributes.request.http` (method, path, host, and headers or header_map) and
`attributes.source`, which is whom Envoy takes for the client. Every outcome is one explicit
CheckResponse, and only `on_the_wire` makes one: for Envoy an empty message, one without a status,
and a status OK beside a denied_response are all an allow.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from multidict import CIMultiDict, CIMultiDictProxy, istr

from ..decision import Decision, Reason
from ..identity import MAX_BLOCK
from ..model import CheckRequest
from .answers import passed_on
from .ext_authz_http import FAMILY, REMOVE, without_unset
from .messages import CheckRequest as Asked
from .messages import CheckResponse
from .wire import (
    COOKIE,
    NEVER_CACHED,
    Adapter,
    Answer,
    Subrequest,
    Trusted,
    Wording,
    is_navigation,
    is_preflight,
    scheme_of,
    sole,
    sole_address,
)

SERVICE = "envoy.service.auth.v3.Authorization"
METHOD = "Check"
PATH = f"/{SERVICE}/{METHOD}"
MAX_MESSAGE = 1 << 20  # bytes; with Envoy's defaults a message has less than a tenth of it
MAX_HEADERS = 512  # as over HTTP; Envoy's default is 100

# The attributes stand among the headers, under names that no client's header can have.
_METHOD, _PATH, _HOST, _SOURCE = map(istr, (":method", ":path", ":authority", ":source"))
_ATTRIBUTES = frozenset({_METHOD, _PATH, _HOST})
_UNIX = "unix"  # the client reached Envoy over a Unix socket: it has no address

_PERMISSION_DENIED = 7  # google.rpc.Code
_REMEMBERED = 8192
_is_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch  # RFC 9110 section 5.6.2
_ODD = re.compile(r"[^:A-Za-z0-9-]")


# --- what is asked ---------------------------------------------------------------------------


class Message(NamedTuple):
    """A subrequest that came over gRPC."""

    headers: CIMultiDictProxy[str]
    method: str = "POST"
    path: str = PATH


def subrequest_of(message: bytes) -> Message:
    """Return the question in a message, or one that says nothing, which `read` refuses."""
    if len(message) > MAX_MESSAGE:
        return _NOTHING
    try:
        return Message(CIMultiDictProxy(CIMultiDict(_headers(Asked.FromString(message)))))
    except (DecodeError, ValueError):
        return _NOTHING


_NOTHING = Message(CIMultiDictProxy(CIMultiDict()))


def _headers(asked: Any) -> list[tuple[str, str]]:
    """Return the attributes and the client's headers.

    Envoy sends its pseudo-headers among the headers too, raw with `encode_raw_headers`, while in
    the attributes bytes that are no UTF-8 have been replaced: what differs is not to be judged.
    """
    http = asked.attributes.request.http
    attributes: dict[str, bytes] = {_METHOD: http.method, _PATH: http.path, _HOST: http.host}
    found: list[tuple[str, str]] = [(name, _text(value)) for name, value in attributes.items()]
    found.append((_SOURCE, _source(asked.attributes.source.address)))
    if len(http.headers) + len(http.header_map.headers) > MAX_HEADERS:
        raise ValueError("too many headers")
    for header in (*http.headers, *http.header_map.headers):
        name, value = header.key, header.value or header.raw_value
        if header.value and header.raw_value:
            raise ValueError("one header with two values")
        if _is_name(name):
            found.append((name, value.decode("utf-8", "surrogateescape")))
        elif not name.startswith(":"):
            raise ValueError("no name of a header")
        elif name in _ATTRIBUTES and attributes.pop(name, None) != value:
            raise ValueError("an attribute and its header differ, or the header came twice")
    return found


def _source(address: Any) -> str:
    if address.HasField("socket_address"):
        return _text(address.socket_address.address)
    return _UNIX if address.HasField("pipe") else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def read(subrequest: Subrequest, _: Trusted) -> CheckRequest | Reason:
    """Return the request that Envoy asks about."""
    method = sole(subrequest, _METHOD)
    target = sole(subrequest, _PATH)
    host = sole(subrequest, _HOST)
    source = sole(subrequest, _SOURCE)
    address = "" if source == _UNIX else sole_address(source)
    scheme = scheme_of(subrequest)
    if not (method and target and host and scheme) or address is None:
        return Reason.BAD_FORWARDED_REQUEST
    return CheckRequest(
        method=method,
        target=target,
        host=host,
        scheme=scheme,
        address=address,
        cookies=subrequest.headers.getall(COOKIE, ()),
        navigation=is_navigation(subrequest),
        preflight=method == "OPTIONS" and is_preflight(subrequest),
        header_names=tuple(subrequest.headers),
    )


# --- what is answered ------------------------------------------------------------------------


def write(decision: Decision, request: CheckRequest | None, wording: Wording) -> Answer:
    """Answer Envoy; 503 when we do not know: it stands in a denied_response, so it is a refusal."""
    answer = passed_on(decision, request, wording, HTTPStatus.SERVICE_UNAVAILABLE)
    if decision.reason is not None:
        return answer
    known = answer.head.removesuffix(NEVER_CACHED)  # here a head is added to the client's request
    told = dict(_pairs(known))
    unset = told.pop(REMOVE, b"").decode()
    aliases = _aliases(request.header_names if request else (), {*told, *unset.split(",")})
    removed = ",".join([unset, *aliases] if unset else aliases)
    told[REMOVE] = removed.encode()
    return answer._replace(head=_lines(told) if removed else known)


def on_the_wire(answer: Answer) -> bytes:
    """Return the CheckResponse: an ok_response for exactly 200, a denied_response for all else."""
    if answer.status is not HTTPStatus.OK:
        return _denied(answer)
    return _prepared(answer.head) if len(answer.head) <= MAX_BLOCK else _allowed(answer.head)


def _denied(answer: Answer) -> bytes:
    return _serialized(
        status={"code": _PERMISSION_DENIED},
        denied_response={
            "status": {"code": int(answer.status)},
            "headers": [_overwriting(*pair) for pair in _pairs(answer.head)],
            "body": answer.body,
        },
    )


def _allowed(head: bytes) -> bytes:
    pairs = dict(_pairs(head))
    remove = pairs.pop(REMOVE, b"").decode()
    return _serialized(
        status={},  # it is there, and its code is OK
        ok_response={
            "headers": [_overwriting(*pair) for pair in pairs.items()],
            "headers_to_remove": remove.split(",") if remove else [],
        },
    )


# Of a session in memory the same head comes again and again. What is remembered is how an identity
# is written, never that it is allowed.
_prepared = lru_cache(maxsize=_REMEMBERED)(_allowed)


def _serialized(**fields: Any) -> bytes:
    response: bytes = CheckResponse(**fields).SerializeToString()
    return response


def _overwriting(name: str, value: bytes) -> dict[str, Any]:
    """Return a header that replaces the client's: without `append` newer Envoys add it instead."""
    return {"header": {"key": name, "value": value}, "append": {"value": False}}


def _pairs(head: bytes) -> list[tuple[str, bytes]]:
    found = (line.partition(b": ") for line in head.split(b"\r\n")[:-1])
    return [(name.decode(), value) for name, _, value in found]


def _lines(pairs: Mapping[str, bytes]) -> bytes:
    return b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in pairs.items())


def _aliases(header_names: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the client's headers that an application could take for ours.

    WSGI, CGI and PHP make one variable of X-Auth-User, X_Auth_User and X.Auth.User. The exact name
    is not among them: Envoy removes after it has set, so ours would go too.
    """
    suspects = [name for name in header_names if _ODD.search(name)]
    if not suspects:
        return suspects
    managed = {name.lower() for name in names}
    return [name for name in suspects if _ODD.sub("-", name).lower() in managed]


ADAPTER = Adapter("ext_authz_grpc", read, write, FAMILY, without_unset)
