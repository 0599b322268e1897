"""The demo as a visitor meets it: the real programs, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession, CookieJar

from gateway.demo.return_address import local_path

ROOT = Path(__file__).resolve().parent.parent
PAGE = {"Accept": "text/html"}
ORIGIN = "http://127.0.0.1:8000"


def start_demo(*more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.demo", "--ports", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


def first_line(demo: subprocess.Popen[str]) -> str:
    line = cast("IO[str]", demo.stdout).readline()
    assert line, cast("IO[str]", demo.stderr).read()
    return line


def end(demo: subprocess.Popen[str], number: signal.Signals) -> str:
    """End the demo and return what it wrote to standard error."""
    demo.send_signal(number)
    return demo.communicate(timeout=30)[1]


def gone(pid: int) -> bool:
    """Return whether the process ends within a few seconds; a zombie has ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def demo() -> Iterator[dict[str, Any]]:
    process = start_demo("--json")
    try:
        yield json.loads(first_line(process))
    finally:
        end(process, signal.SIGTERM)


@pytest.fixture
async def browser(demo: dict[str, Any]) -> AsyncIterator[ClientSession]:
    async with ClientSession(demo["url"], cookie_jar=CookieJar(unsafe=True)) as session:
        yield session


@pytest.fixture
async def admin(demo: dict[str, Any]) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {demo['token']}"}
    async with ClientSession(demo["admin"], headers=headers) as session:
        yield session


async def sign_in(browser: ClientSession, user: str, back: str = "/app") -> str:
    """Sign in and return where the application sends the browser."""
    form = {"user": user, "password": user, "rd": back}
    async with browser.post("/login", data=form, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        return answer.headers["Location"]


async def identity(browser: ClientSession) -> dict[str, str]:
    """Return the headers that reached the application, as its page shows them."""
    async with browser.get("/app", headers=PAGE) as answer:
        text = await answer.text()
        assert answer.status == 200, text
    return {
        unescape(name): unescape(value) for name, value in re.findall(r"<th>(.*?)<td>([^<]*)", text)
    }


async def status(browser: ClientSession, path: str) -> int:
    async with browser.get(path, allow_redirects=False) as answer:
        return answer.status


async def test_a_stranger_signs_in_and_comes_back_to_the_same_page(
    demo: dict[str, Any], browser: ClientSession
) -> None:
    wanted = "/app?page=2&q=a%20b%26c"
    async with browser.get(wanted, headers=PAGE, allow_redirects=False) as answer:
        assert answer.status == 302
        login = urlsplit(answer.headers["Location"])
    assert login.path == "/login"
    [back] = parse_qs(login.query)["rd"]
    assert back == demo["url"] + wanted
    assert await sign_in(browser, "alice", back) == wanted


async def test_the_sign_in_page_carries_the_return_address(browser: ClientSession) -> None:
    async with browser.get("/app?a=1&b=2", headers=PAGE) as answer:
        text = await answer.text()
    [back] = re.findall(r'name="rd" value="([^"]*)"', text)
    assert unescape(back) == "/app?a=1&b=2"


async def test_a_wrong_password_makes_no_session(browser: ClientSession) -> None:
    form = {"user": "alice", "password": "root"}
    async with browser.post("/login", data=form, allow_redirects=False) as answer:
        assert answer.status == 401
        assert "Set-Cookie" not in answer.headers
    assert await status(browser, "/app") == 401


async def test_the_application_learns_who_it_is(browser: ClientSession) -> None:
    await sign_in(browser, "alice")
    seen = await identity(browser)
    assert seen["X-Auth-User"] == "alice"
    assert seen["X-Auth-Email"] == "alice@example.com"
    assert seen["X-Auth-Roles"] == "user"


async def test_an_ended_session_is_refused_at_the_next_request(
    browser: ClientSession, admin: ClientSession
) -> None:
    await sign_in(browser, "alice")
    session = (await identity(browser))["X-Auth-Session"]
    async with admin.delete(f"/v1/sessions/{session}") as answer:
        receipt = await answer.json()
    assert receipt["sessions"] == [session]
    assert receipt["complete"] is True
    assert await status(browser, "/app") == 401


async def test_the_console_is_for_admins_and_ends_sessions(
    demo: dict[str, Any], browser: ClientSession
) -> None:
    await sign_in(browser, "alice")
    assert await status(browser, "/admin/") == 403
    session = (await identity(browser))["X-Auth-Session"]
    async with ClientSession(demo["url"], cookie_jar=CookieJar(unsafe=True)) as operator:
        await sign_in(operator, "root")
        async with operator.get("/admin/?user=alice") as answer:
            assert answer.status == 200
            assert session in await answer.text()
        form = {"user": "alice", "end": session}
        async with operator.post("/admin/", data=form) as answer:
            text = await answer.text()
        assert "Ended, for every replica." in text
        assert session not in text
    assert await status(browser, "/app") == 401


async def test_signing_out_ends_the_session(browser: ClientSession, admin: ClientSession) -> None:
    await sign_in(browser, "alice")
    session = (await identity(browser))["X-Auth-Session"]
    async with browser.post("/logout", allow_redirects=False) as answer:
        assert answer.status == 303
    async with admin.get(f"/v1/sessions/{session}") as answer:
        assert answer.status == 404


async def test_a_form_of_another_site_is_refused(browser: ClientSession) -> None:
    await sign_in(browser, "alice")
    origin = {"Origin": "http://127.0.0.1:1"}
    async with browser.post("/logout", headers=origin, allow_redirects=False) as answer:
        assert answer.status == 403
    assert await status(browser, "/app") == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2"])
async def test_a_foreign_host_is_not_led_to_sign_in(browser: ClientSession, host: str) -> None:
    """Its name may lead here: signing in, people would be sent back there."""
    async with browser.get("/app", headers=PAGE | {"Host": host}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers.get("X-Auth-Reason")) == (403, "no_rule")
        assert "Location" not in answer.headers


async def test_no_known_bypass_works_on_the_demo(
    demo: dict[str, Any], browser: ClientSession
) -> None:
    """A stranger sends them, and somebody who is signed in without the role."""
    await sign_in(browser, "alice")
    [cookie] = browser.cookie_jar
    checked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "conformance", "--url", demo["url"], "--yes"),
        *("--protected", "/admin", "--public", "/login", "--page", "/app", "--rate", "500"),
        env={"GW_CONFORMANCE_COOKIE": f"{cookie.key}={cookie.value}", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    said = (await checked.communicate())[0].decode()
    assert (checked.returncode, " 0 HOLE, " in said) == (0, True), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_ends_all_that_it_started(number: signal.Signals) -> None:
    process = start_demo("--json")
    pids = json.loads(first_line(process))["pids"]
    assert sorted(pids) == ["application", "gateway", "nginx", "valkey"]
    assert "all ended" in end(process, number)
    assert process.returncode == 0
    assert all(map(gone, pids.values()))


def test_a_killed_demo_leaves_no_program_behind() -> None:
    process = start_demo("--json")
    pids = json.loads(first_line(process))["pids"]
    end(process, signal.SIGKILL)
    assert [name for name, pid in pids.items() if not gone(pid)] == []


def test_the_demo_says_in_one_line_which_program_ended() -> None:
    process = start_demo("--json")
    os.kill(json.loads(first_line(process))["pids"]["gateway"], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "demo: the gateway has ended" in errors
    assert "Traceback" not in errors


def test_for_people_it_ends_with_ready_after_five_things_to_try() -> None:
    process = start_demo()
    lines = [first_line(process).rstrip()]
    while lines[-1] != "ready":
        lines.append(first_line(process).rstrip())
    end(process, signal.SIGINT)
    assert [line[0] for line in lines if re.match(r"\d\. ", line)] == list("12345")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/app?x=1", "/app?x=1"),
        (f"{ORIGIN}/admin/?user=a", "/admin/?user=a"),
        ("http://127.0.0.1/other", "/app"),
        ("", "/app"),
        ("app", "/app"),
        ("/login?rd=/login", "/app"),
        ("//evil.example/", "/app"),
        ("/\\evil.example/", "/app"),
        ("/\t/evil.example/", "/app"),
        (f"{ORIGIN}//evil.example/", "/app"),
        (f"{ORIGIN}@evil.example/", "/app"),
        (f"{ORIGIN}.evil.example/", "/app"),
        ("http://127.0.0.1.evil.example/", "/app"),
        ("https://127.0.0.1:8000/app2", "/app"),
        ("javascript:alert(1)", "/app"),
        ("/app\r\nSet-Cookie: a=b", "/app"),
    ],
)
def test_a_return_address_never_leads_to_another_site(address: str, path: str) -> None:
    assert local_path(address, ORIGIN) == path
