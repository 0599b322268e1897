"""One check, from the request to the decision. Begins with deny and requires proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .allowance import Allowance
from .credentials import key_of_cookies
from .decision import DENIALS, PUBLIC, Decision, Reason
from .errors import StoreUnavailable
from .identity import Stand
from .judge import refusal
from .model import CheckRequest, SessionKey, Standing
from .policy import Policy, Rule, is_public
from .ports import SessionStore
from .target import METHODS, normal_host, readings

_MAX_PLACES = 4096
_MAX_PLACE = 512  # characters


class Question(NamedTuple):
    """A check that only the store can settle."""

    key: SessionKey
    rules: tuple[Rule, ...]


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
        self._policy = policy
        self._store = store
        self._rules: dict[tuple[str, str, str], tuple[Rule, ...] | Decision] = {}
        self._cookie = cookie_name
        self._partitions = partitions
        self._stand = stand
        self._on_activity = on_activity
        self._unknown = Allowance(unknown_per_second)

    async def check(self, request: CheckRequest) -> Decision:
        """Return the decision for one request; never raises for a request or a store fault."""
        outcome = self.consider(request)
        return outcome if isinstance(outcome, Decision) else await self._settle(outcome)

    def consider(self, request: CheckRequest) -> Decision | Question:
        """Return the decision if it needs no wait: of the rules, or of a session in memory."""
        path = request.target.partition("?")[0]
        place = request.method, request.host, path
        rules = self._rules.get(place) or self._look_up_rules(*place)
        if isinstance(rules, Decision):
            return rules
        key = key_of_cookies(request.cookies, self._cookie, self._partitions)
        if isinstance(key, Reason):
            return DENIALS[key]
        remembered = self._store.recall(key)
        if remembered is None:
            return Question(key, rules)
        return self._judge(*remembered, rules)

    def _look_up_rules(self, method: str, host: str, path: str) -> tuple[Rule, ...] | Decision:
        """Return what the policy says of a place, and remember it if it is not too long.

        The policy is fixed, so this depends on nothing else; a flood of made-up places only
        makes it look up again.
        """
        rules = self._match(method, host, path)
        if len(method) + len(host) + len(path) <= _MAX_PLACE:
            if len(self._rules) >= _MAX_PLACES:
                self._rules.clear()
            self._rules[method, host, path] = rules
        return rules

    def _match(self, method: str, host: str, path: str) -> tuple[Rule, ...] | Decision:
        name = normal_host(host)
        if name is None:
            return DENIALS[Reason.BAD_HOST]
        if method not in METHODS:
            return DENIALS[Reason.BAD_METHOD]
        paths = readings(path)
        if paths is None:
            return DENIALS[Reason.AMBIGUOUS_PATH]
        rules = self._policy.match_all(method, name, paths)
        if isinstance(rules, Reason):
            return DENIALS[rules]
        return PUBLIC if is_public(rules) else rules

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
        return self._judge(session, reading.now_ms, question.rules)

    def _judge(self, session: Standing | None, now_ms: int, rules: tuple[Rule, ...]) -> Decision:
        reason = refusal(session, now_ms, rules)
        if reason is not None or session is None:
            return DENIALS[reason or Reason.UNKNOWN_SESSION]
        for rule in rules:
            if not rule.counts_as_activity:
                break
        else:
            self._on_activity(session, now_ms)
        return Decision(None, session)
