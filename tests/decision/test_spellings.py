"""No spelling of a protected path reaches it through a looser rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway import target as target_module
from gateway.authorizer import Authorizer
from gateway.decision import Reason
from gateway.policy import Policy, is_public
from gateway.rules import Access, RuleSpec
from gateway.target import MAX_PATH, MAX_READINGS, readings

from .samples import FakeStore, at_once, cookie, make_authorizer, make_request, make_session
from .upstreams import is_below, readings_of


@dataclass(frozen=True)
class Case:
    """A policy, and which paths nobody without the role `admin` may reach under it."""

    rules: tuple[RuleSpec, ...]
    protected: Callable[[bytes], bool]
    signed_in: bool = False

    def authorizer(self) -> Authorizer:
        return make_authorizer(list(self.rules), FakeStore(make_session(roles=("member",))))


@pytest.mark.parametrize(
    "target",
    ["/report%73/a%2Fq3", "/report%73/q3%2F", "/user%73/a%2Fb/secrets", "/users/a%2Fb/secret%73",
     "/report%73/a%252Fq3", "/%72eports/a%2fb"],
)  # fmt: skip
def test_escaped_slashes_beside_other_escapes_lead_nowhere(target: str) -> None:
    """Servers that keep `%2F` in a segment and decode the rest see one segment: a rule's `*`."""
    policy = Policy(
        [
            rule("/reports/*", Access.SESSION, "admin"),
            rule("/users/*/secrets", Access.SESSION, "admin"),
            rule("/**", Access.PUBLIC),
        ]
    )
    paths = readings(target)
    assert paths is not None
    rules = policy.place("GET", "app.example.com", paths).decide()
    assert not isinstance(rules, Reason)
    assert not is_public(rules)


def rule(path: str, access: Access, *roles: str) -> RuleSpec:
    return RuleSpec(access, path=path, roles=roles)


def below_admin(path: bytes) -> bool:
    return is_below(path, b"/admin")


def not_below_public(path: bytes) -> bool:
    return not is_below(path, b"/public")


OPEN, MEMBERS, SHUT = Access.PUBLIC, Access.SESSION, Access.DENY
CASES = {
    "admin-then-public": Case(
        (rule("/admin/**", MEMBERS, "admin"), rule("/**", OPEN)), below_admin
    ),
    "admin-denied": Case((rule("/admin/**", SHUT), rule("/**", OPEN)), below_admin),
    "public-then-members": Case((rule("/public/**", OPEN), rule("/**", MEMBERS)), not_below_public),
    "public-only": Case((rule("/public/**", OPEN),), not_below_public),
    "public-first": Case(
        (rule("/public/**", OPEN), rule("/admin/**", MEMBERS, "admin"), rule("/**", OPEN)),
        below_admin,
    ),
    "a-member": Case(
        (rule("/public/**", OPEN), rule("/admin/**", MEMBERS, "admin"), rule("/**", MEMBERS)),
        below_admin,
        signed_in=True,
    ),
    "style-sheets": Case(
        (rule("/admin/**", SHUT), rule("/**/*.css", OPEN)),
        lambda path: below_admin(path) or not path.endswith(b".css"),
    ),
    "one-level": Case((rule("/admin/**", SHUT), rule("/*", OPEN), rule("/*/*", OPEN)), below_admin),
    "exact-page": Case((rule("/admin", SHUT), rule("/**", OPEN)), lambda path: path == b"/admin"),
    "any-host": Case((RuleSpec(SHUT, path="/admin/**"), RuleSpec(OPEN)), below_admin),
}
AUTHORIZERS = {name: case.authorizer() for name, case in CASES.items()}


def bypasses(target: str) -> list[str]:
    """Return the cases in which `target` is allowed though an upstream may read what is not."""
    anyhow = AUTHORIZERS["any-host"].check(make_request(target))
    if at_once(anyhow).reason is Reason.AMBIGUOUS_PATH:
        return []  # refused before any rule, so under every policy
    passed = [
        name
        for name, case in CASES.items()
        if at_once(
            AUTHORIZERS[name].check(
                make_request(target, cookies=(cookie(),) if case.signed_in else ())
            )
        ).reason
        is None
    ]
    if not passed:
        return []
    reached = readings_of(target)
    return [
        f"{name}: {path!r}"
        for name in passed
        for path in sorted(reached)
        if CASES[name].protected(path)
    ]


# Each opened a door somewhere: the product or the advisory stands beside it.
KNOWN = [
    "/public/../admin",  # every prefix rule over raw paths
    "/public/..%2fadmin",  # Envoy CVE-2019-9901
    "/public/%2e%2e/admin",  # Envoy CVE-2019-9901; Apache CVE-2021-41773
    "/public/.%2e/admin",  # Apache CVE-2021-41773
    "/public/%%32%65%%32%65/admin",  # Apache CVE-2021-42013
    "/public/%252e%252e/admin",  # decoded twice: Spring CVE-2020-5410
    "/public/%25252e%25252e%25252fadmin",
    "/public%2f..%2fadmin",  # Envoy CVE-2021-29492
    "/public%5c..%5cadmin",  # Envoy CVE-2021-29492
    "/public/..\\admin",
    "/public/%5c../admin",
    "/%61dmin",
    "/%2561dmin",
    "/%252561dmin",
    "//admin",  # Envoy, Istio: merge_slashes CVE-2021-31920
    "///admin",
    "/%2fadmin",
    "/%2f%2fadmin",
    "//public/admin",
    "//evil.example/admin",  # new URL(request.url, base)
    "///evil.example/admin",
    "/%2fevil.example/admin",
    "//user@evil.example:80/admin",
    "/admin;x",  # Spring, Tomcat
    "/admin;x=1/users",
    "/admin;/x",
    "/;/admin",
    "/;a=b/admin",
    "/public;/admin",
    "/public/..;/admin",  # Tomcat behind nginx
    "/public/..;x=1/admin",
    "/public/.;/../admin",
    "/public/%2e%2e;/admin",
    "/public/..%3b/admin",
    "/public/..%253b/admin",
    "/public/;/../admin",
    "/admin%3bx/users",
    "/admin%253bx",
    "/admin%23",  # Istio CVE-2021-39156
    "/admin#",
    "/admin#/../public/",
    "/admin%3f",
    "/admin%3f.css",  # oauth2-proxy skip-auth rules: CVE-2025-54576
    "/admin?/public/",
    "/admin?x.css",
    "/admin%253f.css",
    "/admin%00",
    "/admin%00.css",
    "/admin%2500.css",
    "/public/%c0%ae%c0%ae/admin",  # Tomcat CVE-2008-2938, IIS MS00-078
    "/public/..%c0%afadmin",
    "/public/%e0%80%ae%e0%80%ae/admin",
    "/public/%u002e%u002e/admin",
    "/admin%0a",  # Spring CVE-2022-22978: `.` in a pattern is not a line feed
    "/admin%0d",
    "/admin%0a.css",
    "/admin/%0a",
    "/admin%09",
    "/admin%20",
    "/admin/.",
    "/admin/./",
    "/./admin",
    "/.//admin",
    "/x/../admin",
    "/x/..//admin",
    "/x//../admin",
    "/x/%2e%2e%2fadmin",
    "/x;/%2e%2e/admin",
    "/x%2f%2e%2e%2fadmin",
    "/x%252f%252e%252e%252fadmin",
    "/x/..%00/admin",
    "/x%3f/../admin",
    "/x%23/../admin",
    "/public%3f/../admin",
    "/public/%23/../../admin",
    "/admin%2f",
    "/admin%2fusers",
    "/admin%252fusers",
    "/%2e/admin",
    "/%2e%2fadmin",
    "/public%2f%2e%2e%2f%61dmin",
    "/%2f%2e%2e%2fadmin",
    "/public/%2525252e%2525252e/admin",
    "/public/x/..%2f..%2fadmin",
    "/public/\x7f../admin",
    "/public/%ff../admin",
    "/public/\udcff../admin",
    "http://evil.example/admin",  # absolute-form: Traefik, HAProxy
    "http:/admin",
    "admin",
    "*",
    "",
    "?/public/",
    "#",
    "/",
]


@pytest.mark.parametrize("target", KNOWN)
def test_a_known_trick_opens_no_door(target: str) -> None:
    """What has opened a door elsewhere opens none here, under any of the policies."""
    assert bypasses(target) == []


PIECES = [
    *("/", "//", "/./", "/../", ".", "..", "...", "..;", ";", ";x", ";x=1/", "\\", "?", "#"),
    *("%2e", "%2E", "%2e%2e", "%252e", "%25252e", "%2f", "%2F", "%252f", "%5c", "%255C"),
    *("%25", "%2525", "%32%65", "%00", "%2500", "%3b", "%253b", "%3f", "%253F", "%23", "%2523"),
    *("%c0%ae", "%c0%af", "%e0%80%ae", "%ff", "%c3%a9", "é", "\udcff", "%", "%2", "%u002e"),
    *("admin", "public", "%61dmin", "%2561dmin", "adm%69n", "%70ublic", "a", "x", ".css", "*"),
    *("%0a", "%0d", "\x00", "\x7f", " ", "%20", "+", "@", ":", "~", "evil.example", "=", "&"),
]
ANY = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
AIMED = st.builds(
    lambda start, middle, end: start + middle + end,
    st.sampled_from(["/public", "/public/", "/", "//", "/x", "/admin", "/%70ublic/"]),
    st.lists(st.sampled_from(PIECES), max_size=5).map("".join),
    st.sampled_from(["admin", "/admin", "/admin/x.css", "/%61dmin", ".css", "", "%2561dmin"]),
)


@settings(
    max_examples=1500,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(target=st.one_of(AIMED, ANY.map(lambda text: "/" + text)))
@example(target="/admin%3b%2f..")
@example(target="/x%253f%2f..%2fadmin")
@example(target="/%2f;%2fadmin")
@example(target="/%3b/%2fadmin")
def test_no_reading_of_an_allowed_target_is_protected(target: str) -> None:
    """Whatever an upstream makes of an allowed target, the policy allows that too."""
    assert bypasses(target) == []


SHORT = ["/", ".", "..", ";", "%2e", "%2f", "%25", "%3b", "%3f", "%5c", "%252f", "x", "%2561"]


@pytest.mark.parametrize("start", ["/public", "/", "/x/"])
def test_no_short_spelling_opens_a_door(start: str) -> None:
    """All of the spellings of up to three pieces between a beginning and `admin` are safe."""
    wrong = {
        target: found
        for length in range(4)
        for pieces in itertools.product(SHORT, repeat=length)
        if (found := bypasses(target := start + "".join(pieces) + "admin"))
    }
    assert wrong == {}


def test_the_model_of_upstreams_knows_the_tricks() -> None:
    """The tests above would notice: the model finds /admin behind each kind of trick."""
    for target in (
        "/public/..;/admin",
        "/public/%252e%252e%252fadmin",
        "/x\\..\\admin",
        "/admin%23/",
        "/%c0%ae%c0%ae/%61dmin",
        "//evil.example/admin",
        "/admin%00.css",
    ):
        assert any(map(below_admin, readings_of(target))), target
    for target in ("/public/x", "/administrators", "/x?y=/admin", "/x%2525/admin"):
        assert not any(map(below_admin, readings_of(target))), target


@settings(max_examples=300, deadline=None, database=None)
@given(text=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=12))
def test_an_honest_path_is_not_refused(text: str) -> None:
    """Letters, digits and signs of any language pass as browsers send them, but for our signs."""
    if set(text) & set("%#?\\/;."):
        return
    escaped = "".join(f"%{byte:02X}" for byte in text.encode())
    found = readings(f"/docs/{escaped}")
    assert found is not None
    assert f"/docs/{text}" in found


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/favicon.ico",
        "/.well-known/acme-challenge/x",
        "/a..b/...",
        "/app/~user/@me/a:b,c;v=1",
        "/a%20b",
        "/caf%C3%A9",
        "/a%2Fb",
        "/search?q=../../etc&x=%zz",
        "/docs//page",
        "/50%25",
    ],
)
def test_everyday_targets_have_readings(target: str) -> None:
    """What honest clients send is judged by the rules, not refused for its spelling."""
    if target == "/50%25":
        assert readings(target) is None  # "%" alone after one decode: a bad escape to the next
    else:
        assert readings(target) is not None


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/a%2fb", {"/a%2fb", "/a/b"}),
        ("/a//b", {"/a//b", "/a/b"}),
        ("/a;x/b", {"/a;x/b", "/a/b", "/a"}),
        ("/a%3fb", {"/a%3fb", "/a?b", "/a"}),
        ("/a%23b", {"/a%23b", "/a#b", "/a"}),
        ("/%2561", {"/%2561", "/%61", "/a"}),
        ("//h/a", {"//h/a", "/h/a", "/a"}),
    ],
)
def test_every_reading_is_judged(target: str, found: set[str]) -> None:
    """The readings are exactly those that the page on the wire names."""
    assert set(readings(target) or ()) == found


def test_the_first_reading_is_the_raw_path() -> None:
    """`gateway explain` and logs show first what the client sent."""
    assert (readings("/a;x%2fb?q") or ("",))[0] == "/a;x%2fb"


@pytest.mark.parametrize(
    "unit",
    [
        "/",
        "//",
        ";",
        "/;",
        "%2f",
        "%252f",
        "%25252f",
        "%3b",
        "%3f",
        "%23",
        "%2523",
        ";%2f",
        "a%2f;",
        ";%3b%253b%25253b",
        "/%2f%252f",
        "%253f%2523;",
        "/;%2f%3b%23%3f",
        "%",
        ".",
        "../",
        "%2e%2e/",
    ],
)
def test_nasty_paths_are_judged_in_few_steps(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four kilobytes of tricks cost a bounded number of readings, each looked at once."""
    looked_at: list[str] = []
    real = target_module._rewritings

    def counted(path: str) -> tuple[str | None, ...]:
        looked_at.append(path)
        return real(path)

    monkeypatch.setattr(target_module, "_rewritings", counted)
    path = "/" + unit * ((MAX_PATH - 1) // len(unit))
    found = readings(path)
    assert len(looked_at) <= MAX_READINGS
    assert found is None or len(found) <= MAX_READINGS + 1
    assert len(set(looked_at)) == len(looked_at)


def test_many_long_readings_are_refused() -> None:
    """What counts is how much there is to read: 58 readings of 4 kB took 65 ms."""
    assert readings("/;b%253b/a%3f//%23%3b/a" + "%2f%2520" * 508) is None
    found = readings("/a%2fb" * 200)
    assert found is not None
    assert sum(map(len, found)) <= 2 * target_module.MAX_CHARACTERS


def test_a_path_beyond_the_limit_is_refused() -> None:
    """The limit is for the path; a query may be as long as the listener lets it."""
    assert readings("/" + "a" * (MAX_PATH - 1)) is not None
    assert readings("/" + "a" * MAX_PATH) is None
    assert readings("/?" + "a" * 60_000) == ("/",)


def test_refusal_for_spelling_comes_before_the_rules() -> None:
    """A doubtful path is refused as such even where everything is public."""
    authorizer = make_authorizer([RuleSpec(OPEN)], FakeStore())
    for target in ("/a/../b", "/a\\b", "/%2e%2e/", "/%ff", "/a#b", "/%zz", "x", ""):
        assert at_once(authorizer.check(make_request(target))).reason is Reason.AMBIGUOUS_PATH


def test_three_layers_of_escapes_are_read_and_a_fourth_is_refused() -> None:
    """No honest client escapes so often; each layer more would cost readings."""
    assert set(readings("/%252561") or ()) == {"/%252561", "/%2561", "/%61", "/a"}
    assert readings("/%25252561") is None
