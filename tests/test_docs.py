"""The documents say what the code does: all of it, and nothing that it does not.

A setting, reason, metric, route or key without its place in `docs/` fails here, and so does a place
for one that does not exist. Examples are read by what would read them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import http.client
import itertools
import json
import re
import shlex
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, SecretStr

from gateway.adapters import authelia, oauth2_proxy
from gateway.adapters.ext_authz_grpc import ADAPTER as EXT_AUTHZ_GRPC
from gateway.adapters.ext_authz_http import ADAPTER as EXT_AUTHZ
from gateway.adapters.listener import ADAPTERS
from gateway.adapters.oauth2_pages import Pages
from gateway.adapters.wire import Adapter, Page, Profile, Wording
from gateway.admin import api, openapi
from gateway.cli import commands
from gateway.config import Settings, load
from gateway.config.expectations import Expectations
from gateway.conformance.cases import CASES, KINDS
from gateway.decision import DENIALS, Kind, Reason, kind_of
from gateway.embedded import EmbeddedValkey
from gateway.identity import AUTHELIA, OAUTH2_PROXY
from gateway.lifetime import parse_duration_ms
from gateway.model import SessionKey
from gateway.store import faults, scripts
from gateway.store.keys import Keys
from gateway.telemetry import Metrics, NearCacheFigures, OutboxFigures
from tests import servers
from tests.adversarial.user_data import USERS
from tests.alerts import databases
from tests.e2e.stack import PROXIES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SAMPLE = ROOT / "config" / "gateway.toml"

PAGES = sorted([README, ROOT / "CHANGELOG.md", *DOCS.rglob("*.md"), *ROOT.glob("deploy/*/*.md")])
DECISIONS = sorted((DOCS / "decisions").glob("0*.md"))

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


# --- reading Markdown ------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block: its language, its text, and the last heading above it."""

    language: str
    text: str
    heading: str


@functools.cache
def lines_of(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())


@functools.cache
def blocks_of(path: Path) -> tuple[Block, ...]:
    found: list[Block] = []
    heading, inside, text = "", "", list[str]()
    for line in lines_of(path):
        if line.startswith("```"):
            if inside:
                found.append(Block(inside, "\n".join(text), heading))
            assert inside or line != "```", f"{path.name}: {heading!r} has a block of no language"
            inside, text = "" if inside else line.removeprefix("```"), []
        elif inside:
            text.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert not inside, f"{path.name}: the last block is open"
    return tuple(found)


def prose_of(path: Path) -> list[str]:
    """Return the lines that stand in no block."""
    prose, inside = [], False
    for line in lines_of(path):
        inside ^= line.startswith("```")
        if not inside and not line.startswith("```"):
            prose.append(line)
    return prose


def rows_of(path: Path, first: str) -> list[tuple[str, list[str]]]:
    """Return every row of the tables whose first column is called `first`, with its heading."""
    rows: list[tuple[str, list[str]]] = []
    heading, wanted = "", False
    for line in prose_of(path):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            wanted = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if wanted and not set(line) <= set("|- "):
            rows.append((heading, cells))
        wanted = wanted or cells[0] == first
    return rows


def code(cell: str) -> str:
    """Return the text of a cell that is one piece of code."""
    assert re.fullmatch(r"`[^`]+`", cell), f"{cell!r} should be one piece of code"
    return cell.strip("`")


def codes(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def unique(names: list[str]) -> set[str]:
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"documented twice: {sorted(twice)}"
    return set(names)


# --- settings --------------------------------------------------------------------------------


class Setting(NamedTuple):
    """A setting as the code has it. `default` is None where a value is required."""

    place: str
    default: tuple[object] | None


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Return every setting of a model and of the models below it."""
    for name, field in model.model_fields.items():
        place = prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{place}.")
            continue
        yield Setting(place, None if field.is_required() else (field.default,))
        for inner in getattr(kind, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from settings_of(inner, f"{place}[].")


SETTINGS = {setting.place: setting.default for setting in settings_of(Settings)}
SIMPLE = sorted(place for place in SETTINGS if "[]" not in place)

# In the sample these show how they are used instead of their default, and say so.
EXAMPLES = {"pages.login_url", "admin.tokens", "redis.url", "policy.rules"}


def at(values: Any, place: str) -> Any:
    """Return the value at `place` of settings or of a table."""
    for name in place.split("."):
        values = values[name] if isinstance(values, dict) else getattr(values, name)
    return values


def understood(place: str, value: object) -> object:
    """Return what the gateway makes of a value at `place`."""
    nested: object = value
    for name in reversed(place.split(".")):
        nested = {name: nested}
    assert isinstance(nested, dict)
    return at(Settings(**nested), place)


def test_settings_are_found_at_every_depth() -> None:
    assert {"check.drain", "session.cookie.name", "policy.rules[].path"} <= set(SETTINGS)


def test_every_setting_is_documented_and_no_other() -> None:
    rows = rows_of(DOCS / "configuration.md", "setting")
    assert unique([code(cells[0]) for _, cells in rows]) == set(SETTINGS)


def test_documented_defaults_are_those_of_the_code() -> None:
    wrong = []
    for _, (setting, shown, *_) in rows_of(DOCS / "configuration.md", "setting"):
        place = code(setting)
        default = SETTINGS[place]
        if default is None:
            same = shown == "required"
        elif "[]" in place:
            value = tomllib_value(shown)
            meant = {json.dumps(value)}
            if isinstance(default[0], int) and isinstance(value, str):
                meant = {json.dumps(parse_duration_ms(value))}
            same = json.dumps(default[0]) in meant
        else:
            same = understood(place, tomllib_value(shown)) == at(Settings(), place)
        wrong += [] if same else [f"{place}: documented as {shown}"]
    assert not wrong, "\n".join(wrong)


def tomllib_value(cell: str) -> object:
    return tomllib.loads(f"value = {code(cell)}")["value"]


SECRETS = [place for place in SIMPLE if isinstance(at(Settings(), place), SecretStr)]


@pytest.mark.parametrize("place", SECRETS)
def test_every_secret_can_be_read_from_a_file(place: str, tmp_path: Path) -> None:
    assert f"`{place}_file`" in (DOCS / "configuration.md").read_text()
    assert re.search(rf"# .*{place}_file", SAMPLE.read_text())
    section, _, key = place.rpartition(".")
    secret, config = tmp_path / "secret", tmp_path / "gateway.toml"
    scheme = "postgresql" if section == "postgres" else "redis"
    secret.write_text(f"{scheme}://database.example.com:6379/1\n")
    config.write_text(f'[{section}]\n{key}_file = "{secret}"\n')
    wrong = {problem.place for problem in load(str(config), env={}).problems}
    no_key = {"identity.assertion.keys", "identity.assertion.issuer"}
    assert wrong == {"admin.tokens"} | (no_key if key == "keys" else set())


# --- the sample ------------------------------------------------------------------------------


def test_sample_loads_without_a_problem_or_a_warning() -> None:
    loaded = load(str(SAMPLE), env={})
    assert (loaded.problems, loaded.warnings) == ((), ())


@pytest.mark.parametrize("place", SIMPLE)
def test_sample_shows_every_setting_with_its_default(place: str) -> None:
    value = at(tomllib.loads(SAMPLE.read_text()), place)
    same = understood(place, value) == at(Settings(), place)
    assert same is (place not in EXAMPLES)


def test_sample_shows_every_setting_of_a_token_and_a_rule() -> None:
    """Those that need a database stand there as comments."""
    sample = tomllib.loads(re.sub(r"(?m)^# (?=(?:country|asn) = )", "", SAMPLE.read_text()))
    for place in ("admin.tokens", "policy.rules"):
        shown = {name for entry in at(sample, place) for name in entry}
        prefix = f"{place}[]."
        assert shown == {p.removeprefix(prefix) for p in SETTINGS if p.startswith(prefix)}


def test_sample_gives_a_reason_for_every_setting() -> None:
    lines = SAMPLE.read_text().splitlines()
    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if re.match(r"[a-z_0-9]+ = ", line)
        and not (above.startswith("#") or line.startswith("tls_key") or "  #" in line)
        and not in_rule(lines, line)
    ]
    # A line that belongs to the setting above shares its comment.
    assert [line.partition(" ")[0] for line in bare] == ["password", "asn"]


def in_rule(lines: list[str], line: str) -> bool:
    return lines.index(line) > lines.index("[[policy.rules]]")


def test_sample_marks_what_is_not_a_default() -> None:
    marked = [line for line in SAMPLE.read_text().splitlines() if line.startswith("# EXAMPLE")]
    assert len(marked) == len(EXAMPLES)


def test_line_that_gateway_token_prints_replaces_the_example(tmp_path: Path) -> None:
    printed = CliRunner().invoke(commands, ["token"]).output.splitlines()
    config = tmp_path / "gateway.toml"
    config.write_text(sample_with(next(line for line in printed if line.startswith("tokens = "))))
    assert load(str(config), env={}).problems == ()


def sample_with(tokens: str) -> str:
    return re.sub(r"^tokens = .*$", tokens, SAMPLE.read_text(), count=1, flags=re.MULTILINE)


# --- the policy ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("An example", "12 expected, 0 not met\n"),
        ("Countries and networks' owners", "4 expected, 0 not met\n"),
    ],
)
def test_examples_of_rules_decide_as_they_say(tmp_path: Path, heading: str, said: str) -> None:
    found = [b for b in blocks_of(DOCS / "policy.md") if b.language == "toml"]
    rules, table = [block.text for block in found if block.heading == heading]
    config, expected = tmp_path / "gateway.toml", tmp_path / "expected.toml"
    cities = databases.write(tmp_path / "city.mmdb", databases.CITIES)
    token = f'{{ name = "app", sha256 = "{"a" * 64}", scopes = [] }}'
    config.write_text(f'[admin]\ntokens = [{token}]\n[geo]\ncity = "{cities}"\n{rules}')
    expected.write_text(table)
    arguments = ["policy", "test", "--config", str(config), str(expected)]
    result = CliRunner().invoke(commands, arguments)
    assert (result.exit_code, result.output) == (0, said)


# --- reasons ---------------------------------------------------------------------------------


def test_every_reason_is_documented_under_its_kind_and_no_other() -> None:
    rows = rows_of(DOCS / "reasons.md", "reason")
    unique([code(cells[0]) for _, cells in rows])
    documented = {code(cells[0]): heading.partition(":")[0] for heading, cells in rows}
    assert documented == {str(reason): kind_of(reason).value for reason in Reason}


def test_reserved_reasons_are_those_that_no_code_gives() -> None:
    rows = rows_of(DOCS / "reasons.md", "reason")
    reserved = {code(cells[0]) for _, cells in rows if cells[1].startswith("Reserved")}
    source = "".join(
        path.read_text() for path in (ROOT / "gateway").rglob("*.py") if path.stem != "decision"
    )
    assert reserved == {str(each) for each in Reason if f"Reason.{each.name}" not in source}


def profiles(pages: Mapping[str, Page]) -> tuple[Profile, Profile]:
    prefix = Settings().check.authelia.ext_authz_prefix
    return (
        oauth2_proxy.profile(Wording(), oauth2_proxy.Options(), pages),
        authelia.profile(Wording(), prefix),
    )


def of_profiles() -> Iterator[Adapter]:
    for each in profiles({}):
        yield from (*each.exact.values(), *each.below.values())


def test_documented_addresses_of_profiles_are_those_that_are_answered() -> None:
    pages = Pages(*[None] * 7).by_path()  # type: ignore[arg-type]
    answered = {
        path for each in profiles(pages) for path in (*each.exact, *each.below, *each.pages)
    }
    rows = rows_of(DOCS / "migrating.md", "address")
    assert {path for _, cells in rows for path in codes(cells[0])} == answered


def test_documented_headers_of_profiles_are_the_defaults() -> None:
    rows = rows_of(DOCS / "migrating.md", "header")
    documented = {code(cells[0]): cells[1].split("`")[1] for _, cells in rows}
    assert documented == dict(OAUTH2_PROXY.headers + AUTHELIA.headers)


def test_documented_statuses_are_what_the_adapters_answer() -> None:
    kinds = [Kind.SIGN_IN, Kind.FORBIDDEN, Kind.UNKNOWN]
    example = {kind_of(reason): DENIALS[reason] for reason in Reason}
    answered = {
        adapter.name: [str(int(adapter.write(example[k], None, Wording()).status)) for k in kinds]
        for adapter in (*ADAPTERS.values(), EXT_AUTHZ, EXT_AUTHZ_GRPC, *of_profiles())
    }
    rows = rows_of(DOCS / "reasons.md", "adapter")
    assert {code(cells[0]): cells[1:] for _, cells in rows} == answered


# --- metrics ---------------------------------------------------------------------------------


def test_every_metric_is_documented_with_type_and_labels_and_no_other() -> None:
    metrics = Metrics()
    metrics.checks["auth_request"].outcomes[None] += 1
    metrics.checks["auth_request"].observe(0.001)
    metrics.store_errors["timeout"] += 1
    metrics.ended["revoked"] += 1
    metrics.outbox = OutboxFigures(lag_s={"s": 1}, delivered={"s": 1}, failures={"s": 1})
    metrics.policy_reloads["ok"] += 1
    metrics.policy_version = "0" * 12
    metrics.alerts["new_device", "alert"] += 1
    metrics.geo_reads["ok"] += 1
    metrics.shadow["1", "allow", "forbidden"] += 1
    metrics.near_cache = lambda: NearCacheFigures({"hit": 1}, 1, 1, lease_valid=True)
    exported = {}
    for family in metrics.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
    rows = rows_of(DOCS / "metrics.md", "metric")
    unique([code(cells[0]) for _, cells in rows])
    assert {code(cells[0]): (cells[1], codes(cells[2])) for _, cells in rows} == exported


def test_every_kind_of_store_error_is_documented() -> None:
    raised = re.compile(r'(?:StoreUnavailable|count_error)\("(\w+)"')
    store = "".join(path.read_text() for path in (ROOT / "gateway" / "store").glob("*.py"))
    # A conflict is no fault of Redis: it is answered and not counted.
    kinds = {*raised.findall(store), *(kind for _, kind in faults._KINDS), "other"} - {"conflict"}
    rows = rows_of(DOCS / "metrics.md", "metric")
    documented = next(cells[3] for _, cells in rows if "store_errors" in cells[0])
    assert codes(documented) == kinds


@page
def test_metrics_named_in_text_exist(path: Path) -> None:
    known = {code(cells[0]) for _, cells in rows_of(DOCS / "metrics.md", "metric")}
    assert set(re.findall(r"\bgateway_[a-z_]+\b", "\n".join(prose_of(path)))) <= known


# --- the admin API ---------------------------------------------------------------------------

API = DOCS / "admin-api.md"
ROUTES = {f"{route.method} {route.path}": route for route in api.ROUTES}
route_by_name = pytest.mark.parametrize("name", ROUTES)


def section_of(name: str) -> str:
    """Return the text below a route's heading, up to the next one."""
    text = API.read_text().partition(f"### `{name}`\n")[2]
    return re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]


def test_every_route_is_documented_and_no_other() -> None:
    headings = [line for line in prose_of(API) if line.startswith("### `")]
    assert unique([heading.removeprefix("### ").strip("`") for heading in headings]) == set(ROUTES)


@route_by_name
def test_documented_scope_is_what_the_route_asks_for(name: str) -> None:
    scope = ROUTES[name].scope
    said = {"": "Needs no token.", None: "Scope: any;"}.get(scope, f"Scope: `{scope}`")
    assert said in section_of(name)


@route_by_name
def test_example_call_is_one_that_the_route_accepts(name: str) -> None:
    route = ROUTES[name]
    call = next(b.text for b in blocks_of(API) if b.heading == f"`{name}`" and b.language == "sh")
    method, url, headers, body = curl(call)
    assert method == route.method
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route.path))
    assert re.fullmatch(pattern, url.path)
    assert ("Authorization: Bearer $GW_ADMIN_TOKEN" in headers) is (route.scope != "")
    assert (body is not None) is (route.body is not None)
    if route.body is not None and body is not None:
        route.body.model_validate(json.loads(body))
        assert "Content-Type: application/json" in headers
    query = dict(parse_qsl(url.query, strict_parsing=True)) if url.query else {}
    if query:
        assert route.query is not None
        route.query.model_validate(query)


def curl(command: str) -> tuple[str, Any, list[str], str | None]:
    """Return method, URL, headers and body of a call of curl."""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert next(words) == "curl"
    method, url, headers, body = "GET", "", list[str](), None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            headers.append(next(words))
        elif word == "-d":
            body = next(words)
        else:
            assert not url, f"curl: {word}"
            url = word
    return method, urlsplit(url), headers, body


@route_by_name
def test_example_answer_has_the_form_that_the_route_gives(name: str) -> None:
    route = ROUTES[name]
    found = [b.text for b in blocks_of(API) if b.heading == f"`{name}`" and b.language == "json"]
    document = {"components": {"schemas": openapi.SCHEMAS}}
    schema = document | {"$ref": f"#/components/schemas/{route.answer}"}
    for text in found:
        answer = json.loads(text)
        jsonschema.validate(answer, schema)
        properties = openapi.SCHEMAS[route.answer].get("properties", {})
        if name != "POST /v1/introspect":  # its members are not in the schema
            assert list(answer) == list(properties)


def test_there_is_an_example_of_every_kind_of_answer() -> None:
    shown = {b.heading.strip("`") for b in blocks_of(API) if b.language == "json"}
    assert {ROUTES[name].answer for name in shown} == {
        route.answer for route in api.ROUTES if route.answer not in ("text", "object")
    }


def test_examples_do_what_they_say() -> None:
    """In the order of a session's life, with the sample configuration."""
    order = [
        "POST /v1/sessions", "GET /v1/sessions/{id}", "PATCH /v1/sessions/{id}",
        "POST /v1/introspect", "POST /v1/sessions/{id}/renew", "GET /v1/users/{user}/sessions",
        "GET /v1/events",
        "DELETE /v1/sessions/{id}", "DELETE /v1/users/{user}/sessions",
        "DELETE /v1/users/{user}/devices/{device}/sessions",
        "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json",
    ]  # fmt: skip
    assert set(order) == set(ROUTES)
    calls = {b.heading.strip("`"): b.text for b in blocks_of(API) if b.text.startswith("curl")}
    example = json.loads(next(block.text for block in blocks_of(API) if block.language == "json"))
    known = {"id": example["id"], "token": example["token"]}
    secret, port = "gwa_example", servers.free_port()
    with EmbeddedValkey(port=servers.free_port()) as valkey, _gateway(valkey, secret, port):
        for name in order:
            text = calls[name].replace(example["id"], known["id"])
            text = text.replace(example["token"], known["token"])
            status, answer = send(text.replace("$GW_ADMIN_TOKEN", secret), port)
            assert status == ROUTES[name].status, f"{name}: {answer!r}"
            if "token" in (made := json.loads(answer) if answer.startswith(b"{") else {}):
                known = made


def _gateway(valkey: EmbeddedValkey, secret: str, port: int) -> servers.Program:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    text = SAMPLE.read_text().replace("0" * 64, digest)
    for shipped, free in (("127.0.0.1:9182", port), ("127.0.0.1:9180", servers.free_port())):
        text = text.replace(shipped, f"127.0.0.1:{free}")
    return servers.start_gateway(text, {"GW_REDIS__URL": valkey.url, "GW_CHECK__DRAIN": "10ms"})


def send(command: str, port: int) -> tuple[int, bytes]:
    method, url, headers, body = curl(command)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    target = f"{url.path}?{url.query}" if url.query else url.path
    connection.request(method, target, body, dict(each.split(": ", 1) for each in headers))
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


# --- Redis -----------------------------------------------------------------------------------


def test_every_kind_of_key_is_documented_and_no_other() -> None:
    keys, key = Keys("gw:"), SessionKey("pp", "<digest>")
    built = {
        "record": keys.record(key),
        "activities": keys.activities("pp"),
        "index": re.sub("[A-Za-z0-9_-]{27}$", "<user>", keys.index("pp", "alice")),
        "outbox": keys.outbox("pp"),
        "dropped": keys.dropped("pp"),
        "holder": keys.holder("pp", "<sink>"),
        "dead_letters": keys.dead_letters("pp"),
        "witness": keys.witness("pp"),
        "partitions": keys.partitions,
        "replicas": keys.replicas,
        "fence": keys.fence("pp", "!<fence>"),
        "history": re.sub("[A-Za-z0-9_-]{27}$", "<user>", keys.history("pp", "alice")),
        "accounts": keys.accounts("pp", "<device>"),
        "alerts": keys.alerts("pp"),
        "answer": keys.answer("pp.0").replace("pp.0", "<alert>"),
        "told": keys.told("pp") + "<digest>",
        "pushing": keys.pushing,
    }
    methods = {name for name, value in vars(Keys).items() if isinstance(value, types.FunctionType)}
    others = {"__init__", "prefix", "parse_record", "confirmations", "tracked", "_end_of_record"}
    assert set(built) == (methods | set(vars(keys))) - others
    rows = rows_of(DOCS / "architecture.md", "key")
    assert unique([code(cells[0]) for _, cells in rows]) == set(built.values())


def test_every_script_is_documented_and_no_other() -> None:
    rows = rows_of(DOCS / "architecture.md", "script")
    named = set.union(*(codes(cells[0]) for _, cells in rows))
    assert named == {*scripts.NAMES, *scripts.RELAY_NAMES}


# --- commands --------------------------------------------------------------------------------


def all_commands(group: click.Group, prefix: str = "gateway") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if command.hidden:
            continue
        full = f"{prefix} {name}"
        found |= (
            all_commands(command, full) if isinstance(command, click.Group) else {full: command}
        )
    return found


COMMANDS = all_commands(commands)


def test_readme_lists_every_command_and_no_other() -> None:
    cells = [cells[0] for _, cells in rows_of(README, "command")]
    named = {name for cell in cells for name in codes(cell) if name.startswith("gateway ")}
    assert named == set(COMMANDS)


@page
def test_gateway_commands_named_in_documents_exist(path: Path) -> None:
    texts = [block.text for block in blocks_of(path) if block.language == "sh"]
    texts += re.findall(r"`(gateway [a-z-][^`]*)`", "\n".join(prose_of(path)))
    called = {
        line.strip() for text in texts for line in text.splitlines() if line.startswith("gateway ")
    }
    for line in called:
        name = max((name for name in COMMANDS if f"{line} ".startswith(f"{name} ")), default=None)
        assert name or line == "gateway --help", f"{path.name}: there is no `{line}`"
        known = {opt for each in COMMANDS[name].params for opt in each.opts} if name else set()
        assert set(re.findall(r"--[a-z-]+", line)) <= known | {"--help"}, line


@page
def test_make_targets_named_in_documents_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    named = re.findall(r"^make ([a-z]+)$", text, re.MULTILINE)
    named += re.findall(r"`make ([a-z]+)`", text)
    assert set(named) <= targets


def test_readme_begins_with_what_works_everywhere() -> None:
    text = README.read_text()
    assert "make demo\nmake test\n" in text
    assert len(text.splitlines()) <= 190


# --- blocks and links ------------------------------------------------------------------------


@page
def test_blocks_are_what_their_language_says(path: Path) -> None:
    for block in blocks_of(path):
        match block.language:
            case "json":
                json.loads(block.text)
            case "toml" if block.text.startswith("[[tests]]"):
                Expectations.model_validate(tomllib.loads(block.text))
            case "toml":
                Settings(**tomllib.loads(block.text))
            case "yaml":
                yaml.safe_load(block.text)
            case "python":
                ast.parse(block.text)
            case "sh":
                shlex.split(block.text, comments=True)
            case language:
                assert language in ("text", "nginx"), f"{path.name}: {language!r} is not checked"


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that hosts of repositories give to headings."""
    headings = [line.lstrip("# ") for line in prose_of(path) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@page
def test_relative_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose_of(path))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path.name}: {target} does not exist"
        assert linked.is_relative_to(ROOT), f"{path.name}: {target} leaves the project"
        if anchor:
            assert anchor in anchors_of(linked), f"{path.name}: {target} has no such heading"


def test_every_proxy_has_its_page_with_all_parts() -> None:
    pages = sorted((DOCS / "proxies").glob("*.md"))
    index = (DOCS / "proxies.md").read_text()
    for path in pages:
        assert f"](proxies/{path.name})" in index
        headings = [line for line in lines_of(path) if line.startswith("## ")]
        assert headings == [
            "## Configuration",
            "## What is sent",
            "## When the gateway is down",
            "## Traps",
        ], path.name
    for folder in (ROOT / "deploy").iterdir():
        assert f"](../deploy/{folder.name}/README.md)" in index


def test_readme_leads_to_every_document() -> None:
    linked = set(re.findall(r"\]\(([^)\s]+)\)", README.read_text()))
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} <= linked


# --- the threat model and the decisions ------------------------------------------------------


def test_tests_named_in_the_threat_model_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "threat-model.md").read_text())
    assert len(named) > 20
    for file, test in named:
        source = (ROOT / file).read_text()
        found = re.search(rf"^(?:async )?def {test}\(", source, re.MULTILINE)
        assert found, f"{file} has no {test}"


def test_every_attack_has_an_answer_and_a_test() -> None:
    for _, cells in rows_of(DOCS / "threat-model.md", "attack"):
        assert len(cells) == 3
        assert all(cells)
        assert "::test_" in cells[2], cells[0]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem[:4])
def test_decision_has_all_its_parts(path: Path) -> None:
    headings = [line for line in lines_of(path) if line.startswith("#")]
    assert headings[0].startswith(f"# {path.stem[:4]} ")
    assert headings[1:] == ["## Status", "## Context", "## Decision", "## Consequences"]


def test_decisions_are_listed_and_numbered_without_a_gap() -> None:
    listed = re.findall(r"\]\((0[^)]+)\)", (DOCS / "decisions" / "README.md").read_text())
    assert listed == [path.name for path in DECISIONS]
    assert [int(path.stem[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


# --- conformance -----------------------------------------------------------------------------


def test_the_readme_tells_how_many_bypasses_were_tried() -> None:
    """The numbers of the whole table: how many cases there are, and that each proxy held all."""
    [line] = [line for line in lines_of(DOCS / "conformance.md") if line.startswith("| all | ")]
    totals = [cell.strip() for cell in line.strip("|").split("|")][1:]
    assert len(totals) == len(PROXIES)
    assert {total.partition(" of ")[0] for total in totals} == {totals[0].partition(" of ")[2]}
    held = f"{totals[0].partition(' of ')[2]} held"
    assert "| " + " | ".join([held] * len(PROXIES)) + " |" in lines_of(README)


def test_conformance_table_has_every_case_and_every_proxy() -> None:
    """`make conformance` writes it anew. Of the cells only one thing is asked: that all held."""
    page = DOCS / "conformance.md"
    whole = page.read_text()
    [header] = [line for line in lines_of(page) if line.startswith("| case | ")]
    assert [cell.strip() for cell in header.strip("|").split("|")][3:] == list(PROXIES)
    named = [cells[0] for _, cells in rows_of(page, "case")]
    assert named == [case.name for case in CASES] + [f"user-data/{what}" for what in USERS]
    assert "**" not in whole.partition("<!-- table")[2], "something in the table did not hold"


def test_every_class_of_cases_is_explained() -> None:
    explained = [codes(cells[0]) for _, cells in rows_of(DOCS / "conformance.md", "class")]
    assert set.union(*explained) == {*KINDS, "user-data"}


def test_every_option_of_conformance_is_documented() -> None:
    rows = rows_of(DOCS / "conformance.md", "option")
    known = {option for each in COMMANDS["gateway conformance"].params for option in each.opts}
    assert unique([code(cells[0]) for _, cells in rows]) == known
