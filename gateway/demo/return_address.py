"""Where to go after signing in: never to another site."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

HOME = "/app"
# One slash, then no second one and no backslash, which browsers read as a slash: "//evil.example"
# is another site. No control characters: browsers drop some of them before they look.
_LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def local_path(address: str, origin: str) -> str:
    """Return the path and query of `address` if it is one of ours, else the start page.

    Ours is a local path, or an address with exactly the scheme, host and port of `origin`.
    """
    path = address.removeprefix(origin) if address.startswith(f"{origin}/") else address
    if not _LOCAL.fullmatch(path):
        return HOME
    return HOME if urlsplit(path).path == "/login" else path
