"""What all rules together say of a sign-in, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .finding import Limits
from .history import History, SignIn
from .rules import RULES


class Action(StrEnum):
    """What follows when a rule finds something, from nothing to the end."""

    OFF = "off"
    SHADOW = "shadow"  # counted and logged, nothing else
    ALERT = "alert"
    STEP_UP = "step_up"  # and no session rule lets it pass before the user has signed in again
    DENY = "deny"  # and what is asked is refused; of a session in use only
    END = "end"  # and there is no session


_DOUBTS = (Action.STEP_UP, Action.END)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that was found, and what follows."""

    type: str
    action: Action
    fact: str
    details: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Assessment:
    """All alerts of one sign-in; those that were told before still have their action.

    `after` is what is known of the user then. What is in doubt is not learnt from: else the second
    try of a thief would come from a known device.
    """

    alerts: tuple[Alert, ...]
    after: History

    @property
    def refused(self) -> bool:
        return any(alert.action is Action.END for alert in self.alerts)

    @property
    def in_doubt(self) -> bool:
        return any(alert.action in _DOUBTS for alert in self.alerts)


@dataclass(frozen=True, slots=True)
class Watch:
    """Which rules are asked, with what consequences."""

    actions: Mapping[str, Action]
    limits: Limits = field(default_factory=Limits)
    memory_ms: int = 180 * 86_400_000  # a user who stays away longer is unknown

    @property
    def is_on(self) -> bool:
        return any(self._does(name) for name in RULES)

    @property
    def counts_accounts(self) -> bool:
        """Whether somebody wants to know how many users a device has."""
        return self._does("shared_device")

    def assess(self, sign_in: SignIn, history: History) -> Assessment:
        """Ask every rule; pure."""
        alerts = tuple(
            Alert(name, self.actions[name], finding.fact, finding.details)
            for name, find in RULES.items()
            if self._does(name)
            for finding in find(sign_in, history, self.limits)
        )
        known = history.bounded()
        doubted = Assessment(alerts, known)
        return doubted if doubted.in_doubt else Assessment(alerts, known.with_sign_in(sign_in))

    def _does(self, name: str) -> bool:
        return self.actions.get(name, Action.OFF) is not Action.OFF
