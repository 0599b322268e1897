"""`gateway conformance`, as an operator runs it: against the shipped nginx, and a careless one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.e2e.stack import Stack
from tests.store.test_ways import make_certificate

CARELESS = (Path(__file__).parent / "careless.conf").read_text()
URL = "http://app.example.com"


def conformance(*options: str, port: int = 0, cookie: str = "") -> tuple[int, str]:
    """Run the command; return its exit code and what it said."""
    where = ["--url", URL, "--protected", "/admin", "--public", "/public"]
    where += ["--connect", f"127.0.0.1:{port}"] if port else []
    env = {"GW_CONFORMANCE_COOKIE": cookie, "PYTHONPATH": str(servers.ROOT)}
    done = servers.run_gateway(
        "conformance", *where, "--rate", "500", *options, env=env, timeout_s=50
    )
    return done.returncode, done.stdout + done.stderr


def holes(said: str) -> set[str]:
    return set(re.findall(r"^HOLE ([\w/.-]+):", said, re.MULTILINE))


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    port = servers.free_port()
    with servers.start_python("tests.adversarial.pages", port):
        yield port


Nginx = Callable[[str, int], int]


@pytest.fixture
def nginx(stack: Stack) -> Iterator[Nginx]:
    """Start an nginx: the shipped one or a careless one, before an application."""
    started: list[servers.Program] = []

    def start(kind: str, application: int) -> int:
        port = servers.free_port()
        ports = {"listen": port, "gateway": stack.check_port, "application": application}
        shipped = servers.nginx_conf(**ports)
        careless = servers._with_ports(CARELESS, {8000: port, 9180: stack.check_port,
                                                 8080: application})  # fmt: skip
        started.append(servers.start_nginx(shipped if kind == "shipped" else careless))
        return port

    yield start
    for program in started:
        program.stop()


def member_cookie(stack: Stack) -> str:
    return f"__Host-sid={stack.back_end.sign_in(roles=('member',)).token}"


def test_shipped_nginx_is_clean(stack: Stack, nginx: Nginx, upstream: int) -> None:
    cookie = member_cookie(stack)
    code, said = conformance(
        "--yes", "--page", "/x", port=nginx("shipped", upstream), cookie=cookie
    )
    assert code == 0, said
    assert holes(said) == set()
    counts = re.search(r"(\d+) held, 0 HOLE, (\d+) not judged, 0 not sent", said)
    assert counts, said
    assert int(counts[1]) > 380  # a busy machine may leave a few without an answer
    assert cookie.partition("=")[2] not in said


def test_careless_nginx_has_holes_and_each_has_its_fix(
    stack: Stack, nginx: Nginx, upstream: int
) -> None:
    port = nginx("careless", upstream)
    code, said = conformance("--yes", "--page", "/x", port=port, cookie=member_cookie(stack))
    assert code == 1, said
    found = holes(said)
    assert {
        "path-confusion/dots-with-semicolon",
        "identity-header/as-is",
        "identity-header/underscores",
        "rerouting-header/x-original-url",
        "response-caching/replayed",
        "response-caching/refusal-of-a-script",
        "exposed-endpoint/nginx-location",
    } <= found
    fixed = set(re.findall(r"^FIX  ([\w-]+) \(nginx\): .{20}", said, re.MULTILINE))
    assert fixed == {name.partition("/")[0] for name in found}


def test_without_the_check_upstream_pages_are_compared(
    stack: Stack, nginx: Nginx, pages: int
) -> None:
    cookie = member_cookie(stack)
    options = ("--yes", "--page", "/x")
    code, said = conformance(*options, port=nginx("shipped", pages), cookie=cookie)
    assert (code, holes(said)) == (0, set()), said
    assert "run `gateway conformance --upstream`" in said
    assert int(re.search(r"(\d+) not judged", said)[1]) > 20  # type: ignore[index]
    code, said = conformance(*options, port=nginx("careless", pages), cookie=cookie)
    assert code == 1
    assert {"path-confusion/dots-with-semicolon", "response-caching/replayed"} <= holes(said)
    assert "HOLE path-confusion/dots-with-semicolon: 200 with a page that is not" in said


def test_without_a_cookie_a_stranger_asks(nginx: Nginx, upstream: int) -> None:
    code, said = conformance("--yes", port=nginx("shipped", upstream))
    assert code == 0, said
    assert "Without --cookie" in said
    assert int(re.search(r"(\d+) not sent", said)[1]) > 20  # type: ignore[index]


def test_what_is_sent_is_said_first_and_nothing_is_sent_unasked(
    nginx: Nginx, upstream: int
) -> None:
    """Standard input is empty here: nobody says yes."""
    port = nginx("shipped", upstream)
    code, said = conformance(port=port)
    assert code == 2
    assert re.search(r"at most \d+ requests \(GET, HEAD, OPTIONS\)", said)
    assert "at most 500 a second and 8 at once" in said
    assert "nothing was sent" in said


def test_dry_run_needs_no_proxy_and_shows_no_token() -> None:
    code, said = conformance("--dry-run", port=1, cookie=f"__Host-sid=00{'s' * 43}")
    assert code == 0
    assert "path-confusion/escaped-dots (stranger): GET /public/%2e%2e/admin HTTP/1.1" in said
    assert "sss" not in said
    shown = re.findall(r"^[\w-]+/\S+ \((?:stranger|member)\): ([A-Z]+) ", said, re.MULTILINE)
    assert set(shown) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--protected", "/public/x", "--public", "/public/x"], "must not lie below"),
        (["--protected", "/"], "must not be /"),
        (["--protected", "/admin?x"], "plain path"),
        (["--public", "public"], "plain path"),
        (["--cookie", "a"], "name=value"),
        (["--cookie", "a=b; c=d"], "name=value"),
        (["--header", "X Auth"], "letters"),
        (["--url", "app.example.com"], "https://app.example.com"),
        (["--url", "https://app.example.com/admin"], "only the scheme and the host"),
        (["--connect", "localhost"], "HOST:PORT"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(options: list[str], said: str) -> None:
    code, text = conformance("--yes", *options, port=1)
    assert code == 2
    assert said in re.sub(r"\s*\n│?\s*", " ", text)


def test_the_certificate_is_checked_unless_told_otherwise(upstream: int, tmp_path: Path) -> None:
    """Behind TLS there is no gateway here: the page that should be protected is open."""
    text = "listen 127.0.0.1:{0} ssl; ssl_certificate {1}; ssl_certificate_key {1};"
    port, pem = servers.free_port(), make_certificate(tmp_path)
    conf = servers.nginx_conf(listen=port, gateway=servers.free_port(), application=upstream)
    conf = conf.replace(f"listen      127.0.0.1:{port};", text.format(port, pem))
    conf = conf.replace("auth_request /_gateway;", "")
    with servers.start_nginx(conf):
        options = ("--yes", "--url", f"https://localhost:{port}")
        code, said = conformance(*options)
        assert (code, "certificate" in said) == (2, True), said
        code, said = conformance(*options, "--insecure")
        assert (code, "not protected at all" in said) == (2, True), said


def test_what_cannot_run_is_no_success(stack: Stack, nginx: Nginx, upstream: int) -> None:
    code, said = conformance("--yes", port=servers.free_port())
    assert (code, "cannot connect" in said) == (2, True)
    port = nginx("shipped", upstream)
    code, said = conformance("--yes", "--protected", "/public/x", port=port)
    assert (code, "not protected at all" in said) == (2, True)
    code, said = conformance("--yes", "--public", "/x", port=port)
    assert (code, "answers 401 to a stranger" in said) == (2, True)
    code, said = conformance("--yes", port=port, cookie=member_cookie(stack))
    assert (code, "name a page that its session may open" in said) == (2, True)
