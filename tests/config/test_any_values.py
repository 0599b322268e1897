"""Whatever stands where a setting should be: a list of problems, never a fault of ours."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.cli import main
from gateway.config import load
from tests import servers

SAMPLE = tomllib.loads((servers.ROOT / "config" / "gateway.toml").read_text())
EXPECTED = {
    "tests": [
        {"url": "https://app.example.com/x", "expect": "allow", "name": "n", "method": "GET",
         "ip": "10.1.1.1", "preflight": False,
         "session": {"user": "u", "roles": ["r"], "aal": 1, "age": "1m", "rested": "1m"}},
    ]
}  # fmt: skip
OAUTH2_PROXY = tomllib.loads(
    (servers.ROOT / "tests" / "migrate" / "samples" / "oauth2-proxy.cfg").read_text()
)

# Good somewhere, and good nowhere.
WORDS = [
    "", "1h", "0s", "9" * 5000 + "d", "127.0.0.1:1", "[::1]:99999", "unix:/x", "10.0.0.0/8",
    "::ffff:10.0.0.0/104", "0.0.0.0/0", "public", "session", "deny", "GET", "/**", "a", "/a/../b",
    "*.example.com", "a b", "!a=b", "oauth2-proxy", "redis://[", "unix://", "redis://h:x/0",
    "https://[{url}", "__Host-a", "a" * 64, "user", "metadata.", "none", "true", "\x00", "é", "²",
]  # fmt: skip
NAMES = st.sampled_from(WORDS)
SCALARS = st.one_of(
    NAMES, st.text(max_size=8), st.booleans(), st.integers(), st.just(10**4000),
    st.floats(), st.dates(), st.times(), st.datetimes(),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
Place = tuple[int | str, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Return every place in a table, those of tables and lists too."""
    if place:
        yield place
    if isinstance(value, dict | list):
        inside = value if isinstance(value, dict) else dict(enumerate(value))
        for name, below in inside.items():
            yield from places(below, (*place, name))


def changed(value: Any, changes: Mapping[Place, Any], place: Place = ()) -> Any:
    """Return a copy with other values in some places."""
    if place in changes:
        return changes[place]
    if isinstance(value, dict):
        return {name: changed(below, changes, (*place, name)) for name, below in value.items()}
    if isinstance(value, list):
        return [changed(below, changes, (*place, at)) for at, below in enumerate(value)]
    return value


def altered(base: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return files as good as `base`, but for up to five places, and perhaps an unknown one."""
    changes = st.dictionaries(st.sampled_from(list(places(base))), VALUES, max_size=5)
    return st.builds(
        lambda changes, more: {**changed(base, changes), **more},
        changes,
        st.dictionaries(st.sampled_from([*WORDS, *base, "_secrets_dir"]), VALUES, max_size=1),
    )


def toml(value: Any) -> str:
    """Write a value as TOML does, tables in one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int():
            return str(value)
        case float():
            return "nan" if math.isnan(value) else str(value)
        case date() | time() | datetime():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return f"{{{', '.join(f'{toml(name)} = {toml(below)}' for name, below in value.items())}}}"


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, Any], str], str]:
    """Write tables into a file; return its path."""
    folder = tmp_path_factory.mktemp("values")

    def written(tables: Mapping[str, Any], name: str = "gateway.toml") -> str:
        path = folder / name
        path.write_text("".join(f"{toml(key)} = {toml(value)}\n" for key, value in tables.items()))
        return str(path)

    return written


def typed(*words: str) -> tuple[int, list[str]]:
    """Run a command as an operator does; return its exit code and its lines of complaint."""
    said, complaint, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["gateway", *words]
    try:
        with redirect_stdout(said), redirect_stderr(complaint):
            main()
    except SystemExit as ended:
        return int(ended.code or 0), complaint.getvalue().splitlines()
    finally:
        sys.argv = before
    return 0, complaint.getvalue().splitlines()


Write = Callable[..., str]


def test_the_sample_stands_for_every_setting(write: Write) -> None:
    """What these tests change is good as it is."""
    assert typed("check-config", "--config", write(SAMPLE)) == (0, [])
    assert typed("policy", "test", "--config", write(SAMPLE), write(EXPECTED, "t.toml")) == (0, [])


RULE_WITHOUT_SENSE = {"access": "public", "aal": 2, "query": ["a b"]}


@settings(max_examples=60)
@given(tables=altered(SAMPLE))
@example(
    tables={"check": {"listen": ["nowhere"], "profiles": ["x"]},
            "policy": {"rules": [{"path": "a", "access": "maybe"}, RULE_WITHOUT_SENSE]}}
)  # fmt: skip
def test_a_configuration_is_good_or_a_list_of_problems(
    write: Write, tables: dict[str, Any]
) -> None:
    """Never anything else, and for every command the same."""
    path = write(tables)
    code, complaint = typed("check-config", "--config", path)
    assert code in (0, 1)
    if code:
        assert re.fullmatch(r"gateway: [1-9]\d* problems?", complaint[-1])
        assert typed("serve", "--config", path) == (2, complaint)
    expected = (code, complaint if code else [])
    assert typed("explain", "--config", path, "GET", "https://app.example.com/admin") == expected


@settings(max_examples=30)
@given(tables=altered(EXPECTED))
def test_a_table_of_expectations_is_good_or_a_list_of_problems(
    write: Write, tables: dict[str, Any]
) -> None:
    code, complaint = typed(
        "policy", "test", "--config", write(SAMPLE), write(tables, "expected.toml")
    )
    assert (code in (0, 1) and not complaint) or (code == 2 and complaint)


@settings(max_examples=40)
@given(tables=altered(OAUTH2_PROXY))
@example(tables={"redis_connection_url": "redis://["})
def test_any_file_of_oauth2_proxy_is_translated(write: Write, tables: dict[str, Any]) -> None:
    code, complaint = typed("migrate", "oauth2-proxy", write(tables, "oauth2-proxy.cfg"))
    assert (code, complaint[-1].startswith("gateway: ")) == (0, True)


AUTHELIA: dict[str, Any] = {
    "access_control": {
        "default_policy": "deny",
        "networks": [{"name": "n", "networks": ["10.0.0.0/8"]}],
        "rules": [
            {"domain": ["a.example.com"], "domain_regex": ["^a"], "policy": "one_factor",
             "resources": ["^/a"], "methods": ["GET"], "subject": [["group:a", "user:b"]],
             "networks": ["n"], "query": [[{"operator": "present", "key": "k"}]]},
        ],
    },
    "session": {
        "name": "n", "same_site": "lax", "expiration": "1h", "inactivity": 60,
        "cookies": [{"domain": "example.com", "authelia_url": "https://auth.example.com"}],
        "redis": {"host": "h", "port": 6379, "database_index": 0, "username": "u", "tls": {}},
    },
}  # fmt: skip


@settings(max_examples=40)
@given(tables=altered(AUTHELIA))
@example(tables={"session": {"expiration": "9" * 5000 + "h"}})
def test_any_file_of_authelia_is_translated_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, Any]
) -> None:
    """JSON is YAML."""
    path = tmp_path_factory.getbasetemp() / "configuration.yml"
    path.write_text(json.dumps(tables, default=str))
    code, complaint = typed("migrate", "authelia", str(path))
    assert code == 0 or (code, len(complaint)) == (2, 1)


VARIABLES = [
    "__".join(["GW", *map(str, place)]).upper()
    for place in places(SAMPLE)
    if not any(isinstance(part, int) for part in place)
]
# No NUL: the environment cannot hold it.
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])) | st.builds(
    json.dumps, st.recursive(st.none() | NAMES | st.integers(), st.lists, max_leaves=4)
)


@settings(max_examples=40)
@given(variables=st.dictionaries(st.sampled_from(VARIABLES), TEXTS, max_size=4))
def test_any_variables_are_good_or_a_list_of_problems(
    write: Write, variables: dict[str, str]
) -> None:
    loaded = load(write(SAMPLE), variables)
    assert (loaded.settings is None) == bool(loaded.problems)


FAULTS: Sequence[tuple[str, str]] = [
    ("access", '"maybe"'), ("host", '"a b"'), ("path", '"a"'), ("methods", '["BREW"]'),
    ("ignore_case", "1.5"), ("query", '["a b"]'), ("networks", '["10.0.0.1/8"]'),
    ("preflight", '"x"'), ("roles", '"r"'), ("roles_all", "[1]"), ("users", "{}"), ("aal", "4"),
    ("max_age", "5"), ("idle", '"1m"'), ("counts_as_activity", "[]"), ("shadow", "'x'"),
    ("country", '"DE"'),
]  # fmt: skip


def test_no_fault_of_a_rule_hides_another(tmp_path: Path) -> None:
    """All of one rule are told at once, and those of the next under its own number."""
    rule = "[[policy.rules]]\n" + "".join(f"{name} = {value}\n" for name, value in FAULTS)
    path = tmp_path / "gateway.toml"
    path.write_text(rule * 2)
    told = {re.sub(r"(\w)\[\d\]$", r"\1", each.place) for each in load(str(path), {}).problems}
    assert told >= {f"policy.rules[{number}].{name}" for number in (1, 2) for name, _ in FAULTS}
