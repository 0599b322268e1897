"""Rules by host, path and method: the first match decides, no match denies.

Compiled once at load. A rule's path matches whole paths; `*` stands for one or more characters
inside a segment, `**` for any number of segments, and `/admin/**` covers `/admin` too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from .decision import Reason
from .target import METHODS, normal_host

_UNRESERVED = re.compile(r"[A-Za-z0-9._~/-]", re.ASCII)
# The last but one: a star and what stands between it and a second star of the same segment.
_PIECES = re.compile(r"/\*\*(?=/)|\*\*|\*[^/*]+(?=\*(?!\*))|\*|.")
_UNFIT_PATH = re.compile(r"[\x00-\x20\x7f%;?#\\]|//|(?:^|/)\.\.?(?:/|\Z)")


class Access(StrEnum):
    """Who may pass where a rule matches."""

    PUBLIC = "public"
    SESSION = "session"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule as the operator wrote it. Empty host, path or methods: any."""

    access: Access
    host: str = ""
    path: str = ""
    methods: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    counts_as_activity: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. `number` is its place in the configuration, from 1."""

    number: int
    spec: RuleSpec
    access: Access
    methods: frozenset[str]
    roles: frozenset[str]
    counts_as_activity: bool  # a request under it moves the idle end
    pattern: str  # of the whole path; its groups capture nothing

    def covers_host(self, host: str) -> bool:
        """Tell whether the rule is about `host` (in its normal form)."""
        pattern = self.spec.host.lower()
        if not pattern or pattern == host:
            return True
        return pattern.startswith("*.") and host.endswith(pattern[1:])

    def covers(self, method: str, path: str) -> bool:
        """Tell whether the rule is about this method and this one reading of the path."""
        return method in self.methods and bool(re.fullmatch(self.pattern, path, re.DOTALL))


class Policy:
    """All rules in their order."""

    _MAX_TABLES = 1024  # remembered; a flood of made-up hosts must not fill memory

    def __init__(self, specs: Iterable[RuleSpec]) -> None:
        self.rules = tuple(_compile(number, spec) for number, spec in enumerate(specs, 1))
        self._tables: dict[tuple[str, str], _Table] = {}

    def match(self, method: str, host: str, path: str) -> Rule | None:
        """Return the first rule that covers the request, or None."""
        return self._table(method, host).match(path)

    def match_all(
        self, method: str, host: str, paths: tuple[str, ...]
    ) -> tuple[Rule, ...] | Reason:
        """Return the deciding rule of every reading, or the reason why one may not pass at all."""
        table = self._table(method, host)
        matched: list[Rule] = []
        for path in paths:
            rule = table.match(path)
            if rule is None:
                return Reason.NO_RULE
            if rule.access is Access.DENY:
                return Reason.DENIED_BY_RULE
            matched.append(rule)
        return tuple(matched) or Reason.NO_RULE

    def _table(self, method: str, host: str) -> _Table:
        table = self._tables.get((method, host))
        if table is None:
            table = _Table(rule for rule in self.rules if rule.covers_host(host)
                           and method in rule.methods)  # fmt: skip
            if len(self._tables) >= self._MAX_TABLES:
                self._tables.clear()
            self._tables[method, host] = table
        return table


class _Table:
    """The rules for one method and host as one pattern: 20 rules cost little more than one."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._pattern = re.compile("|".join(f"({rule.pattern})" for rule in self._rules), re.DOTALL)

    def match(self, path: str) -> Rule | None:
        match = self._pattern.fullmatch(path)
        if match is None or match.lastindex is None:
            return None  # without a rule the pattern is empty, and matches an empty path
        return self._rules[match.lastindex - 1]


def is_public(rules: tuple[Rule, ...]) -> bool:
    """Tell whether every reading of the path is public; no reading at all is not."""
    return bool(rules) and all(rule.access is Access.PUBLIC for rule in rules)


def problems_of(spec: RuleSpec) -> list[tuple[str, str]]:
    """Return what is wrong with a rule as (field, message) pairs: all of it."""
    found = []
    if (
        spec.host
        and normal_host(spec.host.removeprefix("*.")) != spec.host.removeprefix("*.").lower()
    ):
        found.append(("host", f'{spec.host!r} is no host; write "app.example.com" or "*.…"'))
    if spec.path:
        found += [("path", message) for message in _path_problems(spec.path)]
    found += [
        ("methods", f"{method!r} is not a known method; known: {' '.join(sorted(METHODS))}")
        for method in spec.methods
        if method not in METHODS
    ]
    if spec.roles and spec.access is not Access.SESSION:
        found.append(("roles", f'roles need access = "session", not "{spec.access}"'))
    return found


def _path_problems(path: str) -> list[str]:
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
    elif path.removesuffix("/**").count("**") > 1:
        found.append(f"{path!r} has more than one ** before its end; split it into several rules")
    if any(segment.replace("**", "").count("*") > 2 for segment in path.split("/")):
        found.append(f"{path!r} has more than two * in one segment; split it into several rules")
    return found


def _compile(number: int, spec: RuleSpec) -> Rule:
    methods = frozenset(spec.methods) or METHODS
    if "GET" in methods:
        methods |= {"HEAD"}  # upstreams answer HEAD with the code of GET
    return Rule(
        number=number,
        spec=spec,
        access=spec.access,
        methods=methods,
        roles=frozenset(spec.roles),
        counts_as_activity=spec.counts_as_activity,
        pattern=_compile_path(spec.path) if spec.path else ".*",
    )


def _compile_path(path: str) -> str:
    below = path.endswith("/**")
    pattern = "".join(
        _compile_piece(piece) for piece in _PIECES.findall(path[: -3 * below or None])
    )
    return pattern + ("(?:/.*)?" if below else "")


def _compile_piece(piece: str) -> str:
    if piece == "/**":
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
