"""The link of an alert, from the sign-in to the end of the session, through a real gateway."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis

from gateway.embedded import EmbeddedValkey
from gateway.links import Links, Question
from tests import servers

from .harness import Answer, Gateway, ask, until

SECRET = "s" * 32
LINK = "https://login.example.com/me/was-this-you/{token}"
SETTINGS = f"""
[pages]
listen = ["127.0.0.1:PORT"]
[alerts]
link = "{LINK}"
link_secret = "{SECRET}"
[binding]
fingerprint = "alert"
"""
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0 Safari/537.36"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PROTECTED = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}


class Place:
    """A gateway with pages, and the Redis below it."""

    def __init__(self, gateway: Gateway, port: int, client: Any) -> None:
        self.gateway = gateway
        self.port = port
        self.client = client

    def sign_in(self, user: str, device: str) -> Any:
        own = f"{device}-{user.encode().hex()[:32]}"  # else it is a shared device
        body = {"user": user, "device_id": own, "user_agent": CHROME, "country": "DE"}
        answer = self.gateway.admin("POST", "/v1/sessions", body)
        assert answer.status == 201, answer.body
        return answer.json

    def alerted(self, user: str) -> tuple[Any, str]:
        """Sign in on a second device; return the session and the path of its link."""
        self.sign_in(user, "laptop")
        session = self.sign_in(user, "phone")
        (alert,) = session["alerts"]
        assert alert["link"].startswith("https://login.example.com/me/was-this-you/")
        return session, alert["link"].removeprefix("https://login.example.com/me")

    def open(self, path: str, method: str = "GET") -> Answer:
        return ask(self.port, method, path, {})

    def post(self, path: str, said: str) -> Answer:
        return ask(self.port, "POST", path, FORM, f"answer={said}")

    def lives(self, session: Any) -> bool:
        return self.gateway.check(session["token"]).status == 200

    def events(self, kind: str) -> list[dict[bytes, bytes]]:
        found = [
            fields
            for key in self.client.scan_iter("gw:e:*")
            for _, fields in self.client.xrange(key)
        ]
        return [each for each in found if each[b"type"] == kind.encode()]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        port = servers.free_port()
        gateway = Gateway(valkey.url, SETTINGS.replace("PORT", str(port)))
        with gateway.running(), redis.Redis.from_url(valkey.url) as client:
            until(lambda: gateway.ready() == 200, "ready", 30)
            yield Place(gateway, port, client)


def test_opening_a_link_shows_and_changes_nothing(place: Place) -> None:
    """As scanners of mail and previews do, however often."""
    session, path = place.alerted("ann")
    for method in ("GET", "HEAD", "GET"):
        answer = place.open(path, method)
        assert answer.status == 200
        assert {name: answer.headers[name] for name in PROTECTED} == PROTECTED
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
    page = place.open(path).body.decode()
    assert "<script" not in page
    assert "<b>ann</b>" in page
    assert "Chrome on Windows, DE" in page
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert place.open(path, method).status == 405
    assert place.lives(session)


def test_no_ends_that_session_everywhere_and_once(place: Place) -> None:
    """The other sessions stay; the answer counts once, with an event."""
    session, path = place.alerted("bob")
    other = place.sign_in("bob", "tablet")
    answer = place.post(path, "session")
    assert answer.status == 200
    assert "One session was ended: nobody can use" in answer.body.decode()
    assert not place.lives(session)
    assert place.lives(other)
    assert [place.post(path, "all").status, place.open(path).status] == [410, 410]
    assert place.lives(other)
    (event,) = [each for each in place.events("alert.answered") if each[b"user"] == b"bob"]
    data = json.loads(event[b"data"])
    assert (data["answer"], data["ended"], data["type"]) == ("session", 1, "new_device")
    ended = [each for each in place.events("session.ended") if each[b"user"] == b"bob"]
    assert [(each[b"by"], each[b"reason"]) for each in ended] == [(b"user", b"was_this_you")]


def test_no_ends_all_sessions(place: Place) -> None:
    session, path = place.alerted("cem")
    other = place.sign_in("cem", "tablet")
    assert "3 sessions were ended" in place.post(path, "all").body.decode()
    assert not place.lives(session)
    assert not place.lives(other)


def test_yes_changes_nothing_and_answers_for_good(place: Place) -> None:
    session, path = place.alerted("dan")
    assert place.post(path, "yes").status == 200
    assert place.post(path, "session").status == 410
    assert place.lives(session)


def test_a_renewed_session_is_still_that_session(place: Place) -> None:
    """Whoever has it cannot renew it out of reach; its grace ends with it."""
    session, path = place.alerted("eve")
    old = place.gateway.admin("POST", f"/v1/sessions/{session['id']}/renew").json
    renew = f"/v1/sessions/{old['id']}/renew"
    session = place.gateway.admin("POST", renew, {"grace": "60s"}).json
    assert place.lives(session)
    assert place.lives(old)
    assert place.post(path, "session").status == 200
    assert not place.lives(session)
    assert not place.lives(old)


def test_of_many_answers_at_once_one_counts(place: Place) -> None:
    _, path = place.alerted("fay")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(place.post(path, "session").status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [410] * 19


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", FORM["Content-Type"]),
        ("answer=maybe", FORM["Content-Type"]),
        ("answer=session&answer=yes", FORM["Content-Type"]),
        ("answer=session", "text/plain"),
        ('{"answer": "session"}', "application/json"),
        ("answer=session&x=" + "x" * 5000, FORM["Content-Type"]),
    ],
)
def test_only_the_buttons_of_the_page_act(place: Place, body: str, kind: str) -> None:
    session, path = place.alerted(f"gil{len(body)}{len(kind)}")
    assert ask(place.port, "POST", path, {"Content-Type": kind}, body).status in (400, 413)
    assert place.lives(session)
    assert place.open(path).status == 200


def test_a_token_that_is_not_ours_or_too_old_does_nothing(place: Place) -> None:
    session, path = place.alerted("hal")
    body, _, signature = path.rpartition("/")[2].partition(".")
    asked = Question("00" * 17 + ".0", session["id"], "hal", 1, "new_device", "", 2**50)
    strange = Links(LINK, b"t" * 32, 1).to(asked).rpartition("/")[2]
    old = Links(LINK, SECRET.encode(), 1).to(asked._replace(expires_ms=1)).rpartition("/")[2]
    forged = [f"{body}A.{signature}", f"{body}.", body, f"{body}.{signature}=", strange, "x" * 5000,
              f"{body}.{signature[:-1]}", "%00", "%ff.%ff", "."]  # fmt: skip
    for token in forged:
        for answer in (place.open(f"/was-this-you/{token}"),
                       place.post(f"/was-this-you/{token}", "all")):  # fmt: skip
            assert answer.status in (400, 404), token[:40]
    for answer in (place.open(f"/was-this-you/{old}"), place.post(f"/was-this-you/{old}", "all")):
        assert answer.status == 410
    assert place.lives(session)


def test_what_a_page_shows_cannot_become_markup(place: Place) -> None:
    session, path = place.alerted("<script>alert(1)</script>")
    page = place.open(path).body.decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert place.post(path, "all").status == 200
    assert not place.lives(session)


def test_a_link_stands_in_the_lists_and_in_no_event(place: Place) -> None:
    """Events go to webhooks and into the history, which others read."""
    _, path = place.alerted("ida")
    waiting = partial(place.client.lrange, "security:alerts", 0, -1)
    until(lambda: any(path.encode() in each for each in waiting()), "pushed")
    token = path.rpartition("/")[2].encode()
    stored = place.events("alert.new_device") + place.events("session.created")
    assert stored
    assert not any(token in value for fields in stored for value in fields.values())


def test_a_session_used_by_another_has_a_link_too(place: Place) -> None:
    """It ends the session, although it was renewed since it began."""
    first = place.sign_in("jon", "laptop")
    renewed = place.gateway.admin("POST", f"/v1/sessions/{first['id']}/renew").json
    path, headers = "/check/auth_request", {
        "Host": "app.example.com", "X-Original-Method": "GET", "X-Original-URI": "/x",
        "X-Forwarded-For": "192.0.2.7", "User-Agent": "Firefox/140.0 (X11; Linux)",
        "Cookie": f"__Host-sid={renewed['token']}",
    }  # fmt: skip
    assert ask(place.gateway.check_port, "GET", path, headers).status == 200
    found: list[Any] = []

    def pushed() -> bool:
        waiting = map(json.loads, place.client.lrange("security:alerts", 0, -1))
        found[:] = [each for each in waiting if each["userId"] == "jon"]
        return bool(found)

    until(pushed, "pushed")
    again = place.gateway.admin("POST", f"/v1/sessions/{renewed['id']}/renew").json
    (alert,) = found
    assert (alert["type"], alert["sessionId"]) == ("fingerprint_changed", renewed["id"])
    link = alert["link"].removeprefix("https://login.example.com/me")
    assert place.post(link, "session").status == 200
    assert not place.lives(again)
