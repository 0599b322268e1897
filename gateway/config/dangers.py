"""Combinations of settings by which somebody would come to harm: refused, or warned of."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..alerts import Action
from ..coverage import never_reached
from ..errors import Problem
from ..identity import name_problems
from ..lifetime import Lifetime, beyond
from ..rules import Access, problems_of
from .settings import (
    TURN_MARGIN_MS,
    WORKER,
    Admin,
    Assertion,
    Binding,
    Check,
    Cookie,
    Events,
    Geo,
    Identity,
    Network,
    Policy,
    Session,
    Settings,
    Told,
)

# What a script makes of a variable that is not set.
_DIGEST_OF_NOTHING = hashlib.sha256(b"").hexdigest()


def dangers_of(settings: Settings) -> list[Problem]:
    """Combinations that are refused, because somebody would come to harm."""
    return [
        *_lifetime_dangers(settings.session),
        *_cookie_dangers(settings.session.cookie),
        *_admin_dangers(settings.admin),
        *_check_dangers(settings.check),
        *_identity_dangers(settings.identity),
        *_geo_dangers(settings.geo),
        *_policy_dangers(settings.policy, settings.session.lifetime),
        *_place_dangers(settings.policy, settings.geo),
        *_webhook_dangers(settings.events),
        *_binding_dangers(settings.binding, settings.geo),
        *_link_dangers(settings),
    ]


def _lifetime_dangers(session: Session) -> list[Problem]:
    found, lifetime = [], session.lifetime
    if lifetime.idle_ms > lifetime.absolute_ms:
        found.append(Problem("session.idle", "is longer than session.absolute; make it shorter"))
    if session.preset:
        found += [
            Problem(f"session.{name}", f"is longer than the preset {session.preset} allows")
            for name in beyond(lifetime, session.preset)
        ]
    return found


def _cookie_dangers(cookie: Cookie) -> list[Problem]:
    found = []
    # Browsers compare the prefix without regard to case (RFC 6265bis section 5.7).
    prefixed = cookie.full_name.lower().startswith(("__host-", "__secure-"))
    if prefixed and not cookie.secure:
        found.append(
            Problem(
                "session.cookie.secure",
                f"browsers refuse {cookie.full_name} without Secure; set secure = true, "
                "or for plain HTTP on a developer's machine choose a name without prefix",
            )
        )
    if cookie.same_site == "none" and not cookie.secure:
        found.append(Problem("session.cookie.same_site", '"none" needs secure = true'))
    return found


def _admin_dangers(admin: Admin) -> list[Problem]:
    found = []
    if bool(admin.tls_cert) != bool(admin.tls_key):
        found.append(Problem("admin.tls_cert", "needs admin.tls_key, and the other way round"))
    found += [
        Problem(f"admin.tokens[{number}].sha256", "is the digest of an empty token; make a new one")
        for number, token in enumerate(admin.tokens, 1)
        if token.sha256 == _DIGEST_OF_NOTHING
    ]
    if not admin.tokens:
        found.append(
            Problem("admin.tokens", "is empty; make one with `gateway token` and add its line")
        )
    names = [token.name for token in admin.tokens]
    if len(set(names)) < len(names):
        found.append(Problem("admin.tokens", "two tokens have the same name; events name them"))
    digests = [token.sha256 for token in admin.tokens]
    if len(set(digests)) < len(digests):
        found.append(
            Problem("admin.tokens", "two entries have the same sha256; events could not tell them")
        )
    open_to_all = [address for address in admin.listen if not is_local(address)]
    if open_to_all and not admin.tls_cert and not admin.insecure:
        found.append(
            Problem(
                "admin.listen",
                f"{', '.join(open_to_all)} is reachable from other machines without TLS; set "
                "admin.tls_cert and admin.tls_key, listen on 127.0.0.1, or set insecure = true",
            )
        )
    return found


def _check_dangers(check: Check) -> list[Problem]:
    found = [] if check.listen else [Problem("check.listen", "is empty; nobody could ask")]
    found += [
        Problem("check.trusted_proxies", f"{network} trusts everybody to speak for the proxy")
        for network in _together(check.trusted_proxies)
        if network.prefixlen == 0
    ]
    if check.grpc_listen and not _has_grpc():
        found.append(
            Problem(
                "check.grpc_listen",
                "needs the extra grpc, which is not installed; "
                'pip install "session-gateway[grpc]", or leave it empty',
            )
        )
    if check.workers > 1:
        found += [
            Problem("check.grpc_listen", f"{address}: gRPC workers cannot share a Unix socket; "
                    f"write {WORKER} where the number of each goes, or use host:port")
            for address in check.grpc_listen
            if address.startswith("unix:") and WORKER not in address
        ]  # fmt: skip
    return found + _profile_dangers(check)


def _has_grpc() -> bool:
    try:
        import google.protobuf
        import grpc
    except ImportError:
        return False
    return bool(grpc and google.protobuf)


def _profile_dangers(check: Check) -> list[Problem]:
    found = []
    if len(set(check.profiles)) < len(check.profiles):
        found.append(Problem("check.profiles", "names a profile twice; name each once"))
    prefix = check.authelia.ext_authz_prefix
    if prefix.startswith(("/check", "/oauth2")) or not prefix.startswith("/api/authz/ext-authz"):
        found.append(
            Problem("check.authelia.ext_authz_prefix", "must begin with /api/authz/ext-authz")
        )
    return found


def _identity_dangers(identity: Identity) -> list[Problem]:
    sections = {
        "identity": identity.native,
        "identity.oauth2_proxy": identity.of("oauth2-proxy"),
        "identity.authelia": identity.of("authelia"),
    }
    found = [
        Problem(f"{place}.headers" + (f".{name}" if name else ""), message)
        for place, told in sections.items()
        for name, message in name_problems(told)
    ]
    return found + _assertion_dangers(identity.assertion)


def _assertion_dangers(assertion: Assertion) -> list[Problem]:
    place = "identity.assertion"
    if not assertion.is_on:
        told = assertion.issuer or assertion.audience
        return [Problem(f"{place}.keys", "is empty, so nothing is signed; add it")] if told else []
    found = []
    if not assertion.issuer:
        found.append(
            Problem(f"{place}.issuer", "is empty; name this gateway, https://app.example.com")
        )
    found += [
        Problem(f"{place}.{name}", "must be printable ASCII")
        for name, text in (("issuer", assertion.issuer), ("audience", assertion.audience))
        if not re.fullmatch(r"[!-~]*", text)
    ]
    from ..assertion import BadKeys, Keys  # takes 0.1 s

    try:
        Keys(assertion.keys.get_secret_value())
    except BadKeys as error:
        found.append(Problem(f"{place}.keys", str(error)))
    return found


def _geo_dangers(geo: Geo) -> list[Problem]:
    return [
        Problem(f"geo.{name}", f"{path} is no file; leave it empty to know no places")
        for name, path in (("city", geo.city), ("asn", geo.asn))
        if path and not Path(path).is_file()
    ]


def _together(networks: Iterable[Network]) -> Iterator[Network]:
    """Return the fewest networks that cover the same: two halves are the whole."""
    for version in (4, 6):
        same: list[Any] = [each for each in networks if each.version == version]
        yield from ipaddress.collapse_addresses(same)


def _policy_dangers(policy: Policy, lifetime: Lifetime) -> list[Problem]:
    found = [
        Problem(f"policy.rules[{number}].{field}", message)
        for number, spec in enumerate(policy.specs(), 1)
        for field, message in problems_of(spec)
    ]
    found += [
        Problem(
            f"policy.rules[{number}].{field}",
            "is an empty list, which would ask nothing; name what it asks for, or leave it out",
        )
        for number, rule in enumerate(policy.rules, 1)
        for field in sorted(rule.model_fields_set)
        if getattr(rule, field) == ()
    ]
    noted_ms = lifetime.touch_interval_ms
    return found + [
        Problem(
            f"policy.rules[{number}].idle",
            f"is too short: activity is noted once in {noted_ms / 1000:g} s; allow twice that",
        )
        for number, spec in enumerate(policy.specs(), 1)
        if 0 < spec.idle_ms < 2 * noted_ms
    ]


def _place_dangers(policy: Policy, geo: Geo) -> list[Problem]:
    return [
        Problem(
            f"policy.rules[{number}].{field}",
            f"needs a database that knows: set geo.{name} to the path of one",
        )
        for number, spec in enumerate(policy.specs(), 1)
        for field, wanted, name, path in (
            ("country", spec.countries, "city", geo.city), ("asn", spec.asns, "asn", geo.asn)
        )
        if wanted and not path
    ]  # fmt: skip


def _webhook_dangers(events: Events) -> list[Problem]:
    names = [each.name for each in events.webhooks]
    found = []
    if len(set(names)) < len(names):
        found.append(Problem("events.webhooks", "two have the same name; each needs its own"))
    for number, each in enumerate(events.webhooks, 1):
        place = f"events.webhooks[{number}]"
        if each.url.startswith("http:") and not each.allow_http:
            found.append(
                Problem(f"{place}.url", "events would travel unencrypted; use https, or set "
                        "allow_http = true on a network that nobody else can read")
            )  # fmt: skip
        if 2 * each.timeout + TURN_MARGIN_MS >= events.takeover:
            found.append(
                Problem(f"{place}.timeout", "twice this and a second more must be shorter than "
                        "events.takeover; shorten it, or lengthen that")
            )  # fmt: skip
    return found


def _binding_dangers(binding: Binding, geo: Geo) -> list[Problem]:
    if binding.asn is Action.OFF or geo.asn:
        return []
    return [Problem("binding.asn", "needs a database that knows: set geo.asn to the path of one")]


def _link_dangers(settings: Settings) -> list[Problem]:
    alerts, found = settings.alerts, []
    if not alerts.link:
        return []
    if not alerts.link_secret.get_secret_value():
        found.append(
            Problem("alerts.link_secret", "is empty; make one with `openssl rand -hex 32`")
        )
    if not settings.pages.listen:
        found.append(Problem("pages.listen", "is empty: nobody would answer at alerts.link"))
    return found


def _policy_warnings(policy: Policy, lifetime: Lifetime) -> list[Problem]:
    specs = policy.specs()
    found = [] if specs else [Problem("policy.rules", "is empty: every request is denied")]
    found += [
        Problem(f"policy.rules[{number}]", f"can never decide: rule {by} covers all of it")
        for number, by in never_reached(specs)
    ]
    for number, spec in enumerate(specs, 1):
        place = f"policy.rules[{number}]"
        if spec.idle_ms >= lifetime.idle_ms:
            found.append(Problem(f"{place}.idle", "has no effect: sessions end before"))
        if spec.max_age_ms >= lifetime.absolute_ms:
            found.append(Problem(f"{place}.max_age", "has no effect: sessions end before"))
    return found


def warnings_of(settings: Settings) -> list[Problem]:
    found, cookie = [], settings.session.cookie
    if not cookie.secure:
        found.append(Problem("session.cookie.secure", "false: the token travels unencrypted"))
    if cookie.domain:
        found.append(Problem("session.cookie.domain", "set: every host below it gets the token"))
    if settings.admin.insecure:
        found.append(Problem("admin.insecure", "true: admin tokens travel unencrypted"))
    if settings.admin.without_token:
        open_to_all = " and ".join(settings.admin.without_token)
        found.append(Problem("admin.without_token", f"anybody who reaches it reads {open_to_all}"))
    found += _policy_warnings(settings.policy, settings.session.lifetime)
    if settings.revocation.confirm_timeout < 1.05 * settings.revocation.lease:
        found.append(
            Problem(
                "revocation.confirm_timeout",
                "is below the lease: receipts may be incomplete, and a change of roles may be "
                "answered before all replicas know of it",
            )
        )
    return found + _identity_warnings(settings)


def _identity_warnings(settings: Settings) -> list[Problem]:
    identity, profiles = settings.identity, settings.check.profiles
    sections: dict[str, Told] = {"identity": identity}
    if "oauth2-proxy" in profiles:
        sections["identity.oauth2_proxy"] = identity.oauth2_proxy
    if "authelia" in profiles:
        sections["identity.authelia"] = identity.authelia
    found = [
        Problem(f"{place}.raw_utf8", "true: identity headers may hold non-ASCII bytes")
        for place, told in sections.items()
        if told.raw_utf8
    ]
    found += _audience_warnings(identity.assertion, settings.policy)
    if identity.assertion.is_on and not settings.pages.listen:
        found.append(
            Problem("pages.listen", "is empty: no application can fetch the keys of assertions")
        )
    if settings.pages.listen and not (identity.assertion.is_on or settings.alerts.link):
        found.append(
            Problem("pages.listen", "serves nothing without identity.assertion.keys or alerts.link")
        )
    if profiles and not settings.pages.login_url:
        found.append(
            Problem("pages.login_url", "is empty: the profiles cannot send anybody to sign in")
        )
    return found


def _audience_warnings(assertion: Assertion, policy: Policy) -> list[Problem]:
    """Without an audience it is the host; where rules name none, clients make hosts up."""
    wide = [
        str(number)
        for number, spec in enumerate(policy.specs(), 1)
        if spec.access is Access.SESSION and (not spec.host or spec.host.startswith("*"))
    ]
    if not assertion.is_on or assertion.audience or not wide:
        return []
    what = "is empty, so clients may make audiences up; name hosts in the session rules"
    return [Problem("identity.assertion.audience", f"{what} {', '.join(wide)}, or set it")]


def is_local(address: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
