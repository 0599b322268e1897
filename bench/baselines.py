"""What we compare with: `python -m bench.baselines NAME PORT [REDIS_URL]` serves one of them."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web
from redis.asyncio import Redis

from .load import fast_loop


async def bare(_: web.BaseRequest) -> web.StreamResponse:
    """The least that aiohttp can do."""
    return web.Response()


def bare_server(_: str) -> web.Server:
    return web.Server(bare, access_log=None)


def naive_server(redis_url: str) -> web.Server:
    """The usual design: framework cookies, GET, JSON, and an expiry written back on each check."""
    client = Redis.from_url(redis_url)

    async def check(request: web.BaseRequest) -> web.StreamResponse:
        record = await client.get("naive:" + request.cookies.get("sid", ""))
        if record is None:
            return web.Response(status=401)
        session = json.loads(record)
        await client.set("naive:" + request.cookies["sid"], json.dumps(session), ex=3600)
        return web.Response(headers={"X-Auth-User": session["user"]})

    return web.Server(check, access_log=None)


SERVERS = {"bare": bare_server, "naive": naive_server}


async def _serve(name: str, port: int, redis_url: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(SERVERS[name](redis_url), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=fast_loop()) as runner:  # on equal terms with the gateway
        runner.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
