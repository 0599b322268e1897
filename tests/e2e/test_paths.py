"""No spelling of a path leads a stranger past the public pages.

The spellings, and the suspicion with which paths are read, are those of `gateway conformance`.
That none leads to /admin is shown in tests/adversarial.
"""

from __future__ import annotations

import re

import pytest

from gateway.conformance.cases import CASES, Case
from gateway.conformance.paths import leads_to, readings
from gateway.conformance.place import Place

from .client import HOST, Client, cookie
from .stack import Session

PLACE = Place(HOST, "/admin", "/public")
SPELLINGS = [
    case
    for case in CASES
    if case.kind in ("path-confusion", "absolute-form") and case.target.isascii()
]


def test_the_judge_knows_the_tricks() -> None:
    for raw in ("/public/%252e%252e%252fadmin", "/public/..;/admin", "/x\\..\\admin", "/admin%23/"):
        assert leads_to("/admin", raw), raw
    for raw in ("/public/x", "/administrators", "/x?y=/admin"):
        assert not leads_to("/admin", raw), raw


@pytest.mark.parametrize("case", SPELLINGS, ids=lambda case: case.what)
def test_no_spelling_leads_a_stranger_past_the_public_pages(client: Client, case: Case) -> None:
    reply = client.get(PLACE.fill(case.target))
    if reply.from_application:
        path = reply.seen.raw_path.partition("?")[0]
        outside = [p for p in readings(path) if not re.match(r"/+public(/|$)", p)]
        assert not outside, f"{reply.seen.raw_path} reached it"
    else:
        assert 400 <= reply.status < 500


def test_whole_address_reaches_the_application_as_a_path(client: Client, member: Session) -> None:
    """With the host that was asked about, and no other."""
    seen = client.get(f"http://{HOST}/x?a=1", cookie(member.token)).seen
    assert seen.raw_path == "/x?a=1"
    assert seen.values("Host") == [HOST]
    other = client.get("http://other.example.com/x", cookie(member.token))
    assert not other.from_application


def test_plain_spelling_is_open_to_an_admin(client: Client, admin: Session) -> None:
    for target in ("/admin", "/admin/users", "/admin/users?q=a%2Fb"):
        assert client.get(target, cookie(admin.token)).seen.raw_path == target
