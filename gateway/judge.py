"""All reasons to refuse a session stand here, in one pure function. Deny is the start value."""

from __future__ import annotations

from .decision import Reason
from .model import LOWEST_AAL, Breach, Narrowing, Standing
from .rules import Access, Demands, Rule

_BREACHES = {
    Breach.STEP_UP: Reason.STEP_UP_REQUIRED,
    Breach.FINGERPRINT: Reason.FINGERPRINT_CHANGED,
    Breach.ADDRESS: Reason.ADDRESS_CHANGED,
}
_DENY = Access.DENY  # a member of an enum read through its class costs 0.3 us (Python 3.11)


def refusal(
    session: Standing | None,
    now_ms: int,
    rules: tuple[Rule, ...],
    narrowing: tuple[Narrowing, ...] = (),
) -> Reason | None:
    """Return why `session` may not pass under `rules`, or None if every one of them lets it.

    `now_ms` is Redis' time of the reading that brought the session. `rules` holds one rule for
    every reading of the path that an upstream might take; all of them must agree. So must every
    `narrowing` of the proxy: it can only refuse.
    """
    if session is None:
        return Reason.UNKNOWN_SESSION
    if now_ms >= session.expires_ms:
        return Reason.EXPIRED
    if now_ms >= session.last_seen_ms + session.idle_ms:
        return Reason.IDLE
    if not session.aal:  # IN_DOUBT_AAL
        return Reason.STEP_UP_REQUIRED
    if not rules:
        return Reason.NO_RULE
    for rule in rules:
        if rule.access is _DENY:
            return Reason.DENIED_BY_RULE
        if rule.roles and rule.roles.isdisjoint(session.roles):
            return Reason.ROLE_REQUIRED
        if rule.demands is not None and (reason := _unmet(rule.demands, session, now_ms)):
            return reason
    for each in narrowing:
        if reason := _unsatisfied(session, each):
            return reason
    return None


def _unmet(demands: Demands, session: Standing, now_ms: int) -> Reason | None:
    """Return what the session lacks: first what no new sign-in of this user would bring."""
    if not demands.roles_all.issubset(session.roles):
        return Reason.ROLE_REQUIRED
    if demands.users and session.user not in demands.users:
        return Reason.USER_NOT_ALLOWED
    if demands.idle_ms and now_ms >= session.last_seen_ms + demands.idle_ms:
        return Reason.IDLE
    if session.aal < demands.aal or not demands.alerts.isdisjoint(session.alerts):
        return Reason.STEP_UP_REQUIRED
    if demands.max_age_ms and now_ms >= session.authenticated_ms + demands.max_age_ms:
        return Reason.STEP_UP_REQUIRED
    return None


def _unsatisfied(session: Standing, narrowing: Narrowing) -> Reason | None:
    if narrowing.breach is not None:
        breach = narrowing.breach(session)
        return None if breach is None else _BREACHES[breach]
    if _satisfies(session, narrowing):
        return None
    return Reason.ROLE_REQUIRED if narrowing.kind == "groups" else Reason.DENIED_BY_RULE


def _satisfies(session: Standing, narrowing: Narrowing) -> bool:
    if narrowing.kind == "groups":
        return not narrowing.allowed.isdisjoint(session.roles)
    if narrowing.kind == "emails":
        return bool(session.besides.email) and session.besides.email in narrowing.allowed
    # Not what follows the last "@": `evil@evil.example@example.com` is no address of example.com.
    _, *domains = session.besides.email.split("@")
    return len(domains) == 1 and any(_is_of(domains[0], each) for each in narrowing.allowed)


def _is_of(domain: str, allowed: str) -> bool:
    """Tell whether a domain is the one named, or below it where `.name` or `*.name` says so."""
    suffix = allowed.removeprefix("*")
    if suffix.startswith("."):
        return domain.endswith(suffix) and domain != suffix
    return bool(domain) and domain == allowed


def step_up(rules: tuple[Rule, ...]) -> str:
    """Return what `rules` ask of a sign-in together: `aal=2`, `max_age=300` (seconds), or both."""
    asked = [rule.demands for rule in rules if rule.demands is not None]
    level = max((each.aal for each in asked), default=LOWEST_AAL)
    age_ms = min((each.max_age_ms for each in asked if each.max_age_ms), default=0)
    parts = [f"aal={level}"] if level > LOWEST_AAL else []
    return ", ".join(parts + ([f"max_age={age_ms // 1000}"] if age_ms else []))
