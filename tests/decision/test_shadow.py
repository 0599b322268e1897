"""Shadow rules: told of, never applied."""

from __future__ import annotations

from gateway.decision import Decision
from gateway.model import CheckRequest
from gateway.policy import Policy
from gateway.rules import Access, RuleSpec
from gateway.shadow import Shadow

from .samples import FakeStore, at_once, cookie, make_authorizer, make_request, make_session

RULES = [
    RuleSpec(Access.DENY, path="/old/**", shadow=True),
    RuleSpec(Access.PUBLIC, path="/open", shadow=True),
    RuleSpec(Access.SESSION, path="/admin/**", roles=("admin",), shadow=True),
    RuleSpec(Access.PUBLIC, path="/public"),
    RuleSpec(Access.SESSION),
]

Told = tuple[int, str | None, str | None]


class Watched:
    """An authorizer and the shadow beside it, as the service has them."""

    def __init__(self) -> None:
        self.store = FakeStore(make_session(roles=("staff",)))
        self.store.remembers = True
        self.authorizer = make_authorizer(RULES, self.store)
        self.told: list[Told] = []
        policy = Policy(RULES, with_shadow=True)
        applied = make_authorizer(RULES, self.store)
        applied.use(policy)
        self.shadow = Shadow(policy, applied, self.note)

    def note(
        self, rule: int, _: CheckRequest, decision: Decision, would: Decision | None
    ) -> None:
        self.told.append((rule, decision.reason, "?" if would is None else would.reason))

    def __call__(self, target: str, *cookies: bytes) -> str | None:
        request = make_request(target, cookies=cookies)
        decision = at_once(self.authorizer.check(request))
        self.shadow.compare(request, decision)
        return decision.reason


def test_a_shadow_rule_decides_nothing() -> None:
    """Neither one that would refuse more nor one that would let pass more."""
    check = Watched()
    assert check("/old/x", cookie()) is None
    assert check("/open") == "no_session"
    assert check("/admin/x", cookie()) is None


def test_a_shadow_rule_is_told_of_with_what_it_would_do() -> None:
    """Also where it would change nothing: that is how one knows that it is safe to apply."""
    check = Watched()
    check("/old/x", cookie())
    check("/open")
    check("/admin/x", cookie())
    check("/admin/x")
    assert check.told == [
        (1, None, "denied_by_rule"), (2, "no_session", None),
        (3, None, "role_required"), (3, "no_session", "no_session"),
    ]  # fmt: skip


def test_other_places_are_not_told_of() -> None:
    """A shadow rule has a part in what it would decide, and in nothing else."""
    check = Watched()
    for target in ("/public", "/else", "/../x"):
        check(target, cookie())
    assert check.told == []


def test_a_shadow_never_asks_the_store() -> None:
    """What only Redis could tell stays unknown, and costs it nothing."""
    check = Watched()
    check.store.remembers = False
    check("/admin/x", cookie())
    assert check.told == [(3, None, "?")]
    assert len(check.store.asked) == 1  # by the check itself
