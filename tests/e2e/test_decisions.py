"""Who is let in, who is not, and what each of them gets to see."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from .client import HOST, PAGE, SCRIPT, Client, Reply, cookie
from .stack import BackEnd, Session

ADDRESSES = [
    "/",
    "/report?year=2026&month=11",
    "/search?q=a%2Bb&plus=a+b&empty=",
    "/caf%C3%A9/%E6%97%A5%E6%9C%AC?who=%F0%9F%98%80",
    "/back?next=https%3A%2F%2Fother.example%2F%3Fa%3D1%26b%3D2",
    "/quotes?q=%22%27%3Cb%3E&semi=a;b",
]


def way_back(reply: Reply) -> str:
    """Return the address that the login page is told to send the browser back to."""
    location = urlsplit(reply.header("Location") or "")
    assert (location.scheme, location.netloc) == ("https", "login.example.com")
    [address] = parse_qs(location.query)["rd"]
    return address


def test_session_is_let_in_with_its_identity(client: Client, back_end: BackEnd) -> None:
    session = back_end.sign_in(roles=("member", "editor"), name="Ada L", device_id="laptop-1")
    seen = client.get("/reports/7?full=1", cookie(session.token)).seen
    assert seen.raw_path == "/reports/7?full=1"
    assert seen.identity("User") == session.user
    assert seen.identity("Email") == f"{session.user}@example.com"
    assert seen.identity("Roles") == "member,editor"
    assert seen.identity("Session") == session.id
    assert seen.identity("Device") == "laptop-1"
    assert seen.identity("Name") in ("Ada L", "Ada%20L")


@pytest.mark.parametrize("target", ADDRESSES)
def test_stranger_is_sent_to_login_and_back(client: Client, target: str) -> None:
    reply = client.get(target, PAGE)
    assert reply.status == 302
    assert way_back(reply) == f"http://{HOST}{target}"
    assert reply.header("X-Auth-Reason") == "no_session"
    assert "no-store" in (reply.header("Cache-Control") or "")


def test_way_back_keeps_the_port(client: Client) -> None:
    reply = client.get("/x", PAGE, host=f"{HOST}:8443")
    assert way_back(reply) == f"http://{HOST}:8443/x"


def test_navigation_is_told_by_fetch_metadata(client: Client) -> None:
    reply = client.get("/page", ("Sec-Fetch-Mode", "navigate"), ("Accept", "*/*"))
    assert reply.status == 302


@pytest.mark.parametrize(
    "header",
    [SCRIPT, ("X-Requested-With", "XMLHttpRequest"), ("Accept", "application/json")],
    ids=["fetch", "xhr", "json"],
)
def test_script_gets_401_and_no_redirect(client: Client, header: tuple[str, str]) -> None:
    accepts = () if header[0] == "Accept" else (PAGE,)
    reply = client.get("/data", header, *accepts)
    assert reply.status == 401
    assert reply.header("Location") is None
    assert not (reply.header("WWW-Authenticate") or "").lower().startswith("basic")
    assert reply.header("WWW-Authenticate")


def test_unknown_token_is_a_stranger(client: Client, member: Session) -> None:
    other = member.token[:-6] + "AAAAAA"
    reply = client.get("/x", cookie(other))
    assert reply.status == 401
    assert reply.header("X-Auth-Reason") == "unknown_session"


def test_wrong_role_is_refused_with_the_reason(client: Client, member: Session) -> None:
    reply = client.get("/admin/users", cookie(member.token), PAGE)
    assert reply.status == 403
    assert reply.header("X-Auth-Reason") == "role_required"
    assert not reply.from_application


def test_right_role_is_let_in(client: Client, admin: Session) -> None:
    assert client.get("/admin/users", cookie(admin.token)).seen.identity("User") == admin.user


def test_without_a_rule_nobody_is_let_in(client: Client, admin: Session) -> None:
    reply = client.get("/public/x", cookie(admin.token), host="other.example.com")
    assert reply.status == 403
    assert reply.header("X-Auth-Reason") == "no_rule"


def test_public_page_tells_the_application_nobody(client: Client) -> None:
    seen = client.get("/public/page").seen
    for name in ("User", "Email", "Name", "Roles", "Session", "Device"):
        assert seen.identity(name) == ""


def test_ended_session_is_refused_on_the_next_request(client: Client, back_end: BackEnd) -> None:
    session = back_end.sign_in()
    assert client.get("/x", cookie(session.token)).from_application
    receipt = back_end.end(session)
    assert receipt["complete"] is True
    assert client.get("/x", cookie(session.token)).status == 401


@pytest.mark.parametrize("status", [401, 403, 500])
def test_application_s_own_refusal_passes_untouched(
    client: Client, member: Session, status: int
) -> None:
    reply = client.get(f"/app{status}", cookie(member.token), PAGE)
    assert reply.status == status
    assert reply.from_application
    assert reply.header("X-Auth-Reason") is None


def test_question_itself_is_out_of_reach(client: Client) -> None:
    for target in ("/_gateway", "/check/auth_request", "/check/ext_authz/public/x"):
        assert not client.get(target, PAGE).from_application


@pytest.mark.parametrize(
    "query",
    ["export=csv", "export", "x=1&export=", "%65xport=csv", "Export=csv", "export[]=csv",
     "x=1;export=csv", "x=1%26export=csv", "export=csv&export="],
)  # fmt: skip
def test_no_spelling_of_a_parameter_asks_for_less(
    client: Client, member: Session, query: str
) -> None:
    assert client.get("/reports/7?year=2026", cookie(member.token)).from_application
    reply = client.get(f"/reports/7?{query}", cookie(member.token))
    assert (reply.status, reply.from_application) == (403, False)


def test_preflight_arrives_as_nobody(client: Client, member: Session) -> None:
    asked = (("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT"))
    reply = client.send("OPTIONS", "/api/items", (*asked, cookie(member.token)))
    assert reply.seen.identity("User") == ""
    assert client.send("OPTIONS", "/api/items", asked[:1]).status == 401
    assert client.send("OPTIONS", "/other", asked).status == 401
    assert client.get("/api/items", *asked).status == 401


@pytest.mark.parametrize("twice", ["Origin", "Access-Control-Request-Method"])
def test_of_a_doubled_preflight_the_application_sees_what_was_checked(
    client: Client, twice: str
) -> None:
    """A proxy that asks about one line of two must not hand on both."""
    asked = {"Origin": "https://other.example", "Access-Control-Request-Method": "PUT"}
    reply = client.send("OPTIONS", "/api/items", (*asked.items(), (twice, "https://evil.example")))
    if reply.from_application:
        assert reply.seen.values(twice) == [asked[twice]]
    else:
        assert reply.status in (401, 403)


def test_step_up_opens_what_asks_for_it(
    client: Client, back_end: BackEnd, member: Session
) -> None:
    refused = client.get("/vault/x", cookie(member.token))
    assert (refused.status, refused.from_application) == (403, False)
    assert refused.header("X-Auth-Step-Up") == "aal=2, max_age=600"
    status, renewed = back_end.call("POST", f"/v1/sessions/{member.id}/renew", {"aal": 2})
    assert status == 200
    assert client.get("/vault/x", cookie(renewed["token"])).from_application
