"""One check, from the request to the decision, over a store that keeps its contract."""

from __future__ import annotations

import pytest

from gateway.decision import PUBLIC, Reason
from gateway.identity import standing_of
from gateway.model import CheckRequest, Session, Standing
from gateway.policy import Access, RuleSpec
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
