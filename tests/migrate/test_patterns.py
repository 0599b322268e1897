"""A pattern never matches a path or host that the expression does not; `outer` misses none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.migrate.patterns import Matches, hosts_of, paths_of
from gateway.policy import Policy
from gateway.rules import Access, RuleSpec, problems_of

ATOMS = st.sampled_from(
    ["/", "/", "a", "b", "x", "ab", r"\.", ".", r"\*", r"\?", ".*", ".+", ".*?", "[^/]+", "[^/]*",
     "[^/]", r"\d+", r"\w*", "[ab]", "[/?]", "[^a]", "[a-c]", "-", "a?", "b+", "x*", "a{2}", "%",
     " ",      "(?:a)", "//", r"\/", "_"]
)  # fmt: skip
GROUPS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({'|'.join(each)})"),
        inner.map(lambda each: f"({each}|$)"),
        inner.map(lambda each: f"({each})?"),
        inner.map(lambda each: f"(?P<User>{each})"),
    ),
    max_leaves=6,
)
EXPRESSIONS = st.builds(
    lambda start, body, end: start + body + end,
    st.sampled_from(["^/", "^/", "^", "", "/"]),
    GROUPS,
    st.sampled_from(["$", "", "/", "([/?].*)?$", ".*$", "(/|$)", "$|^/b"]),
)
PATHS = st.lists(st.sampled_from([*"/abx.*-_1", "ab", "//"]), max_size=6).map(
    lambda parts: "/" + "".join(parts)
)
QUERIES = st.sampled_from(["", "x", "a=b", "/", "/a/b", "b", ".ab", "x/a"])


def covers(patterns: tuple[str, ...], path: str) -> bool:
    """Tell whether a rule with one of these paths would be about this path."""
    assert all(not problems_of(RuleSpec(Access.DENY, path=each)) for each in patterns)
    policy = Policy(RuleSpec(Access.DENY, path=each) for each in patterns)
    return policy.place("GET", "example.com", (path,)).matched(None) != (None,)


def compiled(expression: str) -> re.Pattern[str] | None:
    try:
        return re.compile(expression.replace("$", r"\Z"))
    except re.error:
        return None


@settings(max_examples=400)
@given(expression=EXPRESSIONS, path=PATHS)
def test_patterns_of_paths_are_sound(expression: str, path: str) -> None:
    """Without a query: inside what it matches, and all of it."""
    found, regex = paths_of(expression, with_query=False), compiled(expression)
    if regex is None:
        return
    matches = bool(regex.search(path))
    assert matches or not covers(found.inner, path)
    assert covers(found.outer, path) or not matches
    assert not found.exact or covers(found.inner, path) is matches


@settings(max_examples=400)
@given(expression=EXPRESSIONS, path=PATHS, query=QUERIES)
def test_patterns_of_paths_hold_with_every_query(expression: str, path: str, query: str) -> None:
    """What stands behind `?` makes no difference to what was taken over."""
    found, regex = paths_of(expression, with_query=True), compiled(expression)
    if regex is None:
        return
    matches = bool(regex.search(f"{path}?{query}" if query else path))
    assert matches or not covers(found.inner, path)
    assert covers(found.outer, path) or not matches
    assert not found.exact or covers(found.inner, path) is matches


@pytest.mark.parametrize(
    ("expression", "inner"),
    [
        ("^/api$", ("/api",)),
        ("^/api/", ("/api/**/**",)),
        ("^/api(/|$)", ("/api/**",)),
        ("^/api", ("/api**",)),
        (r"^/(a|b)\.txt$", ("/a.txt", "/b.txt")),
        (r"\.css$", ("/**/*.css", "/**/.css")),
        ("/health$", ("/**/health",)),
        ("^/u/[^/]+/pic$", ("/u/*/pic",)),
        ("^/u/.+", ("/u/*/**",)),
        ("", ("/**",)),
        ("^/", ("/**",)),
        ("^/favicon.ico$", ("/favicon.ico",)),
    ],
)
def test_what_people_write_is_understood(expression: str, inner: tuple[str, ...]) -> None:
    assert paths_of(expression, with_query=False).inner == inner


@pytest.mark.parametrize(
    "expression",
    ["/health", "api", r"^/v\d+/x$", "(?i)^/a", "^/a(?=b)", r"^/\Qa\E", "^(", "^/a)", "^/[",
     r"^/a\*",
     "^/a/.*/b$", "^$", "^a", "^/(?P<User>a)$", "^/a//b", "^/a%20b$", "^/a b$", "^/a/../b$",
     "^/a;b", "^/" + "(a|b)" * 8, "^/a$b", "a^/b", r"^/\p{L}"],
)  # fmt: skip
def test_what_cannot_be_said_is_not_made_up(expression: str) -> None:
    assert paths_of(expression, with_query=False).inner == ()


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("^/api([/?].*)?$", Matches(("/api/**",), ("/api/**",), exact=True)),
        ("^/api$", Matches((), ("/api",), exact=False)),
        (r"^/api\?", Matches((), ("/api",), exact=False)),
        ("^/api/", Matches(("/api/**/**",), ("/api/**/**",), exact=True)),
        (r"\.css$", Matches((), ("",), exact=False)),
    ],
)
def test_a_query_can_make_a_difference(expression: str, found: Matches) -> None:
    assert paths_of(expression, with_query=True) == found


HOSTS = st.lists(
    st.sampled_from(["app", "a", "user-ada", "example", "com", "x"]), min_size=1, max_size=4
).map(".".join)
HOST_EXPRESSIONS = st.builds(
    lambda start, body, end: start + body + end,
    st.sampled_from(["^", ""]),
    st.lists(
        st.sampled_from(["app", "a", r"\.", ".", "(a|app)", r"\w+", "[^.]+", "(?P<User>\\w+)",
                         "App",
                         r"example\.com", "user-", ".*", r"(\d+-)?", "example.com"]),
        max_size=4,
    ).map("".join),
    st.sampled_from(["$", "", r"\.com$", r"\.example\.com$"]),
)  # fmt: skip


@settings(max_examples=500)
@given(expression=HOST_EXPRESSIONS, host=HOSTS)
def test_patterns_of_hosts_are_sound(expression: str, host: str) -> None:
    found, regex = hosts_of(expression), compiled(expression)
    if regex is None:
        return

    def covered(patterns: tuple[str, ...]) -> bool:
        policy = Policy(RuleSpec(Access.DENY, host=each) for each in patterns)
        return policy.place("GET", host, ("/",)).matched(None) != (None,)

    matches = bool(regex.search(host))
    assert matches or not covered(found.inner)
    assert covered(found.outer) or not matches
