"""Who takes part in the first table. A new row is one line in `ROWS` and how it is started."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

import redis

from gateway.adapters.messages import CheckResponse
from gateway.credentials import new_token
from tests import servers

from . import gateways
from .gateways import Variant
from .load import Target
from .sessions import sign_in

SESSIONS = 100
BARE = "bare aiohttp handler"
WORKERS = (2, 4)  # besides the one of the first row

_ALLOWED = CheckResponse(status={}, ok_response={}).SerializeToString()[:3]
_HERE = Path(__file__).parent
_RECORD = {"user": "alice", "email": "alice@example.com", "roles": ["user", "staff"]}
_LUA_MODULES = ("ndk_http_module", "ngx_http_lua_module")  # in the order that nginx wants


class LeftOut(Exception):
    """A contestant that this machine cannot run; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all contestants share. `stack` ends them."""

    stack: contextlib.ExitStack
    redis_url: str
    redis_pid: int
    tokens: list[str]

    def named_requests(self) -> list[bytes]:
        """Return a check for each session that the naive designs know."""
        return [gateways.request(f"sid=user{number}") for number in range(SESSIONS)]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that answers checks."""

    pid: int
    target: Target


Start = Callable[[Ground], Contestant]


def prepare(stack: contextlib.ExitStack, redis_url: str, redis_pid: int) -> Ground:
    """Store the sessions that everybody is asked about, in our form and in the naive one."""
    client = redis.Redis.from_url(redis_url)
    for number in range(SESSIONS):
        client.set(f"naive:user{number}", json.dumps(_RECORD), ex=3600)
    client.close()
    return Ground(stack, redis_url, redis_pid, sign_in(redis_url, SESSIONS))


def rows() -> Mapping[str, Start]:
    """Return the way to start each contestant, by its name in the table."""
    several = {
        f"gateway, live session in memory, {count} workers": partial(_gateway, workers=count)
        for count in WORKERS
    }
    return {
        "nginx, constant answer": _constant,
        "nginx + Lua + Redis": _lua,
        "Node + ioredis": _node,
        "naive aiohttp + redis-py": partial(_baseline, name="naive"),
        BARE: partial(_baseline, name="bare"),
        f"{BARE}, without uvloop": partial(_baseline, name="bare", uvloop=False),
        "gateway, live session in memory": _gateway,
        "gateway over gRPC, live session in memory": _gateway_over_grpc,
        "gateway, live session in memory, Unix socket": partial(_gateway, unix=True),
        "gateway, live session in memory, without uvloop": partial(_gateway, uvloop=False),
        **several,
        "gateway, live session from Redis": partial(_gateway, near_cache=False),
        "gateway, no cookie": partial(_gateway, cookies=_no_cookies),
        "gateway, unknown session": partial(_gateway, cookies=_unknown),
    }


def _gateway(
    ground: Ground, *, cookies: Callable[[], list[str]] | None = None, **variant: Unpack[Variant]
) -> Contestant:
    pid, address = gateways.start(ground.stack, ground.redis_url, **variant)
    if cookies is None:
        requests = [gateways.request(gateways.cookie(token)) for token in ground.tokens]
        return Contestant(pid, Target(address, requests, b"HTTP/1.1 200"))
    return Contestant(pid, Target(address, list(map(gateways.request, cookies())), b"HTTP/1.1 401"))


def _gateway_over_grpc(ground: Ground) -> Contestant:
    pid, port = gateways.start(ground.stack, ground.redis_url, grpc=True)
    calls = [gateways.call(gateways.cookie(token)) for token in ground.tokens]
    return Contestant(pid, Target(port, calls, _ALLOWED, grpc=True))


def _no_cookies() -> list[str]:
    return ["theme=dark"]


def _unknown() -> list[str]:
    """As many as there are sessions: checks of one token at one time share a read."""
    return [gateways.cookie(new_token("00")) for _ in range(SESSIONS)]


def _baseline(ground: Ground, *, name: str, uvloop: bool = True) -> Contestant:
    port = servers.free_port()
    environment = {} if uvloop else gateways.without_uvloop(ground.stack)
    command = [sys.executable, "-m", "bench.baselines", name, str(port), ground.redis_url]
    pid = _start(ground, name, command, port, environment)
    return Contestant(pid, Target(port, ground.named_requests(), b"HTTP/1.1 200"))


def constant_answer(stack: contextlib.ExitStack) -> tuple[int, int]:
    """Start an nginx that says 200 to everything; return its port and its process."""
    port = servers.free_port()
    conf = (_HERE / "constant.conf").read_text().replace("PORT", str(port))
    return port, stack.enter_context(servers.start_nginx(conf)).pid


def _constant(ground: Ground) -> Contestant:
    port, pid = constant_answer(ground.stack)
    return Contestant(pid, Target(port, ground.named_requests(), b"HTTP/1.1 200"))


def _lua(ground: Ground) -> Contestant:
    nginx = shutil.which("openresty") or shutil.which("nginx")
    if nginx is None:
        raise LeftOut("there is no nginx on PATH")
    port = servers.free_port()
    values = {
        "MODULES": _lua_modules(nginx),
        "REDIS_PORT": ground.redis_url.rpartition(":")[2].partition("/")[0],
        "PORT": str(port),
    }
    conf = (_HERE / "lua.conf").read_text()
    for name, value in values.items():
        conf = conf.replace(name, value)
    try:
        program = ground.stack.enter_context(servers.start_nginx(conf, Path(nginx)))
    except servers.StartError:
        raise LeftOut(f"{nginx} has no Lua module, or there is no Lua client of Redis") from None
    return Contestant(program.pid, Target(port, ground.named_requests(), b"HTTP/1.1 200"))


def _lua_modules(nginx: str) -> str:
    """Return the directives that load the module where a package has put it beside nginx."""
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    folder = Path(built.partition("--modules-path=")[2].partition(" ")[0])
    files = [folder / f"{name}.so" for name in _LUA_MODULES]
    return "\n".join(f"load_module {each};" for each in files if each.exists())


def _node(ground: Ground) -> Contestant:
    node = shutil.which("node")
    if node is None:
        raise LeftOut("there is no node on PATH")
    found = subprocess.run(
        [node, "-e", "require('ioredis')"], cwd=_HERE, capture_output=True, check=False
    )
    if found.returncode:
        raise LeftOut("node finds no ioredis (NODE_PATH can say where it is)")
    port = servers.free_port()
    command = [node, str(_HERE / "node_ioredis.js"), str(port), ground.redis_url]
    return Contestant(
        _start(ground, "node", command, port),
        Target(port, ground.named_requests(), b"HTTP/1.1 200"),
    )


def _start(
    ground: Ground,
    name: str,
    command: list[str],
    port: int,
    environment: dict[str, str] | None = None,
) -> int:
    environment = {"PYTHONPATH": str(servers.ROOT), **(environment or {})}
    folder = gateways.new_folder(ground.stack)
    program = servers.Program(name, command, folder, lambda: servers.accepts(port), environment)
    ground.stack.callback(program.stop)
    return program.pid
