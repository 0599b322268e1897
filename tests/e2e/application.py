"""The application behind the proxies: it answers with exactly what reached it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from urllib.parse import urlsplit

import uvloop
from aiohttp import WSMsgType, web

_OWN_STATUS = {"/app401": 401, "/app403": 403, "/app500": 500}


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Echo a request; `/ws` echoes messages, `/app401` and the like answer that status."""
    path = urlsplit(request.raw_path).path
    if path == "/ws" and request.headers.get("Upgrade", "").lower() == "websocket":
        return await _echo_messages(request)
    status = _OWN_STATUS.get(path, 200)
    headers = {"X-Application": "yes"}
    text = json.dumps(await _seen(request))
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


async def _seen(request: web.BaseRequest) -> dict[str, object]:
    digest, length = hashlib.sha256(), 0
    async for chunk in request.content.iter_chunked(65_536):
        digest.update(chunk)
        length += len(chunk)
    return {
        "method": request.method,
        "raw_path": request.raw_path,
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers
        ],
        "cookies": request.headers.getall("Cookie", []),
        "body_length": length,
        "body_sha256": digest.hexdigest(),
    }


async def _echo_messages(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json(await _seen(request))
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until the process is ended."""
    server = web.Server(answer, max_line_size=65_536, max_field_size=65_536)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
