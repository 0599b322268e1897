"""Authelia's configuration.yml: the rules of `access_control`, and the session.

A rule of ours decides for everybody whom its place concerns; one of Authelia's only for those
whom its networks, subjects and query fit, and lets the others fall through to the next. So where
such a rule cannot be said, what it stands in front of matters: it is left out if nothing behind it
lets more pass, and denies otherwise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigurationError
from ..model import LOWEST_AAL
from ..rules import Access, RuleSpec
from ..target import METHODS
from .patterns import EVERYTHING, NOTHING, Matches, host, hosts_meet, hosts_of, paths_of
from .translation import Translation

_LEVELS = ("bypass", "one_factor", "two_factor", "deny")  # each lets fewer pass than the one before
_BYPASS, _ONE_FACTOR, _TWO_FACTOR, _DENY = range(4)
_MAX_RULES = 64  # that one of theirs may become
_AAL_OF_TWO = 2  # NIST SP 800-63B-4 section 2.2: two factors
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
_NAMES_S = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w", "month": "M",
            "year": "y"}  # fmt: skip

_SIGN_IN = "stays with your application, which signs people in and makes the session"
_ELSEWHERE = {
    "authentication_backend": _SIGN_IN,
    "identity_providers": "there is no OpenID Connect provider here",
    "log": "set log.level here",
    "ntp": "there is nothing to set",
    "notifier": _SIGN_IN,
    "password_policy": _SIGN_IN,
    "regulation": _SIGN_IN,
    "server": "set check.listen, and give the proxy that one new address",
    "storage": "sessions are in Redis alone: set redis.url",
    "telemetry": "metrics are at /metrics of the admin listener",
    "totp": _SIGN_IN,
    "duo_api": _SIGN_IN,
    "webauthn": _SIGN_IN,
}


def translate(config: object, *, two_factor_always: bool = False) -> Translation:
    """Translate a parsed file. `two_factor_always`: sessions are made after two factors only.

    Raises ConfigurationError if it is not of the form that Authelia reads.
    """
    table = _table(config, "the file")
    made = Translation("Authelia")
    made.set("check", "profiles", ["authelia"])
    domains = _session(made, _table(table.get("session"), "session"))
    control = _table(table.get("access_control"), "access_control")
    _Rules(made, control, domains, two_factor_always=two_factor_always).translate()
    for section in sorted(table.keys() - {"session", "access_control"}):
        made.note(section, _ELSEWHERE.get(section, "has no counterpart here"))
    return made


def _table(value: object, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place} is not a map; is this a configuration of Authelia?")
    return {str(name): each for name, each in value.items()}


def _list(value: object) -> list[Any]:
    """Authelia reads one value as a list of it."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


# --- the session -----------------------------------------------------------------------------


def _session(made: Translation, session: dict[str, Any]) -> tuple[str, ...]:
    """Translate the session; return the domains outside which Authelia refuses everything."""
    cookies = [_table(each, "session.cookies") for each in _list(session.get("cookies"))]
    if not cookies:
        cookies = [{"domain": session["domain"]}] if session.get("domain") else []
    first = {**session, **(cookies[0] if cookies else {})}
    absolute = _seconds(first.get("expiration"), 3600) or 3600
    idle = min(_seconds(first.get("inactivity"), 300) or absolute, absolute)
    made.set("session", "absolute", f"{absolute}s")
    made.set("session", "idle", f"{idle}s")
    made.set("session.cookie", "name", str(first.get("name") or "authelia_session"))
    if first.get("same_site") in ("lax", "strict", "none"):
        made.set("session.cookie", "same_site", first["same_site"])
    domains = tuple(str(each.get("domain") or "").lower() for each in cookies)
    _cookie_domain(made, domains)
    _session_notes(made, session, cookies)
    return tuple(filter(None, domains))


def _cookie_domain(made: Translation, domains: tuple[str, ...]) -> None:
    if len(domains) > 1:
        made.note(
            "session.cookies",
            "one cookie domain is set here, the first; run a gateway for each other",
        )
    if domains and re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domains[0]):
        made.set("session.cookie", "domain", domains[0])
    elif not domains:
        made.note("session", "names no cookie domain, so rules hold for the hosts that they name")


def _session_notes(
    made: Translation, session: dict[str, Any], cookies: list[dict[str, Any]]
) -> None:
    if any("remember_me" in each for each in (session, *cookies)):
        made.note(
            "session.remember_me", "every session ends with session.absolute, remembered or not"
        )
    if any("authelia_url" in each for each in cookies):
        made.note(
            "session.cookies.authelia_url",
            "set pages.login_url to a page of yours that makes sessions here; the portal does not",
        )
    redis = _table(session.get("redis"), "session.redis")
    if "high_availability" in redis or str(redis.get("host", "")).startswith("/"):
        made.note("session.redis", "set redis.url by hand: only one server is translated")
    elif redis:
        _redis(made, redis)
    else:
        made.note("session", "keeps sessions in memory: set redis.url, or they are lost at a stop")


def _redis(made: Translation, redis: dict[str, Any]) -> None:
    scheme = "rediss" if "tls" in redis else "redis"
    address, port = redis.get("host") or "127.0.0.1", redis.get("port") or 6379
    url = f"{scheme}://{address}:{port}/{redis.get('database_index') or 0}"
    if not re.fullmatch(r"rediss?://[A-Za-z0-9._-]+:[0-9]{1,5}/[0-9]+", url):
        made.note("session.redis", "set redis.url by hand: this is no address")
        return
    made.set("redis", "url", url)
    if redis.get("username"):
        made.set("redis", "username", str(redis["username"]))
    if redis.get("password"):
        made.note(
            "session.redis.password", "put it into a file and name that in redis.password_file"
        )


def _seconds(value: object, default: int) -> int:
    """Return a duration in seconds: a number of them, or text such as `1h30m`, `1M`, `2 weeks`."""
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return max(value, 0)
    text = re.sub(r"\s|and", "", str(value))
    for name, unit in _NAMES_S.items():
        text = re.sub(rf"{name}s?", unit, text)
    parts = re.findall(r"(\d{1,18})(ms|[smhdwMy])", text)
    if not text or "".join(map("".join, parts)) != text:
        raise ConfigurationError(f"session: {value!r} is not a duration")
    return sum(int(number) * _UNITS_S.get(unit, 0) for number, unit in parts)


# --- rules -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """One of their rules, as far as it is understood."""

    place: str
    level: int
    hosts: Matches
    paths: Matches
    methods: tuple[str, ...]
    roles: tuple[str, ...] | None  # None: nobody whom a role could name
    is_whole: bool  # nothing else keeps it from matching
    has_subjects: bool


class _Rules:
    """The rules in their order, and what stands behind each."""

    def __init__(
        self,
        made: Translation,
        control: dict[str, Any],
        domains: tuple[str, ...],
        *,
        two_factor_always: bool,
    ) -> None:
        self._made = made
        self._domains = domains
        self._trusts_factors = two_factor_always
        self._default = self._level(control.get("default_policy", "deny"), "default_policy")
        self._theirs = [
            self._read(f"access_control.rules[{number}]", _table(each, "access_control.rules"))
            for number, each in enumerate(_list(control.get("rules")), 1)
        ]

    def translate(self) -> None:
        for number, rule in enumerate(self._theirs):
            behind = [
                each.level
                for each in self._theirs[number + 1 :]
                if hosts_meet(rule.hosts, each.hosts)
            ]
            self._translate(rule, loosest_behind=min([*behind, self._default]))
        everywhere = _Rule(
            "access_control.default_policy", self._default, EVERYTHING, EVERYTHING, (), (),
            is_whole=True, has_subjects=False,
        )  # fmt: skip
        if self._default != _DENY:
            self._translate(everywhere, loosest_behind=_DENY)

    def _level(self, policy: object, place: str) -> int:
        if policy in _LEVELS:
            return _LEVELS.index(str(policy))
        self._made.note(place, f"the policy {policy!r} is not known; it denies")
        return _DENY

    def _read(self, place: str, rule: dict[str, Any]) -> _Rule:
        names = [_domain(str(each)) for each in _list(rule.get("domain"))]
        names += [hosts_of(str(each)) for each in _list(rule.get("domain_regex"))]
        resources = [paths_of(str(each), with_query=True) for each in _list(rule.get("resources"))]
        subjects = _list(rule.get("subject"))
        if subjects and all(isinstance(each, str) for each in subjects):
            subjects = [[each] for each in subjects]
        for criterion in ("networks", "query"):
            if rule.get(criterion):
                self._made.note(
                    f"{place}.{criterion}", f"was not taken over; rules have `{criterion}` for it"
                )
        return _Rule(
            place,
            self._level(rule.get("policy", "deny"), place),
            Matches.union(names) if names else EVERYTHING,
            Matches.union(resources) if resources else EVERYTHING,
            tuple(str(each).upper() for each in _list(rule.get("methods"))),
            self._roles(place, subjects),
            is_whole=not (rule.get("networks") or rule.get("query")),
            has_subjects=bool(subjects),
        )

    def _roles(self, place: str, subjects: list[Any]) -> tuple[str, ...] | None:
        """Return the roles any of which suffices; (): none is needed."""
        groups = []
        for each in subjects:
            alternative = [str(name) for name in _list(each)]
            if len(alternative) == 1 and alternative[0].startswith("group:"):
                groups.append(alternative[0].removeprefix("group:").strip())
            else:
                self._made.note(
                    f"{place}.subject",
                    f"{' and '.join(alternative)}: was not taken over; rules have `users` and "
                    "`roles_all` for it",
                )
        return tuple(dict.fromkeys(groups)) if groups or not subjects else None

    def _translate(self, rule: _Rule, loosest_behind: int) -> None:
        exact = rule.is_whole and rule.hosts.exact and rule.paths.exact
        access = self._access(rule)
        if access is not None and rule.is_whole:
            self._let_pass(rule, access)
        if access is not None and exact:
            return
        self._say_why(rule, said=access is not None)
        if rule.level == _BYPASS:
            return  # whatever decides in its place lets no more pass
        if loosest_behind >= rule.level and rule.level != _DENY:
            self._made.note(rule.place, "left out: nothing behind it lets more pass")
            return
        if rule.level == _DENY and loosest_behind == _DENY:
            return
        self._deny(rule)

    def _access(self, rule: _Rule) -> Access | None:
        """Return what a rule of ours can say in its place; None if it can only deny."""
        if rule.level == _BYPASS:
            return None if rule.has_subjects else Access.PUBLIC
        if rule.level == _DENY or rule.roles is None:
            return None
        return Access.SESSION

    def _say_why(self, rule: _Rule, *, said: bool) -> None:
        if not rule.hosts.exact:
            self._made.note(f"{rule.place}.domain_regex", "no host pattern says the same")
        if not rule.paths.exact:
            self._made.note(
                f"{rule.place}.resources",
                "no path pattern says the same, also with a query behind the path: only what "
                "surely matches was taken over",
            )
        if rule.level == _DENY and rule.has_subjects:
            self._made.note(rule.place, "denies everybody, not only its subjects")
        elif not said and rule.level == _BYPASS:
            self._made.note(rule.place, "bypass with subjects is not made public")

    def _let_pass(self, rule: _Rule, access: Access) -> None:
        hosts = tuple(self._within_domains(rule.hosts.inner))
        roles = rule.roles or () if access is Access.SESSION else ()
        if roles:
            self._made.note(
                f"{rule.place}.subject",
                "whoever lacks the group is refused here; Authelia goes on to the next rule",
            )
        asks_level = rule.level == _TWO_FACTOR and not self._trusts_factors
        if asks_level:
            self._made.note(
                rule.place,
                "two_factor: asks for aal = 2, which your application must say of a sign-in with "
                "two factors; if every sign-in has two, translate again with --two-factor-always",
            )
        if "GET" in rule.methods and "HEAD" not in rule.methods:
            # A rule of ours for GET is for HEAD too.
            self._made.note(
                f"{rule.place}.methods", "GET brings HEAD; add HEAD there if it may pass"
            )
            no_head = RuleSpec(Access.DENY, methods=("HEAD",))
            self._add(rule, no_head, hosts, rule.paths.inner)
        aal = _AAL_OF_TWO if asks_level else LOWEST_AAL
        ours = RuleSpec(access, methods=rule.methods, roles=roles, aal=aal)
        self._add(rule, ours, hosts, rule.paths.inner)

    def _deny(self, rule: _Rule) -> None:
        if rule.level != _DENY or rule.has_subjects or not rule.is_whole:
            self._made.note(rule.place, "became a rule that denies; replace it by what you want")
        ours = RuleSpec(Access.DENY, methods=rule.methods)
        self._add(rule, ours, rule.hosts.outer, rule.paths.outer)

    def _add(
        self, rule: _Rule, ours: RuleSpec, hosts: tuple[str, ...], paths: tuple[str, ...]
    ) -> None:
        """Add `ours` for each of these hosts and paths."""
        known = tuple(each for each in ours.methods if each in METHODS)
        if ours.methods and not known:
            return  # such requests are refused anyway
        origin = f"{rule.place}: {_LEVELS[rule.level]}"
        if len(hosts) * len(paths) > _MAX_RULES:
            self._made.note(rule.place, "would become too many rules; divide it")
            if ours.access is Access.PUBLIC:
                return
            ours, hosts, paths = RuleSpec(Access.DENY), ("",), ("",)
        for name, path in itertools.product(hosts, paths):
            spec = replace(ours, host=name, path=path, methods=known)
            self._made.rules.append((spec, origin))

    def _within_domains(self, hosts: tuple[str, ...]) -> Iterator[str]:
        """Return these hosts as far as they lie in a cookie domain: Authelia refuses all others."""
        if not self._domains:
            yield from hosts
            return
        found = (
            part for name in hosts for domain in self._domains for part in _common(name, domain)
        )
        yield from dict.fromkeys(found)


def _domain(name: str) -> Matches:
    for wildcard in ("{user}", "{group}"):
        if name.lower().startswith(f"{wildcard}."):
            return NOTHING.within(next(iter(host("*" + name[len(wildcard) :]).outer), ""))
    return host(name)


def _common(name: str, domain: str) -> tuple[str, ...]:
    """Return the hosts of a pattern that are a domain or below it."""
    if not name or (name.startswith("**.") and domain.endswith(name[2:])):
        return (domain, f"**.{domain}")
    suffix = name.removeprefix("**.")
    if suffix == domain or suffix.endswith(f".{domain}"):
        return (name,)
    return ()
