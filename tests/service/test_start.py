"""What stands in the way of a start is one clear line and exit code 2."""

from __future__ import annotations

import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .harness import Gateway, ask, log_lines, log_of, question, redis_command, run_serve, until


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, and the last line says why; before it only log lines, never a traceback."""
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    *before, last = ended.stderr.splitlines()
    assert last.startswith("gateway: ")
    for word in words:
        assert word in last
    log_lines("\n".join(before))


@pytest.mark.parametrize("listener", ["check", "admin"])
def test_a_port_in_use_is_one_line(tmp_path: Path, listener: str) -> None:
    """A port that somebody else has is named, with what to do, and the gateway ends with 2."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0")
    port = gateway.check_port if listener == "check" else gateway.admin_port
    with socket.create_server(("127.0.0.1", port)):
        ended = run_serve(gateway.config(), tmp_path)
    assert_one_line(ended, f"{listener}.listen", str(port), "stop what uses it")


@pytest.mark.parametrize(
    ("listen", "word"),
    [("192.0.2.1:9180", "192.0.2.1"), ("no-such-host.invalid:1", "no-such-host"),
     ("unix:/does/not/exist/sock", "/does/not/exist"), ("unix:/" + "x" * 200, "too long")],
)  # fmt: skip
def test_an_impossible_address_is_one_line(tmp_path: Path, listen: str, word: str) -> None:
    """An address that cannot be had is named, and the gateway ends with 2."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0", check_listen=listen)
    assert_one_line(run_serve(gateway.config(), tmp_path), "check.listen", word)


def test_a_file_that_is_no_toml_is_one_line(tmp_path: Path) -> None:
    """A file that is no TOML ends with 2 and says where the fault is."""
    assert_one_line(run_serve("[check\n", tmp_path), "not valid TOML", "line 1")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """A missing file ends with 2 and says so."""
    (tmp_path / "gateway.toml").mkdir()
    with pytest.raises(IsADirectoryError):
        run_serve("", tmp_path)
    missing = tmp_path / "below"
    missing.mkdir()
    ended = run_serve("", missing)
    assert ended.returncode == 2
    assert "admin.tokens" in ended.stderr


def test_a_configuration_with_problems_does_not_start(tmp_path: Path) -> None:
    """All problems are printed and the exit code is 2."""
    ended = run_serve("[session]\nidle = 5\n[sesion]\n", tmp_path)
    assert ended.returncode == 2
    for place in ("session.idle", "sesion", "admin.tokens", "3 problems"):
        assert place in ended.stderr


def test_other_partitions_than_redis_has_end_the_start(tmp_path: Path) -> None:
    """A gateway with other partitions than Redis was set up with ends at once, and says which."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        with Gateway(valkey.url).running():
            pass
        wrong = Gateway(valkey.url)
        config = wrong.config().replace("[redis]", "[redis]\npartitions = 64")
        started = time.monotonic()
        ended = run_serve(config, tmp_path)
        assert time.monotonic() - started < 10
    assert_one_line(ended, "redis.partitions is 64", "set up with 16")


def test_other_partitions_found_later_end_the_process(tmp_path: Path) -> None:
    """When Redis comes only later and was set up otherwise, the gateway ends with 2 then."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        # A password that the gateway does not know stands for "Redis is not there yet".
        redis_command(valkey.port, "CONFIG SET requirepass later")
        gateway = Gateway(valkey.url)
        with gateway.running() as program:
            assert gateway.ready() == 503
            redis_command(
                valkey.port, "AUTH later", "SET gw:partitions '64 3'", "CONFIG SET requirepass ''"
            )
            until(lambda: not program.running, "the gateway has ended")
            assert program._process.returncode == 2
            assert "set up with 64" in log_of(program).splitlines()[-1]
            assert "Traceback" not in log_of(program)


def test_without_a_url_the_embedded_valkey_is_announced() -> None:
    """Without redis.url the gateway works, and says loudly that it keeps nothing, at any level."""
    gateway = Gateway("", more='[log]\nlevel = "error"\n')
    with gateway.running() as program:
        until(lambda: gateway.ready() == 200, "ready")
        assert gateway.check(gateway.sign_in()["token"]).status == 200
        said = [line for line in log_lines(log_of(program)) if line["event"] == "embedded_valkey"]
    assert len(said) == 1
    assert "lost" in said[0]["what"]


def test_a_unix_socket_works_and_a_stale_one_is_replaced() -> None:
    """Checks are answered over a Unix socket, also where a dead process has left its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedValkey(port=servers.free_port()) as valkey,
    ):
        path = Path(folder) / "check.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        gateway = Gateway(valkey.url, check_listen=f"unix:{path}")
        with gateway.running():
            until(lambda: gateway.ready() == 200, "ready")
            token = gateway.sign_in()["token"]
            for _ in range(2):
                assert over_unix(path, token).startswith(b"HTTP/1.1 200")
            assert over_unix(path, "x").startswith(b"HTTP/1.1 401")
            assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    """The socket of a living process is left to it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.sock"
        with socket.socket(socket.AF_UNIX) as living:
            living.bind(str(path))
            living.listen()
            redis = f"redis://127.0.0.1:{servers.free_port()}/0"
            ended = run_serve(Gateway(redis, check_listen=f"unix:{path}").config(), tmp_path)
            assert_one_line(ended, "check.listen", "stop what uses it")
            assert path.exists()


def over_unix(path: Path, token: str) -> bytes:
    """Ask over a Unix socket; return the answer as it came."""
    target, headers = question("auth_request")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Cookie: __Host-sid={token}", "Connection: close", "", ""]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall("\r\n".join(lines).encode())
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    return answer


def test_a_flood_of_headers_does_no_harm() -> None:
    """Half a megabyte of headers is refused, and the next check is answered."""
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            token = gateway.sign_in()["token"]
            for flood in (
                b"X-A: " + b"x" * 500_000,
                b"\r\n".join(b"X-%d: y" % n for n in range(50_000)),
                b"Cookie: " + b"__Host-sid=x; " * 40_000,
            ):
                for port in (gateway.check_port, gateway.admin_port):
                    assert b"HTTP/1.1 200" not in flooded(port, flood)
            assert gateway.check(token).status == 200
            assert gateway.ready() == 200
            assert program.running
            assert len(log_of(program)) < 50_000


def flooded(port: int, headers: bytes) -> bytes:
    """Send a check with these headers; return what came back, nothing if the door was shut."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(
                b"GET /check/auth_request HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n\r\n"
            )
            return client.recv(65_536)
        except ConnectionError:
            return b""


def test_what_is_no_endpoint_is_404() -> None:
    """The check listener has its endpoints and nothing else, whatever the policy says."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0")
    with gateway.running():
        for path in ("/", "/public/x", "/healthz", "/metrics", "/check", "/check/", "/v1/sessions"):
            assert ask(gateway.check_port, "GET", path, {}).status == 404
