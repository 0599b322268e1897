"""`explain` and `policy test`: the rules in words, and against a table of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.target import ANY_METHOD, METHODS
from tests.alerts.databases import AWAY, CITIES, HOME, NETWORKS, write

from .test_commands import file, run
from .test_loading import GOOD

__all__ = ["file"]  # a fixture

RULES = """
[session]
idle = "1h"
absolute = "1d"
[[policy.rules]]
path = "/api/**"
access = "public"
preflight = true
[[policy.rules]]
path = "/admin/**"
query = ["export"]
access = "session"
roles_all = ["admin", "auditor"]
aal = 2
[[policy.rules]]
path = "/admin/**"
networks = ["10.0.0.0/8"]
access = "session"
roles = ["admin"]
max_age = "10m"
[[policy.rules]]
path = "/Docs/**"
ignore_case = true
users = ["alice", "bob"]
idle = "10m"
access = "session"
[[policy.rules]]
path = "/till/**"
without_alerts = ["*"]
access = "session"
[[policy.rules]]
path = "/next/**"
access = "deny"
shadow = true
[[policy.rules]]
host = "*.example.com"
path = "/next/**"
access = "public"
"""
PLACES = """
[[policy.rules]]
country = ["GB"]
access = "deny"
[[policy.rules]]
asn = [209, 3320]
access = "public"
[[policy.rules]]
access = "session"
"""
ADMIN = "https://app.example.com/admin/users"


@pytest.fixture
def config(file: Path) -> Path:
    file.write_text(GOOD.partition("[[policy")[0] + RULES)
    return file


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["OPTIONS", "https://a/api/x", "--preflight", "--anonymous"], "allowed: public"),
        (["OPTIONS", "https://a/api/x", "--anonymous"], "denied: no_rule"),
        # Unknown, the address may be in the network or not: the rule decides, and so does the next.
        (["GET", ADMIN, "--role", "admin"], "denied: no_rule"),
        (["GET", ADMIN, "--role", "admin", "--ip", "10.1.1.1"], "allowed: with a live session"),
        (["GET", ADMIN, "--role", "admin", "--ip", "10.1.1.1", "--age", "10m"],
         "denied: step_up_required (max_age=600)"),
        (["GET", ADMIN, "--role", "admin", "--ip", "11.1.1.1"], "denied: no_rule"),
        (["GET", f"{ADMIN}?export=1", "--ip", "10.1.1.1", "--role", "admin"],
         "denied: role_required"),
        (["GET", f"{ADMIN}?export=1", "--role", "admin", "--role", "auditor"],
         "denied: step_up_required (aal=2)"),
        (["GET", f"{ADMIN}?export=1", "--role", "admin", "--role", "auditor", "--aal", "2"],
         "allowed: with a live session"),
        (["GET", "https://a/DOCS/x", "--user", "alice"], "allowed: with a live session"),
        (["GET", "https://a/docs", "--user", "eve"], "denied: user_not_allowed"),
        (["GET", "https://a/docs", "--user", "bob", "--rested", "10m"], "denied: idle"),
        (["GET", "https://a/docs", "--user", "bob", "--age", "1d"], "denied: expired"),
        (["GET", "https://a/till/", "--alert", "new_device"], "denied: step_up_required (aal=1)"),
        (["GET", "https://a/till/"], "allowed: with a live session"),
        (["GET", "https://x.example.com/next/", "--anonymous"], "allowed: public"),
    ],
)  # fmt: skip
def test_explain_knows_what_rules_ask(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], last: str
) -> None:
    """The last line is what a check with such a session comes to."""
    code, out, _ = run(capsys, "explain", "--config", str(config), *arguments)
    assert code == 0
    assert out.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["--ip", HOME], "denied: denied_by_rule"),
        (["--ip", AWAY], "allowed: public"),
        (["--ip", "192.168.0.1"], "denied: denied_by_rule"),
        ([], "denied: denied_by_rule"),
        (["--country", "US"], "denied: no_session"),
        (["--ip", HOME, "--country", "US"], "denied: no_session"),
        (["--country", "US", "--asn", "209"], "allowed: public"),
        (["--country", "GB", "--asn", "209"], "denied: denied_by_rule"),
    ],
)
def test_explain_looks_addresses_up(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], last: str
) -> None:
    """As the service would; what is unknown opens nothing, and does not pass what closes."""
    cities = write(file.with_name("city.mmdb"), CITIES)
    networks = write(file.with_name("asn.mmdb"), NETWORKS)
    geo = f'[geo]\ncity = "{cities}"\nasn = "{networks}"\n'
    file.write_text(GOOD.partition("[[policy")[0] + geo + PLACES)
    url = ["GET", "https://app.example.com/", "--anonymous"]
    code, out, _ = run(capsys, "explain", "--config", str(file), *url, *arguments)
    assert (code, out.splitlines()[-1]) == (0, last)


def test_explain_says_rule_by_rule_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each condition that fails is named, and so is what the deciding rule wants of a session."""
    url = f"{ADMIN}?export=1&export=2"
    _, out, _ = run(capsys, "explain", "--config", str(config), "GET", url, "--ip", "192.0.2.7")
    assert out.splitlines()[:6] == [
        "path /admin/users",
        "  rule 1 (* /api/** preflight -> public): other method, other path, preflight: no",
        "  rule 2 (* /admin/** ?export -> session): decides",
        "    needs a session, all of the roles admin auditor, aal 2",
        "denied: role_required",
    ]
    _, out, _ = run(capsys, "explain", "--config", str(config), "GET", f"{ADMIN}?export")
    assert (
        "  rule 2 (* /admin/** ?export -> session): "
        "decides with the next (query export: yes and no)" in out.splitlines()
    )
    assert (
        "  rule 3 (* /admin/** from 10.0.0.0/8 -> session, roles admin): "
        "decides with the next (network: yes and no)" in out.splitlines()
    )
    url = "https://x.example.com/next/"
    _, out, _ = run(capsys, "explain", "--config", str(config), "GET", url)
    assert "  rule 6 (* /next/** -> deny): shadow, not applied: decides" in out.splitlines()


def test_explain_takes_a_method_that_is_not_told(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As behind oauth2-proxy's nginx: method by method, and what comes of all."""
    url = "https://x.example.com/next/"
    code, out, _ = run(capsys, "explain", "--config", str(config), ANY_METHOD, url)
    lines = out.splitlines()
    assert code == 0
    assert [line for line in lines if line.startswith("method ")] == [
        f"method {each}" for each in sorted(METHODS)
    ]
    assert lines[-1] == "allowed: public"


@pytest.mark.parametrize(
    ("url", "needs"),
    [
        (ADMIN, "a session, one of the roles admin, a sign-in within 10m"),
        ("https://a/docs", "a session, one of the users alice bob, activity within 10m"),
    ],
)
def test_explain_says_what_a_session_needs(
    config: Path, capsys: pytest.CaptureFixture[str], url: str, needs: str
) -> None:
    """All demands of the deciding rule, also those that this session meets."""
    _, out, _ = run(capsys, "explain", "--config", str(config), "GET", url, "--ip", "10.0.0.1")
    assert f"    needs {needs}" in out.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [["--ip", "here"], ["--age", "old"], ["--rested", "1"], ["--aal", "4"], ["--aal", "x"],
     ["--user", "a\nb"], ["--user", ""], ["--role", "a,b"]],
)
def test_a_wrong_option_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """It says which, with exit code 2."""
    code, _, err = run(capsys, "explain", "--config", str(config), "GET", ADMIN, *arguments)
    assert code == 2
    assert arguments[0].strip("-") in err


TABLE = """
[[tests]]
name = "admins may, from the office"
url = "https://app.example.com/admin/users"
ip = "10.1.1.1"
session = { roles = ["admin"] }
expect = "allow"

[[tests]]
url = "https://app.example.com/admin/users"
ip = "10.1.1.1"
expect = "no_session"

[[tests]]
method = "OPTIONS"
url = "https://a/api/x"
preflight = true
expect = "allow"

[[tests]]
url = "https://a/nowhere"
session = { user = "alice", aal = 3, age = "1m", rested = "1m" }
expect = "deny"
"""


def test_a_table_that_is_met(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TOML or JSON: nothing but the count, and exit code 0."""
    toml = tmp_path / "expected.toml"
    toml.write_text(TABLE)
    result = run(capsys, "policy", "test", "--config", str(config), str(toml))
    assert result == (0, "4 expected, 0 not met\n", "")
    as_json = tmp_path / "expected.json"
    each = {"url": "https://a/nowhere", "expect": "no_rule", "session": {"roles": ["x"]}}
    as_json.write_text(json.dumps({"tests": [each]}))
    result = run(capsys, "policy", "test", "--config", str(config), str(as_json))
    assert result == (0, "1 expected, 0 not met\n", "")


def test_every_difference_is_printed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its place, its name and what came instead; exit code 1."""
    table = tmp_path / "expected.toml"
    table.write_text(TABLE.replace('"allow"', '"role_required"').replace('"deny"', '"allow"'))
    code, out, err = run(capsys, "policy", "test", "--config", str(config), str(table))
    assert (code, err) == (1, "")
    name = "tests[1] admins may, from the office"
    assert out.splitlines() == [
        f"{name}: GET {ADMIN}: expected role_required, allowed: with a live session",
        "tests[3]: OPTIONS https://a/api/x: expected role_required, allowed: public",
        "tests[4]: GET https://a/nowhere: expected allow, denied: no_rule",
        "4 expected, 3 not met",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "tests: is missing"),
        ("tests = []", "tests: "),
        ('[[tests]]\nurl = "https://a/"', "tests[1].expect: is missing"),
        ('[[tests]]\nurl = "/a"\nexpect = "allow"', "tests[1].url: write the whole address"),
        ('[[tests]]\nurl = "https://a/"\nexpect = "maybe"', "tests[1].expect: "),
        ('[[tests]]\nurl = "https://a/"\nexpect = "deny"\nrole = "x"', "tests[1].role: no such"),
        ('[[tests]]\nurl = "https://a/"\nexpect = "deny"\nip = "x"', "tests[1].ip: is no address"),
        ('[[tests]]\nurl = "https://a/"\nexpect = "deny"\nsession = { roles = ["a,b"] }',
         "tests[1].session.roles.0: "),
        ("[[tests", "is not valid TOML"),
    ],
)
def test_a_table_that_says_nothing_is_an_error(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    """A misspelt or empty table must not look like one that is met: exit code 2."""
    table = tmp_path / "expected.toml"
    table.write_text(text)
    code, out, err = run(capsys, "policy", "test", "--config", str(config), str(table))
    assert (code, out) == (2, "")
    assert words in err


def test_a_table_of_no_json_or_not_there(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear line."""
    table = tmp_path / "expected.json"
    for content in (None, "{"):
        if content is not None:
            table.write_text(content)
        code, _, err = run(capsys, "policy", "test", "--config", str(config), str(table))
        assert (code, len(err.splitlines())) == (2, 1)
