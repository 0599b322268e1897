"""The exception tree. A denial is a value; an exception means "we do not know" or a bad call.

GatewayError
 +-- StoreUnavailable     the store gave no answer that can be trusted
 +-- SinkUnavailable      where events go did not take them, or cannot be read now
 +-- ConfigurationError   the service cannot start as configured
 +-- SessionLimitReached  a sign-in was refused by the limit
 +-- SignInRefused        a sign-in was refused by an alert rule whose action is "end"
 +-- AlreadyRenewed       the id was replaced by a renewal, and lives only for its grace
 +-- Overloaded           a check would take more of us than one session may ask for
 +-- InvalidInput         a caller's value breaks a rule; carries every problem at once
"""

from __future__ import annotations

import math
from dataclasses import dataclass


class GatewayError(Exception):
    """Everything that the gateway raises on purpose."""


class StoreUnavailable(GatewayError):
    """Redis did not answer, refused, or answered nonsense: never to be read as "no session"."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class SinkUnavailable(GatewayError):
    """The destination of events is away, full or not set up: try the same again later.

    `pause_s` is how long it asked to be left alone; 0: it did not. `give_up_s` is set where the
    first event itself was tried: one that has waited for longer is not to be tried again.
    """

    def __init__(
        self, kind: str, detail: str = "", *, pause_s: float = 0.0, give_up_s: float = math.inf
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.pause_s = pause_s
        self.give_up_s = give_up_s


class ConfigurationError(GatewayError):
    """One line for the operator; the process ends with exit code 2."""


class SessionLimitReached(GatewayError):
    """The user has as many sessions as allowed and `on_limit` is "deny"."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the user already has {limit} sessions")
        self.limit = limit


class SignInRefused(GatewayError):
    """Alert rules found something, and their action is "end"; there is no session."""

    def __init__(self, types: tuple[str, ...]) -> None:
        super().__init__("alert rules refuse this sign-in")
        self.types = types


class AlreadyRenewed(GatewayError):
    """A renewal gave the session a new id; this one ends with the grace."""

    def __init__(self) -> None:
        super().__init__("the session was renewed already; use the id that the renewal gave it")


class Overloaded(GatewayError):
    """A check that would pass is refused, because to answer it costs too much too often."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one value, and what to do about it."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class InvalidInput(GatewayError):
    """Every problem of the input, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems
