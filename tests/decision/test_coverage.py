"""Rules that can never decide are found, in the simple cases; nothing else is called so."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from gateway.coverage import never_reached
from gateway.rules import Access, RuleSpec

NET = (ipaddress.ip_network("10.0.0.0/8"),)


def rule(path: str = "", **facts: Any) -> RuleSpec:
    return RuleSpec(Access.SESSION, path=path, **facts)


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        (rule("/**"), rule("/admin/**"), True),
        (rule(), rule("/admin/**"), True),
        (rule("/a/**"), rule("/a"), True),
        (rule("/a/**"), rule("/a/b/*"), True),
        (rule("/a/**"), rule("/ab"), False),
        (rule("/a/*"), rule("/a/b"), False),  # not a simple case: said of none
        (rule("/a"), rule("/a"), True),
        (rule("/a"), rule("/A"), False),
        (rule("/a/**", ignore_case=True), rule("/A/b"), True),
        (rule("/a/**"), rule("/a/b", ignore_case=True), False),
        (rule("/a", methods=("GET",)), rule("/a"), False),
        (rule("/a", methods=("GET",)), rule("/a", methods=("HEAD",)), True),
        (rule(host="app.example.com"), rule(), False),
        (rule(host="*.example.com"), rule(host="app.example.com"), True),
        (rule(host="*.example.com"), rule(host="**.example.com"), False),
        (rule(host="**.example.com"), rule(host="*.example.com"), True),
        (rule(host="**.example.com"), rule(host="*.a.example.com"), True),
        (rule(host="*.example.com"), rule(host="*.a.example.com"), False),
        (rule("/a", query=("x",)), rule("/a"), False),
        (rule("/a"), rule("/a", query=("x",)), True),
        (rule("/a", networks=NET), rule("/a"), False),
        (rule("/a", countries=("DE", "FR")), rule("/a", countries=("DE",)), True),
        (rule("/a", countries=("DE",)), rule("/a", countries=("DE", "FR")), False),
        (rule("/a", asns=(3320,)), rule("/a"), False),
        (rule("/a"), rule("/a", asns=(3320,)), True),
        (rule("/a", preflight=True), rule("/a"), False),
        (rule("/a", shadow=True), rule("/a"), False),
        (rule("/a"), rule("/a", shadow=True), True),
    ],
)
def test_a_rule_behind_one_that_takes_all(
    earlier: RuleSpec, later: RuleSpec, covered: bool
) -> None:
    """The number of the covered rule, and of the first that covers it."""
    other = rule("/other")
    assert list(never_reached([other, earlier, later])) == ([(3, 2)] if covered else [])
