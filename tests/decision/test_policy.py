"""Rules: the first match decides, no match denies, a rule speaks of whole paths."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.decision import Reason
from gateway.policy import Policy, is_public
from gateway.rules import Access, Rule, RuleSpec, problems_of
from gateway.target import MAX_PATH, METHODS, normal_host

HOST = "app.example.com"


def matching(spec: RuleSpec, path: str = "/", *, method: str = "GET", host: str = HOST) -> bool:
    return first(Policy([spec]), path, method=method, host=host) is not None


def first(policy: Policy, path: str = "/", *, method: str = "GET", host: str = HOST) -> Rule | None:
    """Return the rule that decides about one reading of a path."""
    (rule,) = policy.place(method, host, (path,)).matched(None)
    return rule


def decide(policy: Policy, *paths: str) -> tuple[Rule, ...] | Reason:
    return policy.place("GET", HOST, paths).decide()


def for_path(path: str) -> RuleSpec:
    return RuleSpec(Access.SESSION, path=path)


def test_the_first_match_decides() -> None:
    """A later rule, however exact, is not asked."""
    policy = Policy([for_path("/a/**"), RuleSpec(Access.DENY, path="/a/b"), for_path("/**")])
    numbers = {path: first(policy, path) for path in ("/a/b", "/b")}
    assert {path: rule.number if rule else 0 for path, rule in numbers.items()} == {
        "/a/b": 1,
        "/b": 3,
    }


def test_no_match_denies() -> None:
    """What no rule speaks of is refused, and so is everything when there are no rules."""
    policy = Policy([for_path("/a")])
    assert first(policy, "/b") is None
    assert decide(policy, "/b") is Reason.NO_RULE
    assert decide(Policy([]), "/") is Reason.NO_RULE
    assert decide(policy) is Reason.NO_RULE


def test_every_reading_needs_a_rule() -> None:
    """One reading without a rule, or under a rule that denies, refuses the request."""
    policy = Policy(
        [for_path("/a"), RuleSpec(Access.DENY, path="/d"), RuleSpec(Access.PUBLIC, path="/p")]
    )
    assert decide(policy, "/a", "/x") is Reason.NO_RULE
    assert decide(policy, "/a", "/d") is Reason.DENIED_BY_RULE
    mixed = decide(policy, "/p", "/a")
    assert not isinstance(mixed, Reason)
    assert [rule.number for rule in mixed] == [3, 1]
    assert not is_public(mixed)
    assert is_public(mixed[:1])


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("/", ["/"], ["", "//", "/a"]),
        ("/public", ["/public"], ["/publicx", "/public/", "/public/x", "/PUBLIC", "/xpublic"]),
        (
            "/admin/**",
            ["/admin", "/admin/", "/admin/x", "/admin//x/y/"],
            ["/adminx", "/", "//admin"],
        ),
        ("/**", ["/", "/a", "/a/b/", "//"], []),
        ("/a/*", ["/a/b", "/a/b.c-d~e"], ["/a", "/a/", "/a/b/", "/a/b/c"]),
        ("/a/*/c", ["/a/b/c"], ["/a//c", "/a/c", "/a/b/b/c"]),
        ("/a/*.css", ["/a/x.css", "/a/..css"], ["/a/.css", "/a/x/y.css", "/a/xcss", "/a/x.cssx"]),
        ("/a/x*y*", ["/a/x1y2", "/a/xyyy"], ["/a/xy", "/a/x1y", "/a/x/y/z"]),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/a", "/az", "/a/bz", "/a/z/b"]),
        ("/**/*.png", ["/x.png", "/a/b/x.png"], ["/a/.png/b", "/.png", "/a/x.pngx"]),
        ("/v1.0/(x)", ["/v1.0/(x)"], ["/v1x0/(x)", "/v1.0/x"]),
        ("/a+b", ["/a+b", "/a%2Bb", "/a%2bb"], ["/aab", "/a b"]),
        ("/café", ["/café", "/caf%C3%A9", "/caf%c3%a9"], ["/cafe", "/caf"]),
    ],
)
def test_a_rule_covers_whole_paths(pattern: str, covered: list[str], others: list[str]) -> None:
    """`*` is one or more characters of a segment, `**` any number of segments."""
    assert problems_of(for_path(pattern)) == []
    assert [path for path in covered if not matching(for_path(pattern), path)] == []
    assert [path for path in others if matching(for_path(pattern), path)] == []


def test_no_line_feed_slips_past_a_pattern() -> None:
    """Patterns match to the very end, and `**` is not stopped by a line feed."""
    assert not matching(for_path("/a"), "/a\n")
    assert matching(RuleSpec(Access.DENY, path="/admin/**"), "/admin/x\ny")


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("", [HOST, "x", "[::1]"], []),
        (
            "app.example.com",
            [HOST],
            ["www.example.com", "xapp.example.com", "app.example.com.evil"],
        ),
        ("APP.Example.com", [HOST], ["example.com"]),
        (
            "*.example.com",
            [HOST, "x.example.com"],
            ["a.b.example.com", "example.com", "xexample.com", "app.example.org"],
        ),
        (
            "**.Example.com",
            [HOST, "a.b.example.com"],
            ["example.com", "xexample.com", "app.example.org", "x.aexample.com"],
        ),
    ],
)
def test_a_rule_names_a_host_or_all_below_one(
    pattern: str, covered: list[str], others: list[str]
) -> None:
    """A wildcard covers what lies below the name, never the name itself or one that ends alike."""
    spec = RuleSpec(Access.SESSION, host=pattern)
    assert problems_of(spec) == []
    policy = Policy([spec])
    assert [host for host in covered if first(policy, host=host) is None] == []
    assert [host for host in others if first(policy, host=host) is not None] == []


def test_a_flood_of_hosts_changes_no_answer() -> None:
    """The remembered hosts are bounded, and forgetting them is not felt."""
    policy = Policy([RuleSpec(Access.SESSION, host="*.example.com")])
    for number in range(3000):
        assert first(policy, host=f"h{number}.example.com") is not None
        assert first(policy, host=f"h{number}.example.org") is None
    assert len(policy._tables) <= policy._MAX_TABLES


@pytest.mark.parametrize(
    ("methods", "covered"),
    [
        ((), METHODS),
        (("GET",), {"GET", "HEAD"}),
        (("HEAD",), {"HEAD"}),
        (("POST",), {"POST"}),
        (("GET", "POST"), {"GET", "HEAD", "POST"}),
    ],
)
def test_head_is_covered_where_get_is(methods: tuple[str, ...], covered: frozenset[str]) -> None:
    """Upstreams answer HEAD with the code of GET; no other method is implied."""
    spec = RuleSpec(Access.SESSION, methods=methods)
    assert {method for method in METHODS if matching(spec, method=method)} == covered
    assert not matching(spec, method="get")
    assert not matching(spec, method="CONNECT")


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (RuleSpec(Access.SESSION, "app.example.com", "/a/**", ("GET",), ("r",)), []),
        (RuleSpec(Access.SESSION, "**.example.com"), []),
        (RuleSpec(Access.PUBLIC, host="***.example.com"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="**"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="http://x"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="x:80"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="x."), ["host"]),
        (RuleSpec(Access.PUBLIC, host="*"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="a.*.b"), ["host"]),
        (RuleSpec(Access.PUBLIC, host="*."), ["host"]),
        (RuleSpec(Access.PUBLIC, path="a"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a%20b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a;b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a?b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a#b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a\\b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a//b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a/../b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a/."), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a\n"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a/***"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/**/a/**/b"), ["path"]),
        (RuleSpec(Access.PUBLIC, path="/a*b*c*"), ["path"]),
        (RuleSpec(Access.PUBLIC, methods=("get", "FETCH")), ["methods", "methods"]),
        (RuleSpec(Access.PUBLIC, methods=("CONNECT",)), ["methods"]),
        (RuleSpec(Access.PUBLIC, roles=("r",)), ["roles"]),
        (RuleSpec(Access.DENY, roles=("r",)), ["roles"]),
        (RuleSpec(Access.DENY, "x y", "a;b", ("get",), ("r",)),
         ["host", "path", "path", "methods", "roles"]),
    ],
)  # fmt: skip
def test_a_rule_that_could_never_work_is_reported(spec: RuleSpec, fields: list[str]) -> None:
    """Every problem at once, each at its field: a rule that misses its aim leaves a door open."""
    assert [field for field, _ in problems_of(spec)] == fields


@pytest.mark.parametrize("pattern", ["/a/**/x*y*z", "/*a*b", "/**/*a*b/**", "/a*b*c/x*y*z"])
def test_a_pattern_takes_little_time_for_the_longest_path(pattern: str) -> None:
    """No path makes a legal pattern try all pairs of places for its two stars."""
    assert problems_of(for_path(pattern)) == []
    rule = Policy([for_path(pattern)]).rules[0]
    assert is_atomic(rule)
    for unit in ("a", "ab", "x", "xy", "a/", "xyz/", "/a", "aab"):
        path = ("/a/" + unit * MAX_PATH)[: MAX_PATH - 1] + "!"
        assert not rule.covers_path(path)


def is_atomic(rule: Rule) -> bool:
    """Tell whether no segment of the pattern has two stars that can both give back."""
    flexible = re.sub(r"\(\?>.*?\)", "", rule.pattern).replace("[^/]+", "*")
    return all(segment.count("*") <= 1 for segment in flexible.split("/"))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("app.example.com", "app.example.com"),
        ("APP.Example.COM", "app.example.com"),
        ("app.example.com:8443", "app.example.com"),
        ("app.example.com.", "app.example.com"),
        ("app.example.com.:443", "app.example.com"),
        ("localhost", "localhost"),
        ("a_b.example.com", "a_b.example.com"),
        ("xn--caf-dma.example", "xn--caf-dma.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:443", "[2001:db8::1]"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
    ],
)
def test_a_host_is_lower_case_without_port_and_last_dot(text: str, host: str) -> None:
    """One spelling for the rules, whatever the client wrote."""
    assert normal_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "a..b",
            ".a",
            "a.b..",
            ":80",
            "a:",
            "a:b",
            "a:123456",
            "a:80:80",
            "a.:.",
            "a:80.",
        ),
        *("a,b", "app.example.com,evil", "a b", " a", "a ", "a\t", "a\n", "a\x00", "a/b", "a\\b"),
        *("u@a", "a?b", "a#b", "a%2eb", "-a", "a-", "a.-b", "*.a", "a;b", "a'b", "{a}", "http://a"),
        *(
            "[::1",
            "::1",
            "[::1]x",
            "[v1.a]",
            "[::1%25eth0]",
            "[]",
            "[g::]",
            "é.example",
            "\u212a.example",
        ),
        *("a" * 64, "a." * 127 + "b", "\udcff", "\uff41.example", "\uff11.0.0.1", "a\u3002b"),
    ],
)
def test_a_host_outside_the_grammar_is_refused(text: str) -> None:
    """No comma (two headers joined), no user info, no escape, no empty label, only ASCII."""
    assert normal_host(text) is None


@settings(max_examples=500, deadline=None, database=None)
@given(
    pattern=st.text("ab*/", max_size=8).map(lambda text: "/" + text),
    path=st.text("aab/", max_size=9).map(lambda text: "/" + text),
)
def test_stars_mean_what_a_plain_pattern_says(pattern: str, path: str) -> None:
    """The shortcut for two stars in one segment changes no answer."""
    assume("**" not in pattern and not problems_of(for_path(pattern)))
    plain = "".join("[^/]+" if sign == "*" else sign for sign in pattern)
    assert matching(for_path(pattern), path) is bool(re.fullmatch(plain, path))
