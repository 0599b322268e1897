"""The commands, as an operator types them."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.admin.tokens import digest_of
from gateway.cli import main
from gateway.config import load
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.service.harness import ADMIN_TOKEN, Gateway, until

from .test_loading import GOOD, SECRET, TEN_FAULTS


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output, standard error."""
    before = sys.argv
    sys.argv = ["gateway", *arguments]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good configuration."""
    for name in ("GW_CONFIG", "GW_ADMIN_URL", "GW_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD)
    return path


# --- check-config ------------------------------------------------------------------------------


def test_check_config_of_a_good_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good file is said to be good, with exit code 0."""
    code, out, err = run(capsys, "check-config", "--config", str(file))
    assert (code, err) == (0, "")
    assert "good, 1 rules" in out


def test_check_config_prints_every_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem is a line of its own, the exit code is 1, and no secret is among them."""
    file.write_text(TEN_FAULTS)
    code, out, err = run(capsys, "check-config", "--config", str(file))
    assert (code, out) == (1, "")
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 13
    assert err.endswith("gateway: 12 problems\n")
    assert SECRET not in err


@pytest.mark.parametrize("content", ["[x", None])
def test_check_config_of_no_toml(
    file: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    """What is no TOML, or not there, is one line and exit code 2."""
    file.unlink() if content is None else file.write_text(content)
    code, _, err = run(capsys, "check-config", "--config", str(file))
    assert code == 2
    assert len(err.splitlines()) == 1


def test_the_file_may_come_from_a_variable(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GW_CONFIG names the file, and is no unknown setting itself."""
    monkeypatch.setenv("GW_CONFIG", str(file))
    assert run(capsys, "check-config")[0] == 0
    monkeypatch.setenv("GW_SESSION__IDLE", "never")
    code, _, err = run(capsys, "check-config")
    assert code == 1
    assert "session.idle" in err


# --- explain -----------------------------------------------------------------------------------

RULES = """
[[policy.rules]]
path = "/public/**"
access = "public"
[[policy.rules]]
host = "app.example.com"
path = "/admin/**"
access = "session"
roles = ["admin"]
[[policy.rules]]
path = "/form"
methods = ["POST"]
access = "session"
[[policy.rules]]
path = "/form"
access = "deny"
[[policy.rules]]
path = "/app/**"
access = "session"
"""


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["GET", "https://app.example.com/public/x?y"], "allowed: public"),
        (
            ["GET", "https://app.example.com/admin", "--role", "admin"],
            "allowed: with a live session",
        ),
        (["GET", "https://app.example.com/admin/x", "--role", "user"], "denied: role_required"),
        (["GET", "https://app.example.com/admin/x", "--anonymous"], "denied: no_session"),
        (["GET", "https://other.example.com/admin/x", "--role", "admin"], "denied: no_rule"),
        (["POST", "https://a/form"], "allowed: with a live session"),
        (["GET", "https://a/form"], "denied: denied_by_rule"),
        (["GET", "https://a/public/../admin"], "denied: ambiguous_path"),
        (["GET", "https://a/public%2f..%2fadmin"], "denied: ambiguous_path"),
        (["GET", "https://a//app/x"], "denied: no_rule"),
        (["BREW", "https://a/app"], "denied: bad_method"),
        (["GET", "https://a b/app"], "denied: bad_host"),
        (["GET", "https:///app"], "denied: bad_host"),
        (["GET", "https://a/public/x#part"], "allowed: public"),
        (["GET", "https://a/public/é"], "allowed: public"),
        (["GET", "https://a?x=1"], "denied: no_rule"),
    ],
)
def test_explain_tells_the_outcome(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], last: str
) -> None:
    """The last line is what a check would come to, the lines before say which rule decides."""
    file.write_text(GOOD.partition("[[policy")[0] + RULES)
    code, out, _ = run(capsys, "explain", "--config", str(file), *arguments)
    assert code == 0
    assert out.splitlines()[-1] == last


def test_explain_shows_every_reading(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a path can be read in several ways, each is explained, rule by rule."""
    file.write_text(GOOD.partition("[[policy")[0] + RULES)
    _, out, _ = run(capsys, "explain", "--config", str(file), "GET", "https://a/public%2fx")
    assert [line for line in out.splitlines() if line.startswith("path ")] == [
        "path /public%2fx",
        "path /public/x",
    ]
    assert "rule 1 (* /public/** -> public): decides" in out
    assert "rule 2 (app.example.com /admin/** -> session, roles admin): other host" in out


# --- token -------------------------------------------------------------------------------------


def test_a_new_token_and_its_line_belong_together(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line that is printed is a configuration that knows the token that is printed."""
    code, out, _ = run(capsys, "token", "--name", "back-end")
    assert code == 0
    first, _, line = out.splitlines()
    file.write_text(f"[admin]\n{line}\n")
    loaded = load(str(file), {})
    assert loaded.settings is not None
    (token,) = loaded.settings.admin.tokens
    assert token.name == "back-end"
    assert token.sha256 == digest_of(first.rpartition(" ")[2])
    assert first.rpartition(" ")[2] not in line
    assert tomllib.loads(line)


@pytest.mark.parametrize("name", ['a"b', "", "a b", "x" * 65, "a\n"])
def test_a_token_needs_a_plain_name(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A name that would break the line is refused instead of printed."""
    code, out, _ = run(capsys, "token", "--name", name)
    assert (code, out) == (2, "")


# --- sessions ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, "[session]\nmax_per_user = 0\n")
        with gateway.running():
            until(lambda: gateway.ready() == 200, "ready")
            yield gateway


@pytest.fixture
def operator(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway that the commands find."""
    monkeypatch.setenv("GW_ADMIN_URL", f"http://127.0.0.1:{gateway.admin_port}/")
    monkeypatch.setenv("GW_ADMIN_TOKEN", ADMIN_TOKEN)
    return gateway


def test_sessions_are_listed_and_ended(
    operator: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator lists a user's sessions, ends one, and then all but one."""
    user = "a/b ü%2F"
    ids = [operator.sign_in(user)["id"] for _ in range(4)]
    code, out, _ = run(capsys, "sessions", "list", user)
    assert code == 0
    assert sorted(line.split()[0] for line in out.splitlines()) == sorted(ids)
    code, out, _ = run(capsys, "sessions", "end", ids[0], "--reason", "lost & found")
    assert code == 0
    assert out.startswith("ended 1: complete")
    assert ids[0] in out
    code, out, _ = run(capsys, "sessions", "end-all", user, "--except", ids[1], "--reason", "x")
    assert (code, sorted(out.split()[-2:])) == (0, sorted(ids[2:]))
    code, out, _ = run(capsys, "sessions", "list", user)
    assert [line.split()[0] for line in out.splitlines()] == [ids[1]]


def test_more_sessions_than_a_page_are_listed(
    operator: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list goes on over all pages."""
    ids = {operator.sign_in("many")["id"] for _ in range(203)}
    _, out, _ = run(capsys, "sessions", "list", "many")
    assert sorted(line.split()[0] for line in out.splitlines()) == sorted(ids)


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("GW_ADMIN_TOKEN", "wrong", 1),
        ("GW_ADMIN_TOKEN", "", 2),
        ("GW_ADMIN_TOKEN", "a\nb", 2),
        ("GW_ADMIN_TOKEN", "ä", 2),
        ("GW_ADMIN_URL", "localhost", 2),
        ("GW_ADMIN_URL", "http://127.0.0.1:x", 2),
        ("GW_ADMIN_URL", "http://[::1", 2),
        ("GW_ADMIN_URL", "ftp://127.0.0.1", 2),
        ("GW_ADMIN_URL", "http://127.0.0.1:1", 2),
        ("GW_ADMIN_URL", "the check listener", 1),
        ("GW_ADMIN_URL", "redis", 2),
    ],
)
def test_what_is_in_the_way_is_one_line(
    *,
    operator: Gateway,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    code: int,
) -> None:
    """A wrong token or address is one line, never a traceback, and never repeats the token."""
    redis = operator.redis_url.rpartition(":")[2].partition("/")[0]
    places = {"redis": redis, "the check listener": str(operator.check_port)}
    address = f"http://127.0.0.1:{places[value]}" if value in places else value
    monkeypatch.setenv(variable, address)
    ended, _, err = run(capsys, "sessions", "list", "alice")
    assert ended == code
    assert len(err.splitlines()) == 1
    assert ADMIN_TOKEN not in err


def test_ending_nothing_is_said(operator: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Ending a session that is not there is one line and exit code 1."""
    for session_id in ("00" + "a" * 32, "../x", "a b"):
        code, _, err = run(capsys, "sessions", "end", session_id)
        assert (code, err.startswith("gateway: 404")) == (1, True)
    code, _, err = run(capsys, "sessions", "end-all", "alice", "--except", "laptop")
    assert code == 1
    assert "except" in err
