"""What upstreams make of a request target: every way we know of, in any order.

Written without a look at the gateway's own code, on bytes and as lenient as any server was ever
found to be. The raw `?` ends the path before all else: so begins every HTTP server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Step = Callable[[bytes], bytes]

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_OVERLONG = re.compile(rb"\xc0([\xae\xaf])|\xe0\x80([\xae\xaf])")


def decode(path: bytes) -> bytes:
    """Percent-decode once; what is no escape stays as it is."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), path)


def decode_but_slashes(path: bytes) -> bytes:
    """As yarl, and servers that split into segments first: `%2F` and `%25` stay escaped."""
    return _ESCAPE.sub(
        lambda match: match[0] if match[1].upper() in (b"2F", b"25")
        else bytes([int(match[1], 16)]), path
    )  # fmt: skip


def decode_overlong(path: bytes) -> bytes:
    """As Tomcat before 6.0.18 and IIS 5: overlong UTF-8 of `.` and `/` counts."""
    return _OVERLONG.sub(lambda match: bytes([(match[1] or match[2])[0] & 0x7F]), decode(path))


def cut(path: bytes) -> bytes:
    """What was decoded to `?` or `#` ends the path."""
    return re.split(rb"[?#]", path, maxsplit=1)[0]


def cut_nul(path: bytes) -> bytes:
    """C strings end at NUL."""
    return path.partition(b"\0")[0]


def resolve(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4, and what lies above the root is the root."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def merge(path: bytes) -> bytes:
    return re.sub(rb"/+", b"/", path)


def strip_parameters(path: bytes) -> bytes:
    """Servlet containers: `;` and what follows, in every segment."""
    return re.sub(rb";[^/]*", b"", path)


def strip_last_parameters(path: bytes) -> bytes:
    """RFC 2396 as Python's urlparse reads it: of the last segment only."""
    head, slash, last = path.rpartition(b"/")
    return head + slash + last.partition(b";")[0]


def cut_parameters(path: bytes) -> bytes:
    """Servers that take the first `;` for the end, as they would a `?`."""
    return path.partition(b";")[0]


def turn_backslashes(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def drop_authority(path: bytes) -> bytes:
    """`new URL(request.url, base)`: what follows two slashes is a host name."""
    return re.sub(rb"^[/\\]{2,}[^/\\]*", b"", path) or b"/"


def nginx(path: bytes) -> bytes:
    """Decode once, merge slashes, resolve: what `proxy_pass` with a URI part sends on."""
    return resolve(merge(decode(path)))


def tomcat(path: bytes) -> bytes:
    """Parameters first, then decode, then resolve: why `/..;/` climbs."""
    return resolve(merge(decode(strip_parameters(path))))


STEPS: tuple[Step, ...] = (
    decode,
    decode_but_slashes,
    decode_overlong,
    cut,
    cut_nul,
    resolve,
    merge,
    strip_parameters,
    strip_last_parameters,
    cut_parameters,
    turn_backslashes,
    drop_authority,
    nginx,
    tomcat,
)


def readings_of(target: str, depth: int = 4) -> frozenset[bytes]:
    """Return every path that up to `depth` steps, in any order, make of the target."""
    path = target.encode("utf-8", "surrogateescape").partition(b"?")[0]
    found = {path}
    latest: Iterable[bytes] = found
    for _ in range(depth):
        latest = {step(reading) for reading in latest for step in STEPS} - found
        found |= set(latest)
    return frozenset(reading or b"/" for reading in found)


def is_below(path: bytes, folder: bytes) -> bool:
    """Tell whether `path` is `folder` or in it, as a router or a file system sees it."""
    return path == folder or path.startswith(folder + b"/")
