"""`gateway migrate`: configuration on standard output, what is left to do on the other."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import load
from gateway.errors import ConfigurationError
from gateway.migrate import from_authelia, from_oauth2_proxy
from tests.config.test_commands import run

SAMPLES = Path(__file__).parent / "samples"
CASES = {"oauth2-proxy": "oauth2-proxy.cfg", "authelia": "configuration.yml"}


@pytest.mark.parametrize("peer", CASES)
def test_what_is_printed_is_a_good_configuration(
    peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check-config` has no problem with it, nobody has its token, and no secret is in it."""
    code, out, err = run(capsys, "migrate", peer, str(SAMPLES / CASES[peer]))
    assert code == 0
    path = tmp_path / "gateway.toml"
    path.write_text(out)
    assert run(capsys, "check-config", "--config", str(path))[0] == 0
    assert load(str(path), {}).settings is not None
    assert "not-a-real" not in out + err
    assert "cookie_secret" not in out
    notes = err.splitlines()
    assert all(note.startswith("note: ") for note in notes[:-1])
    assert notes[-1].endswith(f"{len(notes) - 1} notes")
    assert len(set(notes)) == len(notes)


@pytest.mark.parametrize("peer", CASES)
def test_every_option_is_translated_or_noted(peer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of a file is passed over in silence."""
    _, out, err = run(capsys, "migrate", peer, str(SAMPLES / CASES[peer]))
    made = tomllib.loads(out)
    assert made["check"]["profiles"] == [peer]
    if peer == "authelia":
        for section in ("storage", "totp", "notifier", "authentication_backend", "theme"):
            assert f"note: {section}: " in err
        assert made["session"] == {
            "absolute": "43200s",
            "idle": "900s",
            "cookie": {"name": "authelia_session", "same_site": "lax", "domain": "example.com"},
        }
        assert made["redis"]["url"] == "redis://redis.example.com:6379/2"
        return
    for name in (
        "client_secret",
        "upstreams",
        "trusted_ips",
        "pass_access_token",
        "cookie_refresh",
    ):
        assert f"note: {name}: " in err
    assert made["session"]["absolute"] == made["session"]["idle"] == "72h"
    assert made["session"]["cookie"]["name"] == "__Secure-tools"
    assert made["check"]["oauth2_proxy"]["allowed_email_domains"] == ["example.com", ".example.org"]
    assert made["redis"] == {"url": "redis://redis.example.com:6379/3", "username": "tools"}


@pytest.mark.parametrize(
    ("peer", "content", "words"),
    [
        ("oauth2-proxy", b"a = \n", "TOML"),
        ("oauth2-proxy", b"\xff", "UTF-8"),
        ("authelia", b"a: [", "YAML"),
        ("authelia", b"- a\n- b\n", "is not a map"),
        ("authelia", b"access_control: x\n", "access_control is not a map"),
        ("authelia", b"session:\n  expiration: soon\n", "not a duration"),
        ("authelia", b"a: !!python/object:x {}\n", "YAML"),
        ("authelia", b"\xff", "UTF-8"),
    ],
)
def test_what_is_no_configuration_is_one_line(
    peer: str, content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what is wrong, exit code 2, and no half of a configuration."""
    path = tmp_path / "file"
    path.write_bytes(content)
    code, out, err = run(capsys, "migrate", peer, str(path))
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_without_yaml_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    code, out, err = run(capsys, "migrate", "authelia", str(SAMPLES / "configuration.yml"))
    assert (code, out) == (2, "")
    assert "extra `migrate`" in err


def test_what_restricts_signing_in_denies_until_somebody_looks() -> None:
    """An organisation or a list of addresses cannot be asked about here."""
    for options in ({"github_org": "x", "email_domains": ["*"]}, {"authenticated_emails_file": "f"},
                    {}, {"email_domains": "*", "google_group": ["a"]}):  # fmt: skip
        made = from_oauth2_proxy(options)
        assert made.rules[-1][0].access == "deny", options
        assert any("sign-in" in note for note in made.notes)
    assert from_oauth2_proxy({"email_domains": "*"}).rules[-1][0].access == "session"


def test_lifetimes_are_never_longer() -> None:
    """The peers' own defaults where a file says nothing; ours are longer."""
    made = from_authelia({"session": {"cookies": [{"domain": "example.com"}]}})
    assert made.settings["session"] == {"absolute": "3600s", "idle": "300s"}
    made = from_authelia({"session": {"expiration": 60, "inactivity": "1 hour and 30 minutes"}})
    assert made.settings["session"] == {"absolute": "60s", "idle": "60s"}
    assert from_oauth2_proxy({}).settings["session"]["absolute"] == "168h"
    for expire, absolute in (("0", "12h"), ("1h30m0s", "1h30m"), ("1.5h", "12h"), ("720h", "720h")):
        made = from_oauth2_proxy({"cookie_expire": expire})
        assert made.settings["session"]["absolute"] == absolute


WORDS = st.sampled_from(
    [
        "",
        "a",
        "'",
        '"',
        "\n",
        "]\n[admin]\n",
        "\\",
        "\x7f",
        "\u2028",
        "é",
        "#",
        "*",
        "example.com",
        "1h",
    ]
)
VALUES = st.one_of(
    WORDS, st.none(), st.booleans(), st.integers(-5, 10**6), st.lists(WORDS, max_size=2)
)
NAMES = ["skip_auth_regex", "skip_auth_routes", "allowed_groups", "email_domains", "cookie_expire",
         "whitelist_domains", "redis_connection_url", "cookie_domains", "cookie_samesite",
         "allowed_roles"]  # fmt: skip
OPTIONS = st.dictionaries(st.sampled_from(NAMES), VALUES)
RULE = st.dictionaries(
    st.sampled_from(["domain", "domain_regex", "policy", "resources", "methods", "subject"]), VALUES
)
CONFIGS = st.fixed_dictionaries(
    {
        "access_control": st.fixed_dictionaries(
            {"rules": st.lists(RULE, max_size=3)}, optional={"default_policy": VALUES}
        ),
        "session": st.fixed_dictionaries(
            {}, optional={"cookies": st.just([{"domain": "example.com"}]), "same_site": VALUES}
        ),
    }
)


def check_toml(text: str) -> dict[str, Any]:
    made = tomllib.loads(text)
    assert len(made["admin"]["tokens"]) == 1
    assert set(made) <= {"admin", "check", "policy", "redis", "session"}
    return made


@given(options=OPTIONS)
def test_no_value_of_oauth2_proxy_breaks_out(options: dict[str, Any]) -> None:
    """Whatever is in the file, what is printed is TOML with our sections alone."""
    check_toml(from_oauth2_proxy(options).toml())


@given(config=CONFIGS)
def test_no_value_of_authelia_breaks_out(config: dict[str, Any]) -> None:
    try:
        made = from_authelia(config)
    except ConfigurationError:
        return
    check_toml(made.toml())
