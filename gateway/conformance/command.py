"""`gateway conformance`: exit code 0 if all held, 1 where there are holes, 2 if it did not run."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

import click

from ..errors import ConfigurationError
from ..identity import HEADERS
from . import report, upstream
from .cases import CASES
from .fixes import PROXIES, proxy_of
from .paths import leads_to
from .place import COOKIE, Place
from .sender import Server
from .suite import Result, Suite
from .verdict import Known, Outcome

_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+/?|/", re.ASCII)
_COOKIE = re.compile(r"[!#-'*+.0-9A-Z^_`a-z|~-]+=[!#-+./0-:<-\[\]-~-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_SHORTEST_SECRET = 8  # a shorter one is part of too many words


@click.command()
@click.option("--url", help="Your proxy, as browsers reach it: https://app.example.com")
@click.option("--protected", help="A page that a stranger may not open.")
@click.option("--public", help="A page that anybody may open.")
@click.option(
    "--cookie",
    envvar="GW_CONFORMANCE_COOKIE",
    default="",
    help="name=value of a live session; better in GW_CONFORMANCE_COOKIE.",
)
@click.option("--page", help="A page that this session may open.  [default: --protected]")
@click.option(
    "--header",
    "headers",
    multiple=True,
    help="An identity header; may be repeated.  [default: X-Auth-User and the like]",
)
@click.option(
    "--connect",
    default="",
    metavar="HOST:PORT",
    help="Connect here instead of where the name of the URL leads.",
)
@click.option("--insecure", is_flag=True, help="Do not check the certificate.")
@click.option("--proxy", type=click.Choice(PROXIES), help="Whose fixes to print.")
@click.option(
    "--rate", type=click.IntRange(1, 500), default=20, show_default=True, help="Requests a second."
)
@click.option("--dry-run", is_flag=True, help="Print every request, send none.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@click.option("--verbose", is_flag=True, help="Print also what held.")
@click.option(
    "--upstream",
    "listen",
    metavar="LISTEN",
    help="Be the check upstream on HOST:PORT instead, until interrupted.",
)
def conformance(
    *, url: str | None, protected: str | None, public: str | None, cookie: str, page: str | None,
    headers: tuple[str, ...], connect: str, insecure: bool, proxy: str | None, rate: int,
    dry_run: bool, yes: bool, verbose: bool, listen: str | None,
) -> None:  # fmt: skip
    """Send known bypasses through your own proxy; tell what passed that must not."""
    if listen:
        click.echo(f"the check upstream answers on {listen}; Ctrl-C ends it")
        upstream.run(listen)
        return
    if not (url and protected and public):
        raise click.UsageError("name --url, --protected and --public (or --upstream)")
    server, host = _server(url, connect, insecure=insecure)
    place = _place(Place(host, protected, public, page or protected, cookie, headers or HEADERS))
    suite = Suite(place, server.send, [case for case in CASES if case.harmless], rate)
    _say(report.plan(suite, url), place)
    if dry_run:
        blind = replace(place, cookie=cookie and f"{cookie.partition('=')[0]}=TOKEN")
        _say(report.requests(replace(suite, place=blind)), place)
        return
    if not yes:
        _confirm()
    known, results, detected = _run(suite, url)
    if verbose:
        _say((f"{r.verdict.outcome} {r.case.name}: {r.verdict.why}" for r in results), place)
    _say(report.findings(results, known, proxy or detected), place)
    sys.exit(_exit_code(results))


def _server(url: str, connect: str, *, insecure: bool) -> tuple[Server, str]:
    """Return where to connect to, and the host to ask for."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise click.BadParameter("write https://app.example.com", param_hint="--url") from None
    bare = parts.netloc.isascii() and "@" not in parts.netloc and not parts.query
    if not parts.hostname or not bare or parts.path.strip("/"):
        raise click.BadParameter(
            "only the scheme and the host: https://app.example.com", param_hint="--url"
        )
    address, _, other = connect.rpartition(":")
    if connect and not (address and other.isdecimal()):
        raise click.BadParameter("write HOST:PORT", param_hint="--connect")
    tls = _tls(insecure=insecure) if parts.scheme == "https" else None
    name = parts.hostname if tls else None
    target = (address.strip("[]"), int(other)) if connect else (parts.hostname, port)
    return Server(*target, tls, name), parts.netloc


def _tls(*, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _place(place: Place) -> Place:
    """Return the place if every value is one that cases can be made of."""
    for option, path in (("protected", place.protected), ("public", place.public),
                         ("page", place.page)):  # fmt: skip
        if not _PATH.fullmatch(path):
            raise click.BadParameter(
                f"{path!r}: write a plain path, without query and escapes: /admin",
                param_hint=f"--{option}",
            )
    if place.protected == "/" or leads_to(place.protected, place.public):
        raise click.BadParameter(
            "must not lie below --protected, and that must not be /", param_hint="--public"
        )
    if place.cookie and not _COOKIE.fullmatch(place.cookie):
        raise click.BadParameter(f"write name=value: {COOKIE}=...", param_hint="--cookie")
    if not all(map(_NAME.fullmatch, place.identity)):
        raise click.BadParameter("letters, digits and - only", param_hint="--header")
    return place


def _confirm() -> None:
    try:
        if click.confirm("Send them?"):
            return
    except click.Abort:
        pass
    raise ConfigurationError("nothing was sent; --yes sends without asking")


def _run(suite: Suite, url: str) -> tuple[Known, list[Result], str]:
    try:
        return asyncio.run(_learn_and_run(suite))
    except (OSError, TimeoutError) as error:
        why = str(error) or "no answer"
        raise ConfigurationError(f"--url: cannot connect to {url}: {why}") from None
    except KeyboardInterrupt:
        raise ConfigurationError("interrupted: nothing is proven") from None


async def _learn_and_run(suite: Suite) -> tuple[Known, list[Result], str]:
    known = await suite.learn()
    results = await suite.run(known)
    if not await suite.still_the_same(known):
        raise ConfigurationError(
            "the public page does not answer as before: the proxy has shut us out (a rate limit?), "
            "and what held may have held because of that; try a lower --rate"
        )
    return known, results, proxy_of(*await suite.calling_cards())


def _say(lines: Iterable[str], place: Place) -> None:
    """Print what came from the network without its control characters, and never the token."""
    token = place.cookie.partition("=")[2]
    for line in lines:
        shown = line.replace(token, "TOKEN") if len(token) >= _SHORTEST_SECRET else line
        click.echo(re.sub(r"[^\x20-\x7e]", "?", shown))


def _exit_code(results: Iterable[Result]) -> int:
    outcomes = {result.verdict.outcome for result in results}
    if Outcome.HOLE in outcomes:
        return 1
    return 0 if Outcome.HELD in outcomes else 2
