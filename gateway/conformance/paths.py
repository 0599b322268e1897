"""Whether some application would read a path as a protected one.

Suspicious on purpose, and written without a look at `target`: whatever arrives is decoded, merged
and cut in every way that is known, and none of the results may be the protected page.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

_MOST = 500
_OVERLONG = re.compile(r"\xc0([\xae\xaf])|\xe0\x80([\xae\xaf])")


def leads_to(page: str, target: str) -> bool:
    """Tell whether a raw request target may be read as `page`, or as something below it."""
    path = target.partition("?")[0]
    return any(_is_below(page, reading) for reading in readings(path))


def readings(path: str) -> set[str]:
    """Return every path that some application makes of this raw one; bytes are kept as Latin-1."""
    found = {re.sub(r"^[A-Za-z]+://[^/]*", "", path)}
    while len(found) < _MOST:
        more = {variant for each in found for variant in _variants(each)} - found
        if not more:
            break
        found |= more
    return found


def _variants(path: str) -> set[str]:
    """Return one step of each known way to tidy a path; repeated until nothing new appears."""
    return {
        unquote_to_bytes(path.encode("latin-1", "replace")).decode("latin-1"),
        _OVERLONG.sub(lambda found: chr(ord(found[1] or found[2]) & 0x7F), path),
        path.replace("\\", "/"),
        re.sub(r"^/{2,}[^/]*", "", path),  # what follows two slashes may be taken for a host
        re.sub(r"/{2,}", "/", path),
        re.sub(r";[^/]*", "", path),
        re.split(r"[?#\x00]", path, maxsplit=1)[0],
        posixpath.normpath(path) if path else "/",
    }


def _is_below(page: str, path: str) -> bool:
    return re.match(rf"/*{re.escape(page.strip('/'))}(/|$)", path) is not None
