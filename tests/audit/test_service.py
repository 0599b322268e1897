"""`gateway serve` and the commands around it, over real servers that are killed."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.service.harness import Gateway, log_lines, log_of, until

from .service import Site, chaos, site


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("valkey")) as running:
        yield running


def test_every_acknowledged_change_is_a_row_once_and_in_order_whatever_is_killed(
    running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gateways, Postgres and Redis, at random, under load."""

    def restart_redis() -> None:
        running.valkey.stop()
        running.valkey.start()

    def kill_a_gateway() -> None:
        running.kill_gateway(random.randrange(2))

    running.restart_postgres()
    chaos(running, 6, [kill_a_gateway, kill_a_gateway, running.restart_postgres, restart_redis])
    running.await_empty()
    count = running.check()
    assert count >= 10  # what a busy machine gets done
    verified = running.command("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    with capsys.disabled():
        sys.stdout.write(f" [{count} acknowledged changes]")


def test_the_commands_migrate_list_and_verify(running: Site) -> None:
    assert running.command("database", "migrate").stdout == "nothing to do\n"
    session = running.gateways[0].sign_in("carol")["id"]
    running.gateways[0].admin("DELETE", f"/v1/sessions/{session}?reason=lost")
    running.await_empty()
    lines = running.command("events", "--user", "carol", "--json").stdout.splitlines()
    ended, created = map(json.loads, lines)
    assert (ended["type"], created["type"]) == ("session.ended", "session.created")
    assert (ended["reason"], ended["details"]) == ("lost", {"why": "revoked"})
    assert (created["by"], created["session"]) == ("test", session)
    assert running.command("events", "--user", "carol", "--limit", "1").stdout.count("\n") == 1
    shown = running.command("events", "--type", "session.ended").stdout
    assert "'lost'  revoked" in shown
    assert running.command("events", "--from", "yesterday").returncode == 1
    running.sql("UPDATE gateway.session_events SET actor = 'nobody' WHERE user_id = 'carol'")
    verified = running.command("audit", "verify")
    assert verified.returncode == 1
    assert verified.stdout.count("was changed") == 2
    running.sql("UPDATE gateway.session_events SET actor = 'test' WHERE user_id = 'carol'")
    assert running.command("audit", "verify").returncode == 0


def test_while_postgres_is_away_the_history_says_so_and_checks_go_on(running: Site) -> None:
    gateway = running.gateways[0]
    token = gateway.sign_in("dave")["token"]
    running.postgres.kill()
    try:
        answer = gateway.admin("GET", "/v1/events")
        assert (answer.status, answer.json["detail"]) == (503, "Postgres gave no answer")
        assert gateway.check(token).status == 200
        assert gateway.sign_in("dave")["token"] != token
        assert gateway.ready() == 200
    finally:
        running.postgres.start()
    running.await_empty()
    assert gateway.admin("GET", "/v1/events?user=dave").json["next"] is None


EDGES = {
    "from=0001-01-01T00:00:00%2B14:00": 200,
    "from=9999-12-31T23:59:59-14:00": 200,
    "to=9999-12-31T23:59:59-14:00": 200,
    "to=2026-03-01T09:00:00": 422,
    "cursor=ff-99999999999999-999999999999999": 200,
    "cursor=00-0-0": 200,
    "cursor=00-0-0%27%20OR%201=1": 422,
    "cursor=00-%D9%A3-0": 422,
    "user=%00": 422,
    "user=%27;%20DROP%20TABLE%20gateway.chains;--": 200,
    "user=%ED%A0%80": 200,
    "session=%27": 422,
    "type=%27": 422,
    "limit=0": 422,
    "limit=201": 422,
}


def test_no_query_of_events_is_a_fault_or_reaches_sql(running: Site) -> None:
    gateway = running.gateways[0]
    came = {query: gateway.admin("GET", f"/v1/events?{query}").status for query in EDGES}
    assert came == EDGES
    assert running.sql("SELECT to_regclass('gateway.chains') IS NOT NULL")[0][0]


def test_while_postgres_hangs_nobody_waits_for_it_but_who_reads_events(running: Site) -> None:
    """It takes connections and says nothing: what no timeout ends would wait for ever."""
    gateway = running.gateways[0]
    token = gateway.sign_in("frank")["token"]
    running.await_empty()
    with running.postgres.hanging():
        began = time.monotonic()
        for _ in range(20):
            assert gateway.check(token).status == 200
            session = gateway.sign_in("grace")["id"]
            assert gateway.admin("DELETE", f"/v1/sessions/{session}").json["complete"]
        assert time.monotonic() - began < 5
        assert gateway.admin("GET", "/v1/events").status == 503
        assert time.monotonic() - began < 15
        assert gateway.ready() == 200
    running.await_empty()
    rows = running.sql("SELECT type FROM gateway.session_events WHERE user_id = 'grace' "
                       "ORDER BY seq")  # fmt: skip
    assert [row[0] for row in rows] == ["session.created", "session.ended"] * 20


def test_without_postgres_events_are_read_from_the_outbox_and_their_loss_is_said() -> None:
    more = "[events]\noutbox_limit = 100\n[session]\nmax_per_user = 0\n"
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, more)
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            sessions = [gateway.sign_in("erin")["id"] for _ in range(3)]
            first = gateway.admin("GET", "/v1/events?user=erin&limit=2").json
            assert [each["session"] for each in first["events"]] == sessions[:0:-1]
            path = f"/v1/events?user=erin&limit=2&cursor={first['next']}"
            second = gateway.admin("GET", path).json
            assert [each["session"] for each in second["events"]] == sessions[:1]
            assert second["next"] is None
            for _ in range(110):
                gateway.sign_in("erin")
            until(lambda: '"events_dropped"' in log_of(program), "the loss is said")
            dropped = [line for line in log_lines(log_of(program))
                       if line["event"] == "events_dropped"]  # fmt: skip
            assert sum(line["count"] for line in dropped) == 13
            assert dropped[0]["level"] == "error"


def test_with_workers_only_the_parent_carries_events(tmp_path: Path) -> None:
    with site(tmp_path, gateways=1, workers=2) as running:
        running.load.sign_in_and_out(running.gateways[0], "ann")
        running.await_empty()
        assert running.check() == 3
        names = running.sql("SELECT count(DISTINCT pid) FROM pg_stat_activity "
                            "WHERE application_name = 'session-gateway'")  # fmt: skip
        assert names[0][0] <= 5


class Receiver:
    """Somebody's server; it cannot take events of mallory."""

    def __init__(self) -> None:
        self.port = servers.free_port()
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.refuses = True
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                refused = receiver.refuses and body["data"]["user"] == "mallory"
                if not refused:
                    receiver.got.append((self.headers["webhook-id"], body))
                self.send_response(422 if refused else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def test_a_webhook_gets_events_and_those_it_refused_once_they_are_put_back(tmp_path: Path) -> None:
    receiver = Receiver()
    hook = f"""[[events.webhooks]]
name = "siem"
url = "http://localhost:{receiver.port}/"
allow_http = true
allow_networks = ["127.0.0.0/8"]
secrets = ["whsec_{"a2V5" * 8}"]
types = ["session.ended"]
timeout = "400ms"
"""
    with receiver.running(), site(tmp_path, gateways=1, takeover="2s", more=hook) as running:
        gateway = running.gateways[0]
        for user in ("mallory", "ann"):
            session = gateway.sign_in(user)["id"]
            gateway.admin("DELETE", f"/v1/sessions/{session}?reason=lost")
        running.await_empty()
        [(_, told)] = receiver.got
        assert (told["type"], told["data"]["user"]) == ("session.ended", "ann")
        assert told["events"].popitem()[1]["reason_admin"] == {"en": "lost"}
        [line] = running.command("dead-letters", "list").stdout.splitlines()
        assert "webhook:siem" in line
        assert "mallory" in line
        assert line.endswith("Rejected: answered 422")
        receiver.refuses = False
        assert running.command("dead-letters", "requeue", line.split()[0]).stdout == "1 put back\n"
        running.await_empty()
        assert [body["data"]["user"] for _, body in receiver.got] == ["ann", "mallory"]
        assert receiver.got[1][0] == line.split()[3]
        assert running.command("dead-letters", "list", "--json").stdout == ""
        assert running.command("dead-letters", "requeue", "00-1-1").returncode == 1
        assert running.command("dead-letters", "requeue").returncode == 2
        assert len(running.sql("SELECT FROM gateway.session_events")) == 4
