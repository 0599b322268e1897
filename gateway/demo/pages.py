"""The HTML of the small application. Everything that comes from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc }}
[role=alert] {{ color: #a00 }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def page(title: str, body: str) -> str:
    """Return a page; `body` is HTML, `title` is not."""
    return _PAGE.format(title=escape(title), body=body)


def welcome() -> str:
    return page(
        "Session Gateway demo",
        '<p>This page is public.<p><a href="/app">The application</a> asks you to sign in,'
        ' <a href="/admin/">the console</a> wants the role admin.',
    )


def sign_in(back: str, problem: str = "") -> str:
    """Return the form; `back` is where to go afterwards."""
    alert = f'<p role="alert">{escape(problem)}' if problem else ""
    return page(
        "Sign in",
        f'{alert}<form method="post" action="/login">'
        f'<input type="hidden" name="rd" value="{escape(back)}">'
        '<p><label>User <input name="user" autocomplete="username" required autofocus></label>'
        '<p><label>Password <input name="password" type="password"'
        ' autocomplete="current-password" required></label>'
        "<p><button>Sign in</button></form><p>Try alice/alice or root/root.",
    )


def identity(headers: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in sorted(headers))
    return page(
        "The application",
        f"<p>What the gateway says about you:<table>{rows}</table>"
        '<form method="post" action="/logout"><p><button>Sign out</button></form>',
    )


def sign_out() -> str:
    return page(
        "Sign out", '<form method="post" action="/logout"><p><button>Sign out</button></form>'
    )


def console(user: str, sessions: Iterable[Mapping[str, Any]], ended: str = "") -> str:
    """Return one user's sessions with a button to end each; `ended` tells of the last one."""
    note = f'<p role="status">{escape(ended)}' if ended else ""
    rows = "".join(_row(user, each) for each in sessions) or "<tr><td>No sessions."
    return page(
        "Sessions",
        f'{note}<form><p><label>User <input name="user" value="{escape(user)}"></label>'
        f" <button>List</button></form><table>{rows}</table>",
    )


def _row(user: str, session: Mapping[str, Any]) -> str:
    seen = f"{session['device']['name']}, {session['ip'] or 'no address'}"
    return (
        f"<tr><td>{escape(seen)}<td>last seen {escape(session['last_seen_at'])}"
        f'<td><form method="post"><input type="hidden" name="user" value="{escape(user)}">'
        f'<button name="end" value="{escape(session["id"])}">End</button></form>'
    )
