"""The compiled policy against one written as plainly as can be, for random rules and requests."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.conditions import IpNetwork
from gateway.coverage import never_reached
from gateway.decision import Reason
from gateway.explain import explanation
from gateway.model import NOWHERE, CheckRequest, Place
from gateway.policy import Policy, asked_of
from gateway.rules import Access, RuleSpec, problems_of
from gateway.target import ANY_METHOD, METHODS, readings

from .samples import (
    MINUTE_MS,
    NOW_MS,
    FakeStore,
    at_once,
    cookie,
    make_authorizer,
    make_request,
    make_session,
)
from .test_conditions import UPSTREAMS

TEN, ELEVEN = (ipaddress.ip_network(text) for text in ("10.0.0.0/8", "11.0.0.0/8"))

PLACES = {
    "10.0.0.1": Place(country="DE", asn=3320),
    "11.0.0.1": Place(country="US", asn=209),
    "192.0.2.7": Place(country="FR", asn=3320),
    "2001:db8::1": Place(country="DE", asn=209),
    "198.51.100.1": Place(country="DE"),
    "198.51.100.2": Place(asn=3320),
}
KNOWN = ["10.0.0.1", "11.0.0.1", "192.0.2.7", "2001:db8::1"]
UNKNOWN = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]


def locate(address: str) -> Place:
    return PLACES.get(address, NOWHERE)


def possible_places(address: str) -> list[Place]:
    """Return all places where an address may be, as far as rules can tell them apart."""
    known = locate(address)
    countries = [known.country] if known.country else ["DE", "US", "FR"]
    asns = [known.asn] if known.asn else [3320, 209, 1]
    return [Place(country=country, asn=asn) for country, asn in product(countries, asns)]


@dataclass(frozen=True)
class Person:
    """What a session says of its user."""

    user: str
    roles: tuple[str, ...]
    aal: int
    age_ms: int
    rested_ms: int
    alerts: tuple[str, ...]


def segments_match(pattern: list[str], path: list[str]) -> bool:
    """Compare segment by segment; `**` takes any number of them, `*` a non-empty one."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(segments_match(pattern[1:], path[n:]) for n in range(len(path) + 1))
    same = bool(path) and (pattern[0] == path[0] or (pattern[0] == "*" and path[0] != ""))
    return same and segments_match(pattern[1:], path[1:])


def matches_path(spec: RuleSpec, path: str) -> bool:
    if not spec.path:
        return True
    pattern = spec.path.lower() if spec.ignore_case else spec.path
    path = path.lower() if spec.ignore_case else path
    return segments_match(pattern.split("/")[1:], path.split("/")[1:])


def matches_host(spec: RuleSpec, host: str) -> bool:
    if spec.host.startswith("**."):
        return host.endswith(spec.host[2:]) and host != spec.host[3:]
    if spec.host.startswith("*."):
        return host.split(".")[1:] == spec.host.split(".")[1:]
    return spec.host in ("", host)


def matches(
    spec: RuleSpec, request: CheckRequest, path: str, query: dict[str, list[str]], place: Place
) -> bool:
    """Tell whether a rule is about the request, for an upstream that reads it so."""
    methods = spec.methods or tuple(METHODS)
    if request.method not in methods and not (request.method == "HEAD" and "GET" in methods):
        return False
    if not matches_host(spec, request.host) or not matches_path(spec, path):
        return False
    if spec.preflight and not request.preflight:
        return False
    address = ipaddress.ip_address(request.address)
    if spec.networks and not any(address in network for network in spec.networks):
        return False
    if spec.countries and place.country not in spec.countries:
        return False
    if spec.asns and place.asn not in spec.asns:
        return False
    for condition in spec.query:
        name, _, value = condition.removeprefix("!").partition("=")
        there = bool(query.get(name)) if not value else query.get(name) == [value]
        if there is condition.startswith("!"):
            return False
    return True


def refusal(spec: RuleSpec | None, person: Person | None) -> Reason | None:
    """Return why the person may not pass under the rule."""
    if spec is None:
        return Reason.NO_RULE
    if spec.access is Access.PUBLIC:
        return None
    if spec.access is Access.DENY:
        return Reason.DENIED_BY_RULE
    if person is None:
        return Reason.NO_SESSION
    if spec.roles and not set(spec.roles) & set(person.roles):
        return Reason.ROLE_REQUIRED
    if not set(spec.roles_all) <= set(person.roles):
        return Reason.ROLE_REQUIRED
    if spec.users and person.user not in spec.users:
        return Reason.USER_NOT_ALLOWED
    if spec.idle_ms and person.rested_ms >= spec.idle_ms:
        return Reason.IDLE
    if set(spec.without_alerts) & {*person.alerts, *("*" for _ in person.alerts)}:
        return Reason.STEP_UP_REQUIRED
    if person.aal < spec.aal or (spec.max_age_ms and person.age_ms >= spec.max_age_ms):
        return Reason.STEP_UP_REQUIRED
    return None


def naive(
    specs: list[RuleSpec], request: CheckRequest, person: Person | None
) -> dict[str, set[Reason | None]]:
    """Return, for every upstream, what its readings of the path come to, wherever the client is."""
    target, _, raw_query = request.target.partition("?")
    found: dict[str, set[Reason | None]] = {}
    for name, upstream in UPSTREAMS.items():
        query = upstream(raw_query)
        applied = [spec for spec in specs if not spec.shadow]
        found[name] = {
            refusal(
                next((s for s in applied if matches(s, request, path, query, place)), None), person
            )
            for path in readings(target) or ()
            for place in possible_places(request.address)
        }  # fmt: skip
    return found


_NETWORKS: list[tuple[IpNetwork, ...]] = [(), (), (TEN,), (TEN, ELEVEN)]
_ROLES = st.sampled_from([(), (), ("admin",), ("admin", "staff")])
SPECS = st.lists(
    st.builds(
        RuleSpec,
        access=st.sampled_from([Access.PUBLIC, Access.SESSION, Access.SESSION, Access.DENY]),
        host=st.sampled_from(["", "", "app.example.com", "*.example.com", "**.example.com"]),
        path=st.sampled_from(["", "/**", "/a/**", "/a", "/*/b", "/a/b", "/**/b", "/A/**"]),
        methods=st.sampled_from([(), (), ("GET",), ("POST",)]),
        roles=_ROLES,
        ignore_case=st.booleans(),
        query=st.sampled_from([(), (), ("a",), ("!a",), ("a=1",), ("a", "!b")]),
        networks=st.sampled_from(_NETWORKS),
        countries=st.sampled_from([(), (), ("DE",), ("DE", "US")]),
        asns=st.sampled_from([(), (), (3320,), (3320, 209)]),
        preflight=st.sampled_from([False, False, False, True]),
        roles_all=_ROLES,
        users=st.sampled_from([(), (), ("ada",), ("bob", "eve")]),
        max_age_ms=st.sampled_from([0, 0, 5 * MINUTE_MS]),
        aal=st.sampled_from([1, 1, 2]),
        idle_ms=st.sampled_from([0, 0, 5 * MINUTE_MS]),
        without_alerts=st.sampled_from([(), (), ("*",), ("new_device", "new_country")]),
        shadow=st.sampled_from([False, False, False, True]),
    ).filter(lambda spec: not problems_of(spec)),
    max_size=5,
)
PLAIN = st.sampled_from(["", "a=1", "a=2", "b=1", "a=1&b=1", "c=1&a=2", "reason=a%20b"])
ODD = st.sampled_from(["a", "a=1&a=2", "%61=1", "A=1", "a[]=1", "b=1;a=1", "a=1&a=", "b?a=1"])


def requests(
    queries: st.SearchStrategy[str], addresses: list[str] = KNOWN
) -> st.SearchStrategy[CheckRequest]:
    return st.builds(
        lambda path, query, method, host, address, preflight: make_request(
            f"{path}?{query}", method="OPTIONS" if preflight else method, host=host
        )._replace(address=address, preflight=preflight),
        path=st.sampled_from(["/", "/a", "/a/b", "/A/b", "/a%2fb", "//a", "/a;x/b", "/c", "/b/"]),
        query=queries,
        method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]),
        host=st.sampled_from(["app.example.com", "a.b.example.com", "example.com", "other.org"]),
        address=st.sampled_from(addresses),
        preflight=st.booleans(),
    )


PEOPLE = st.none() | st.builds(
    Person,
    user=st.sampled_from(["ada", "bob"]),
    roles=st.sampled_from([(), ("admin",), ("staff",), ("admin", "staff")]),
    aal=st.sampled_from([1, 2]),
    age_ms=st.sampled_from([0, 5 * MINUTE_MS - 1, 5 * MINUTE_MS]),
    rested_ms=st.sampled_from([0, 5 * MINUTE_MS - 1, 5 * MINUTE_MS]),
    alerts=st.sampled_from([(), ("new_device",), ("shared_account",)]),
)


def decided(specs: list[RuleSpec], request: CheckRequest, person: Person | None) -> Reason | None:
    """Return what the gateway decides, asked twice: what it remembers changes nothing."""
    session = None
    if person is not None:
        session = make_session(
            user=person.user, roles=person.roles, aal=person.aal,
            last_seen_ms=NOW_MS - person.rested_ms, authenticated_ms=NOW_MS - person.age_ms,
            alerts=person.alerts,
        )  # fmt: skip
    authorizer = make_authorizer(
        specs, FakeStore(*filter(None, [session])), locate=locate
    )
    asked = request._replace(cookies=(cookie().decode(),) if person else ())
    other = asked._replace(target=asked.target.partition("?")[0] + "?z=1", address="192.0.2.9")
    at_once(authorizer.check(other))
    first, second = (at_once(authorizer.check(asked)).reason for _ in range(2))
    assert first is second
    return first


@settings(max_examples=200, deadline=None, database=None)
@given(specs=SPECS, request_=requests(PLAIN), person=PEOPLE)
def test_the_compiled_policy_decides_as_the_naive_one(
    specs: list[RuleSpec], request_: CheckRequest, person: Person | None
) -> None:
    """Where all upstreams read a request alike, the decision is exactly the naive one's."""
    by_reading = naive(specs, request_, person)["keeps empty ones"]
    reason = decided(specs, request_, person)
    assert reason in by_reading
    assert (reason is None) is (by_reading == {None})


@settings(max_examples=60, deadline=None, database=None)
@given(specs=SPECS, request_=requests(PLAIN | ODD, KNOWN + UNKNOWN), person=PEOPLE)
def test_an_untold_method_passes_only_where_every_method_does(
    specs: list[RuleSpec], request_: CheckRequest, person: Person | None
) -> None:
    """Conditions and preflights included."""
    every = {decided(specs, request_._replace(method=each), person) for each in METHODS}
    reason = decided(specs, request_._replace(method=ANY_METHOD), person)
    assert (reason is None) is (every == {None})


@settings(max_examples=200, deadline=None, database=None)
@given(specs=SPECS, request_=requests(ODD, KNOWN + UNKNOWN), person=PEOPLE)
def test_an_allow_is_one_for_every_upstream(
    specs: list[RuleSpec], request_: CheckRequest, person: Person | None
) -> None:
    """However an upstream reads an odd query, wherever a client of unknown place is: what passes
    here, it lets pass too.
    """
    if decided(specs, request_, person) is None:
        wrong = {name: found for name, found in naive(specs, request_, person).items()
                 if found != {None}}  # fmt: skip
        assert wrong == {}


@settings(max_examples=120, deadline=None, database=None)
@given(specs=SPECS, request_=requests(PLAIN | ODD, KNOWN + UNKNOWN))
def test_a_covered_rule_never_decides_alone(specs: list[RuleSpec], request_: CheckRequest) -> None:
    """What check-config warns of is so: take such a rule away, and nothing changes."""
    applied = [spec for spec in specs if not spec.shadow]
    policy = Policy(applied, locate=locate)
    place = policy.at(request_.method, request_.host, request_.target.partition("?")[0])
    assert not isinstance(place, Reason)
    for candidates in place.candidates:
        rules = place._replace(candidates=(candidates,)).matched(asked_of(place, request_))
        numbers = [rule.number for rule in rules if rule is not None]
        for number, by in never_reached(applied):
            assert number not in numbers or by in numbers[: numbers.index(number)]


@settings(max_examples=120, deadline=None, database=None)
@given(specs=SPECS, request_=requests(PLAIN | ODD, KNOWN + UNKNOWN))
def test_explain_names_the_rules_that_decide(specs: list[RuleSpec], request_: CheckRequest) -> None:
    """The words of `gateway explain` and the decision come from the same rules."""
    policy = Policy(specs, locate=locate)
    place = policy.at(request_.method, request_.host, request_.target.partition("?")[0])
    assert not isinstance(place, Reason)
    matched = place.matched(asked_of(place, request_))
    said = [
        int(line.split()[1])
        for line in explanation(policy, request_)
        if "): decides" in line
    ]  # fmt: skip
    assert said == [rule.number for rule in matched if rule is not None]
