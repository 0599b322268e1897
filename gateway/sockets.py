"""Sockets to listen on, and TLS for them; what goes wrong is one line that says what to do."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path

from .errors import ConfigurationError

BACKLOG = 2048  # the kernel bounds it by net.core.somaxconn

# Linux; Python's socket module names neither. Both take a program for the kernel's packet filter.
_SO_ATTACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF = 26, 51
Instruction = tuple[int, int, int, int]  # code, steps if true, steps if false, operand
_RETURN, _LOAD, _MODULO, _IF_EQUAL = 0x06, 0x20, 0x94, 0x15
_RANDOM = 0xFFFFF038  # where a random number can be loaded from


def bind(address: str, place: str) -> socket.socket:
    """Return a listening socket, or say in one line why it cannot be had."""
    try:
        return _bind_unix(address[5:]) if address.startswith("unix:") else _bind_tcp(address)
    except OSError as error:
        raise ConfigurationError(
            f"{place}: cannot listen on {address}: {error.strerror or error}; choose another "
            "address or stop what uses it"
        ) from None


def bind_shared(address: str, place: str, count: int) -> list[socket.socket]:
    """Return listening sockets for `count` processes on one address.

    The kernel spreads TCP connections over sockets of their own; a Unix socket is one for all.
    """
    first = bind(address, place)  # alone, so that it fails if anybody else has the port
    if address.startswith("unix:"):
        first.listen(BACKLOG)
        return [first] * count
    first.close()
    sockets = [_bind_tcp(address, shared=True) for _ in range(count)]
    for sock in sockets:
        sock.listen(BACKLOG)  # connections may wait for the process that will take them
    return sockets


def reserve(address: str, place: str, *, shared: bool) -> socket.socket | None:
    """Make sure that an address can be had, for a server that binds it itself.

    With `shared`, return a socket that keeps a port ours while processes that share it come and
    go; it never listens, so the kernel gives it no connections. A Unix socket has one process.
    """
    bind(address, place).close()
    return _bind_tcp(address, shared=True) if shared and not address.startswith("unix:") else None


def take_no_more(sock: socket.socket) -> None:
    """Have the kernel make no more connections on a listening socket, but keep those it has made.

    To close it at once would reset those that wait to be accepted, with their requests. Where
    there is no such filter, nothing happens.
    """
    _attach(sock, _SO_ATTACH_FILTER, [(_RETURN, 0, 0, 0)])


def spread_over(sockets: Sequence[socket.socket], chosen: Sequence[int]) -> None:
    """Have the kernel make new connections on those of the sockets that are chosen, at random.

    They share one port, and are numbered from 0 in the order in which they began to listen. What
    waits on the others goes on waiting there. Where there is no such filter, and for a Unix
    socket, nothing happens.
    """
    program = [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(chosen))]
    for number, each in enumerate(chosen[1:], 1):
        program += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, each)]
    _attach(sockets[0], _SO_ATTACH_REUSEPORT_CBPF, [*program, (_RETURN, 0, 0, chosen[0])])


def _attach(sock: socket.socket, option: int, program: Sequence[Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *each) for each in program)
    memory = ctypes.create_string_buffer(code, len(code))
    with contextlib.suppress(OSError):
        sock.setsockopt(
            socket.SOL_SOCKET, option, struct.pack("HL", len(program), ctypes.addressof(memory))
        )


def _bind_tcp(address: str, *, shared: bool = False) -> socket.socket:
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    """Bind, in place of a socket that a dead process left behind but never of a live one's."""
    sock = socket.socket(socket.AF_UNIX)
    if Path(path).is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) != 0:
                Path(path).unlink()
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    return sock


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigurationError(
            f"admin.tls_cert: {certificate} and {key} cannot be used: {error}"
        ) from None
    return context
