"""The judge: who may pass under which rules, and the answer that each reason becomes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.decision import DENIALS, PUBLIC, Decision, Kind, Reason, kind_of
from gateway.identity import standing_of
from gateway.judge import refusal, step_up
from gateway.model import Standing
from gateway.policy import Policy, is_public
from gateway.rules import Access, Rule, RuleSpec

from .samples import MINUTE_MS, NOW_MS, make_session


def rules(*specs: RuleSpec) -> tuple[Rule, ...]:
    return Policy(specs).rules


def standing(**facts: Any) -> Standing:
    return standing_of(make_session(**facts))


ANYBODY = rules(RuleSpec(Access.SESSION))
ADMINS = rules(RuleSpec(Access.SESSION, roles=("admin", "owner")))


def test_a_live_session_passes_a_rule_without_roles() -> None:
    """The one way to pass: a session, in time, that every rule lets."""
    assert refusal(standing(), NOW_MS, ANYBODY) is None


def test_no_session_is_unknown() -> None:
    """A token whose session the store does not have is refused, whatever the rules."""
    assert refusal(None, NOW_MS, ANYBODY) is Reason.UNKNOWN_SESSION
    assert refusal(None, NOW_MS, ()) is Reason.UNKNOWN_SESSION


@pytest.mark.parametrize(("left_ms", "reason"), [(1, None), (0, "expired"), (-1, "expired")])
def test_the_absolute_end_is_the_first_refused_millisecond(
    left_ms: int, reason: str | None
) -> None:
    """A session ends at `expires_ms`, not after it, however busy it is."""
    session = standing(expires_ms=NOW_MS + left_ms, last_seen_ms=NOW_MS)
    assert refusal(session, NOW_MS, ANYBODY) == reason


@pytest.mark.parametrize(("rest_ms", "reason"), [(-1, None), (0, "idle"), (1, "idle")])
def test_the_idle_end_is_the_first_refused_millisecond(rest_ms: int, reason: str | None) -> None:
    """A session that rested for its idle time is refused at that very millisecond."""
    session = standing(idle_ms=15 * MINUTE_MS, last_seen_ms=NOW_MS - 15 * MINUTE_MS - rest_ms)
    assert refusal(session, NOW_MS, ANYBODY) == reason


def test_a_session_without_activity_is_idle() -> None:
    """No activity is known (0): it rested too long, it is not "seen just now"."""
    assert refusal(standing(last_seen_ms=0), NOW_MS, ANYBODY) is Reason.IDLE


def test_one_role_of_several_is_enough() -> None:
    """A rule's roles are alternatives."""
    assert refusal(standing(roles=("owner",)), NOW_MS, ADMINS) is None


@pytest.mark.parametrize(
    "roles", [(), ("member",), ("Admin",), ("admin;owner",), ("",), ("administrator",)]
)
def test_roles_are_compared_exactly(roles: tuple[str, ...]) -> None:
    """A role that only resembles the wanted one does not count."""
    assert refusal(standing(roles=roles), NOW_MS, ADMINS) is Reason.ROLE_REQUIRED


@pytest.mark.parametrize("order", [1, -1])
def test_every_rule_must_agree(order: int) -> None:
    """Where readings of a path fall under different rules, the strictest decides."""
    both = (*ANYBODY, *ADMINS)[::order]
    assert refusal(standing(roles=("member",)), NOW_MS, both) is Reason.ROLE_REQUIRED


def test_time_is_judged_before_roles() -> None:
    """An ended session learns nothing about roles; it is told to sign in again."""
    session = standing(roles=("member",), last_seen_ms=0)
    assert refusal(session, NOW_MS, ADMINS) is Reason.IDLE
    assert refusal(standing(expires_ms=1, last_seen_ms=0), NOW_MS, ADMINS) is Reason.EXPIRED


def test_no_rule_allows_nothing() -> None:
    """The judge begins with deny: without a rule there is no proof."""
    assert refusal(standing(), NOW_MS, ()) is Reason.NO_RULE
    assert not is_public(())


def test_a_deny_rule_refuses_a_session() -> None:
    """Even if a caller forgot to look: a rule that denies lets no session pass."""
    denied = rules(RuleSpec(Access.DENY))
    assert refusal(standing(), NOW_MS, (*ANYBODY, *denied)) is Reason.DENIED_BY_RULE


def test_a_decision_begins_with_deny() -> None:
    """A decision that nobody filled in denies; the only allow has no reason."""
    assert Decision().kind is Kind.FORBIDDEN
    assert Decision().session is None
    assert Decision(reason=None) == PUBLIC
    assert PUBLIC.kind is Kind.ALLOW


SIGN_IN = {
    "no_session",
    "malformed_token",
    "duplicate_cookie",
    "unknown_session",
    "expired",
    "idle",
}
UNKNOWN = {"store_unavailable", "overloaded", "internal_error"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_a_denial_of_the_right_kind(reason: Reason) -> None:
    """Signing in is offered only where it would help; "we do not know" is neither yes nor no."""
    expected = (
        Kind.SIGN_IN if reason in SIGN_IN else Kind.UNKNOWN if reason in UNKNOWN else Kind.FORBIDDEN
    )
    assert kind_of(reason) is expected
    assert DENIALS[reason] == Decision(reason=reason, session=None)
    assert DENIALS[reason].kind is not Kind.ALLOW


def test_the_reasons_are_those_that_were_promised() -> None:
    """Operators alert on these codes: none is renamed or lost."""
    promised = SIGN_IN | UNKNOWN | {
        "role_required", "no_rule", "denied_by_rule", "ambiguous_path", "bad_host", "bad_method",
        "bad_forwarded_request", "untrusted_peer", "fingerprint_changed", "address_changed",
        "step_up_required",
    }  # fmt: skip
    assert {str(reason) for reason in Reason} >= promised


# --- what else a rule may ask of a session -----------------------------------------------------


def asking(**demands: Any) -> tuple[Rule, ...]:
    return rules(RuleSpec(Access.SESSION, **demands))


@pytest.mark.parametrize(
    ("roles", "reason"),
    [(("a", "b"), None), (("b", "c", "a"), None), (("a",), "role_required"), ((), "role_required")],
)
def test_all_of_roles_all_are_needed(roles: tuple[str, ...], reason: str | None) -> None:
    """`roles_all` is a conjunction, where `roles` is a choice; both may be asked."""
    assert refusal(standing(roles=roles), NOW_MS, asking(roles_all=("a", "b"))) == reason
    both = asking(roles=("c",), roles_all=("a", "b"))
    expected = None if roles == ("b", "c", "a") else "role_required"
    assert refusal(standing(roles=roles), NOW_MS, both) == expected


@pytest.mark.parametrize("user", ["ADA", "ada x", "", "ada@example.com", "bob"])
def test_users_are_compared_exactly(user: str) -> None:
    """A user id that only resembles a listed one does not count."""
    named = asking(users=("ada", "eve"))
    assert refusal(standing(user="ada"), NOW_MS, named) is None
    assert refusal(standing(user=user), NOW_MS, named) is Reason.USER_NOT_ALLOWED


@pytest.mark.parametrize(("age_ms", "passes"), [(0, True), (-1, True), (299_999, True),
                                                (300_000, False), (10**9, False)])  # fmt: skip
def test_an_old_sign_in_must_be_renewed(age_ms: int, passes: bool) -> None:
    """`max_age` counts from the sign-in, to the millisecond, however busy the session is."""
    session = standing(authenticated_ms=NOW_MS - age_ms)
    expected = None if passes else Reason.STEP_UP_REQUIRED
    assert refusal(session, NOW_MS, asking(max_age_ms=300_000)) is expected


def test_a_session_that_does_not_say_when_it_signed_in_is_too_old() -> None:
    """The default denies."""
    session = standing(authenticated_ms=0)
    assert refusal(session, NOW_MS, asking(max_age_ms=10**9)) is Reason.STEP_UP_REQUIRED


@pytest.mark.parametrize(("has", "wanted", "passes"), [(1, 1, True), (1, 2, False), (2, 2, True),
                                                       (3, 2, True), (2, 3, False)])  # fmt: skip
def test_a_level_below_the_wanted_needs_a_step_up(has: int, wanted: int, passes: bool) -> None:
    """Levels are ordered."""
    expected = None if passes else Reason.STEP_UP_REQUIRED
    assert refusal(standing(aal=has), NOW_MS, asking(aal=wanted)) is expected


@pytest.mark.parametrize(("rest_ms", "passes"), [(0, True), (299_999, True), (300_000, False)])
def test_a_rule_may_want_a_session_that_was_used_lately(rest_ms: int, passes: bool) -> None:
    """A rule's own idle limit ends nothing; it refuses."""
    session = standing(last_seen_ms=NOW_MS - rest_ms)
    assert refusal(session, NOW_MS, asking(idle_ms=300_000)) is (None if passes else Reason.IDLE)


def test_what_no_sign_in_would_bring_is_said_first() -> None:
    """Nobody proves more to hear after it that they lack a role."""
    all_of_it = {"roles_all": ("a",), "users": ("eve",), "idle_ms": 1, "aal": 2}
    steps: list[tuple[dict[str, Any], str | None]] = [
        ({}, "role_required"),
        ({"roles": ("a",)}, "user_not_allowed"),
        ({"user": "eve"}, "idle"),
        ({"last_seen_ms": NOW_MS}, "step_up_required"),
        ({"aal": 2}, None),
    ]
    facts: dict[str, Any] = {"last_seen_ms": NOW_MS - 1}
    for more, reason in steps:
        facts |= more
        assert refusal(standing(**facts), NOW_MS, asking(**all_of_it)) == reason


def test_a_step_up_says_the_most_that_any_rule_asks() -> None:
    """With several readings of a path, one sign-in must satisfy them all."""
    several = (*asking(aal=2), *asking(max_age_ms=300_000), *asking(aal=3, max_age_ms=60_000))
    assert step_up(several) == "aal=3, max_age=60"
    assert step_up(asking(max_age_ms=300_000)) == "max_age=300"
    assert step_up(ANYBODY) == ""
