"""Rules about requests: the first match decides, no match denies.

What a request says (host, path, method, query, network, preflight) selects the rule; what the
session says is required by the selected rule, and judged in `judge`. Compiled once at load. A
rule's path matches whole paths, and `/admin/**` covers `/admin` too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from .conditions import Asked, Holds, Locate, Query, nowhere
from .decision import Reason
from .model import CheckRequest
from .rules import Access, Rule, RuleSpec, compile_rule
from .target import ANY_METHOD, METHODS, normal_host, readings


class Place(NamedTuple):
    """What the rules say of one method, host and path.

    For every reading of the path it has the rules that may decide, in their order; only the last
    of them can be without conditions. Of `ANY_METHOD` it has them for every method.
    """

    method: str
    host: str  # in its normal form
    readings: tuple[str, ...]
    candidates: tuple[tuple[Rule, ...], ...]
    locate: Locate = nowhere

    @property
    def settled(self) -> bool:
        """Whether every request to this place gets the same rules."""
        return all(rule.conditions is None for rules in self.candidates for rule in rules)

    def asked(self, query: str, address: str, *, preflight: bool | None) -> Asked:
        """Return what conditions look at.

        Where a reading of the path ends at a decoded `?` or `#`, the query may be anything.
        """
        open_end = any("?" in path or "#" in path for path in self.readings)
        return Asked(Query(None if open_end else query), address, preflight, self.locate)

    def matched(self, asked: Asked | None) -> tuple[Rule | None, ...]:
        """Return every rule that may decide about the request; None where there is none.

        `asked` may be left out for a place that is settled.
        """
        return tuple(rule for rules in self.candidates for rule in _matched(rules, asked))

    def decide(self, asked: Asked | None = None) -> tuple[Rule, ...] | Reason:
        """Return the rules that must all let the request pass, or the reason why it cannot."""
        found: list[Rule] = []
        for rule in self.matched(asked):
            if rule is None:
                return Reason.NO_RULE
            if rule.access is Access.DENY:
                return Reason.DENIED_BY_RULE
            found.append(rule)
        return tuple(found) or Reason.NO_RULE


def _matched(rules: tuple[Rule, ...], asked: Asked | None) -> Iterable[Rule | None]:
    for rule in rules:
        if rule.conditions is None:
            yield rule
            return
        holds = Holds.MAYBE if asked is None else rule.conditions.hold(asked)
        if holds is not Holds.NO:
            yield rule
        if holds is Holds.YES:
            return
    yield None


class Policy:
    """All rules in their order. Shadow rules take part only `with_shadow`.

    `locate` is asked where an address is, by rules that want to know; it must return at once.
    """

    _MAX_TABLES = 1024  # remembered; a flood of made-up hosts must not fill memory

    def __init__(
        self, specs: Iterable[RuleSpec], *, with_shadow: bool = False, locate: Locate = nowhere
    ) -> None:
        specs = tuple(specs)
        self.rules = tuple(compile_rule(number, spec) for number, spec in enumerate(specs, 1))
        self.version = hashlib.sha256(repr(specs).encode()).hexdigest()[:12]
        self._applied = [rule for rule in self.rules if with_shadow or not rule.spec.shadow]
        self._locate = locate
        self._tables: dict[tuple[str, str], _Table] = {}

    def at(self, method: str, host: str, path: str) -> Place | Reason:
        """Return what the rules say of a place, as it came, or why no rule can be asked."""
        name = normal_host(host)
        if name is None:
            return Reason.BAD_HOST
        if method not in METHODS and method != ANY_METHOD:
            return Reason.BAD_METHOD
        paths = readings(path)
        if paths is None:
            return Reason.AMBIGUOUS_PATH
        return self.place(method, name, paths)

    def place(self, method: str, host: str, paths: tuple[str, ...]) -> Place:
        """Return what the rules say of these readings of a path; `host` in its normal form."""
        tables = self._tables_of(method, host)
        candidates = tuple(table.candidates(path) for table in tables for path in paths)
        return Place(method, host, paths, candidates, self._locate)

    def _tables_of(self, method: str, host: str) -> tuple[_Table, ...]:
        """Return the table of a method; of any method every one that differs."""
        if method != ANY_METHOD:
            return (self._table(method, host),)
        every = (self._table(each, host) for each in sorted(METHODS))
        return tuple({table.numbers: table for table in every}.values())

    def _table(self, method: str, host: str) -> _Table:
        table = self._tables.get((method, host))
        if table is None:
            table = _Table(rule for rule in self._applied if rule.covers_host(host)
                           and method in rule.methods)  # fmt: skip
            if len(self._tables) >= self._MAX_TABLES:
                self._tables.clear()
            self._tables[method, host] = table
        return table


class _Table:
    """The rules for one method and host as one pattern: 20 rules cost little more than one."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self.numbers = tuple(rule.number for rule in self._rules)
        self._pattern = re.compile("|".join(f"({rule.pattern})" for rule in self._rules), re.DOTALL)

    def candidates(self, path: str) -> tuple[Rule, ...]:
        """Return the rules that cover the path, up to the first that asks nothing more."""
        match = self._pattern.fullmatch(path)
        if match is None or match.lastindex is None:
            return ()  # without a rule the pattern is empty, and matches an empty path
        found: list[Rule] = []
        for rule in self._rules[match.lastindex - 1 :]:
            if rule.covers_path(path):
                found.append(rule)
                if rule.conditions is None:
                    break
        return tuple(found)


def is_public(rules: tuple[Rule, ...]) -> bool:
    """Tell whether every reading of the path is public; no reading at all is not."""
    return bool(rules) and all(rule.access is Access.PUBLIC for rule in rules)


def asked_of(place: Place, request: CheckRequest) -> Asked:
    """Return what the conditions of a place look at in a request."""
    query = request.target.partition("?")[2]
    return place.asked(query, request.address, preflight=request.preflight)
