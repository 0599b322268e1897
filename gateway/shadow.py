"""What checks would come to if the shadow rules were applied. It only tells; nothing is decided."""

from __future__ import annotations

from collections.abc import Callable

from .authorizer import Authorizer
from .decision import Decision, Reason
from .model import CheckRequest
from .policy import Policy, asked_of

# Number of the shadow rule, the request, the decision, and what it would have been (None: only
# Redis could tell, and is not asked for this).
OnShadow = Callable[[int, CheckRequest, Decision, Decision | None], None]


class Shadow:
    """Compares decisions with those of a policy whose shadow rules are applied.

    `authorizer` must decide by that policy, and note no activity. It is asked for nothing that
    waits: a session that is not in memory counts as unknown.
    """

    def __init__(self, policy: Policy, authorizer: Authorizer, on_shadow: OnShadow) -> None:
        self._policy = policy
        self._authorizer = authorizer
        self._on_shadow = on_shadow

    def compare(self, request: CheckRequest, decision: Decision) -> None:
        """Tell of every shadow rule that would have had a part in the decision."""
        path = request.target.partition("?")[0]
        place = self._policy.at(request.method, request.host, path)
        if isinstance(place, Reason):
            return
        matched = place.matched(asked_of(place, request))
        numbers = {rule.number for rule in matched if rule is not None and rule.spec.shadow}
        if not numbers:
            return
        outcome = self._authorizer.consider(request)
        would = outcome if isinstance(outcome, Decision) else None
        for number in sorted(numbers):
            self._on_shadow(number, request, decision, would)
