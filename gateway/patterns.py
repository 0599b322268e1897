"""How rules name hosts and paths: `*` stays within a label or segment, `**` goes across."""

from __future__ import annotations

import re
from urllib.parse import quote

from .target import normal_host

_UNRESERVED = re.compile(r"[A-Za-z0-9._~/-]", re.ASCII)
# The last but one: a star and what stands between it and a second star of the same segment.
_PIECES = re.compile(r"/\*\*(?=/)|\*\*|\*[^/*]+(?=\*(?!\*))|\*|.")
_UNFIT_PATH = re.compile(r"[\x00-\x20\x7f%;?#\\]|//|(?:^|/)\.\.?(?:/|\Z)")
_BELOW = "/**"


def host_covers(pattern: str, host: str) -> bool:
    """Tell whether a rule's host is about `host` (in its normal form).

    `*.example.com` is one label before the name, `**.example.com` one or more; neither is the name
    itself, nor one that only ends alike.
    """
    pattern = pattern.lower()
    if not pattern or pattern == host:
        return True
    stars, dot, name = pattern.partition(".")
    if stars not in ("*", "**") or not host.endswith(dot + name):
        return False
    return stars == "**" or "." not in host.removesuffix(dot + name)


def host_problem(pattern: str) -> str | None:
    """Return what is wrong with a rule's host, or None."""
    stars, dot, rest = pattern.partition(".")
    name = rest if dot and stars in ("*", "**") else pattern
    if not pattern or normal_host(name) == name.lower():
        return None
    return f'{pattern!r} is no host; write "app.example.com", "*.…" (one label) or "**.…" (any)'


def path_problems(path: str) -> list[str]:
    """Return what is wrong with a rule's path: all of it."""
    found = []
    if not path.startswith("/"):
        found.append(f'{path!r} must begin with "/"')
    if _UNFIT_PATH.search(path):
        found.append(
            f"{path!r} holds what no request can have once it is judged (%, ;, ?, #, \\, spaces, "
            "//, dot segments); write the decoded path"
        )
    if "***" in path:
        found.append(f"{path!r} has more than two * in a row; write * or **")
    elif path.removesuffix(_BELOW).count("**") > 1:
        found.append(f"{path!r} has more than one ** before its end; split it into several rules")
    if any(segment.replace("**", "").count("*") > 2 for segment in path.split("/")):
        found.append(f"{path!r} has more than two * in one segment; split it into several rules")
    return found


def compile_path(path: str, *, ignore_case: bool = False) -> str:
    """Return a regular expression of the whole path; its groups capture nothing."""
    if not path:
        return ".*"
    below = path.endswith(_BELOW)
    pieces = _PIECES.findall(path.removesuffix(_BELOW))
    pattern = "".join(map(_compile_piece, pieces)) + ("(?:/.*)?" if below else "")
    return f"(?i:{pattern})" if ignore_case else pattern


def _compile_piece(piece: str) -> str:
    if piece == _BELOW:
        return "(?:/.*)?"
    if piece == "**":
        return ".*"
    if piece == "*":
        return "[^/]+"
    if piece[0] == "*":
        # Atomic: the nearest end leaves the next star the most. Without it one path of 4 kB took
        # 200 ms under `/**/*a*b/**`.
        return f"(?>[^/]+?{''.join(map(_literal, piece[1:]))})"
    return _literal(piece)


def _literal(character: str) -> str:
    """Match a character, or its escape: the raw reading of a path still has its escapes."""
    if _UNRESERVED.fullmatch(character):
        return re.escape(character)
    return f"(?:{re.escape(character)}|(?i:{quote(character, safe='')}))"
