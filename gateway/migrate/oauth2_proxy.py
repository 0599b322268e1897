"""oauth2-proxy's configuration file: TOML, each option named after its flag.

What its routes let by becomes public; all else needs a session. What restricts who may sign in is
the business of your application from now on: where the file has such a thing, the rule for all
else denies until you replace it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ..lifetime import parse_duration_ms
from ..rules import Access, RuleSpec
from ..target import METHODS
from .patterns import Matches, paths_of
from .translation import Translation

_PUBLIC_HINT = "is not made public; add a rule by hand if it should be"
# Options that say who may sign in, and are not asked again of a session that is there.
_RESTRICTIONS = re.compile(
    r"(github|gitlab|google|bitbucket|keycloak|azure)_.*(org|team|repo|user|group|project|tenant)s?"
    r"|authenticated_emails_file|.*allowed_tenants?"
)
_SIGN_IN = re.compile(
    r"(azure|bitbucket|github|gitlab|google|keycloak|oidc|jwt|insecure_oidc|skip_oidc)_.*"
    r"|acr_values|approval_prompt|basic_auth_.*|client_.*|code_challenge.*|display_htpasswd_form"
    r"|extra_jwt_issuers|force_code_challenge.*|htpasswd_.*|login_url|profile_url|prompt|provider.*"
    r"|pubjwk_url|redeem_url|redirect_url|relative_redirect_url|resource|scope|signature_key"
    r"|skip_claims.*|skip_jwt.*|skip_provider_button|use_system_trust_store|user_id_claim"
    r"|validate_url|backend_logout_url|cookie_csrf.*|encode_state|bearer_token.*"
)
_PROXYS = re.compile(
    r"upstreams?|upstream_.*|proxy_websockets|flush_interval|pass_host_header|.*_address|tls_.*"
    r"|ssl_.*|force_https|allow_query_semicolons|request_id_header|real_client_ip_header"
    r"|reverse_proxy|trusted_proxy_ips?"
)
_PAGES = re.compile(r"custom_.*|banner|footer|templates_.*|show_debug_on_error|force_json_errors")
_LOGS = re.compile(
    r".*logging.*|silence_ping.*|errors_to_info_log|exclude_logging_paths?|ping_.*|ready_path|gcp.*"
    r"|metrics_.*"
)
_TOKENS = re.compile(r"pass_.*|set_authorization_header|set_basic_auth|prefer_email_to_user"
                     r"|session_cookie_minimal|skip_auth_strip_headers")  # fmt: skip
_KINDS = (
    (_SIGN_IN, "signing in stays with your application, which makes the session"),
    (_PROXYS, "is the proxy's business"),
    (_PAGES, "the gateway has no pages of its own for this"),
    (_LOGS, "logs and metrics have their own settings here"),
    (_TOKENS, "no tokens and no other headers are passed on; see [identity]"),
)


def translate(options: Mapping[str, object]) -> Translation:
    """Translate a parsed file."""
    made = Translation("oauth2-proxy")
    made.set("check", "profiles", ["oauth2-proxy"])
    handled = _session(made, options) | _redis(made, options) | _redirects(made, options)
    handled |= _policy(made, options)
    for name in sorted(set(map(str, options)) - handled):
        _note_rest(made, name)
    return made


def _list(options: Mapping[str, object], name: str) -> list[str]:
    """Return the values of a list; text is split at commas, as oauth2-proxy does."""
    value = options.get(name)
    if isinstance(value, str):
        return value.split(",") if value else []
    if isinstance(value, list):
        return list(map(str, value))
    return [] if value is None else [str(value)]


def _note_rest(made: Translation, name: str) -> None:
    for pattern, what in _KINDS:
        if pattern.fullmatch(name):
            made.note(name, what)
            return
    made.note(name, "has no counterpart here")


# --- settings --------------------------------------------------------------------------------


def _session(made: Translation, options: Mapping[str, object]) -> set[str]:
    made.set("session.cookie", "name", str(options.get("cookie_name") or "_oauth2_proxy"))
    made.set("session.cookie", "secure", options.get("cookie_secure") is not False)
    if options.get("cookie_samesite") in ("lax", "strict", "none"):
        made.set("session.cookie", "same_site", options["cookie_samesite"])
    life = _duration(made, str(options.get("cookie_expire", "168h")))
    made.set("session", "absolute", life)
    made.set("session", "idle", life)  # oauth2-proxy does not ask when somebody was last seen
    domains = [each.removeprefix(".").lower() for each in _list(options, "cookie_domains")]
    if len(domains) == 1:
        made.set("session.cookie", "domain", domains[0])
    elif domains:
        made.note("cookie_domains", "one domain can be set; without it the cookie is for one host")
    for name, what in (
        ("cookie_secret", "session tokens are random, and only their digests are kept"),
        ("cookie_refresh", "there is nothing to refresh: a session keeps its absolute end"),
        ("cookie_path", "the cookie's path is always /"),
        ("cookie_httponly", "the cookie is always HttpOnly"),
    ):
        if name in options:
            made.note(name, what)
    return {each for each in options if each.startswith("cookie_") and "csrf" not in each}


def _duration(made: Translation, text: str) -> str:
    """Return Go's duration as ours."""
    ours = re.sub(r"(?<![0-9])0+(?:h|m|s)(?=\d|$)", "", text) if text != "0" else ""
    try:
        if parse_duration_ms(ours) >= 1000:
            return ours
    except ValueError:
        pass
    made.note("cookie_expire", f"{text!r} cannot be taken over; 12h is set instead")
    return "12h"


def _redis(made: Translation, options: Mapping[str, object]) -> set[str]:
    handled = {name for name in options if name.startswith("redis_")} | {"session_store_type"}
    several = ("redis_use_sentinel", "redis_use_cluster")
    if any(options.get(name) for name in several):
        made.note("redis_connection_url", "set redis.url by hand: only one server is translated")
        return handled
    try:
        url = urlsplit(str(options.get("redis_connection_url") or ""))
    except ValueError:  # brackets that hold no IPv6 address
        url = urlsplit("")
    server = url.netloc.rpartition("@")[2]
    ours = f"{url.scheme}://{server}/{url.path.strip('/') or 0}"
    if re.fullmatch(r"rediss?://[A-Za-z0-9._-]+(:[0-9]{1,5})?/[0-9]+", ours):
        made.set("redis", "url", ours)
        if url.username:
            made.set("redis", "username", url.username)
    else:
        made.note("session_store_type", "set redis.url: sessions are kept there, not in the cookie")
    if url.password or options.get("redis_password"):
        made.note("redis_password", "put it into a file and name that in redis.password_file")
    return handled


def _redirects(made: Translation, options: Mapping[str, object]) -> set[str]:
    fit = re.compile(r"(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:(\d{1,5}|\*))?")
    named = [each.strip().lower() for each in _list(options, "whitelist_domains")]
    domains = [each for each in named if fit.fullmatch(each)]
    if domains:
        made.set("check.oauth2_proxy", "redirect_domains", domains)
    if len(domains) < len(named):
        made.note("whitelist_domains", "what is no domain was left out")
    made.note("signing in", "set pages.login_url to a page of yours that makes sessions here")
    if str(options.get("proxy_prefix", "/oauth2")) != "/oauth2":
        made.note("proxy_prefix", "the addresses here are /oauth2/...; have the proxy ask these")
    return {"whitelist_domains", "proxy_prefix", "set_xauthrequest"}


# --- rules -----------------------------------------------------------------------------------


def _policy(made: Translation, options: Mapping[str, object]) -> set[str]:
    rest = _for_all_else(made, options)
    routes = [("", each) for each in _list(options, "skip_auth_regex")]
    routes += [_method_of(each) for each in _list(options, "skip_auth_routes")]
    for method, route in routes:
        for spec in _public(made, method, route):
            if "GET" in spec.methods and "HEAD" not in spec.methods:
                # A rule of ours for GET is for HEAD too.
                head = RuleSpec(rest.access, path=spec.path, methods=("HEAD",), roles=rest.roles)
                made.rules.append((head, f"{route}: not for HEAD"))
            made.rules.append((spec, route))
    if options.get("skip_auth_preflight"):
        made.rules.append((RuleSpec(Access.PUBLIC, methods=("OPTIONS",)), "skip_auth_preflight"))
    made.rules.append((rest, "everything else"))
    if options.get("trusted_ips"):
        made.note("trusted_ips", f"what comes from an address {_PUBLIC_HINT}")
    if options.get("api_routes"):
        made.note(
            "api_routes", "the check answers 401 everywhere; the proxy makes a redirect of it"
        )
    return {
        *("skip_auth_regex", "skip_auth_routes", "skip_auth_preflight", "trusted_ips"),
        *("api_routes", "allowed_groups", "allowed_roles", "email_domains"),
        *(name for name in options if _RESTRICTIONS.fullmatch(name)),
    }


def _for_all_else(made: Translation, options: Mapping[str, object]) -> RuleSpec:
    """Return the rule for whatever is not let by."""
    roles = [each for each in _list(options, "allowed_groups") if each]
    roles += [f"role:{each}" for each in _list(options, "allowed_roles") if each]
    domains = [each.strip().lower() for each in _list(options, "email_domains")]
    restrictions = [name for name in options if _RESTRICTIONS.fullmatch(name) and options[name]]
    if "*" in domains:
        restrictions = [name for name in restrictions if name != "authenticated_emails_file"]
    elif domains:
        restrictions = [name for name in restrictions if name != "authenticated_emails_file"]
        fit = [
            each for each in domains if re.fullmatch(r"(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", each)
        ]
        made.set("check.oauth2_proxy", "allowed_email_domains", fit)
        made.note("email_domains", "hold at /oauth2/auth; at other addresses only the rules do")
        if not fit:
            restrictions.append("email_domains")
        if options.get("authenticated_emails_file"):
            made.note("authenticated_emails_file", "only email_domains are let pass; see there")
    elif not options.get("authenticated_emails_file"):
        restrictions.append("email_domains")
    for name in restrictions:
        made.note(
            name, "says who may sign in: have your sign-in check it, then replace the last rule's "
            '"deny" by "session"',
        )  # fmt: skip
    if restrictions:
        return RuleSpec(Access.DENY)
    return RuleSpec(Access.SESSION, roles=tuple(dict.fromkeys(roles)))


def _method_of(route: str) -> tuple[str, str]:
    """Return the parts of `METHOD=regex`; what is negated keeps its sign."""
    parts = re.split(r"(!?=)", route, maxsplit=1)
    if len(parts) == 1:
        return "", route
    # oauth2-proxy negates wherever != stands in the text.
    return parts[0].upper(), ("!=" if "!=" in route else "") + parts[2]


def _public(made: Translation, method: str, expression: str) -> Iterator[RuleSpec]:
    """Return the rules of one route."""
    negated = expression.startswith("!=")
    paths = Matches((), (), exact=False) if negated else paths_of(expression, with_query=False)
    if not paths.exact:
        kept = f"; only {', '.join(paths.inner)} is" if paths.inner else ""
        made.note(expression, f"no path pattern says the same: it {_PUBLIC_HINT}{kept}")
    if method and method not in METHODS:
        made.note(expression, f"{method} is no method that a request may have here")
        return
    for path in paths.inner:
        yield RuleSpec(Access.PUBLIC, path=path, methods=(method,) if method else ())
