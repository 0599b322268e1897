"""Every way that leads to Redis: the link takes it too, and memory is trusted at its end."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedValkey
from gateway.model import EndState
from gateway.store import MemoryOptions
from gateway.store.redis_store import RedisStore, connect
from tests import servers

from .world import ACTOR, PARTITIONS, World, patient

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@asynccontextmanager
async def remembering(url: str, **credentials: Any) -> AsyncIterator[tuple[World, list[str]]]:
    """A store with a memory over this address, trusted and believed, and what it counted."""
    errors: list[str] = []
    client = patient(connect(url, **credentials))
    store = RedisStore(
        client, partitions=PARTITIONS, memory=MemoryOptions(lease_ms=200), count_error=errors.append
    )
    world = World(store, client)
    try:
        await store.open()
        async with asyncio.timeout(10):
            while not (world.stream and believed(store)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield world, errors
    finally:
        await store.close()


def believed(store: RedisStore) -> bool:
    return store._memory is not None and store._memory._believes_registry()


async def check_every_use(url: str, **credentials: str) -> None:
    """Sign in, be remembered, be touched, end with a whole receipt; nothing is refused."""
    async with remembering(url, **credentials) as (world, errors):
        signed = await world.sign_in()
        assert await world.allows(signed.key)
        assert world.store.recall(signed.key) is not None
        await world.store.touch(signed.key, 0)
        fence = world.store.fence()
        assert await world.store.end(signed.key, EndState.REVOKED, ACTOR, fence) == "ann"
        assert await world.store.confirmed(fence) == (1, 1, 0, True)
        assert world.store.recall(signed.key) is None
        await world.store.sweep()
        assert errors == []


async def test_a_unix_socket(tmp_path: Path) -> None:
    """Without a port at all."""
    with EmbeddedValkey(unix_socket=tmp_path / "valkey.sock") as valkey:
        await check_every_use(valkey.url)


async def test_a_password(valkey_with: Any) -> None:
    """The default user's."""
    with valkey_with() as valkey:
        admin: Any = connect(valkey.url)
        await admin.config_set("requirepass", "secret")
        await admin.aclose()
        await check_every_use(valkey.url, password="secret")


async def test_another_database(valkey: EmbeddedValkey) -> None:
    """Notices carry no database number; the link reads where the rest does."""
    url = valkey.url.removesuffix("/0") + "/3"
    await check_every_use(url)


async def test_an_acl_user_with_the_documented_rights(valkey_with: Any) -> None:
    """What docs/operations.md gives the user is enough for everything."""
    match = re.search(r"^ACL SETUSER (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    assert match is not None
    with valkey_with() as valkey:
        admin: Any = connect(valkey.url)
        await admin.execute_command("ACL", "SETUSER", *match[1].split())
        await admin.execute_command("ACL", "SETUSER", "default", "off")
        await admin.aclose()
        await check_every_use(valkey.url, username="gateway", password="PASSWORD")


async def test_a_user_without_channels_gets_its_receipts_late(valkey_with: Any) -> None:
    """Checks go on without memory, and a revocation is complete all the same."""
    with valkey_with() as valkey:
        admin: Any = connect(valkey.url)
        rights = ("on", ">p", "~gw:*", "resetchannels", "+@all")
        await admin.execute_command("ACL", "SETUSER", "mute", *rights)
        await admin.aclose()
        store = RedisStore(
            patient(connect(valkey.url, username="mute", password="p")),
            partitions=PARTITIONS,
            memory=MemoryOptions(lease_ms=200),
        )
        await store.open()
        world = World(store, store._client)
        signed = await world.sign_in()
        assert await world.allows(signed.key)
        assert store.recall(signed.key) is None
        fence = store.fence()
        await store.end(signed.key, EndState.REVOKED, ACTOR, fence)
        assert (await store.confirmed(fence)).complete
        await store.close()


async def test_tls(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """The link checks the certificate like everything else, and refuses a strange one."""
    certificate = make_certificate(tmp_path)
    async with tls_in_front_of(valkey.port, certificate) as port:
        await check_every_use(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        stranger = RedisStore(
            patient(connect(f"rediss://localhost:{port}/0")), memory=MemoryOptions(lease_ms=200)
        )
        with pytest.raises(Exception, match="connection"):
            await stranger.open()
        await stranger.close()


def make_certificate(folder: Path) -> Path:
    """Return a file with a key and its own certificate for localhost."""
    made = folder / "tls.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", made, "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_text(made.read_text() + (folder / "certificate.pem").read_text())
    return made


@asynccontextmanager
async def tls_in_front_of(port: int, certificate: Path) -> AsyncIterator[int]:
    """Decrypt in front of a server that knows no TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        for pair in ((reader, inner_writer), (inner_reader, writer)):
            task = asyncio.create_task(pump(*pair))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def valkey_with() -> Any:
    """Start a server of the test's own, whose users it may change."""
    return lambda: EmbeddedValkey(port=servers.free_port())
