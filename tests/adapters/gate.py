"""The check listener over real sockets with a store of the test's own, and a client of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from gateway.adapters import authelia, oauth2_proxy
from gateway.adapters.callers import Holding, as_it_is, holding
from gateway.adapters.connection import CheckServer
from gateway.adapters.grpc_server import DEFAULT_MAX_MESSAGE, GrpcServer
from gateway.adapters.listener import CheckListener
from gateway.adapters.wire import Page, Profile, Trusted, Wording
from gateway.assertion import Assertions
from gateway.binding import Binding
from gateway.decision import Decision
from gateway.identity import AUTHELIA, NATIVE, OAUTH2_PROXY, standing_of
from gateway.model import CheckRequest, Session, Standing
from gateway.rules import Access, RuleSpec
from tests import servers
from tests.decision.samples import FakeStore, make_authorizer

from .calls import call, reply_of
from .families import Asked, Family, Header
from .reply import Reply

WAIT_S = 10.0
ASSERTION = "X-Auth-Jwt-Assertion"
_GATES = itertools.count()
LOOPBACK = ("127.0.0.0/8", "::1/128")
LOGIN = "https://login.example.com/?rd={url}&from=gateway"
RULES = [
    RuleSpec(Access.PUBLIC, path="/public/**"),
    RuleSpec(Access.DENY, path="/shut/**"),
    RuleSpec(Access.SESSION, path="/admin/**", roles=("admin",)),
    RuleSpec(Access.SESSION, path="/app/**"),
]


class Gate:
    """A listener that serves, and everything it did."""

    server: CheckServer

    def __init__(self, listener: CheckListener, store: FakeStore, path: str) -> None:
        self.listener = listener
        self.listeners: list[asyncio.Server] = []
        self.store = store
        self.activity: list[Standing] = []
        self.faults: list[Exception] = []
        self.strangers: list[tuple[str, str]] = []
        self.observed: list[tuple[str, CheckRequest | None, Decision]] = []
        self.port = 0
        self.path = path  # of the Unix socket, if there may be one
        self._has_socket = False
        self.grpc: GrpcServer | None = None
        self.grpc_port = 0
        self.grpc_max_message = DEFAULT_MAX_MESSAGE
        self.holding: Holding = as_it_is

    async def connect(self, *, unix: bool = False) -> Connection:
        if unix:
            await self._open_socket()
            return Connection(*await asyncio.open_unix_connection(self.path))
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))

    async def _open_socket(self) -> None:
        """Listen on the Unix socket, with the first question there."""
        if not self._has_socket:
            self._has_socket = True
            loop = asyncio.get_running_loop()
            self.listeners.append(await loop.create_unix_server(self.server, self.path))

    async def send(self, raw: bytes, *, unix: bool = False) -> Reply:
        """Return the answer to one request on a connection of its own."""
        connection = await self.connect(unix=unix)
        try:
            return await connection.ask(raw)
        finally:
            await connection.close()

    async def ask(
        self,
        family: Family,
        asked: Asked,
        drop: str = "",
        extra: tuple[Header, ...] = (),
        *,
        unix: bool = False,
    ) -> Reply:
        request = family.request(asked, drop, extra)
        return await (self.call if family.grpc else self.send)(request, unix=unix)

    async def call(self, message: bytes, *, unix: bool = False) -> Reply:
        """Return what Envoy makes of the answer to one gRPC call."""
        return reply_of(await call(await self.grpc_address(unix=unix), message))

    async def grpc_address(self, *, unix: bool = False) -> str:
        """Return where gRPC is answered; begin to answer it with the first question."""
        if self.grpc is None:
            self.grpc = GrpcServer(self.listener, self.grpc_max_message, self.holding)
            self.grpc_port = servers.free_port()
            paths = [f"unix:{self.path}.grpc"] if self.path else []
            await self.grpc.open([f"127.0.0.1:{self.grpc_port}", *paths], shared=False)
        return f"unix:{self.path}.grpc" if unix else f"127.0.0.1:{self.grpc_port}"

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


def profiles_of(
    first: Wording, second: Wording, pages: Mapping[str, Page]
) -> tuple[Profile, ...]:
    """Return both profiles as they are unless somebody chooses otherwise."""
    return (
        oauth2_proxy.profile(first, oauth2_proxy.Options(), pages),
        authelia.profile(second, "/api/authz/ext-authz/"),
    )


@contextlib.asynccontextmanager
async def serving(
    *sessions: Session,
    folder: Path | None = None,
    trusted: tuple[str, ...] = LOOPBACK,
    hops: int = 0,
    login_url: str = LOGIN,
    raw_utf8: bool = False,
    rules: list[RuleSpec] = RULES,
    profiles: bool = True,
    pages: Mapping[str, Page] | None = None,
    assertions: Assertions | None = None,
    remove_unset: tuple[str, ...] = (),
    binding: Binding | None = None,
) -> AsyncIterator[Gate]:
    """Serve on a port of the kernel's choice and, with `folder`, where asked on a Unix socket."""
    signed = "" if assertions is None else ASSERTION
    told = [
        replace(each, raw_utf8=raw_utf8, assertion=signed)
        for each in (NATIVE, OAUTH2_PROXY, AUTHELIA)
    ]
    native, first, second = (
        Wording(login_url, each.nobody, number, remove_unset=remove_unset,
                assertion=None if assertions is None else assertions.line)
        for each, number in zip(told, (None, 0, 1), strict=True)
    )  # fmt: skip
    stand = partial(
        standing_of, native=told[0], profiles=tuple(told[1:]), bound=binding is not None
    )
    held = as_it_is if binding is None else holding(binding.hold)
    store = FakeStore(*sessions, stand=stand)
    activity: list[Standing] = []
    faults: list[Exception] = []
    observed: list[tuple[str, CheckRequest | None, Decision]] = []
    strangers: list[tuple[str, str]] = []
    listener = CheckListener(
        make_authorizer(rules, store, activity, stand=stand),
        native,
        Trusted(tuple(ipaddress.ip_network(each) for each in trusted), hops),
        profiles=profiles_of(first, second, pages or {}) if profiles else (),
        holding=held,
        observe=lambda adapter, asked, decision, s: observed.append((adapter, asked, decision)),
        on_fault=faults.append,
        on_stranger=lambda *who: strangers.append(who),
    )
    gate = Gate(listener, store, str(folder / f"{next(_GATES)}.sock") if folder else "")
    gate.activity, gate.faults, gate.observed = activity, faults, observed
    gate.strangers, gate.holding = strangers, held
    loop = asyncio.get_running_loop()
    server = CheckServer(listener)
    gate.server = server
    gate.listeners.append(await loop.create_server(server, "127.0.0.1", 0))
    gate.port = gate.listeners[0].sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        for each in gate.listeners:
            each.close()
        await server.shutdown(1.0)
        if gate.grpc is not None:
            await gate.grpc.close(0)
