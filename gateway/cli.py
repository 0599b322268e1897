"""The commands."""

from __future__ import annotations

import os
import re
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import click
import orjson
from structlog import get_logger

from . import __version__
from .admin.tokens import digest_of, new_admin_token
from .config import Loaded, Settings, load
from .conformance.command import conformance
from .decision import Reason
from .errors import ConfigurationError
from .http_call import Answered, call
from .policy import Policy, Rule, is_public
from .target import METHODS, normal_host, readings

# What browsers do not escape in an address; all else is sent percent-encoded.
_SENT_AS_IS = "".join(chr(code) for code in range(0x21, 0x7F))
_NOT_OURS = "this is not the admin API of a Session Gateway"

config_option = click.option(
    "--config", "path", type=click.Path(dir_okay=False), help="The TOML file.", envvar="GW_CONFIG"
)


def main() -> None:
    """Run a command; a wrong configuration is one clear line and exit code 2."""
    try:
        commands(prog_name="gateway")
    except ConfigurationError as error:
        click.echo(f"gateway: {error}", err=True)
        sys.exit(2)


@click.group()
@click.version_option(__version__)
def commands() -> None:
    """Session Gateway: decides for a proxy whether a request may pass."""


commands.add_command(conformance)


@commands.command(hidden=True)
def worker() -> None:
    """Answer checks for the process that started this one; not for people."""
    from .app import work

    work()


@commands.command()
@config_option
def serve(path: str | None) -> None:
    """Run the service."""
    from .app import serve as run
    from .telemetry import configure_logs

    loaded = load(path)
    if loaded.settings is None:
        _print_problems(loaded)
        sys.exit(2)
    configure_logs(loaded.settings.log.level)
    for warning in loaded.warnings:
        get_logger("gateway").warning("configuration", place=warning.place, what=warning.message)
    run(loaded.settings)


@commands.command("check-config")
@config_option
def check_config(path: str | None) -> None:
    """Print every problem of the configuration at once; exit 1 if there is any."""
    loaded = load(path)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if loaded.settings is None:
        _print_problems(loaded)
        sys.exit(1)
    rules = len(loaded.settings.policy.rules)
    click.echo(f"{path or 'the environment'}: good, {rules} rules")


@commands.command()
@config_option
@click.option("--role", "roles", multiple=True, help="A role of the user; may be repeated.")
@click.option("--ip", "_address", default="", help="For rules about networks: none yet.")
@click.option("--anonymous", is_flag=True, help="Nobody is signed in.")
@click.argument("method")
@click.argument("url")
def explain(
    *, path: str | None, roles: tuple[str, ...], _address: str, anonymous: bool, method: str,
    url: str,
) -> None:  # fmt: skip
    """Tell which rule decides about METHOD URL, and why, rule by rule."""
    policy = Policy(rule.spec() for rule in _loaded(path).policy.rules)
    host, target = _split_url(url)
    paths = readings(target)
    if host is None or method not in METHODS or paths is None:
        click.echo(f"denied: {_refused_input(host, method)}")
        return
    for reading in paths:
        _explain_reading(policy, method, host, reading)
    rules = policy.match_all(method, host, paths)
    click.echo(_outcome(rules, None if anonymous else roles))


def _explain_reading(policy: Policy, method: str, host: str, path: str) -> None:
    click.echo(f"path {path}")
    deciding = policy.match(method, host, path)
    for rule in policy.rules:
        click.echo("  " + _verdict(rule, method, host, path))
        if rule is deciding:
            break


def _split_url(url: str) -> tuple[str | None, str]:
    """Return host and target as a browser would send them: without what stands behind `#`."""
    scheme, _, rest = url.partition("#")[0].partition("://")
    if scheme not in ("http", "https") or not rest:
        raise click.BadParameter(
            "write the whole address: https://app.example.com/admin/", param_hint="URL"
        )
    end = next((place for place, sign in enumerate(rest) if sign in "/?"), len(rest))
    host, target = rest[:end], quote(rest[end:], safe=_SENT_AS_IS)
    return normal_host(host), target if target.startswith("/") else f"/{target}"


def _refused_input(host: str | None, method: str) -> Reason:
    if host is None:
        return Reason.BAD_HOST
    return Reason.BAD_METHOD if method not in METHODS else Reason.AMBIGUOUS_PATH


def _verdict(rule: Rule, method: str, host: str, path: str) -> str:
    spec = rule.spec
    roles = f", roles {' '.join(spec.roles)}" if spec.roles else ""
    name = f"rule {rule.number} ({spec.host or '*'} {spec.path or '*'} -> {rule.access}{roles})"
    if not rule.covers_host(host):
        return f"{name}: other host"
    if method not in rule.methods:
        return f"{name}: other method"
    if not rule.covers(method, path):
        return f"{name}: other path"
    return f"{name}: decides"


def _outcome(rules: tuple[Rule, ...] | Reason, roles: tuple[str, ...] | None) -> str:
    """Say what the rules come to for somebody with `roles`, or for nobody (None)."""
    if isinstance(rules, Reason):
        return f"denied: {rules}"
    if is_public(rules):
        return "allowed: public"
    if roles is None:
        return f"denied: {Reason.NO_SESSION}"
    if any(rule.roles and rule.roles.isdisjoint(roles) for rule in rules):
        return f"denied: {Reason.ROLE_REQUIRED}"
    return "allowed: with a live session"


@commands.command()
@click.option("--name", default="app", help="How events name whoever uses it.")
def token(name: str) -> None:
    """Make an admin token and the line for the configuration."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise click.BadParameter("letters, digits, dot, _ and - only", param_hint="--name")
    secret = new_admin_token()
    scopes = '["sessions:read", "sessions:write", "metrics"]'
    click.echo(f"token, shown once: {secret}")
    click.echo("in [admin] of the configuration:")
    click.echo(
        f'tokens = [{{ name = "{name}", sha256 = "{digest_of(secret)}", scopes = {scopes} }}]'
    )


@commands.group()
def sessions() -> None:
    """List and end sessions through the admin API (GW_ADMIN_URL, GW_ADMIN_TOKEN)."""


@sessions.command("list")
@click.argument("user")
def list_sessions(user: str) -> None:
    """List the user's sessions, newest activity first."""
    cursor: str | None = ""
    while cursor is not None:
        query = f"?limit=200&cursor={quote(cursor)}" if cursor else "?limit=200"
        page = _api("GET", f"/v1/users/{quote(user, safe='')}/sessions{query}")
        for each in page["sessions"]:
            click.echo(
                f"{each['id']}  {each['device']['name']}  {each['ip'] or '-'}  "
                f"last seen {each['last_seen_at']}  until {each['idle_expires_at']}"
            )
        cursor = page["next"]
        if not (page["sessions"] or query.count("cursor")):
            click.echo("no sessions", err=True)


@sessions.command("end")
@click.argument("session_id", metavar="ID")
@click.option("--reason", default="", help="For the event.")
def end_session(session_id: str, reason: str) -> None:
    """End one session."""
    query = f"?reason={quote(reason)}" if reason else ""
    _print_receipt(_api("DELETE", f"/v1/sessions/{quote(session_id, safe='')}{query}"))


@sessions.command("end-all")
@click.argument("user")
@click.option("--except", "keep", default="", help="The id of a session to keep.")
@click.option("--reason", default="", help="For the event.")
def end_all_sessions(user: str, keep: str, reason: str) -> None:
    """End all sessions of a user."""
    parts = [f"except={quote(keep)}"] if keep else []
    parts += [f"reason={quote(reason)}"] if reason else []
    query = "?" + "&".join(parts) if parts else ""
    _print_receipt(_api("DELETE", f"/v1/users/{quote(user, safe='')}/sessions{query}"))


def _print_receipt(receipt: dict[str, Any]) -> None:
    replicas = receipt["replicas"]
    state = "complete" if receipt["complete"] else "NOT complete: some replica may still allow"
    click.echo(
        f"ended {receipt['ended']}: {state}; {replicas['confirmed']} of {replicas['live']} "
        f"replicas confirmed, {receipt['took_ms']} ms"
    )
    for session_id in receipt["sessions"]:
        click.echo(session_id)


def _api(method: str, path: str) -> dict[str, Any]:
    """Call the admin API; a refusal is one clear line and exit code 1."""
    url = os.environ.get("GW_ADMIN_URL", "http://127.0.0.1:9182")
    secret = os.environ.get("GW_ADMIN_TOKEN", "")
    if not secret:
        raise ConfigurationError(
            "GW_ADMIN_TOKEN is not set; export the token whose line is in the configuration "
            "(`gateway token` makes one)"
        )
    answered = call(method, url.rstrip("/") + path, secret)
    if answered.status != HTTPStatus.OK:
        click.echo(f"gateway: {answered.status}: {_detail(answered)}", err=True)
        sys.exit(1)
    try:
        value: dict[str, Any] = orjson.loads(answered.body)
    except ValueError:
        raise ConfigurationError(f"GW_ADMIN_URL: {_NOT_OURS}") from None
    return value


def _detail(answered: Answered) -> str:
    try:
        problem = orjson.loads(answered.body)
        more = [f"{each['place']} {each['message']}" for each in problem.get("problems", ())]
        return "; ".join([str(problem["detail"]), *more])
    except (ValueError, KeyError, TypeError):
        return _NOT_OURS


def _loaded(path: str | None) -> Settings:
    loaded = load(path)
    if loaded.settings is None:
        _print_problems(loaded)
        sys.exit(1)
    return loaded.settings


def _print_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        click.echo(str(problem), err=True)
    count = len(loaded.problems)
    click.echo(f"gateway: {count} problem{'s' if count != 1 else ''}", err=True)
