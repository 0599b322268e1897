"""One check, from the request to the decision. Begins with deny and requires proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .allowance import Allowance
from .credentials import key_of_cookies
from .decision import DENIALS, PUBLIC, Decision, Reason
from .errors import StoreUnavailable
from .identity import Stand
from .judge import refusal, step_up
from .model import LOWEST_AAL, CheckRequest, Narrowing, SessionKey, Standing
from .policy import Place, Policy, asked_of, is_public
from .ports import SessionStore
from .rules import Rule

Value = TypeVar("Value")

_MAX_PLACES = 4096
_MAX_PLACE = 512  # characters
_new = tuple.__new__  # a NamedTuple's own constructor is a Python function
_IDLE = Reason.IDLE  # a member of an enum read through its class costs 0.3 us (Python 3.11)


class Question(NamedTuple):
    """A check that only the store can settle."""

    key: SessionKey
    rules: tuple[Rule, ...]
    narrowing: tuple[Narrowing, ...]


class Authorizer:
    """Decides. `on_activity` is told of a session that may need its activity noted.

    It must return at once: the answer waits for it. `stand` takes from a session what checks need.
    Beyond `unknown_per_second` tokens without a session (0: no bound) the store is asked no more.
    """

    def __init__(
        self,
        policy: Policy,
        store: SessionStore,
        *,
        cookie_name: str,
        partitions: int,
        stand: Stand,
        on_activity: Callable[[Standing, int], None],
        unknown_per_second: int = 0,
    ) -> None:
        self.use(policy)
        self._store = store
        self._cookie = cookie_name
        self._partitions = partitions
        self._stand = stand
        self._on_activity = on_activity
        self._unknown = Allowance(unknown_per_second)

    def use(self, policy: Policy) -> None:
        """Decide by this policy from now on; a check that waits for the store keeps its rules."""
        self._policy = policy
        self._rules: dict[tuple[str, str, str], tuple[Rule, ...] | Decision] = {}
        self._places: dict[tuple[str, str, str], Place] = {}  # whose rules look at each request

    async def check(self, request: CheckRequest) -> Decision:
        """Return the decision for one request; never raises for a request or a store fault."""
        outcome = self.consider(request)
        return outcome if isinstance(outcome, Decision) else await self._settle(outcome)

    def consider(self, request: CheckRequest) -> Decision | Question:
        """Return the decision if it needs no wait: of the rules, or of a session in memory."""
        method, target, host, _, _, cookies, _, _, _, narrowing = request
        place = method, host, target.partition("?")[0]
        rules = self._rules.get(place) or self._look_up_rules(request, place)
        if isinstance(rules, Decision):
            return rules
        key = key_of_cookies(cookies, self._cookie, self._partitions)
        if not isinstance(key, SessionKey):
            return DENIALS[key]
        remembered = self._store.recall(key)
        if remembered is None:
            return Question(key, rules, narrowing)
        session, now_ms = remembered
        reason = refusal(session, now_ms, rules, narrowing)
        if reason is None:
            return self._allow(session, now_ms, rules)
        if reason is _IDLE:  # by a rule's own limit; Redis may know of a later activity
            return Question(key, rules, narrowing)
        return _deny(reason, rules)

    def _look_up_rules(
        self, request: CheckRequest, place: tuple[str, str, str]
    ) -> tuple[Rule, ...] | Decision:
        """Return what the policy says of a request, and remember what it says of the place.

        Without conditions that depends on nothing else. A flood of made-up places only makes it
        look up again.
        """
        conditional = self._places.get(place)
        if conditional is not None:
            return _outcome(conditional.decide(asked_of(conditional, request)))
        found = self._policy.at(*place)
        if isinstance(found, Reason):
            return self._remember(self._rules, place, DENIALS[found])
        if found.settled:
            return self._remember(self._rules, place, _outcome(found.decide()))
        if sum(map(len, found.readings)) <= _MAX_PLACE:
            self._remember(self._places, place, found)
        return _outcome(found.decide(asked_of(found, request)))

    def _remember(
        self, known: dict[tuple[str, str, str], Value], place: tuple[str, str, str], value: Value
    ) -> Value:
        if sum(map(len, place)) <= _MAX_PLACE:
            if len(known) >= _MAX_PLACES:
                known.clear()
            known[place] = value
        return value

    async def _settle(self, question: Question) -> Decision:
        """Ask the store. Only tokens without a session count: their flood must not reach Redis."""
        if not self._unknown.take():
            return DENIALS[Reason.OVERLOADED]
        is_unknown = False
        try:
            reading = await self._store.read(question.key)
            is_unknown = reading.session is None
        except StoreUnavailable:
            return DENIALS[Reason.STORE_UNAVAILABLE]
        finally:
            if not is_unknown:
                self._unknown.give_back()
        session = None if reading.session is None else self._stand(reading.session)
        reason = refusal(session, reading.now_ms, question.rules, question.narrowing)
        if session is None or reason is not None:
            return _deny(reason or Reason.UNKNOWN_SESSION, question.rules)
        return self._allow(session, reading.now_ms, question.rules)

    def _allow(self, session: Standing, now_ms: int, rules: tuple[Rule, ...]) -> Decision:
        for rule in rules:
            if not rule.counts_as_activity:
                break
        else:
            self._on_activity(session, now_ms)
        return _new(Decision, (None, session, ""))


def _deny(reason: Reason, rules: tuple[Rule, ...]) -> Decision:
    if reason is Reason.STEP_UP_REQUIRED:
        return Decision(reason, step_up=step_up(rules) or f"aal={LOWEST_AAL}")
    return DENIALS[reason]


def _outcome(rules: tuple[Rule, ...] | Reason) -> tuple[Rule, ...] | Decision:
    if isinstance(rules, Reason):
        return DENIALS[rules]
    return PUBLIC if is_public(rules) else rules
