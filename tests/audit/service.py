"""Gateways as processes that carry events, under load, while something or other is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from gateway.audit.migrate import migrate
from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.postgres import Postgres
from tests.service.harness import ADMIN_TOKEN, ENV, Answer, Gateway, until


@dataclass
class Load:
    """Calls of the admin API, and what was acknowledged of them: (session, type), in order."""

    acknowledged: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)  # users with a call that had no answer

    def sign_in_and_out(self, gateway: Gateway, user: str) -> None:
        created = self._call(gateway, user, "POST", "/v1/sessions", {"user": user})
        if created is None or created.status != 201:
            return
        session = created.json["id"]
        self._note(user, session, "session.created")
        changed = self._call(gateway, user, "PATCH", f"/v1/sessions/{session}", {"name": "x"})
        if changed is not None and changed.status == 200:
            self._note(user, session, "session.updated")
        ended = self._call(gateway, user, "DELETE", f"/v1/sessions/{session}", None)
        if ended is not None and ended.status == 200:
            self._note(user, session, "session.ended")

    def _note(self, user: str, session: str, kind: str) -> None:
        self.acknowledged.setdefault(user, []).append((session, kind))

    def _call(
        self, gateway: Gateway, user: str, method: str, path: str, body: object
    ) -> Answer | None:
        try:
            answer = gateway.admin(method, path, body)
        except OSError:
            self.unsure.add(user)
            return None
        if answer.status >= 500:
            self.unsure.add(user)
        return answer

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))


@dataclass
class Site:
    """Several gateways, one Redis, one Postgres."""

    valkey: EmbeddedValkey
    postgres: Postgres
    gateways: list[Gateway]
    programs: list[servers.Program] = field(default_factory=list)
    load: Load = field(default_factory=Load)
    stack: ExitStack = field(default_factory=ExitStack)

    def kill_gateway(self, number: int) -> None:
        """End it as the loss of its machine would, and start another in its place."""
        os.kill(self.programs[number].pid, signal.SIGKILL)
        self.programs[number]._process.wait()
        self.programs[number] = self.stack.enter_context(self.gateways[number].running())
        until(lambda: self.gateways[number].ready() == 200, "ready")

    def restart_postgres(self, pause_s: float = 0.0) -> None:
        self.postgres.kill()
        time.sleep(pause_s)
        self.postgres.start()

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Have users sign in and out at all gateways until the end of the block."""
        stopping = threading.Event()

        def work(lane: int) -> None:
            number = 0
            while not stopping.is_set():
                gateway = self.gateways[(lane + number) % len(self.gateways)]
                self.load.sign_in_and_out(gateway, f"user-{lane}-{number % 7}")
                number += 1

        threads = [threading.Thread(target=work, args=(lane,)) for lane in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def outbox_length(self) -> int:
        lines = self.gateways[0].admin("GET", "/metrics").body.decode().splitlines()
        return int(float(next(
            line.split()[1] for line in lines if line.startswith("gateway_outbox_length "))
        ))  # fmt: skip

    def await_empty(self, within_s: float = 30.0) -> None:
        """Wait until the streams themselves are empty: metrics are some seconds old."""
        import redis

        with redis.Redis(port=self.valkey.port) as client:
            names = [f"gw:e:{{{number:02x}}}" for number in range(16)]
            until(lambda: not sum(client.xlen(each) for each in names), "carried", within_s)

    def rows(self) -> dict[str, list[tuple[str, str]]]:
        """Return (session, type) of every row, by user, in the order of the chain."""
        found: dict[str, list[tuple[str, str]]] = {}
        sql = ("SELECT user_id, session_id, type FROM gateway.session_events "
               "ORDER BY partition, seq")  # fmt: skip
        for user, session, kind in self.sql(sql):
            found.setdefault(user, []).append((session, kind))
        return found

    def sql(self, text: str) -> list[Any]:
        async def fetch() -> list[Any]:
            connection = await asyncpg.connect(self.postgres.dsn)
            rows: list[Any] = await connection.fetch(text)
            await connection.close()
            return rows

        return asyncio.run(fetch())

    def check(self) -> int:
        """Every acknowledged change is there exactly once and in order; return how many."""
        rows = self.rows()
        for user, acknowledged in self.load.acknowledged.items():
            there = rows.get(user, [])
            assert max(Counter(there).values()) == 1, user
            known = set(acknowledged)
            assert [each for each in there if each in known] == acknowledged, user
            if user not in self.load.unsure:
                assert len(there) == len(acknowledged), user
        return self.load.count

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `gateway ...` with the configuration of the first gateway."""
        gateway = self.gateways[0]
        config = Path(self.postgres.folder) / "gateway.toml"
        config.write_text(gateway.config())
        environment = os.environ | ENV | {
            "GW_CONFIG": str(config), "GW_ADMIN_TOKEN": ADMIN_TOKEN,
            "GW_ADMIN_URL": f"http://127.0.0.1:{gateway.admin_port}",
        }  # fmt: skip
        if words[0] == "events":
            del environment["GW_CONFIG"]
        return servers.run_gateway(*words, env=environment)


@contextmanager
def site(
    folder: Path,
    *,
    gateways: int = 2,
    workers: int = 1,
    outbox_limit: int = 10_000,
    takeover: str = "1s",
    more: str = "",
) -> Iterator[Site]:
    """Run them; `more` is their configuration besides, which may begin with more of [events]."""
    arguments = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder)]
    valkey = EmbeddedValkey(port=servers.free_port(), arguments=arguments)
    with valkey, Postgres() as postgres, ExitStack() as stack:
        asyncio.run(migrate(postgres.dsn, 5))
        tables = (
            f'[postgres]\ndsn = "{postgres.dsn}"\n'
            f'[events]\ntakeover = "{takeover}"\noutbox_limit = {outbox_limit}\n{more}'
            "[log]\ndenials = false\n"
        )
        members = [Gateway(valkey.url, tables, workers=workers) for _ in range(gateways)]
        running = Site(valkey, postgres, members, stack=stack)
        running.programs = [stack.enter_context(each.running()) for each in members]
        for each in members:
            until(lambda each=each: each.ready() == 200, "ready")  # type: ignore[misc]
        yield running


def chaos(
    running: Site, times: int, actions: list[Callable[[], None]], rest_s: float = 0.4
) -> None:
    """Do one of the actions again and again, at most `rest_s` apart, under load.

    A killed replica's lease is waited for with every change: much happens after it only.
    """
    with running.loaded():
        for _ in range(times):
            time.sleep(random.uniform(0.05, rest_s))
            random.choice(actions)()
