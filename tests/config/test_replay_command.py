"""`gateway alerts replay`: what the rules would have said."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import commands
from tests.alerts.databases import AWAY, CITIES, HOME, write

AT_MS = 1_800_000_000_000
TOKEN = f'{{ name = "app", sha256 = "{"a" * 64}", scopes = [] }}'


def replayed(tmp_path: Path, lines: list[object], alerts: str = "") -> Result:
    """Run the command over these lines."""
    config, recorded = tmp_path / "gateway.toml", tmp_path / "sign-ins.jsonl"
    city = write(tmp_path / "city.mmdb", CITIES)
    config.write_text(f'[admin]\ntokens = [{TOKEN}]\n[geo]\ncity = "{city}"\n[alerts]\n{alerts}')
    recorded.write_bytes(
        b"\n".join(each if isinstance(each, bytes) else orjson.dumps(each) for each in lines)
    )
    arguments = ["alerts", "replay", "--config", str(config), str(recorded)]
    return CliRunner().invoke(commands, arguments)


def sign_in(at_ms: int, ip: str, **more: object) -> dict[str, object]:
    return {"at": at_ms, "user": "alice", "ip": ip, "device_id": "laptop"} | more


def event(at_ms: int, ip: str) -> dict[str, object]:
    """Return an event as the outbox has it: its data are text."""
    data = {"ip": ip, "country": "", "device": {"id": "laptop", "name": "", "type": ""}}
    return {"type": "session.created", "at": str(at_ms), "user": "alice",
            "data": orjson.dumps(data).decode()}  # fmt: skip


@pytest.mark.parametrize("form", [sign_in, event])
def test_what_would_have_fired_is_printed(tmp_path: Path, form: object) -> None:
    """Once for each fact, with what follows; other events and empty lines are passed over."""
    assert callable(form)
    lines = [
        form(AT_MS, HOME), {"type": "session.ended", "user": "alice"}, b"",
        form(AT_MS + 60_000, AWAY), form(AT_MS + 120_000, AWAY),
    ]  # fmt: skip
    result = replayed(tmp_path, lines, 'new_country = "step_up"')
    assert result.exit_code == 0
    country, again = result.stdout.splitlines()[:2]
    assert country.startswith("2027-01-15T08:01:00.000Z  alice  new_country (step_up)  {")
    assert '"new_country":"US"' in country
    assert "impossible_travel (alert)" in again
    assert result.stderr == "3 sign-ins: new_country 1, impossible_travel 1\n"


def test_instants_may_be_text(tmp_path: Path) -> None:
    lines = [sign_in(0, HOME, at="2026-03-01T09:00:00Z"), sign_in(0, HOME, device_id="phone",
             at="2026-03-01T11:00:00+01:00")]  # fmt: skip
    assert "2026-03-01T10:00:00.000Z  alice  new_device" in replayed(tmp_path, list(lines)).stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2: is no sign-in"),
        (b"[]", "line 2: is no sign-in"),
        (b'{"user": "alice"}', "line 2: is no sign-in (KeyError('at')"),
        (b'{"user": "alice", "at": "2026-03-01T09:00:00"}', "`at` needs an offset"),
        (b'{"user": "alice", "at": 5}', "sort the file by `at`"),
    ],
)
def test_what_is_no_sign_in_is_told_with_its_line(tmp_path: Path, line: bytes, said: str) -> None:
    result = replayed(tmp_path, [sign_in(AT_MS, HOME), line])
    assert result.exit_code != 0
    assert said in str(result.exception)


def test_without_rules_there_is_nothing_to_replay(tmp_path: Path) -> None:
    rules = ("new_device", "new_country", "impossible_travel", "network_change", "shared_account",
             "shared_device")  # fmt: skip
    result = replayed(tmp_path, [], "".join(f'{rule} = "off"\n' for rule in rules))
    assert "every rule is off" in str(result.exception)
