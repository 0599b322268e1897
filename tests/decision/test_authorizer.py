"""One check, from the request to the decision, over a store that keeps its contract."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from gateway.authorizer import Authorizer, Question
from gateway.decision import PUBLIC, Decision, Reason
from gateway.identity import standing_of
from gateway.model import CheckRequest, Session, Standing
from gateway.policy import Policy
from gateway.rules import Access, RuleSpec
from gateway.target import METHODS

from .samples import (
    NOW_MS,
    TOKEN,
    FakeStore,
    at_once,
    cookie,
    key_of,
    make_authorizer,
    make_request,
    make_session,
    unavailable,
)

RULES = [
    RuleSpec(Access.PUBLIC, path="/public/**"),
    RuleSpec(Access.DENY, path="/shut/**"),
    RuleSpec(Access.SESSION, path="/admin/**", roles=("admin",)),
    RuleSpec(Access.SESSION, path="/app/**"),
    RuleSpec(Access.SESSION, path="/read", methods=("GET",)),
]


class Check:
    """An authorizer with what it asked and what it noted."""

    def __init__(self, *sessions: Session) -> None:
        self.store = FakeStore(*sessions)
        self.activity: list[Standing] = []
        self.authorizer = make_authorizer(RULES, self.store, self.activity)

    def __call__(self, request: CheckRequest) -> Reason | None:
        decision = at_once(self.authorizer.check(request))
        assert (decision.session is None) or decision.reason is None
        return decision.reason


def test_a_session_that_may_pass_is_told_of() -> None:
    """The allow carries the session as it was read, and its activity is noted once."""
    session = make_session()
    check = Check(session)
    decision = at_once(check.authorizer.check(make_request("/app/x", cookies=(cookie(),))))
    assert (decision.reason, decision.session) == (None, standing_of(session))
    assert check.activity == [standing_of(session)]
    assert check.store.asked == [key_of(TOKEN)]


def test_a_public_path_never_asks_the_store() -> None:
    """Not even with a cookie, a bad one, or a store that is down."""
    check = Check(make_session())
    check.store.fault = unavailable()
    for cookies in ((), (cookie(),), (b"__Host-sid=EVIL",), (cookie(), cookie(b"x"))):
        decision = at_once(check.authorizer.check(make_request("/public/x", cookies=cookies)))
        assert decision == PUBLIC
    assert check.store.asked == []
    assert check.activity == []


@pytest.mark.parametrize(
    ("cookies", "reason"),
    [
        ((), Reason.NO_SESSION),
        ((b"__Host-sid=EVIL",), Reason.MALFORMED_TOKEN),
        ((b"__Host-sid=ff" + TOKEN[2:],), Reason.MALFORMED_TOKEN),
        ((b"__Host-sid=" + TOKEN.upper(),), Reason.MALFORMED_TOKEN),
        ((cookie(), b"__Host-sid=EVIL"), Reason.DUPLICATE_COOKIE),
    ],
)
def test_a_bad_token_never_asks_the_store(cookies: tuple[bytes, ...], reason: Reason) -> None:
    """Nobody can make Redis work by sending rubbish."""
    check = Check(make_session())
    assert check(make_request("/app/x", cookies=cookies)) is reason
    assert check.store.asked == []
    assert check.activity == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (make_request("/app/x", host="a,b"), Reason.BAD_HOST),
        (make_request("/app/x", host=""), Reason.BAD_HOST),
        (make_request("/app/x", method="get"), Reason.BAD_METHOD),
        (make_request("/app/x", method="CONNECT"), Reason.BAD_METHOD),
        (make_request("/app/x", method="TRACE"), Reason.BAD_METHOD),
        (make_request("/app/x", method=""), Reason.BAD_METHOD),
        (make_request("/app/../x"), Reason.AMBIGUOUS_PATH),
        (make_request("app"), Reason.AMBIGUOUS_PATH),
        (make_request("/nowhere"), Reason.NO_RULE),
        (make_request("/read", method="POST"), Reason.NO_RULE),
        (make_request("/shut/x"), Reason.DENIED_BY_RULE),
        (make_request("/public%2f%2fx/..%2fadmin"), Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_request_outside_the_rules_is_refused_before_anybody_is_known(
    request_: CheckRequest, reason: Reason
) -> None:
    """Neither a good cookie nor a store that is down changes the answer."""
    check = Check(make_session(roles=("admin",)))
    check.store.fault = unavailable()
    for cookies in ((), (cookie(),)):
        asked = make_request(
            request_.target, method=request_.method, host=request_.host, cookies=cookies
        )
        assert check(asked) is reason
    assert check.store.asked == []


@pytest.mark.parametrize(
    ("session", "target", "reason"),
    [
        (None, "/app/x", Reason.UNKNOWN_SESSION),
        (make_session(expires_ms=NOW_MS), "/app/x", Reason.EXPIRED),
        (make_session(last_seen_ms=0), "/app/x", Reason.IDLE),
        (make_session(), "/admin", Reason.ROLE_REQUIRED),
        (make_session(roles=()), "/admin/x", Reason.ROLE_REQUIRED),
        (make_session(), "/app/x%2f..;%2fadmin", Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_denied_session_notes_no_activity(
    session: Session | None, target: str, reason: Reason
) -> None:
    """A refused request keeps no session alive."""
    check = Check(*([session] if session else []))
    assert check(make_request(target, cookies=(cookie(),))) is reason
    assert check.activity == []


def test_a_store_fault_is_not_the_absence_of_a_session() -> None:
    """ "We do not know" has a reason of its own, and notes nothing."""
    check = Check(make_session())
    check.store.fault = unavailable()
    assert check(make_request("/app/x", cookies=(cookie(),))) is Reason.STORE_UNAVAILABLE
    assert check.activity == []
    check.store.fault = None
    assert check(make_request("/app/x", cookies=(cookie(),))) is None


def test_a_bug_is_never_swallowed_into_a_decision() -> None:
    """What is not the store's own fault goes to the listener, which denies and reports it."""
    check = Check(make_session())
    check.store.fault = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        check(make_request("/app/x", cookies=(cookie(),)))


def test_all_readings_of_a_path_need_the_role() -> None:
    """One reading below /admin among others asks for the role of /admin."""
    member, admin = make_session(), make_session(roles=("admin",))
    for target in ("/app%2f..%2fadmin", "/app/x", "//app/admin", "/;/admin", "/%61dmin"):
        outcome = Check(member)(make_request(target, cookies=(cookie(),)))
        assert outcome is None if target == "/app/x" else outcome is not None, target
    assert Check(admin)(make_request("/admin/a%2fb", cookies=(cookie(),))) is None


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_known_method_is_judged_by_the_rules(method: str) -> None:
    """A method is refused for being unknown only when it is."""
    check = Check(make_session())
    assert check(make_request("/app/x", method=method, cookies=(cookie(),))) is None
    allowed = check(make_request("/read", method=method, cookies=(cookie(),))) is None
    assert allowed is (method in {"GET", "HEAD"})


def test_the_query_decides_nothing() -> None:
    """Rules match paths: what stands in the query neither opens nor shuts."""
    check = Check(make_session())
    for query in ("?/public/", "?/../admin", "?a=%00\x7f", "?" + "x" * 60_000, "?#"):
        assert check(make_request("/app/x" + query, cookies=(cookie(),))) is None
        assert check(make_request("/admin" + query, cookies=(cookie(),))) is Reason.ROLE_REQUIRED
        assert check(make_request("/public/x" + query)) is None


# --- memory ----------------------------------------------------------------------------------


def test_a_remembered_session_is_judged_without_asking() -> None:
    """What memory vouches for costs no read, and is judged by the same rules."""
    session = make_session()
    check = Check(session)
    check.store.remembers = True
    decision = at_once(check.authorizer.check(make_request("/app/x", cookies=(cookie(),))))
    assert decision == Decision(None, standing_of(session))
    assert check(make_request("/admin/x", cookies=(cookie(),))) is Reason.ROLE_REQUIRED
    assert check(make_request("/nowhere", cookies=(cookie(),))) is Reason.NO_RULE
    assert check.store.asked == []
    assert check.activity == [standing_of(session)]


def test_what_is_not_remembered_is_asked_for() -> None:
    """That memory knows nothing is no answer."""
    check = Check(make_session())
    outcome = check.authorizer.consider(make_request("/app/x", cookies=(cookie(),)))
    assert not isinstance(outcome, Decision)
    assert outcome.key == key_of(TOKEN)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_rule_may_not_count_as_activity(counts: bool, remembers: bool) -> None:
    """Polling in the background does not keep a session awake, where the operator says so."""
    store, activity = FakeStore(make_session()), list[Standing]()
    store.remembers = remembers
    rules = [RuleSpec(Access.SESSION, counts_as_activity=counts)]
    authorizer = make_authorizer(rules, store, activity)
    assert at_once(authorizer.check(make_request("/poll", cookies=(cookie(),)))).reason is None
    assert len(activity) == counts


def test_of_two_readings_both_must_count_as_activity() -> None:
    """The stricter rule decides about the idle end too."""
    store, activity = FakeStore(make_session()), list[Standing]()
    rules = [
        RuleSpec(Access.SESSION, path="/poll/**", counts_as_activity=False),
        RuleSpec(Access.SESSION),
    ]
    authorizer = make_authorizer(rules, store, activity)
    request = make_request("/%70oll/x", cookies=(cookie(),))
    assert at_once(authorizer.check(request)).reason is None
    assert activity == []


def test_unknown_tokens_cost_the_store_a_bounded_rate() -> None:
    """Beyond it what is not in memory is refused; live sessions that are read do not count."""
    store = FakeStore(make_session())
    authorizer = make_authorizer(RULES, store, unknown_per_second=10)
    known = make_request("/app/x", cookies=(cookie(),))
    for _ in range(50):
        assert at_once(authorizer.check(known)).reason is None
    reasons = [
        at_once(authorizer.check(make_request("/app/x", cookies=(cookie(random_token(n)),)))).reason
        for n in range(200)
    ]
    assert reasons[:10] == [Reason.UNKNOWN_SESSION] * 10
    assert Reason.OVERLOADED in reasons
    assert len(store.asked) < 50 + 200
    store.remembers = True
    assert at_once(authorizer.check(known)).reason is None


def test_a_store_that_is_down_uses_up_no_allowance() -> None:
    """When it is back, live sessions are answered at once."""
    store = FakeStore(make_session())
    authorizer = make_authorizer(RULES, store, unknown_per_second=1)
    known = make_request("/app/x", cookies=(cookie(),))
    store.fault = unavailable()
    for _ in range(20):
        assert at_once(authorizer.check(known)).reason is Reason.STORE_UNAVAILABLE
    store.fault = None
    assert at_once(authorizer.check(known)).reason is None


def random_token(number: int) -> bytes:
    return b"0a" + b"%043d" % number


def test_places_are_remembered_without_changing_an_answer() -> None:
    """A flood of made-up places is forgotten; a long one is never remembered."""
    check = Check(make_session())
    for number in range(5_000):
        assert check(make_request(f"/nowhere/{number}")) is Reason.NO_RULE
    assert len(check.authorizer._rules) <= 4096
    before = len(check.authorizer._rules)
    assert check(make_request("/nowhere/" + "x" * 600)) is Reason.NO_RULE
    assert len(check.authorizer._rules) == before
    assert check(make_request("/app/x", cookies=(cookie(),))) is None


# --- conditions, steps up, and a new policy ------------------------------------------------------


def decide(authorizer: Authorizer, target: str, **facts: Any) -> Decision:
    cookies = facts.pop("cookies", (cookie(),))
    request = make_request(target, cookies=cookies, method=facts.pop("method", "GET"))
    return at_once(authorizer.check(request._replace(**facts)))


def test_conditions_are_looked_at_in_every_request() -> None:
    """What is remembered of a place never answers for a request that says something else."""
    office = (ipaddress.ip_network("10.0.0.0/8"),)
    authorizer = make_authorizer(
        [
            RuleSpec(Access.DENY, path="/a", query=("export",)),
            RuleSpec(Access.PUBLIC, path="/a", networks=office),
            RuleSpec(Access.SESSION, path="/a"),
        ],
        FakeStore(),
    )
    for _ in range(2):
        assert decide(authorizer, "/a", address="10.0.0.1", cookies=()) == PUBLIC
        assert decide(authorizer, "/a", cookies=()).reason is Reason.NO_SESSION
        assert decide(authorizer, "/a?export=1", address="10.0.0.1").reason == "denied_by_rule"
        assert decide(authorizer, "/a?x=1", address="10.0.0.1", cookies=()) == PUBLIC
        assert decide(authorizer, "/a", address="", cookies=()).reason is Reason.NO_SESSION
    assert authorizer._rules == {}


def test_a_place_without_conditions_is_looked_up_once() -> None:
    """Rules elsewhere that look at each request cost nothing here."""
    rules = [RuleSpec(Access.DENY, path="/b", query=("x",)), RuleSpec(Access.SESSION)]
    authorizer = make_authorizer(rules, FakeStore(make_session()))
    for query in ("", "?x=1", "?x=2"):
        assert decide(authorizer, f"/a{query}").reason is None
    assert len(authorizer._rules) == 1
    assert authorizer._places == {}
    decide(authorizer, "/b")
    assert len(authorizer._places) == 1


def test_a_path_that_hides_a_query_fulfils_no_condition_for_sure() -> None:
    """`/a%3fx=1` may be read as the path `/a` with a query that no condition has seen."""
    rules = [RuleSpec(Access.PUBLIC, query=("!secret",)), RuleSpec(Access.SESSION)]
    authorizer = make_authorizer(rules, FakeStore())
    assert decide(authorizer, "/a?x=1", cookies=()) == PUBLIC
    assert decide(authorizer, "/a%3fsecret=1", cookies=()).reason is Reason.NO_SESSION


def test_a_preflight_may_pass_as_nobody() -> None:
    """Only where a rule says so, only a preflight, and without the identity of anybody."""
    rules = [RuleSpec(Access.PUBLIC, path="/api/**", preflight=True), RuleSpec(Access.SESSION)]
    authorizer = make_authorizer(rules, FakeStore(make_session()))
    assert decide(authorizer, "/api/x", method="OPTIONS", preflight=True) == PUBLIC
    assert decide(authorizer, "/api/x", method="OPTIONS", cookies=()).reason == "no_session"
    assert decide(authorizer, "/x", method="OPTIONS", preflight=True, cookies=()).reason
    assert decide(authorizer, "/api/x", method="GET", preflight=True, cookies=()).reason


def test_a_step_up_says_what_is_wanted() -> None:
    """The decision carries what a sign-in must bring, and nobody's identity."""
    authorizer = make_authorizer([RuleSpec(Access.SESSION, aal=2)], FakeStore(make_session()))
    assert decide(authorizer, "/") == Decision(Reason.STEP_UP_REQUIRED, None, "aal=2")


def test_memory_alone_does_not_refuse_by_a_rules_idle_limit() -> None:
    """Another replica may have seen the session since: Redis is asked before it is refused."""
    session = make_session(last_seen_ms=NOW_MS - 10)
    store = FakeStore(session)
    store.remembers = True
    authorizer = make_authorizer([RuleSpec(Access.SESSION, idle_ms=10)], store)
    assert decide(authorizer, "/").reason is Reason.IDLE
    assert store.asked == [session.key]


def test_a_new_policy_decides_from_the_next_check_on() -> None:
    """Nothing of the old one is remembered, with conditions or without."""
    old = [RuleSpec(Access.PUBLIC, path="/a"), RuleSpec(Access.PUBLIC, path="/b", query=("x",))]
    authorizer = make_authorizer(old, FakeStore())
    for target in ("/a", "/b?x=1"):
        assert decide(authorizer, target, cookies=()) == PUBLIC
    authorizer.use(Policy([RuleSpec(Access.SESSION)]))
    for target in ("/a", "/b?x=1"):
        assert decide(authorizer, target, cookies=()).reason is Reason.NO_SESSION


async def test_a_check_under_way_keeps_its_policy() -> None:
    """It is decided by the rules that it began with, never by some of each."""
    store = FakeStore(make_session(roles=()))
    authorizer = make_authorizer([RuleSpec(Access.SESSION, roles=("admin",))], store)
    question = authorizer.consider(make_request("/", cookies=(cookie(),)))
    assert isinstance(question, Question)
    authorizer.use(Policy([RuleSpec(Access.SESSION)]))
    assert (await authorizer._settle(question)).reason is Reason.ROLE_REQUIRED
