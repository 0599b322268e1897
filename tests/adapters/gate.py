"""The check listener over real sockets with a store of the test's own, and a client of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gateway.adapters.connection import CheckServer
from gateway.adapters.listener import CheckListener
from gateway.adapters.wire import Trusted, Wording
from gateway.decision import Decision
from gateway.model import CheckRequest, Session, Standing
from gateway.rules import Access, RuleSpec
from tests.decision.samples import FakeStore, make_authorizer

from .families import Asked, Family, Header

WAIT_S = 10.0
LOOPBACK = ("127.0.0.0/8", "::1/128")
LOGIN = "https://login.example.com/?rd={url}&from=gateway"
RULES = [
    RuleSpec(Access.PUBLIC, path="/public/**"),
    RuleSpec(Access.DENY, path="/shut/**"),
    RuleSpec(Access.SESSION, path="/admin/**", roles=("admin",)),
    RuleSpec(Access.SESSION, path="/app/**"),
]


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        """Return the value of a header that must be there exactly once."""
        values = self.all(name)
        assert len(values) == 1, (name, self.headers)
        return values[0]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.headers}


class Gate:
    """A listener that serves, and everything it did."""

    server: CheckServer

    def __init__(self, listener: CheckListener, store: FakeStore) -> None:
        self.listener = listener
        self.store = store
        self.activity: list[Standing] = []
        self.faults: list[Exception] = []
        self.observed: list[tuple[str, CheckRequest | None, Decision]] = []
        self.port = 0
        self.path = ""

    async def connect(self, *, unix: bool = False) -> Connection:
        if unix:
            return Connection(*await asyncio.open_unix_connection(self.path))
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))

    async def send(self, raw: bytes, *, unix: bool = False) -> Reply:
        """Return the answer to one request on a connection of its own."""
        connection = await self.connect(unix=unix)
        try:
            return await connection.ask(raw)
        finally:
            await connection.close()

    async def ask(
        self, family: Family, asked: Asked, drop: str = "", extra: tuple[Header, ...] = ()
    ) -> Reply:
        return await self.send(family.request(asked, drop, extra))

    @property
    def last(self) -> tuple[str, CheckRequest | None, Decision]:
        return self.observed[-1]


class Connection:
    """Bytes out, answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, raw: bytes) -> Reply:
        self.write(raw)
        return await self.read(headless=raw.startswith((b"HEAD ", b"CONNECT ")))

    def write(self, raw: bytes) -> None:
        self._writer.write(raw)

    async def read(self, *, headless: bool = False) -> Reply:
        """Return the next answer; `headless` answers have a length but no body."""
        async with asyncio.timeout(WAIT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, *lines = head[:-4].decode("utf-8").split("\r\n")
            headers = [(name, value.removeprefix(" ")) for name, _, value in
                       (line.partition(":") for line in lines)]  # fmt: skip
            lengths = [int(value) for name, value in headers if name == "Content-Length"]
            body = await self._reader.readexactly(0 if headless else sum(lengths))
        return Reply(int(status.split(" ")[1]), headers, body, head)

    async def ended(self) -> bool:
        """Tell whether the server closes, with nothing more to say."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read(1) == b""

    def abort(self) -> None:
        """Leave without reading what was answered."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    *sessions: Session,
    folder: Path | None = None,
    trusted: tuple[str, ...] = LOOPBACK,
    hops: int = 0,
    login_url: str = LOGIN,
    raw_utf8: bool = False,
    rules: list[RuleSpec] = RULES,
) -> AsyncIterator[Gate]:
    """Serve on a port of the kernel's choice and, with `folder`, on a Unix socket in it."""
    store = FakeStore(*sessions)
    activity: list[Standing] = []
    faults: list[Exception] = []
    observed: list[tuple[str, CheckRequest | None, Decision]] = []
    listener = CheckListener(
        make_authorizer(rules, store, activity, raw_utf8=raw_utf8),
        Wording(login_url),
        Trusted(tuple(ipaddress.ip_network(each) for each in trusted), hops),
        observe=lambda adapter, asked, decision, s: observed.append((adapter, asked, decision)),
        on_fault=faults.append,
    )
    gate = Gate(listener, store)
    gate.activity, gate.faults, gate.observed = activity, faults, observed
    loop = asyncio.get_running_loop()
    server = CheckServer(listener)
    gate.server = server
    listeners = [await loop.create_server(server, "127.0.0.1", 0)]
    gate.port = listeners[0].sockets[0].getsockname()[1]
    if folder is not None:
        gate.path = str(folder / "check.sock")
        listeners.append(await loop.create_unix_server(server, gate.path))
    try:
        yield gate
    finally:
        for each in listeners:
            each.close()
        await server.shutdown(1.0)
