"""The identity headers: which there are, and what their values may hold.

Values are ASCII. Other characters travel percent-encoded as UTF-8, and so does `%` itself: else
the users `caf%C3%A9` and `café` would be the same to the application.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

from .model import Session, Standing

HEADERS = (
    "X-Auth-User",
    "X-Auth-Email",
    "X-Auth-Name",
    "X-Auth-Roles",
    "X-Auth-Session",
    "X-Auth-Device",
)


def lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines as they go over the wire."""
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()


NOBODY = lines((name, "") for name in HEADERS)

# nginx answers 500 from about 4 kB of head; with our other headers this keeps below 3 kB.
MAX_BLOCK = 2560

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


def headers_of(session: Session, *, raw_utf8: bool = False) -> tuple[tuple[str, str], ...]:
    """Return every managed header with its value, empty where nothing is known.

    `raw_utf8` leaves values as they are, for applications that do not decode. Raises ValueError
    for a value that no header can carry: creation refused it once, and a store is not believed.
    """
    values = (
        session.user,
        session.email,
        session.name,
        ",".join(session.roles),
        session.id,
        session.device.id,
    )
    written = values if raw_utf8 else tuple(map(encode, values))
    for value in written:
        if _UNFIT.search(value):
            raise ValueError("a value of the session does not fit into a header")
    return tuple(zip(HEADERS, written, strict=True))


Shared = TypeVar("Shared", bound=Hashable)
Stand = Callable[[Session], Standing]


def standing_of(session: Session, *, raw_utf8: bool = False) -> Standing:
    """Return what checks need of a session; its header lines are rendered here and only here."""
    return Standing(
        key=session.key,
        roles=_one_of(session.roles),
        expires_ms=session.expires_ms,
        idle_ms=_one_of(session.idle_ms),
        last_seen_ms=session.last_seen_ms,
        identity=lines(headers_of(session, raw_utf8=raw_utf8)),
        user=session.user,
        aal=session.aal,
        authenticated_ms=session.authenticated_ms,
    )


@lru_cache(maxsize=1024)
def _one_of(value: Shared) -> Shared:
    """Return the first of equal values: hundreds of thousands of sessions share a few of them."""
    return value


def size_of(user: str, email: str, name: str, roles: tuple[str, ...], device_id: str) -> int:
    """Return how many bytes the six headers of such a session take on the wire."""
    values = (user, email, name, ",".join(roles), "0" * 34, device_id)
    return sum(
        len(header) + len(encode(value)) + 4 for header, value in zip(HEADERS, values, strict=True)
    )
