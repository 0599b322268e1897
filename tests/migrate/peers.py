"""What the peers decide, after their documentation: what translations must keep to."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

LEVELS = ("bypass", "one_factor", "two_factor", "deny")


@dataclass(frozen=True)
class Request:
    """A request and who makes it; `factors` 0: nobody."""

    method: str
    host: str
    target: str
    factors: int = 0
    user: str = ""
    groups: tuple[str, ...] = ()
    email: str = ""
    address: str = "192.0.2.7"


def oauth2_proxy_allows(options: dict[str, Any], request: Request) -> bool:
    """Routes let by, then the preflight, then who is signed in."""
    path = unquote(request.target.partition("?")[0])
    if any(re.search(each, path) for each in options.get("skip_auth_regex", ())):
        return True
    if any(
        _route_lets_by(each, request.method, path) for each in options.get("skip_auth_routes", ())
    ):
        return True
    if options.get("skip_auth_preflight") and request.method == "OPTIONS":
        return True
    if not request.factors:
        return False
    wanted = {*options.get("allowed_groups", ())}
    wanted |= {f"role:{each}" for each in options.get("allowed_roles", ())}
    return (not wanted or bool(wanted & set(request.groups))) and _has_mail(options, request.email)


def _route_lets_by(route: str, method: str, path: str) -> bool:
    parts = re.split("!?=", route, maxsplit=1)
    wanted, expression = ("", parts[0]) if len(parts) == 1 else (parts[0].upper(), parts[1])
    matches = bool(re.search(expression, path))
    return wanted in ("", method) and matches is ("!=" not in route)


def _has_mail(options: dict[str, Any], email: str) -> bool:
    domains = [each.lower() for each in options.get("email_domains", ())]
    if "*" in domains:
        return True
    if email.count("@") != 1:
        return False
    host = email.lower().partition("@")[2]
    return any(
        host.endswith(each.removeprefix("*")) if each.startswith((".", "*.")) else host == each
        for each in domains
    )


def authelia_allows(config: dict[str, Any], request: Request) -> bool:
    """The policy of the first rule that fits, and whether that level is reached."""
    domains = [each["domain"] for each in config["session"]["cookies"]]
    if not any(request.host == each or request.host.endswith(f".{each}") for each in domains):
        return False
    control = config["access_control"]
    networks = {each["name"]: _list(each["networks"]) for each in control.get("networks", ())}
    fitting = (each for each in control["rules"] if _fits(each, request, networks))
    policy = next((each["policy"] for each in fitting), control.get("default_policy", "deny"))
    return policy != "deny" and request.factors >= LEVELS.index(policy)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _fits(rule: dict[str, Any], request: Request, networks: dict[str, list[str]]) -> bool:
    path, _, query = request.target.partition("?")
    whole = _clean(unquote(path)) + (f"?{query}" if query else "")
    resources, methods = _list(rule.get("resources")), _list(rule.get("methods"))
    nets = [net for name in _list(rule.get("networks")) for net in networks.get(name, [name])]
    address = ipaddress.ip_address(request.address)
    return (
        _is_of_host(rule, request)
        and (not resources or any(re.search(each, whole) for each in resources))
        and (not methods or request.method in [each.upper() for each in methods])
        and (not nets or any(address in ipaddress.ip_network(net) for net in nets))
        and (not rule.get("query") or _has_query(rule["query"], query))
        and _is_subject(rule, request)
    )


def _clean(path: str) -> str:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if len(path) > 1 and path.endswith("/") and clean != "/" else clean


def _is_of_host(rule: dict[str, Any], request: Request) -> bool:
    for name in _list(rule.get("domain")):
        if name.startswith("*.") and request.host.endswith(name[1:]):
            return True
        if name.startswith("{user}.") and request.host == f"{request.user}.{name[7:]}":
            return True
        if request.host == name.lower():
            return True
    return any(_is_matched(each, request) for each in _list(rule.get("domain_regex")))


def _is_matched(expression: str, request: Request) -> bool:
    match = re.search(expression, request.host)
    if match is None or not request.factors:
        return match is not None
    named = match.groupdict()
    in_group = "Group" not in named or named["Group"] in map(str.lower, request.groups)
    return in_group and ("User" not in named or named["User"] == request.user.lower())


def _has_query(wanted: list[Any], query: str) -> bool:
    given = dict(parse_qsl(query, keep_blank_values=True))
    return all((each["key"] in given) is (each["operator"] == "present") for each in wanted)


def _is_subject(rule: dict[str, Any], request: Request) -> bool:
    """Whoever is not signed in fits any subject: he is asked to sign in."""
    subjects = _list(rule.get("subject"))
    if not subjects or not request.factors:
        return True
    names = {f"user:{request.user}", *(f"group:{each}" for each in request.groups)}
    return any(set(_list(each)) <= names for each in subjects)
