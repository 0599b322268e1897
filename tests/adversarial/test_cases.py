"""The list itself: what may be sent through somebody's live proxy, and that it is what it says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.conformance.cases import CASES, KINDS, Case, Must
from gateway.conformance.fixes import ANY, FIXES, PROXIES, fix_of
from gateway.conformance.paths import leads_to, readings
from gateway.conformance.place import Place

PLACE = Place("app.example.com", "/admin", "/public", "/x", "__Host-sid=00" + "t" * 43)
DEEP = Place("app.example.com:8443", "/a/b/admin", "/pub/lic/page.css", "/p/q", "s=1")
ROOT = Place("app.example.com", "/admin", "/", "/x", "s=1")
HARMLESS = [case for case in CASES if case.harmless]


def requests(case: Case, place: Place = PLACE) -> list[bytes]:
    return [case.request(place, who) for who in case.senders]


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(re.fullmatch(r"[a-z-]+/[\w.,+~ -]+", case.name) for case in CASES)


def test_every_class_of_advisory_is_there() -> None:
    assert set(KINDS) >= {
        "path-confusion", "absolute-form", "identity-header", "forwarding-header", "hop-by-hop",
        "duplicate-cookie", "cookie-name", "host", "open-redirect", "method-override",
        "health-check-agent", "worthless-cookie", "response-caching", "malformed-line",
        "request-smuggling",
    }  # fmt: skip
    assert {case.must for case in CASES} == set(Must)


@pytest.mark.parametrize("place", [PLACE, DEEP, ROOT], ids=["plain", "deep", "root"])
def test_what_is_sent_to_a_live_proxy_changes_nothing(place: Place) -> None:
    """Reading methods, one head, no body: nothing can be left over for somebody else's request."""
    for case in HARMLESS:
        for request in requests(case, place):
            assert request.split(b" ", 1)[0] in (b"GET", b"HEAD", b"OPTIONS"), case.name
            ends = [found.end() for found in re.finditer(rb"\r?\n\r?\n", request)]
            assert ends == [len(request)], case.name
            assert b"transfer-encoding" not in request.lower(), case.name
            lengths = re.findall(rb"(?i)content-length *:([^\r]*)", request)
            assert all(re.fullmatch(rb"[ +,0x-]*", each) for each in lengths), case.name


def test_a_method_is_overridden_by_a_reading_one_only() -> None:
    values = [line.partition(": ")[2] for case in HARMLESS if case.kind == "method-override"
              for line in case.lines]  # fmt: skip
    assert set(values) == {"OPTIONS"}


def test_nothing_is_left_unfilled() -> None:
    for case in CASES:
        for request in requests(case):
            assert not re.search(rb"\{\w+(:[^}]*)?\}", request), case.name


# What only some other reader (a file system, a lenient decoder) takes for the protected page.
_FOREIGN = {
    "space-behind", "tab-behind", "dot-glued", "line-feed-behind", "line-feed-before",
    "tab-before", "line-break-after-dots", "percent-u", "percent-u-dots", "fullwidth-slash",
    "fullwidth-dots", "raw-fullwidth-slash", "line-feed-like-a-file", "asterisk", "query-only",
    "escaped-letter-thrice", "one-slash", "no-host", "query-host",
}  # fmt: skip


@pytest.mark.parametrize("place", [PLACE, DEEP], ids=["plain", "deep"])
def test_a_confusing_path_would_be_noticed_if_it_arrived(place: Place) -> None:
    """Else the judge would be blind where the case is aimed."""
    blind = {
        case.what
        for case in CASES
        if case.kind in ("path-confusion", "absolute-form")
        if not leads_to(place.protected, place.fill(case.target).encode().decode("latin-1")
                        if case.target.isascii() else place.protected)
    }  # fmt: skip
    # A host takes one segment: behind a deep public page nothing protected is left.
    assert blind <= _FOREIGN | ({"two-slashes-and-public"} if place is DEEP else set()), blind


def test_paths_of_everyday_life_lead_nowhere_else() -> None:
    for path in ("/public/x", "/administrators", "/x?y=/admin", "/public/admin", "/x;y/z", "/"):
        assert not leads_to("/admin", path), path
    assert len(readings("/" + "%25" * 200 + "/" + ";a//" * 200)) < 2000


def test_every_class_has_a_fix_for_every_proxy() -> None:
    for kind in KINDS:
        for proxy in (*PROXIES, ANY):
            assert len(fix_of(kind, proxy)) > 20 or proxy != ANY
    assert set(FIXES) <= set(KINDS)
    assert all(set(known) <= {*PROXIES, ANY} for known in FIXES.values())


def test_bytes_are_sent_as_they_are_written() -> None:
    by_name = {case.name: case for case in CASES}

    def sent(name: str, place: Place = PLACE) -> bytes:
        return requests(by_name[name], place)[0]

    assert sent("path-confusion/raw-byte").startswith(b"GET /\xff/../admin HTTP/1.1\r\n")
    assert b"Cookie: \xa0__Host-sid=00" in sent("cookie-name/raw-no-break-space")
    assert b"Cookie: \xe2\x80\x80__Host-sid=00" in sent("cookie-name/unicode-space")
    assert b"\r\nX_Auth_User: mark" in sent("identity-header/underscores")
    assert sent("path-confusion/escaped-dots", DEEP).startswith(
        b"GET /pub/lic/page.css/%2e%2e/%2e%2e/%2e%2e/a/b/admin HTTP/1.1\r\n"
    )
    assert b"\r\nHost: app.example.com:8443\r\n" in sent("path-confusion/plain", DEEP)
    assert sent("path-confusion/up-from-public", ROOT).startswith(b"GET /admin HTTP/1.1\r\n")


@pytest.mark.parametrize(("name", "other"), [("__Host-sid", "__host-sid"), ("sid", "SID")])
def test_a_cookie_in_other_case_is_another(name: str, other: str) -> None:
    """Else the session itself would be sent, and be taken for a hole."""
    [case] = [case for case in CASES if case.name == "cookie-name/other-case"]
    [request] = requests(case, replace(PLACE, cookie=f"{name}=t"))
    assert f"\r\nCookie: {other}=t\r\n".encode() in request
