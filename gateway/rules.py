"""One rule: as the operator writes it, what is wrong with it, and compiled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from .alerts import RULES
from .conditions import Conditions, IpNetwork, network_problem, parse_query_condition
from .model import HIGHEST_AAL, LOWEST_AAL
from .patterns import compile_path, host_covers, host_problem, path_problems
from .target import METHODS


class Access(StrEnum):
    """Who may pass where a rule matches."""

    PUBLIC = "public"
    SESSION = "session"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule as the operator wrote it. What is empty or zero asks nothing."""

    access: Access
    host: str = ""
    path: str = ""
    methods: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()  # any of them
    counts_as_activity: bool = True
    ignore_case: bool = False
    query: tuple[str, ...] = ()
    networks: tuple[IpNetwork, ...] = ()
    countries: tuple[str, ...] = ()  # ISO 3166, two capital letters
    asns: tuple[int, ...] = ()
    preflight: bool = False
    roles_all: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    max_age_ms: int = 0
    aal: int = LOWEST_AAL
    idle_ms: int = 0
    without_alerts: tuple[str, ...] = ()  # "*": any
    shadow: bool = False


class Demands(NamedTuple):
    """What a rule requires of a session beside one of its roles."""

    roles_all: frozenset[str]
    users: frozenset[str]
    max_age_ms: int
    aal: int
    idle_ms: int
    alerts: frozenset[str]  # that its sign-in must not have raised


_HOW_TO_ASK_A_QUERY = (
    'write "name", "!name" or "name=value", with letters, digits, ".", "_", "~" and "-" only'
)
_NO_DEMANDS = Demands(frozenset(), frozenset(), 0, LOWEST_AAL, 0, frozenset())
_ANY = "*"


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
    conditions: Conditions | None  # None: method, host and path are all that it asks
    demands: Demands | None

    def covers_host(self, host: str) -> bool:
        """Tell whether the rule is about `host` (in its normal form)."""
        return host_covers(self.spec.host, host)

    def covers_path(self, path: str) -> bool:
        """Tell whether the rule is about this one reading of a path."""
        return bool(_matcher(self.pattern).fullmatch(path))


@lru_cache(maxsize=16384)
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


def problems_of(spec: RuleSpec) -> list[tuple[str, str]]:
    """Return what is wrong with a rule as (field, message) pairs: all of it."""
    found = []
    if (problem := host_problem(spec.host)) is not None:
        found.append(("host", problem))
    if spec.path:
        found += [("path", message) for message in path_problems(spec.path)]
    found += [
        ("methods", f"{method!r} is not a known method; known: {' '.join(sorted(METHODS))}")
        for method in spec.methods
        if method not in METHODS
    ]
    return [*found, *_condition_problems(spec), *_demand_problems(spec)]


def _condition_problems(spec: RuleSpec) -> list[tuple[str, str]]:
    found = [
        ("query", f"{text!r} is no condition; {_HOW_TO_ASK_A_QUERY}")
        for text in spec.query
        if parse_query_condition(text) is None
    ]
    found += [
        ("networks", problem)
        for network in spec.networks
        if (problem := network_problem(network)) is not None
    ]
    found += [
        ("country", f"{country!r} is no country; write two capital letters, such as DE (ISO 3166)")
        for country in spec.countries
        if not re.fullmatch("[A-Z]{2}", country)
    ]
    found += [
        ("asn", f"{asn} is no number of a network; write for example 3320")
        for asn in spec.asns
        if not 0 < asn < 1 << 32
    ]
    if spec.preflight and spec.methods not in ((), ("OPTIONS",)):
        found.append(("methods", "a preflight is always OPTIONS; leave methods out"))
    if spec.preflight and spec.access is Access.SESSION:
        found.append(("preflight", 'browsers send no cookie with it; write access = "public"'))
    return found


def _demand_problems(spec: RuleSpec) -> list[tuple[str, str]]:
    found = []
    asks = {
        "roles": spec.roles, "roles_all": spec.roles_all, "users": spec.users,
        "max_age": spec.max_age_ms, "idle": spec.idle_ms, "aal": spec.aal != LOWEST_AAL,
        "without_alerts": spec.without_alerts,
    }  # fmt: skip
    if spec.access is not Access.SESSION:
        found += [
            (name, f'{name} needs access = "session", not "{spec.access}"')
            for name, is_asked in asks.items()
            if is_asked
        ]
    if not LOWEST_AAL <= spec.aal <= HIGHEST_AAL:
        found.append(("aal", f"must be from {LOWEST_AAL} to {HIGHEST_AAL}"))
    known = (*RULES, _ANY)
    return found + [
        ("without_alerts", f"{name!r} is no alert; there are {', '.join(RULES)}, and * for any")
        for name in spec.without_alerts
        if name not in known
    ]


def compile_rule(number: int, spec: RuleSpec) -> Rule:
    """Return the rule at this place of the configuration; ValueError if `problems_of` has some."""
    methods = frozenset({"OPTIONS"} if spec.preflight else spec.methods) or METHODS
    if "GET" in methods:
        methods |= {"HEAD"}  # upstreams answer HEAD with the code of GET
    return Rule(
        number=number,
        spec=spec,
        access=spec.access,
        methods=methods,
        roles=frozenset(spec.roles),
        counts_as_activity=spec.counts_as_activity,
        pattern=compile_path(spec.path, ignore_case=spec.ignore_case),
        conditions=_conditions(spec),
        demands=_demands(spec),
    )


def _conditions(spec: RuleSpec) -> Conditions | None:
    if not (spec.query or spec.networks or spec.preflight or spec.countries or spec.asns):
        return None
    query = tuple(map(parse_query_condition, spec.query))
    # One that is none (a caller that did not ask `problems_of`) must not make the rule ask less.
    sound = tuple(each for each in query if each is not None)
    if len(sound) < len(query):
        raise ValueError(f"rule has a condition that is none: {spec.query}")
    return Conditions(sound, spec.networks, spec.preflight, spec.countries, spec.asns)


def _demands(spec: RuleSpec) -> Demands | None:
    alerts = RULES if _ANY in spec.without_alerts else spec.without_alerts
    demands = Demands(
        frozenset(spec.roles_all), frozenset(spec.users), spec.max_age_ms, spec.aal, spec.idle_ms,
        frozenset(alerts),
    )  # fmt: skip
    return None if demands == _NO_DEMANDS else demands
