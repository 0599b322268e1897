"""What the rules say of one request, rule by rule, and what a check of it would come to.

The answer is the authorizer's own, over a store that knows one supposed session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import quote

from . import model
from .authorizer import Authorizer
from .conditions import Asked, Holds
from .credentials import key_of_token, new_token
from .decision import Decision, Reason
from .errors import InvalidInput, Problem
from .identity import NATIVE, standing_of
from .lifetime import Lifetime, duration_text
from .model import LOWEST_AAL, CheckRequest, Client, Device, Session, SessionKey
from .policy import Place, Policy, asked_of
from .ports import Reading, SessionStore
from .rules import Access, Rule, RuleSpec
from .sessions import check_identity
from .target import ANY_METHOD, METHODS

# What browsers do not escape in an address; all else is sent percent-encoded.
_SENT_AS_IS = "".join(chr(code) for code in range(0x21, 0x7F))
_COOKIE = "supposed"
_NOW_MS = 4_000_000_000_000  # any instant far from zero does


@dataclass(frozen=True, slots=True)
class Supposed:
    """A session that is supposed to exist."""

    user: str = "somebody"
    roles: tuple[str, ...] = ()
    aal: int = LOWEST_AAL
    age_ms: int = 0  # since the user signed in
    rested_ms: int = 0  # since the last activity
    alerts: tuple[str, ...] = ()  # that the sign-in raised


def supposed_place(found: model.Place, country: str, asn: int) -> model.Place:
    """Return what is known of an address, with what is supposed instead."""
    return replace(found, country=country or found.country, asn=asn or found.asn)


class _OneSession:
    """As much of a store as a check asks of one."""

    def __init__(self, session: Session | None) -> None:
        self._session = session

    def recall(self, _: SessionKey) -> None:
        """Remember nothing: the answer is that of a fresh reading."""

    async def read(self, _: SessionKey) -> Reading:
        return Reading(self._session, _NOW_MS)


def request_of(
    method: str, url: str, address: str = "", *, preflight: bool = False
) -> CheckRequest:
    """Return the check of a request as a browser would send it: without what stands behind `#`.

    Raises InvalidInput if `url` is no whole address.
    """
    scheme, _, rest = url.partition("#")[0].partition("://")
    if scheme not in ("http", "https") or not rest:
        problem = "write the whole address: https://app.example.com/admin/"
        raise InvalidInput((Problem("url", problem),))
    end = next((place for place, sign in enumerate(rest) if sign in "/?"), len(rest))
    target = quote(rest[end:], safe=_SENT_AS_IS)
    return CheckRequest(
        method=method, target=target if target.startswith("/") else f"/{target}",
        host=rest[:end], scheme=scheme, address=address, cookies=(), navigation=False,
        preflight=preflight,
    )  # fmt: skip


async def decide(
    policy: Policy, request: CheckRequest, lifetime: Lifetime, supposed: Supposed | None
) -> Decision:
    """Return what a check comes to for somebody with the supposed session, or for nobody (None).

    Raises InvalidInput for a user or roles that no session could have.
    """
    token = new_token("00")
    key = key_of_token(token, 1)
    session = None if supposed is None or key is None else _session(key, lifetime, supposed)
    if session is not None:
        check_identity(session, (NATIVE,))
    authorizer = Authorizer(
        policy, cast("SessionStore", _OneSession(session)), cookie_name=_COOKIE, partitions=1,
        stand=standing_of, on_activity=lambda *_: None,
    )  # fmt: skip
    cookies = () if supposed is None else (f"{_COOKIE}={token}",)
    return await authorizer.check(request._replace(cookies=cookies))


def _session(key: SessionKey, lifetime: Lifetime, supposed: Supposed) -> Session:
    began_ms = _NOW_MS - supposed.age_ms
    return Session(
        key=key, user=supposed.user, email="", name="", roles=supposed.roles,
        device=Device("", "", ""), client=Client(), created_ms=began_ms,
        expires_ms=began_ms + lifetime.absolute_ms, idle_ms=lifetime.idle_ms,
        last_seen_ms=_NOW_MS - supposed.rested_ms, aal=supposed.aal, authenticated_ms=began_ms,
        alerts=supposed.alerts,
    )  # fmt: skip


def explanation(policy: Policy, request: CheckRequest) -> Iterator[str]:
    """Return, line by line, which rules match each reading of the path, and why others do not."""
    if request.method == ANY_METHOD:
        for method in sorted(METHODS):
            yield f"method {method}"
            yield from explanation(policy, request._replace(method=method))
        return
    place = policy.at(request.method, request.host, request.target.partition("?")[0])
    if isinstance(place, Reason):
        return
    asked = asked_of(place, request)
    for path, candidates in zip(place.readings, place.candidates, strict=True):
        yield f"path {path}"
        for rule in policy.rules:
            applies, verdict = _verdict(rule, place, path, asked)
            yield f"  {_name(rule)}: {verdict}"
            if rule in candidates and applies is not Holds.NO and (needs := _needs(rule.spec)):
                yield f"    needs {needs}"
            if rule in candidates and applies is Holds.YES:
                break


def _verdict(rule: Rule, place: Place, path: str, asked: Asked) -> tuple[Holds, str]:
    """Return whether the rule is about the request, and how to say so."""
    answers = [
        ("host", "other host", Holds.YES if rule.covers_host(place.host) else Holds.NO),
        ("method", "other method", Holds.YES if place.method in rule.methods else Holds.NO),
        ("path", "other path", Holds.YES if rule.covers_path(path) else Holds.NO),
    ]
    if rule.conditions is not None:
        answers += [(what, f"{what}: no", holds) for what, holds in rule.conditions.each(asked)]
    applies = min(holds for _, _, holds in answers)
    if applies is Holds.NO:
        return applies, ", ".join(text for _, text, holds in answers if holds is Holds.NO)
    doubted = ", ".join(what for what, _, holds in answers if holds is Holds.MAYBE)
    verdict = f"decides with the next ({doubted}: yes and no)" if doubted else "decides"
    return applies, f"shadow, not applied: {verdict}" if rule.spec.shadow else verdict


def _name(rule: Rule) -> str:
    spec = rule.spec
    asks = [" ".join(spec.methods)] if spec.methods else []
    asks += [spec.host or "*", spec.path or "*"]
    asks += ["ignoring case"] if spec.ignore_case else []
    asks += [f"?{condition}" for condition in spec.query]
    asks += [f"from {' '.join(map(str, spec.networks))}"] if spec.networks else []
    asks += [f"in {' '.join(spec.countries)}"] if spec.countries else []
    asks += [f"of AS {' '.join(map(str, spec.asns))}"] if spec.asns else []
    asks += ["preflight"] if spec.preflight else []
    roles = f", roles {' '.join(spec.roles)}" if spec.roles else ""
    return f"rule {rule.number} ({' '.join(asks)} -> {rule.access}{roles})"


def _needs(spec: RuleSpec) -> str:
    """Return what a session must have to pass under a rule."""
    if spec.access is not Access.SESSION:
        return ""
    needs = ["a session"]
    needs += [f"one of the roles {' '.join(spec.roles)}"] if spec.roles else []
    needs += [f"all of the roles {' '.join(spec.roles_all)}"] if spec.roles_all else []
    needs += [f"one of the users {' '.join(spec.users)}"] if spec.users else []
    needs += [f"activity within {duration_text(spec.idle_ms)}"] if spec.idle_ms else []
    needs += [f"aal {spec.aal}"] if spec.aal > LOWEST_AAL else []
    needs += [f"a sign-in within {duration_text(spec.max_age_ms)}"] if spec.max_age_ms else []
    needs += [f"a sign-in without {' '.join(spec.without_alerts)}"] if spec.without_alerts else []
    return ", ".join(needs)
