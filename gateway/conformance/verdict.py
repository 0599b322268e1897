"""What an answer says: held, a hole, or not to be judged.

With the check upstream behind the proxy the application's own view decides. Without it the status
and the body do, compared with what a stranger gets without a trick; then much cannot be judged, and
that is said.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from .cases import EVIL, Case, Must, Who
from .paths import leads_to
from .place import Place
from .sender import Reply
from .upstream import Seen, seen_in

Identity = frozenset[tuple[str, str]]

_BUSY = frozenset({429, 502, 503, 504})
_ENDPOINT_SIGNS = ("x-auth-user", "x-auth-login", "x-auth-request-user", "remote-user")


class Outcome(StrEnum):
    """What a case came to."""

    HELD = "held"
    HOLE = "HOLE"
    UNJUDGED = "not judged"
    NOT_SENT = "not sent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and why."""

    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the proxy does without tricks: the measure of everything else."""

    place: Place
    exact: bool  # the check upstream answers behind the proxy
    harmless: tuple[bytes, ...]  # bodies that anybody may see; empty if they never look the same
    secret: bytes | None  # the protected page, if somebody may see it
    identity: Mapping[Who, Identity]  # what the application sees of each
    shut_out: bool = False  # the cookie's session may not open the protected page either


def judge(case: Case, who: Who, reply: Reply, known: Known) -> Verdict:
    """Return what one answer to a case says."""
    if reply.unclear:
        return Verdict(Outcome.UNJUDGED, reply.unclear)
    seen = seen_in(reply)
    if seen is None and reply.status in _BUSY:
        return Verdict(Outcome.UNJUDGED, f"{reply.status}: it did not decide")
    hole = _hole(case, who, reply, seen, known)
    if hole:
        return Verdict(Outcome.HOLE, hole)
    if seen is not None:
        return Verdict(Outcome.HELD, f"{reply.status}, harmless")
    if not known.exact:
        return _by_answer(case, reply, known)
    if 200 <= reply.status < 300 and (reply.body or case.method == "HEAD"):
        return Verdict(Outcome.UNJUDGED, f"{reply.status}, and not from the check upstream")
    return Verdict(Outcome.HELD, _said(reply))


def _hole(case: Case, who: Who, reply: Reply, seen: Seen | None, known: Known) -> str:
    """Return what is wrong, "" if nothing is."""
    if seen is not None:
        return _seen_hole(case, seen, known) or _other_identity(case, seen, known, who)
    if reply.status == 101:
        return "101: a tunnel to the application, in which nothing is checked"
    match case.must:
        case Must.HOME:
            return _leads_away(reply)
        case Must.UNCACHED:
            return _may_be_kept(reply)
        case Must.HIDDEN:
            return _answers_itself(reply, known)
    return ""


def _said(reply: Reply) -> str:
    return str(reply.status) if reply.status else "closed without an answer"


# --- what the application saw ----------------------------------------------------------------


def _seen_hole(case: Case, seen: Seen, known: Known) -> str:
    """Return what is wrong with a request that has reached the application."""
    reached = f"the application was asked for {seen.target}"
    match case.must:
        case Must.SHUT | Must.HOME:
            return reached if leads_to(known.place.protected, seen.target) else ""
        case Must.REFUSED | Must.UNCACHED:
            return reached
        case Must.DROPPED:
            return _mark(case, seen, known)
    return ""


def _mark(case: Case, seen: Seen, known: Known) -> str:
    """Look for the mark in the headers, and for what a header may have made of the request."""
    mark = known.place.mark
    for name, value in seen.headers:
        if mark in value:
            return f"{name}: {value} reached the application"
    sent = re.sub(r"^http://[^/]*", "", known.place.fill(case.target))
    if seen.target != sent or seen.method != case.method:
        return f"{case.method} {sent} reached the application as {seen.method} {seen.target}"
    return ""


def _other_identity(case: Case, seen: Seen, known: Known, who: Who) -> str:
    """Whatever the trick was about: nobody is somebody else, and nobody becomes somebody."""
    if case.method == "HEAD" or who not in known.identity:  # the answer to HEAD shows no headers
        return ""
    right, found = known.identity[who], identity_in(seen, known.place.identity)
    if foreign := sorted(f"{name}: {value}" for name, value in found - right):
        return f"the application saw {'; '.join(foreign)}"
    # A member is nobody on a public page; elsewhere their headers must not go missing.
    gone = right - found if case.must is Must.IDENTITY else ()
    return f"the application saw no {', '.join(sorted(name for name, _ in gone))}" if gone else ""


def identity_in(seen: Seen, names: tuple[str, ...]) -> Identity:
    """Return what an application might take for identity headers, names folded together."""
    managed = {_folded(name) for name in names}
    pairs = ((_folded(name), value) for name, value in seen.headers)
    return frozenset((name, value) for name, value in pairs if name in managed and value)


def _folded(name: str) -> str:
    """Return a header's name as CGI makes a variable of it: all but letters and digits is one."""
    text = name.encode("latin-1", "replace").decode("utf-8", "replace")
    text = unicodedata.normalize("NFKC", text).upper().replace("\u2010", "-").replace("\u00ad", "")
    return re.sub(r"[^A-Z0-9]", "-", text.strip()).removeprefix("HTTP-")


# --- what the client got ---------------------------------------------------------------------


def _leads_away(reply: Reply) -> str:
    if any(name.lower().startswith("x-injected") for name, _ in reply.headers):
        return "a header of the client's is in the answer"
    for name in ("location", "refresh", "x-auth-login", "content-location"):
        for address in _addresses(reply.value(name)):
            if _host(address).endswith(EVIL):
                return f"{name}: {reply.value(name)}"
            if _scheme(address) not in ("http", "https", ""):
                return f"{name}: {reply.value(name)}"
    return ""


def _addresses(text: str) -> Iterator[str]:
    """Return an address, and those in its query."""
    yield text
    for part in re.split(r"[?&]", text)[1:]:
        value = part.partition("=")[2]
        yield unquote(value)
        yield unquote(unquote(value))


def _host(address: str) -> str:
    """Return the host that a browser would go to."""
    text = re.sub(r"[\x00-\x20]", "", address).replace("\\", "/")
    try:
        return (urlsplit(text).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _scheme(address: str) -> str:
    found = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):", address)
    return found[1].lower() if found else ""


def _may_be_kept(reply: Reply) -> str:
    said = reply.value("cache-control").lower()
    if reply.status in (401, 403, *range(300, 400)) and "no-store" not in said:
        return f"{reply.status} with Cache-Control: {said or '(none)'}"
    return ""


def _answers_itself(reply: Reply, known: Known) -> str:
    shown = [name for name in _ENDPOINT_SIGNS if reply.values(name)]
    if shown and reply.status != 302:
        return f"{reply.status} with {', '.join(shown)}"
    if known.exact and reply.status == 200:
        return "200, and not from the application"
    return ""


# --- without the check upstream --------------------------------------------------------------


def _by_answer(case: Case, reply: Reply, known: Known) -> Verdict:
    """Judge by status and body alone; the application's own view is not known."""
    if known.place.mark.encode() in reply.body and case.must in (Must.IDENTITY, Must.DROPPED):
        return Verdict(Outcome.HOLE, "what the client wrote into the header is in the page")
    if case.must in (Must.HOME, Must.UNCACHED):
        return Verdict(Outcome.HELD, _said(reply))
    if reply.status == 404:
        return Verdict(Outcome.UNJUDGED, "404: by whom only the check upstream can tell")
    if 200 <= reply.status < 300 or reply.status == 304:
        return _by_body(case, reply, known)
    return Verdict(Outcome.HELD, _said(reply))


def _by_body(case: Case, reply: Reply, known: Known) -> Verdict:
    if case.must in (Must.IDENTITY, Must.HIDDEN):
        return Verdict(Outcome.UNJUDGED, f"{reply.status}: only the check upstream tells more")
    if case.must is Must.REFUSED:
        return Verdict(Outcome.HOLE, f"{reply.status}: the page was served")
    if known.secret is not None and reply.body == known.secret:
        return Verdict(Outcome.HOLE, f"{reply.status}: the protected page itself")
    if reply.body in known.harmless:
        held = case.must is Must.SHUT
        why = f"{reply.status}: a page that anybody may see"
        return Verdict(Outcome.HELD if held else Outcome.UNJUDGED, why)
    if not known.harmless:
        return Verdict(Outcome.UNJUDGED, "pages look different each time: use the check upstream")
    return Verdict(Outcome.HOLE, f"{reply.status} with a page that is not the public one")
