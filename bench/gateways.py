"""Gateways to measure: their configuration and their start."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TypedDict

from tests import servers
from tests.adapters.calls import message

from .sessions import PARTITIONS

ADMIN_TOKEN = "bench"


class Variant(TypedDict, total=False):
    """How a gateway differs from the usual one."""

    unix: bool
    uvloop: bool
    workers: int
    near_cache: bool
    grpc: bool


def request(cookie: str, path: str = "/check/auth_request") -> bytes:
    """Return what nginx sends, to the byte: a check for a page of `/reports`."""
    return (
        f"GET {path} HTTP/1.1\r\n"
        "X-Original-Method: GET\r\nX-Original-URI: /reports/2026?page=2\r\n"
        "Host: app.example.com\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        f"Cookie: {cookie}\r\n"
        "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/120.0 Safari/537.36\r\n"
        "Accept-Language: en\r\n\r\n"
    ).encode()


def call(cookie: str) -> bytes:
    """Return what Envoy sends over gRPC for the same page."""
    asked = {
        ":authority": "app.example.com",
        ":path": "/reports/2026?page=2",
        ":method": "GET",
        ":scheme": "https",
        ":source": "203.0.113.7",
        "user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/120.0 Safari/537.36",
        "accept": "text/html",
        "accept-language": "en",
        "cookie": cookie,
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-proto": "https",
        "x-request-id": "6a017853-49d3-4266-a538-e0bb2c5bfa57",
    }
    return message([(name, value.encode()) for name, value in asked.items()], raw=True)


def cookie(token: str) -> str:
    """Return the Cookie header of somebody who is signed in."""
    return f"theme=dark; __Host-sid={token}"


def config(
    listen: str,
    admin: int,
    redis_url: str,
    *,
    workers: int = 1,
    near_cache: bool = True,
    grpc: str = "",
) -> str:
    """Return a configuration of twenty rules of which the last decides: the worst place for it."""
    rules = "".join(
        f'[[policy.rules]]\npath = "/section{number}/**"\naccess = "session"\nroles = ["staff"]\n'
        for number in range(19)
    )
    sha256 = hashlib.sha256(ADMIN_TOKEN.encode()).hexdigest()
    return (
        f'[check]\nlisten = ["{listen}"]\nworkers = {workers}\ndrain = "50ms"\n'
        f"grpc_listen = {[grpc] if grpc else []}\n"
        f'[admin]\nlisten = ["127.0.0.1:{admin}"]\n'
        f'tokens = [{{ name = "bench", sha256 = "{sha256}", scopes = ["sessions:write"] }}]\n'
        f'[redis]\nurl = "{redis_url}"\npartitions = {PARTITIONS}\n[log]\ndenials = false\n'
        # No bound for strangers: a refusal for their number would cost less than what is measured.
        f"[near_cache]\nenabled = {str(near_cache).lower()}\nunknown_per_second = 0\n"
        f'{rules}[[policy.rules]]\naccess = "session"\n'
    )


def start(
    stack: contextlib.ExitStack,
    redis_url: str,
    *,
    unix: bool = False,
    uvloop: bool = True,
    workers: int = 1,
    near_cache: bool = True,
    grpc: bool = False,
) -> tuple[int, int | str]:
    """Start a gateway that ends with `stack`; return its process and where it answers checks."""
    port, admin, grpc_port = (servers.free_port() for _ in range(3))
    path = str(new_folder(stack) / "check.sock")
    listen = f"unix:{path}" if unix else f"127.0.0.1:{port}"
    environment = {} if uvloop else without_uvloop(stack)
    calls = f"127.0.0.1:{grpc_port}" if grpc else ""
    text = config(listen, admin, redis_url, workers=workers, near_cache=near_cache, grpc=calls)
    program = stack.enter_context(servers.start_gateway(text, environment))
    if grpc:
        return program.pid, grpc_port
    return program.pid, path if unix else port


def without_uvloop(stack: contextlib.ExitStack) -> dict[str, str]:
    """Return an environment in which there is a uvloop that cannot be imported."""
    folder = new_folder(stack)
    (folder / "uvloop.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(servers.ROOT)])}


def new_folder(stack: contextlib.ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
