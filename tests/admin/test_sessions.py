"""Reading, changing, renewing and ending sessions."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from .harness import Admin

NOBODY = "00" + "a" * 32
SESSION = {
    "id", "user", "email", "name", "roles", "device", "ip", "country", "city", "user_agent",
    "created_at", "last_seen_at", "expires_at", "idle_expires_at", "metadata",
    "aal", "authenticated_at", "alerts",
}  # fmt: skip


def assert_receipt(receipt: Any, *ids: str) -> None:
    """Compare with the exact shape of the interface."""
    took = receipt.pop("took_ms")
    assert isinstance(took, float)
    assert 0 < took < 5000
    assert sorted(receipt.pop("sessions")) == sorted(ids)
    replicas = receipt.pop("replicas")
    assert set(replicas) == {"live", "confirmed", "lease_expired"}
    assert replicas["confirmed"] + replicas["lease_expired"] == replicas["live"] <= 1
    assert receipt == {
        "ended": len(ids),
        "complete": True,
        "durable": None,
    }


# --- read and change ---------------------------------------------------------------------------


async def test_a_session_reads_as_it_was_created(admin: Admin) -> None:
    """A session has the members of the interface, and never its token."""
    created = await admin.create(ip="192.0.2.7", country="DE", city="Köln", roles=["a"])
    reply = await admin.call("GET", f"/v1/sessions/{created['id']}")
    assert reply.status == 200
    assert set(reply.json) == SESSION
    read = reply.json
    assert (read["ip"], read["city"], read["roles"]) == ("192.0.2.7", "Köln", ["a"])
    assert created["token"] not in reply.body.decode()


@pytest.mark.parametrize(
    "session_id", [NOBODY, "ff" + "a" * 32, "x", "00" + "A" * 32, "%00", "00%0a", "a%2Fb", "%F0%9F"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "POST"])
async def test_no_such_session(admin: Admin, session_id: str, method: str) -> None:
    """An id that is unknown, of another gateway or no id at all is 404 for every call."""
    path = f"/v1/sessions/{session_id}" + ("/renew" if method == "POST" else "")
    reply = await admin.call(method, path, {} if method in ("PATCH", "POST") else None)
    assert reply.status == 404
    assert reply.headers["Content-Type"].startswith("application/problem+json")


async def test_a_change_decides_the_next_check(admin: Admin) -> None:
    """When the answer to a change is there, the next check judges by it."""
    created = await admin.create(roles=["member"], email="old@example.com")
    assert str((await admin.check(created["token"], "/admin/x")).reason) == "role_required"
    changed = await admin.call(
        "PATCH", f"/v1/sessions/{created['id']}", {"roles": ["admin"], "metadata": {"n": 1}}
    )
    assert (changed.status, changed.json["roles"]) == (200, ["admin"])
    allowed = await admin.check(created["token"], "/admin/x")
    assert allowed.reason is None
    assert allowed.session is not None
    assert b"X-Auth-Email: old@example.com\r\n" in allowed.session.identity
    await admin.call("PATCH", f"/v1/sessions/{created['id']}", {"roles": []})
    assert str((await admin.check(created["token"], "/admin/x")).reason) == "role_required"


async def test_a_change_is_judged_like_a_sign_in(admin: Admin) -> None:
    """A change cannot bring in what a sign-in could not, nor change whose session it is."""
    created = await admin.create()
    path = f"/v1/sessions/{created['id']}"
    bad = await admin.call("PATCH", path, {"name": "a\r\nb", "roles": ["a,b"], "user": "eve"})
    assert set(bad.places) == {"name", "roles.0", "user"}
    many = ["r" * 60 + f"{number:03d}" for number in range(64)]
    assert (await admin.call("PATCH", path, {"roles": many})).places == ["roles"]
    assert (await admin.call("GET", path)).json["user"] == "alice"
    assert (await admin.call("PATCH", path, {"roles": None})).places == ["roles"]


async def test_concurrent_changes_are_all_kept(admin: Admin) -> None:
    """Changes of different members at once do not undo one another."""
    created = await admin.create()
    path = f"/v1/sessions/{created['id']}"
    replies = await asyncio.gather(
        *(admin.call("PATCH", path, body)
          for body in ({"email": "e@example.com"}, {"name": "N"}, {"roles": ["r"]}))
    )  # fmt: skip
    assert {reply.status for reply in replies} == {200}
    read = (await admin.call("GET", path)).json
    assert (read["email"], read["name"], read["roles"]) == ("e@example.com", "N", ["r"])


# --- renew -------------------------------------------------------------------------------------


async def test_renewing_replaces_the_token(admin: Admin) -> None:
    """After a renewal the new token opens the session and the old one nothing."""
    old = await admin.create(roles=["admin"])
    reply = await admin.call("POST", f"/v1/sessions/{old['id']}/renew")
    assert reply.status == 200
    new = reply.json
    assert set(new) == set(old) - {"aal", "ended", "alerts"}
    assert new["id"] != old["id"]
    assert new["expires_at"] == old["expires_at"]
    assert (await admin.check(new["token"], "/admin")).reason is None
    assert str((await admin.check(old["token"])).reason) == "unknown_session"
    assert (await admin.call("GET", f"/v1/sessions/{old['id']}")).status == 404
    assert (await admin.call("POST", f"/v1/sessions/{old['id']}/renew", {})).status == 404


async def test_grace_lets_the_old_token_work_a_little(admin: Admin) -> None:
    """With grace both tokens work until it is over; then only the new one does."""
    old = await admin.create()
    path = f"/v1/sessions/{old['id']}/renew"
    new = (await admin.call("POST", path, {"grace": "300ms"})).json
    assert (await admin.check(old["token"])).reason is None
    assert (await admin.check(new["token"])).reason is None
    await asyncio.sleep(0.35)
    assert (await admin.check(old["token"])).reason is not None
    assert (await admin.check(new["token"])).reason is None


@pytest.mark.parametrize("grace", ["61s", "2m", "-1s", "5", "", 5, "1 s", "٣s", "9" * 5000 + "s"])
async def test_a_grace_is_a_short_duration(admin: Admin, grace: object) -> None:
    """A grace that is no duration or is longer than a minute is refused."""
    created = await admin.create()
    reply = await admin.call("POST", f"/v1/sessions/{created['id']}/renew", {"grace": grace})
    assert reply.places == ["grace"]
    assert (await admin.check(created["token"])).reason is None


async def test_a_step_up_is_told_with_the_renewal(admin: Admin) -> None:
    """A renewal with `aal` notes a new sign-in; without it, or by a change, there was none."""
    old = await admin.create()
    path = f"/v1/sessions/{old['id']}"
    first = (await admin.call("GET", path)).json
    assert (first["aal"], first["authenticated_at"]) == (1, first["created_at"])
    changed = (await admin.call("PATCH", path, {"aal": 2})).json
    assert (changed["aal"], changed["authenticated_at"]) == (2, first["created_at"])
    new = (await admin.call("POST", f"{path}/renew", {"aal": 3})).json
    read = (await admin.call("GET", f"/v1/sessions/{new['id']}")).json
    assert (read["aal"], read["created_at"]) == (3, first["created_at"])
    assert read["authenticated_at"] > first["created_at"]
    path = f"/v1/sessions/{new['id']}"
    rotated = (await admin.call("POST", f"{path}/renew", {})).json
    kept = (await admin.call("GET", f"/v1/sessions/{rotated['id']}")).json
    assert (kept["aal"], kept["authenticated_at"]) == (3, read["authenticated_at"])
    told = (await admin.call("POST", "/v1/introspect", {"token": rotated["token"]})).json
    assert told["aal"] == 3
    assert told["auth_time"] >= told["iat"]


@pytest.mark.parametrize("aal", [0, 4, "2", True, 1.5, None])
async def test_a_level_is_one_of_three(admin: Admin, aal: object) -> None:
    """Anything else is refused where it is told, not read as some level."""
    assert (await admin.call("POST", "/v1/sessions", {"user": "ann", "aal": aal})).status == 422


async def test_renewing_in_grace_does_not_lengthen_life(admin: Admin) -> None:
    """A token in its grace cannot be renewed: what came of it would end with the grace."""
    old = await admin.create()
    path = f"/v1/sessions/{old['id']}/renew"
    await admin.call("POST", path, {"grace": "5s"})
    again = await admin.call("POST", path, {"grace": "5s"})
    assert (again.status, "was renewed already" in again.json["detail"]) == (409, True)


# --- end ---------------------------------------------------------------------------------------


async def test_ending_gives_a_receipt_once(admin: Admin) -> None:
    """The first end is a receipt of the exact shape and decides the next check; the second 404."""
    created = await admin.create()
    path = f"/v1/sessions/{created['id']}"
    reply = await admin.call("DELETE", f"{path}?reason=lost%20phone")
    assert reply.status == 200
    assert_receipt(reply.json, created["id"])
    assert str((await admin.check(created["token"])).reason) == "unknown_session"
    assert (await admin.call("DELETE", path)).status == 404


async def test_many_ends_at_once_end_it_once(admin: Admin) -> None:
    """Of twenty that end the same session at once exactly one is told that it did."""
    created = await admin.create()
    path = f"/v1/sessions/{created['id']}"
    replies = await asyncio.gather(*(admin.call("DELETE", path) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] + [404] * 19


async def test_ending_all_keeps_the_one_named(admin: Admin) -> None:
    """Everything of the user ends but the session kept; other users are not touched."""
    mine = [await admin.create() for _ in range(4)]
    other = await admin.create("bob")
    reply = await admin.call("DELETE", f"/v1/users/alice/sessions?except={mine[0]['id']}&reason=x")
    assert_receipt(reply.json, *(each["id"] for each in mine[1:]))
    assert [(await admin.check(each["token"])).reason is None for each in (*mine, other)] == [
        True, False, False, False, True,
    ]  # fmt: skip
    assert_receipt((await admin.call("DELETE", "/v1/users/alice/sessions")).json, mine[0]["id"])
    assert_receipt((await admin.call("DELETE", "/v1/users/alice/sessions")).json)


async def test_a_session_to_keep_must_be_one(admin: Admin) -> None:
    """A session to keep that is no session id is refused, and nothing ends."""
    created = await admin.create()
    reply = await admin.call("DELETE", "/v1/users/alice/sessions?except=laptop")
    assert reply.places == ["except"]
    assert (await admin.check(created["token"])).reason is None


async def test_ending_a_device(admin: Admin) -> None:
    """The sessions on one device of one user end, and no others."""
    laptop, phone = await admin.create(device_id="laptop"), await admin.create(device_id="phone")
    foreign = await admin.create("bob", device_id="laptop")
    reply = await admin.call("DELETE", "/v1/users/alice/devices/laptop/sessions?reason=stolen")
    assert_receipt(reply.json, laptop["id"])
    for each in (phone, foreign):
        assert (await admin.check(each["token"])).reason is None
    assert_receipt((await admin.call("DELETE", "/v1/users/alice/devices/none/sessions")).json)


@pytest.mark.parametrize(
    "query",
    ["reason=a%0Ab", "reason=%20x", "reason=" + "x" * 201, "reason=a&reason=b", "resaon=x"],
)
async def test_reasons_are_clean_and_spelt_right(admin: Admin, query: str) -> None:
    """A query that is misspelt, doubled or not clean is refused, and nothing ends."""
    created = await admin.create()
    reply = await admin.call("DELETE", f"/v1/sessions/{created['id']}?{query}")
    assert reply.places == [query.partition("=")[0]]
    assert (await admin.check(created["token"])).reason is None


# --- list --------------------------------------------------------------------------------------


async def walk(admin: Admin, user: str, limit: int, pages: list[list[str]]) -> None:
    """Append every page's ids."""
    cursor = ""
    while cursor is not None:
        query = f"limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
        reply = await admin.call("GET", f"/v1/users/{user}/sessions?{query}")
        assert reply.status == 200, reply.body
        assert set(reply.json) == {"sessions", "next"}
        pages.append([each["id"] for each in reply.json["sessions"]])
        cursor = reply.json["next"]


async def test_pages_show_each_session_once(admin: Admin) -> None:
    """Pages of three over ten sessions show each once, the newest activity first."""
    created = [(await admin.create())["id"] for _ in range(10)]
    await admin.create("bob")
    pages: list[list[str]] = []
    await walk(admin, "alice", 3, pages)
    listed = [each for page in pages for each in page]
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert sorted(listed) == sorted(created)
    everything = (await admin.call("GET", "/v1/users/alice/sessions")).json["sessions"]
    seen = [each["last_seen_at"] for each in everything]
    assert seen == sorted(seen, reverse=True)
    assert [each["id"] for each in everything] == listed


@pytest.mark.parametrize("which", [0, 2, 3, 9])
async def test_pages_stay_true_when_a_session_ends(admin: Admin, which: int) -> None:
    """When a session ends between two pages, each other is still shown exactly once."""
    for _ in range(10):
        await admin.create()
    everything = (await admin.call("GET", "/v1/users/alice/sessions")).json["sessions"]
    ids = [each["id"] for each in everything]
    first = (await admin.call("GET", "/v1/users/alice/sessions?limit=3")).json
    await admin.call("DELETE", f"/v1/sessions/{ids[which]}")
    seen, cursor = [each["id"] for each in first["sessions"]], first["next"]
    while cursor:
        page = (await admin.call("GET", f"/v1/users/alice/sessions?limit=3&cursor={cursor}")).json
        seen += [each["id"] for each in page["sessions"]]
        cursor = page["next"]
    assert seen == [each for each in ids if each in seen]
    assert set(ids) - set(seen) <= {ids[which]}


@pytest.mark.parametrize(
    "cursor",
    ["x", "!!!!", "%C3%A4", "17", "17.", ".", "17.x", "%D9%A1." + NOBODY, "-1." + NOBODY,
     "9" * 17 + "." + NOBODY, "17." + NOBODY + "%0A", "%00"],
)  # fmt: skip
async def test_a_cursor_that_was_never_given_is_refused(admin: Admin, cursor: str) -> None:
    """A cursor that no page ended with is 422."""
    reply = await admin.call("GET", f"/v1/users/alice/sessions?cursor={cursor}")
    assert reply.places == ["cursor"]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1.5", "9" * 5000, "%31%00"])
async def test_a_limit_is_a_small_number(admin: Admin, limit: str) -> None:
    """A limit out of its range is 422."""
    assert (await admin.call("GET", f"/v1/users/alice/sessions?limit={limit}")).places == ["limit"]


# --- user ids in paths -------------------------------------------------------------------------

STRANGE = [
    "a/b", "/", "a%2Fb", "%", "%2F", "100%", "ü", "日本", "a b", "a+b", "a.b", "...", "a?b#c",
    "{x}", "a;b", "a\\b", "a:b@c", "a&b=c", "'\"<>", "😀", "a//b", "../b", "sessions", "%zz",
    "a\u0301", "\u00e1",
]  # fmt: skip


@pytest.mark.parametrize("user", STRANGE)
async def test_user_ids_travel_in_paths(admin: Admin, user: str) -> None:
    """Whatever a user id holds, percent-encoded in the path it means that user and no other."""
    created = await admin.create(user, device_id="d")
    path = f"/v1/users/{quote(user, safe='')}"
    listed = await admin.call("GET", f"{path}/sessions")
    assert [each["user"] for each in listed.json["sessions"]] == [user]
    first = await admin.call("DELETE", f"{path}/devices/d/sessions")
    assert_receipt(first.json, created["id"])
    again = await admin.create(user)
    assert_receipt((await admin.call("DELETE", f"{path}/sessions")).json, again["id"])


@pytest.mark.parametrize("user", [".", ".."])
async def test_user_ids_that_no_path_can_name_are_refused(admin: Admin, user: str) -> None:
    """A user id that every client takes out of a path is refused: nobody could end its sessions."""
    assert (await admin.call("POST", "/v1/sessions", {"user": user})).places == ["user"]


@pytest.mark.parametrize("path", ["%FF", "%C0%AF", "%ED%B3%A9"])
async def test_bytes_that_are_no_text_name_nobody(admin: Admin, path: str) -> None:
    """A path whose bytes are no UTF-8 is answered without a fault."""
    reply = await admin.call("GET", f"/v1/users/{path}/sessions")
    assert reply.status in (200, 404, 422)
    assert reply.json.get("sessions", []) == []


# --- introspect --------------------------------------------------------------------------------


async def test_introspection_of_a_live_token(admin: Admin) -> None:
    """A live token is active, with the members of RFC 7662 and whose it is."""
    created = await admin.create(roles=["a", "b"])
    reply = await admin.call("POST", "/v1/introspect", {"token": created["token"]})
    answer = reply.json
    assert (answer["active"], answer["sub"], answer["username"]) == (True, "alice", "alice")
    assert (answer["sid"], answer["roles"]) == (created["id"], ["a", "b"])
    assert answer["exp"] - answer["iat"] == 4 * 3600
    assert isinstance(answer["token_type"], str)


@pytest.mark.parametrize("token", ["", "x", "00" + "A" * 43, "ff" + "A" * 43, "\ud7ff", "é" * 1024])
async def test_introspection_of_anything_else(admin: Admin, token: str) -> None:
    """What opens no session is not active, and nothing more is said."""
    reply = await admin.call("POST", "/v1/introspect", {"token": token})
    assert (reply.status, reply.json) == (200, {"active": False})


async def test_introspection_of_an_ended_token(admin: Admin) -> None:
    """An ended token is not active; its session id never was a token."""
    created = await admin.create()
    asked = await admin.call("POST", "/v1/introspect", {"token": created["id"]})
    assert asked.json == {"active": False}
    await admin.call("DELETE", f"/v1/sessions/{created['id']}")
    asked = await admin.call("POST", "/v1/introspect", {"token": created["token"]})
    assert asked.json == {"active": False}
