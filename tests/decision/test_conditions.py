"""Conditions on a request: three answers, and sure only of what every upstream reads alike."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.conditions import (
    MAX_PARAMETERS,
    MAX_QUERY,
    Asked,
    Conditions,
    Holds,
    IpNetwork,
    Query,
    parse_query_condition,
)

NO, MAYBE, YES = Holds.NO, Holds.MAYBE, Holds.YES


def holds(query: str | None, condition: str) -> Holds:
    parsed = parse_query_condition(condition)
    assert parsed is not None
    assert str(parsed) == condition
    return Query(query).holds(parsed)


@pytest.mark.parametrize(
    ("query", "there", "is_pdf"),
    [
        ("", NO, NO),
        ("format=pdf", YES, YES),
        ("a=1&format=pdf&b=%2F%3D%26x", YES, YES),
        ("format=html", YES, NO),
        ("reformat=pdf&xformat=1&formats=pdf", NO, NO),
        ("title=format", NO, NO),
        ("q=100%25&format=pdf", YES, YES),
        # Given twice: some take the first, some the last, some both.
        ("format=html&format=pdf", YES, MAYBE),
        ("format=pdf&format=pdf", YES, MAYBE),
        ("format=html&format=csv", YES, NO),
        ("format=pdf&format=", MAYBE, MAYBE),
        # Without a value: many take it for absent.
        ("format", MAYBE, NO),
        ("format=", MAYBE, NO),
        # Other spellings of the name or the value.
        ("f%6frmat=pdf", MAYBE, MAYBE),
        ("f%256frmat=pdf", MAYBE, MAYBE),
        ("Format=pdf", MAYBE, MAYBE),
        ("format[]=pdf", MAYBE, MAYBE),
        ("format%5B0%5D=pdf", MAYBE, MAYBE),
        ("format[x]=html", MAYBE, NO),
        ("+format=pdf", MAYBE, MAYBE),
        ("format%00x=pdf", MAYBE, MAYBE),
        ("%EF%BD%86ormat=pdf", MAYBE, MAYBE),
        ("format=%70df", YES, MAYBE),
        ("format=PDF", YES, MAYBE),
        ("format=pdf,html", MAYBE, MAYBE),
        ("format=pdf%00.html", MAYBE, MAYBE),
        ("form%C3%A1t=pdf", MAYBE, MAYBE),
        # Names that qs and Rack cut out of longer ones.
        ("[format]x=pdf", MAYBE, MAYBE),
        ("%5Bformat%5Dx=html", MAYBE, NO),
        ("[format][x]=html", MAYBE, NO),
        ("format]x=html", MAYBE, NO),
        ("format.x=html", MAYBE, NO),
        # Values that many trim to none, or that qs and Go do not see at all.
        ("format=+", MAYBE, NO),
        ("format=%20", MAYBE, NO),
        ("format=%E3%80%80", MAYBE, NO),
        ("format=,", MAYBE, NO),
        ("format=]=", MAYBE, NO),
        # Other separators, and parts that only some take for the query.
        ("a=1;format=pdf", MAYBE, MAYBE),
        ("a=1%26format=pdf", MAYBE, MAYBE),
        ("format=pdf;a=1", MAYBE, MAYBE),
        ("a?format=pdf", MAYBE, MAYBE),
        ("a=%3fformat=pdf", MAYBE, MAYBE),
        ("a=%23&format=pdf", MAYBE, MAYBE),
        # What no upstream reads alike.
        (None, MAYBE, MAYBE),
        ("a=%zz", MAYBE, MAYBE),
        ("a=%", MAYBE, MAYBE),
        ("a=%u0066", MAYBE, MAYBE),
        ("a=%25u0066", MAYBE, MAYBE),
        ("a=%ff", MAYBE, MAYBE),
        ("a=1#b", MAYBE, MAYBE),
        ("a=\x00", MAYBE, MAYBE),
        ("a=\udcff", MAYBE, MAYBE),
        ("a=%2525252541", MAYBE, MAYBE),
        ("a=" + "x" * MAX_QUERY, MAYBE, MAYBE),
        ("a&" * (MAX_PARAMETERS + 1), MAYBE, MAYBE),
        ("a=" + "," * (MAX_PARAMETERS + 1), MAYBE, MAYBE),
    ],
)
def test_a_query_is_believed_only_if_all_read_it_alike(
    query: str | None, there: Holds, is_pdf: Holds
) -> None:
    """A doubled, empty, escaped or oddly written parameter is one that may be there or not."""
    assert holds(query, "format") is there
    assert holds(query, "!format") is Holds(2 - there)
    assert holds(query, "format=pdf") is is_pdf


def test_java_takes_the_dotless_i_for_an_i() -> None:
    assert holds("adm%C4%B1n=1", "admin") is MAYBE


Upstream = Callable[[str], dict[str, list[str]]]


def _collect(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _php(query: str) -> dict[str, list[str]]:
    """Take the last; `.`, space and an open bracket are `_`; `a[b]` is in `a`."""
    found: dict[str, list[str]] = {}
    for piece in filter(None, query.split("&")):
        name, _, value = piece.partition("=")
        name = re.sub(r"\[.*\]$", "", unquote_plus(name).lstrip(" ")).partition("\0")[0]
        found[re.sub(r"[ .\[]", "_", name)] = [unquote_plus(value)]
    return found


def _asp(query: str) -> dict[str, list[str]]:
    """Names have no case; values are joined."""
    found = _collect([(name.lower(), value) for name, value in parse_qsl(query, True)])
    return {name: [",".join(values)] for name, values in found.items()}


UPSTREAMS: dict[str, Upstream] = {
    "drops empty ones": lambda query: _collect(parse_qsl(query)),
    "keeps empty ones": lambda query: _collect(parse_qsl(query, keep_blank_values=True)),
    "semicolons": lambda query: _collect(parse_qsl(query.replace(";", "&"))),
    "decodes twice": lambda query: _collect(parse_qsl(unquote(query))),
    "decodes nothing": lambda query: _collect(
        [(p.partition("=")[0], p.partition("=")[2]) for p in query.split("&") if p]
    ),
    "the first question mark": lambda query: _collect(parse_qsl(query.split("?")[0])),
    "the last question mark": lambda query: _collect(parse_qsl(query.split("?")[-1])),
    "php": _php,
    "asp": _asp,
}

_TEXTS = st.lists(
    st.sampled_from(["a", "a", "A", "b", "=", "=", "&", "&", ";", "?", "1", "2", "+", ".", "[", "]",
                     "%61", "%2561", "%26", "%3D", "%00", ",", ""]),
    max_size=10,
).map("".join)  # fmt: skip


@settings(max_examples=700, deadline=None, database=None)
@given(query=_TEXTS)
def test_what_is_sure_is_so_for_every_upstream(query: str) -> None:
    """No way to read a query contradicts a condition that is said to hold, or not to hold."""
    present, one = holds(query, "a"), holds(query, "a=1")
    for name, upstream in UPSTREAMS.items():
        values = upstream(query).get("a", [])
        assert present is not YES or values, name
        assert present is not NO or not values, name
        assert one is not YES or values == ["1"], name
        assert one is not NO or "1" not in values, name


@pytest.mark.parametrize(
    "text",
    ["", "!", "=", "a=", "=a", "!a=b", "a b", "a%20", "_", "a=b=c", "ä", "a[]", "*", "a\n"],
)
def test_what_is_no_condition_is_not_taken_for_one(text: str) -> None:
    """A name needs a letter or digit; nothing that clients escape may be in it."""
    assert parse_query_condition(text) is None


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("10.1.2.3", YES),
        ("11.0.0.1", NO),
        ("2001:db8::1", YES),
        ("2001:db9::1", NO),
        ("::ffff:10.1.2.3", YES),
        ("::ffff:11.1.2.3", NO),
        ("", MAYBE),
        ("unknown", MAYBE),
    ],
)
def test_an_unknown_address_may_be_anywhere(address: str, answer: Holds) -> None:
    """Where the proxy does not say who asks, a network neither opens nor closes alone."""
    networks: tuple[IpNetwork, ...] = (
        ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")
    )  # fmt: skip
    asked = Asked(Query(""), address, preflight=False)
    assert Conditions(networks=networks).hold(asked) is answer


def test_all_conditions_must_hold() -> None:
    """The least of the answers counts."""
    name = parse_query_condition("a")
    assert name is not None
    both = Conditions(query=(name,), preflight=True)
    answers = {
        (query, preflight): both.hold(Asked(Query(query), "", preflight=preflight))
        for query in ("a=1", "a", "b") for preflight in (True, False)
    }  # fmt: skip
    assert answers == {
        ("a=1", True): YES, ("a", True): MAYBE, ("b", True): NO,
        ("a=1", False): NO, ("a", False): NO, ("b", False): NO,
    }  # fmt: skip


def test_the_worst_query_takes_little_time() -> None:
    """The bounds on length and number keep one check within milliseconds."""
    worst = "&".join(f"{number}%252541[=?" for number in range(MAX_PARAMETERS // 2 - 1))
    assert len(worst) <= MAX_QUERY
    started = time.perf_counter()
    holds(worst, "a=1")
    assert time.perf_counter() - started < 0.05
