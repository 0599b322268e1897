"""The commands."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import click
import orjson
from structlog import get_logger

from . import __version__
from .admin.tokens import digest_of, new_admin_token
from .alerts import RULES
from .alerts.finding import instant_of
from .audit_commands import audit, database
from .conditions import Locate
from .config import Loaded, Settings, load
from .config.expectations import Expectation, load_expectations
from .config.loading import read_text, read_toml
from .conformance.command import conformance
from .dead_letter_commands import dead_letters
from .decision import Decision
from .errors import ConfigurationError, InvalidInput
from .explain import Supposed, decide, explanation, request_of, supposed_place
from .geo import Geo
from .http_call import Answered, call
from .lifetime import parse_duration_ms
from .migrate import Translation, from_authelia, from_oauth2_proxy
from .model import HIGHEST_AAL, LOWEST_AAL, CheckRequest, Place
from .policy import Policy
from .reloading import Source
from .replay import Fired, Replay, recorded_in

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
commands.add_command(database)
commands.add_command(audit)
commands.add_command(dead_letters)


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

    source = Source(path)
    loaded = source.load()
    if loaded.settings is None:
        _print_problems(loaded)
        sys.exit(2)
    configure_logs(loaded.settings.log.level)
    for warning in loaded.warnings:
        get_logger("gateway").warning("configuration", place=warning.place, what=warning.message)
    run(loaded.settings, source)


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


@commands.command("explain")
@config_option
@click.option("--user", default="somebody", help="Who is signed in.")
@click.option("--role", "roles", multiple=True, help="A role of the user; may be repeated.")
@click.option(
    "--aal",
    type=click.IntRange(LOWEST_AAL, HIGHEST_AAL),
    default=LOWEST_AAL,
    help="How well the user was authenticated.",
)
@click.option("--age", default="0s", help="How long ago the user signed in, such as 10m.")
@click.option("--rested", default="0s", help="How long ago the session was last used.")
@click.option("--alert", "alerts", multiple=True, help="What its sign-in raised; may be repeated.")
@click.option("--ip", "address", default="", help="The client's address.")
@click.option("--country", default="", help="Where the client is, whatever the database says: DE.")
@click.option("--asn", default=0, help="Whose network it is in, whatever the database says: 3320.")
@click.option("--preflight", is_flag=True, help="It is a CORS preflight.")
@click.option("--anonymous", is_flag=True, help="Nobody is signed in.")
@click.argument("method")
@click.argument("url")
def explain_request(
    *, path: str | None, user: str, roles: tuple[str, ...], aal: int, age: str, rested: str,
    alerts: tuple[str, ...], address: str, country: str, asn: int, preflight: bool, anonymous: bool,
    method: str, url: str,
) -> None:  # fmt: skip
    """Tell which rule decides about METHOD URL, and why, rule by rule."""
    settings = _loaded(path)
    supposed = Supposed(user, roles, aal, _milliseconds(age, "--age"),
                        _milliseconds(rested, "--rested"), alerts)  # fmt: skip
    request = _request(method, url, _address(address), preflight=preflight)
    locate = _locate(settings)
    policy = Policy(
        settings.policy.specs(), locate=lambda ip: supposed_place(locate(ip), country, asn)
    )
    asked = decide(policy, request, settings.session.lifetime, None if anonymous else supposed)
    try:
        decision = asyncio.run(asked)
    except InvalidInput as error:
        raise click.UsageError(str(error)) from None
    for line in explanation(policy, request):
        click.echo(line)
    click.echo(_outcome(decision))


def _locate(settings: Settings) -> Locate:
    """Look addresses up as the service would, if a rule asks for that."""
    rules = settings.policy.rules
    geo = Geo(settings.geo.city, settings.geo.asn, lambda _: None)
    geo.open(city=any(each.country for each in rules), asn=any(each.asn for each in rules))
    return geo.locate


def _request(method: str, url: str, address: str, *, preflight: bool) -> CheckRequest:
    try:
        return request_of(method, url, address, preflight=preflight)
    except InvalidInput as error:
        raise click.BadParameter(error.problems[0].message, param_hint="URL") from None


def _milliseconds(duration: str, option: str) -> int:
    try:
        return parse_duration_ms(duration)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise click.BadParameter("write for example 192.0.2.7", param_hint="--ip") from None


def _outcome(decision: Decision) -> str:
    if decision.reason is not None:
        hint = f" ({decision.step_up})" if decision.step_up else ""
        return f"denied: {decision.reason}{hint}"
    return "allowed: public" if decision.session is None else "allowed: with a live session"


@commands.group()
def policy() -> None:
    """Work on the rules."""


@policy.command("test")
@config_option
@click.argument("table", metavar="FILE")
def test_policy(path: str | None, table: str) -> None:
    """Compare the rules with a table of expected decisions; exit 1 if any differs."""
    settings = _loaded(path)
    try:
        expected = load_expectations(table)
        failures = asyncio.run(_failures(settings, expected))
    except InvalidInput as error:
        for problem in error.problems:
            click.echo(f"{table}: {problem}", err=True)
        sys.exit(2)
    for failure in failures:
        click.echo(failure)
    click.echo(f"{len(expected)} expected, {len(failures)} not met")
    sys.exit(1 if failures else 0)


async def _failures(settings: Settings, expected: Sequence[Expectation]) -> list[str]:
    specs, locate, found = settings.policy.specs(), _locate(settings), []
    for number, each in enumerate(expected, 1):
        policy = Policy(specs, locate=partial(_place_in, locate, each))
        request = request_of(each.method, each.url, each.ip, preflight=each.preflight)
        try:
            decision = await decide(policy, request, settings.session.lifetime, _supposed(each))
        except InvalidInput as error:
            place = f"tests[{number}].session"
            placed = [replace(each, place=f"{place}.{each.place}") for each in error.problems]
            raise InvalidInput(tuple(placed)) from None
        if not each.is_met(decision.reason):
            name = f"tests[{number}] {each.name}".rstrip()
            came = _outcome(decision)
            found.append(f"{name}: {each.method} {each.url}: expected {each.expect}, {came}")
    return found


def _place_in(locate: Locate, expected: Expectation, address: str) -> Place:
    return supposed_place(locate(address), expected.country, expected.asn)


def _supposed(expected: Expectation) -> Supposed | None:
    each = expected.session
    if each is None:
        return None
    return Supposed(each.user, each.roles, each.aal, each.age, each.rested, each.alerts)


@commands.group()
def alerts() -> None:
    """Work on the alert rules."""


@alerts.command("replay")
@config_option
@click.argument("recorded", metavar="FILE", type=click.File("rb"))
def replay_alerts(path: str | None, recorded: BinaryIO) -> None:
    """Print which alerts recorded sign-ins (JSON lines; -: standard input) would have raised."""
    settings = _loaded(path)
    watch = settings.alerts.watch
    if watch is None:
        raise ConfigurationError("alerts: every rule is off; set one to shadow or alert")
    geo = Geo(settings.geo.city, settings.geo.asn, lambda _: None)
    geo.open()
    replay, signed_in = Replay(watch, geo.locate), 0
    counts: Counter[str] = Counter()
    try:
        for signed_in, each in enumerate(recorded_in(recorded), 1):  # noqa: B007
            for fired in replay.sign_in(each):
                counts[fired.alert.type] += 1
                click.echo(_fired(fired))
    except InvalidInput as error:
        raise ConfigurationError(f"{recorded.name}: {error}") from None
    found = ", ".join(f"{name} {counts[name]}" for name in RULES if counts[name])
    click.echo(f"{signed_in} sign-ins: {found or 'no alerts'}", err=True)


def _fired(fired: Fired) -> str:
    alert = fired.alert
    details = orjson.dumps(dict(alert.details)).decode()
    at = instant_of(fired.sign_in.at_ms)
    return f"{at}  {fired.sign_in.user}  {alert.type} ({alert.action})  {details}"


@commands.command()
@click.option("--name", default="app", help="How events name whoever uses it.")
def token(name: str) -> None:
    """Make an admin token and the line for the configuration."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise click.BadParameter("letters, digits, dot, _ and - only", param_hint="--name")
    secret = new_admin_token()
    scopes = '["sessions:read", "sessions:write", "events:read", "metrics"]'
    click.echo(f"token, shown once: {secret}")
    click.echo("in [admin] of the configuration:")
    click.echo(
        f'tokens = [{{ name = "{name}", sha256 = "{digest_of(secret)}", scopes = {scopes} }}]'
    )


@commands.group()
def migrate() -> None:
    """Print a peer's configuration as ours, and on standard error what is left to do."""


peers_file = click.argument("file", type=click.Path(exists=True, dir_okay=False))


@migrate.command("oauth2-proxy")
@peers_file
def migrate_oauth2_proxy(file: str) -> None:
    """Translate a configuration FILE of oauth2-proxy."""
    _print_translation(from_oauth2_proxy(read_toml(file)))


@migrate.command("authelia")
@click.option("--two-factor-always", is_flag=True, help="Sessions are made after two factors only.")
@peers_file
def migrate_authelia(*, file: str, two_factor_always: bool) -> None:
    """Translate a configuration.yml FILE of Authelia."""
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "Authelia's file is YAML: install the extra `migrate` (or PyYAML) to read it"
        ) from None
    try:
        config = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ConfigurationError(f"{file}: is not YAML: {why}") from None
    _print_translation(from_authelia(config, two_factor_always=two_factor_always))


def _print_translation(made: Translation) -> None:
    click.echo(made.toml(), nl=False)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"gateway: {len(made.rules)} rules, {len(made.notes)} notes", err=True)


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


@commands.command()
@click.option("--user", default="", help="Only this user's.")
@click.option("--session", default="", help="Only of the session with this id.")
@click.option("--type", "kind", default="", help="For example session.ended.")
@click.option("--from", "begin", default="", help="Since, as 2026-03-01T09:00:00Z.")
@click.option("--to", "end", default="", help="Before, in the same form.")
@click.option("--limit", default=50, type=click.IntRange(1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(
    *, user: str, session: str, kind: str, begin: str, end: str, limit: int, as_json: bool
) -> None:
    """List what happened, newest first, through the admin API."""
    wanted = {"user": user, "session": session, "type": kind, "from": begin, "to": end}
    cursor: str | None = ""
    while cursor is not None and limit > 0:
        query = {name: text for name, text in wanted.items() if text}
        query |= {"limit": str(min(limit, 200))} | ({"cursor": cursor} if cursor else {})
        page = _api("GET", f"/v1/events?{urlencode(query)}")
        for each in page["events"]:
            click.echo(orjson.dumps(each) if as_json else _event_line(each))
        limit -= len(page["events"])
        cursor = page["next"]


def _event_line(event: dict[str, Any]) -> str:
    parts = [event["at"], event["type"], event["user"] or "-", event["session"], event["by"]]
    parts += [f"{event['reason']!r}"] if event["reason"] else []
    parts += [str(event["details"][name]) for name in ("why", "ip") if event["details"].get(name)]
    return "  ".join(parts)


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
