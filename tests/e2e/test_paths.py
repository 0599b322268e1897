"""No spelling of /admin reaches the application for somebody who may not open it.

The application may read a path in many ways, so the judge here is suspicious: whatever raw path
arrives is decoded, merged and cut in every way that is known, and none of the results may be
below /admin.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

import pytest

from .client import HOST, Client, cookie
from .stack import Session

SPELLINGS = [
    "/admin", "/admin/", "/admin?x=/public/", "/admin/users", "//admin", "///admin//users",
    "/./admin", "/x/../admin", "/public/../admin", "/public/./../admin/users",
    "/public/x/../../admin",
    "/%61dmin", "/%61%64%6d%69%6e", "/%2561dmin", "/%252561dmin", "/adm%69n/users",
    "/%2e/admin", "/public/%2e%2e/admin", "/public/%2E%2E/admin", "/public/.%2e/admin",
    "/public/%252e%252e/admin", "/public/%25252e%25252e/admin",
    "/%2fadmin", "/public%2f..%2fadmin", "/public/..%2fadmin", "/public/..%2Fadmin/users",
    "/public/%2e%2e%2fadmin", "/public/%252e%252e%252fadmin", "/x%2f..%2fadmin", "/admin%2fusers",
    "/admin%252fusers", "/public/..%c0%afadmin", "/public/%c0%ae%c0%ae/admin",
    "/\\admin", "/public\\..\\admin", "/public/..\\admin", "/public/..%5cadmin",
    "/public/..%255cadmin",
    "/;/admin", "/;x=1/admin", "/admin;x=1", "/admin;x/users", "/public/..;/admin",
    "/public/..;x=1/admin", "/public/.;/../admin", "/..;/admin", "/public;/../admin", "/%3b/admin",
    "/public/..%3b/admin", "/x;/..;/admin", "/admin%3bx",
    "/admin#/public/", "/admin%23/public/", "/public/#/../../admin", "/public/%23/../../admin",
    "/admin%3f/public/", "/public/%3f/../../admin", "/admin%3Fx",
    "/admin%00", "/public/%00/../../admin", "/admin%20", "/admin%09", "/admin.", "/%09/admin",
    "/public/..%0d%0a/admin", "/admin%0a", "/%0aadmin",
    f"http://{HOST}/admin", f"http://{HOST}//admin", f"http://{HOST}/public/../admin",
    "http://other.example.com/admin", f"http://{HOST}@evil.example/admin", "/public//../admin",
    "/public/%2e%2e;/admin", "/public/..//admin", "/public/../../admin", "/%u0061dmin",
    "/public/%uff0e%uff0e/admin", "/public/..%ef%bc%8fadmin", "/%", "/%zz/../admin", "/%e0/admin",
]  # fmt: skip


def readings(raw: str) -> set[str]:
    """Return every path that some application makes of this one; bytes are kept as Latin-1."""
    found = {re.sub(r"^[a-z]+://[^/]*", "", raw)}
    while True:
        more = {variant for path in found for variant in _variants(path)} - found
        if not more:
            return found
        found |= more


def _variants(path: str) -> set[str]:
    """Return one step of each known way to tidy a path; repeated until nothing new appears."""
    return {
        unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        path.replace("\\", "/"),
        re.sub(r"/{2,}", "/", path),
        re.sub(r";[^/]*", "", path),
        re.split(r"[?#\x00]", path, maxsplit=1)[0],
        posixpath.normpath(path) if path else "/",
    }


def is_admin(path: str) -> bool:
    """Tell whether this reading is /admin or below it."""
    return re.match(r"/+admin(/|$)", path) is not None


def test_the_judge_knows_the_tricks() -> None:
    for raw in ("/public/%252e%252e%252fadmin", "/public/..;/admin", "/x\\..\\admin", "/admin%23/"):
        assert any(map(is_admin, readings(raw))), raw
    for raw in ("/public/x", "/administrators", "/x?y=/admin"):
        assert not any(map(is_admin, readings(raw.partition("?")[0]))), raw


@pytest.mark.parametrize("target", SPELLINGS)
def test_no_spelling_leads_a_member_to_admin(client: Client, member: Session, target: str) -> None:
    reply = client.get(target, cookie(member.token))
    if reply.from_application:
        path = reply.seen.raw_path.partition("?")[0]
        assert not any(map(is_admin, readings(path))), f"{reply.seen.raw_path} reached it"
    else:
        assert reply.status in (400, 401, 403, 404)


@pytest.mark.parametrize("target", SPELLINGS)
def test_no_spelling_leads_a_stranger_past_the_public_pages(client: Client, target: str) -> None:
    reply = client.get(target)
    if reply.from_application:
        path = reply.seen.raw_path.partition("?")[0]
        outside = [p for p in readings(path) if not re.match(r"/+public(/|$)", p)]
        assert not outside, f"{reply.seen.raw_path} reached it"


def test_plain_spelling_is_open_to_an_admin(client: Client, admin: Session) -> None:
    for target in ("/admin", "/admin/users", "/admin/users?q=a%2Fb"):
        assert client.get(target, cookie(admin.token)).seen.raw_path == target
