"""Whatever a translated policy lets pass, the peer would have let pass too."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Settings
from gateway.decision import Reason
from gateway.judge import refusal
from gateway.migrate import Translation, from_authelia, from_oauth2_proxy
from gateway.model import Besides, Standing
from gateway.policy import Policy, is_public
from tests.decision.samples import MINUTE_MS, NOW_MS, TOKEN, key_of

from .peers import Request, authelia_allows, oauth2_proxy_allows

SAMPLES = Path(__file__).parent / "samples"


def settings_of(made: Translation) -> Settings:
    return Settings(**tomllib.loads(made.toml()))


class Ours:
    """A translated configuration, ready to be asked."""

    def __init__(self, made: Translation) -> None:
        found = settings_of(made)
        self.narrowing = found.check.oauth2_proxy.narrowing
        self.policy = Policy(rule.spec() for rule in found.policy.rules)

    def allows(self, request: Request) -> bool:
        place = self.policy.at(request.method, request.host, request.target.partition("?")[0])
        rules = place if isinstance(place, Reason) else place.decide()
        if isinstance(rules, Reason):
            return False
        if is_public(rules):
            return True
        session = Standing(
            *key_of(TOKEN), request.groups, NOW_MS + MINUTE_MS, MINUTE_MS, NOW_MS, b"",
            besides=Besides(email=request.email), aal=max(request.factors, 1),
        )  # fmt: skip
        return bool(request.factors) and not refusal(session, NOW_MS, rules, self.narrowing)


PARTS = [
    "",
    "api",
    "api2",
    "public",
    "a",
    "b",
    "delete",
    "x.css",
    ".css",
    "admin",
    "%61pi",
    "a;b",
    "a%2fb",
]
TARGETS = st.builds(
    lambda parts, query: "/" + "/".join(parts) + query,
    st.lists(st.sampled_from(PARTS), max_size=4),
    st.sampled_from(["", "?x=1", "?a=b&c", "?/api/x.css"]),
)
GROUPS = st.lists(st.sampled_from(["admins", "ops", "family", "role:operator"]), max_size=2).map(
    tuple
)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT"]),
    host=st.sampled_from(
        ["app.example.com", "a.b.example.com", "example.com", "ada.example.com", "other.org",
         "user-ada.example.com", "x.other.org", "com"]
    ),
    target=TARGETS,
    factors=st.sampled_from([0, 1, 2]),
    user=st.sampled_from(["ada", "eve"]),
    groups=GROUPS,
    email=st.sampled_from(
        ["ada@example.com", "ada@a.example.org", "ada@example.org", "", "a@b@example.com",
         "x@Example.com"]
    ),
    address=st.sampled_from(["192.0.2.7", "10.0.0.1"]),
)  # fmt: skip
RESOURCES = st.lists(
    st.sampled_from(
        ["^/api([/?].*)?$", "^/api$", "^/api/", "/api", r"\.css$", "^/public/.*$", "^/a/[^/]+/b",
         "^/a.+",
         "^/(api|public)/", r"^/api\?", "^/$", ".*", "^/admin", r"^/v\d+", "^/api2?/delete"]
    ),
    max_size=2,
)  # fmt: skip


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


RULES = st.builds(
    lambda domain, policy, more: {**domain, "policy": policy, **more},
    st.one_of(
        st.fixed_dictionaries(
            {"domain": st.sampled_from(
                ["app.example.com", "*.example.com", ["example.com", "*.b.example.com"],
                 "other.org",
                 "*.com", "{user}.example.com", "*", "APP.example.com"])}
        ),
        st.fixed_dictionaries(
            {"domain_regex": st.sampled_from(
                [r"^app\.example\.com$", r"^app.example.com$",
                 r"^user-(?P<User>\w+)\.example\.com$",
                 r"\.example\.com$", "^(app|ada)\\.example\\.com$", r"[^.]+\.example\.com"])}
        ),
    ),
    st.sampled_from(["bypass", "one_factor", "two_factor", "deny"]),
    some(
        resources=RESOURCES,
        methods=st.lists(
            st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]), min_size=1, max_size=2
        ),
        networks=st.just(["lan"]),
        subject=st.sampled_from(
            ["group:admins", ["group:admins", "group:ops"], [["group:admins", "group:ops"]],
             "user:ada",
             ["user:ada", "group:family"]]
        ),
        query=st.just([{"operator": "present", "key": "x"}]),
    ),
)  # fmt: skip
AUTHELIA = st.fixed_dictionaries(
    {
        "session": st.fixed_dictionaries(
            {"cookies": st.sampled_from([[{"domain": "example.com"}],
                                         [{"domain": "b.example.com"}, {"domain": "other.org"}]])}
        ),
        "access_control": st.fixed_dictionaries(
            {
                "default_policy": st.sampled_from(["deny", "one_factor", "two_factor", "bypass"]),
                "networks": st.just([{"name": "lan", "networks": ["10.0.0.0/8"]}]),
                "rules": st.lists(RULES, max_size=5),
            }
        ),
    }
)  # fmt: skip


@settings(max_examples=250)
@given(config=AUTHELIA, requests=st.lists(REQUESTS, min_size=5, max_size=25), always=st.booleans())
def test_authelia_lets_pass_what_the_translation_does(
    config: dict[str, Any], requests: list[Request], always: bool
) -> None:
    """For whoever it is; a session here may be of one factor unless that was ruled out."""
    ours = Ours(from_authelia(config, two_factor_always=always))
    for request in requests:
        if always and request.factors:
            request = replace(request, factors=2)  # noqa: PLW2901
        assert authelia_allows(config, request) or not ours.allows(request), request


OAUTH2 = some(
    skip_auth_regex=RESOURCES,
    skip_auth_routes=st.lists(
        st.sampled_from(
            ["^/api/", "GET=^/api/", "POST=^/public/.*$", "get=^/a$", r"GET=\.css$", "!=^/admin",
             "POST!=^/admin", "HEAD=^/api", "^/a=b$", "/api", "BREW=^/"]
        ),
        max_size=3,
    ),
    skip_auth_preflight=st.booleans(),
    allowed_groups=st.lists(st.sampled_from(["admins", "ops"]), max_size=2),
    allowed_roles=st.just(["operator"]),
    email_domains=st.sampled_from(
        [["*"], ["example.com"], [".example.org"], ["*.example.org", "EXAMPLE.com"], []]
    ),
    trusted_ips=st.just(["10.0.0.0/8"]),
    github_org=st.just("example"),
)  # fmt: skip


@settings(max_examples=250)
@given(options=OAUTH2, requests=st.lists(REQUESTS, min_size=5, max_size=25))
def test_oauth2_proxy_lets_pass_what_the_translation_does(
    options: dict[str, Any], requests: list[Request]
) -> None:
    ours = Ours(from_oauth2_proxy(options))
    for request in requests:
        assert oauth2_proxy_allows(options, request) or not ours.allows(request), request


# --- the samples -----------------------------------------------------------------------------


def sample_of(name: str) -> tuple[dict[str, Any], Translation]:
    text = (SAMPLES / name).read_text()
    if name.endswith(".yml"):
        return (config := yaml.safe_load(text)), from_authelia(config)
    return (options := tomllib.loads(text)), from_oauth2_proxy(options)


@pytest.mark.parametrize(
    ("method", "target", "groups", "allowed"),
    [
        ("GET", "/healthz", (), True),
        ("GET", "/api/public/x", (), True),
        ("HEAD", "/api/public/x", (), False),
        ("POST", "/api/public/x", (), False),
        ("POST", "/hooks/x", (), True),
        ("GET", "/app.css", (), True),
        ("OPTIONS", "/anything", (), True),
        ("GET", "/status", (), False),
        ("GET", "/", ("/tools",), True),
        ("GET", "/", ("role:operator",), True),
        ("GET", "/", ("operator",), False),
        ("GET", "/", (), False),
    ],
)
def test_a_whole_configuration_of_oauth2_proxy(
    method: str, target: str, groups: tuple[str, ...], allowed: bool
) -> None:
    """What was meant still works: the translation is not merely safe."""
    options, made = sample_of("oauth2-proxy.cfg")
    request = Request(
        method, "tools.example.com", target, int(bool(groups)), groups=groups, email="a@example.com"
    )
    assert Ours(made).allows(request) is allowed
    assert oauth2_proxy_allows(options, request) or not allowed


@pytest.mark.parametrize(
    ("host", "target", "groups", "allowed"),
    [
        ("www.example.com", "/x", None, True),
        ("cloud.example.com", "/public/x?y", None, True),
        ("cloud.example.com", "/s/abc/download?path=x", None, True),
        ("cloud.example.com", "/status.php", None, False),
        ("cloud.example.com", "/remote.php/x", ("family",), True),
        ("cloud.example.com", "/remote.php/x", ("guests",), False),
        ("photos.example.com", "/x", (), True),
        ("admin.example.com", "/x", ("admins",), False),
        ("elsewhere.test", "/x", None, False),
        ("grafana.example.com", "/x", ("admins",), False),
    ],
)
def test_a_whole_configuration_of_authelia(
    host: str, target: str, groups: tuple[str, ...] | None, allowed: bool
) -> None:
    config, made = sample_of("configuration.yml")
    request = Request("GET", host, target, int(groups is not None), "ada", groups or ())
    assert Ours(made).allows(request) is allowed
    assert authelia_allows(config, request) or not allowed


def test_two_factors_are_a_level_of_the_sign_in() -> None:
    config, made = sample_of("configuration.yml")
    request = Request("GET", "admin.example.com", "/x", 2, "ada", ("admins",))
    assert Ours(made).allows(request)
    assert authelia_allows(config, request)
    assert not Ours(made).allows(replace(request, factors=1))


def test_two_factors_can_be_promised() -> None:
    """Then what asked for two asks for a session."""
    config, _ = sample_of("configuration.yml")
    request = Request("GET", "admin.example.com", "/x", 2, "ada", ("admins",))
    ours = Ours(from_authelia(config, two_factor_always=True))
    assert ours.allows(request)
    assert authelia_allows(config, request)
    assert not ours.allows(replace(request, groups=("family",)))
    assert not ours.allows(replace(request, target="/api/delete"))


def rules(*theirs: dict[str, Any]) -> dict[str, Any]:
    return {
        "session": {"cookies": [{"domain": "example.com"}]},
        "access_control": {"default_policy": "deny", "rules": list(theirs)},
    }


ADA = Request("GET", "app.example.com", "/x", 1, "ada", ("admins",))
REFUSED = {
    "head is not get": (
        rules({"domain": "app.example.com", "policy": "bypass", "methods": ["GET"]}),
        Request("HEAD", "app.example.com", "/x"),
    ),
    "one group is not both": (
        rules({"domain": "app.example.com", "policy": "one_factor",
               "subject": [["group:admins", "group:ops"]]}),
        ADA,
    ),
    "a user is not everybody": (
        rules({"domain": "app.example.com", "policy": "one_factor", "subject": "user:eve"}),
        ADA,
    ),
    "what is left out may stand before a public rule": (
        rules({"domain_regex": r"^user-(?P<User>\w+)\.example\.com$", "policy": "one_factor"},
              {"domain": "*.example.com", "policy": "bypass"}),
        Request("GET", "user-ada.example.com", "/x"),
    ),
    "a network is not everywhere": (
        rules({"domain": "app.example.com", "policy": "bypass", "networks": ["10.0.0.0/8"]}),
        Request("GET", "app.example.com", "/x"),
    ),
    "a query is not every query": (
        rules({"domain": "app.example.com", "policy": "bypass", "resources": ["^/x$"]}),
        Request("GET", "app.example.com", "/x?y"),
    ),
    "one factor is not two": (
        rules({"domain": "app.example.com", "policy": "two_factor"}),
        ADA,
    ),
    "a star is any number of labels": (
        rules({"domain": "*.example.com", "policy": "deny"},
              {"domain": "a.b.example.com", "policy": "bypass"}),
        Request("GET", "a.b.example.com", "/x"),
    ),
    "two stars are no wildcard there": (
        rules({"domain": "**.example.com", "policy": "bypass"}),
        Request("GET", "app.example.com", "/x"),
    ),
    "no host is not every host": (
        rules({"domain": "", "policy": "bypass"}),
        Request("GET", "app.example.com", "/x"),
    ),
    "no path is not every path": (
        rules({"domain": "app.example.com", "policy": "bypass", "resources": ["^$", "^x"]}),
        Request("GET", "app.example.com", "/x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_rule_must_not_become(case: str) -> None:
    """The peer refuses it, and so do we."""
    config, request = REFUSED[case]
    assert not authelia_allows(config, request)
    assert not Ours(from_authelia(config)).allows(request)
