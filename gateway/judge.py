"""All reasons to refuse a session stand here, in one pure function. Deny is the start value."""

from __future__ import annotations

from .decision import Reason
from .model import Standing
from .policy import Access, Rule

_DENY = Access.DENY  # a member of an enum read through its class costs 0.3 us (Python 3.11)


def refusal(session: Standing | None, now_ms: int, rules: tuple[Rule, ...]) -> Reason | None:
    """Return why `session` may not pass under `rules`, or None if every one of them lets it.

    `now_ms` is Redis' time of the reading that brought the session. `rules` holds one rule for
    every reading of the path that an upstream might take; all of them must agree.
    """
    if session is None:
        return Reason.UNKNOWN_SESSION
    if now_ms >= session.expires_ms:
        return Reason.EXPIRED
    if now_ms >= session.last_seen_ms + session.idle_ms:
        return Reason.IDLE
    if not rules:
        return Reason.NO_RULE
    for rule in rules:
        if rule.access is _DENY:
            return Reason.DENIED_BY_RULE
        if rule.roles and rule.roles.isdisjoint(session.roles):
            return Reason.ROLE_REQUIRED
    return None
