"""Where subrequests come in and answers go out: aiohttp's low-level server and its parser.

What can be answered without waiting is answered as soon as it is parsed, inside the connection:
no task, no request and response objects (a third of the CPU of aiohttp's own way, measured). All
else goes aiohttp's own way: a session that must be read, bodies, upgrades, broken requests,
connections that are to close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from aiohttp import HttpVersion11, web
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDictProxy

from .listener import CheckListener
from .wire import Answer

# aiohttp's own limits answer 400 to 8 kB of cookies, of which nginx makes a 500.
LIMITS = {"max_line_size": 65536, "max_field_size": 65536, "max_headers": 512}


# What is used of aiohttp's inside. Where a release has moved it, aiohttp's own way serves alone.
_INTERNALS = frozenset(
    {"_parser", "_paused", "_close", "_next_keepalive_close_time", "_keepalive_timeout"}
)


def fits(connection: type, parser: type) -> bool:
    """Tell whether this aiohttp has inside what answering at once needs."""
    return all(hasattr(connection, name) for name in _INTERNALS) and all(
        hasattr(parser, name) for name in ("feed_data", "message_consumed")
    )


_STRANGER_S = 5.0  # so long may a peer that is no proxy keep a connection without a word

ANSWERS_AT_ONCE = fits(web.RequestHandler, HttpRequestParser)


class CheckServer(web.Server):
    """The factory of the connections; `drain` and `connections` serve the stop."""

    def __init__(self, listener: CheckListener) -> None:
        super().__init__(self._answer, access_log=None, **LIMITS)  # type: ignore[arg-type]
        self.listener = listener
        self.draining = False

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def drain(self) -> None:
        """Close each connection after its next answer, so that proxies go elsewhere."""
        self.draining = True

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("_Connection", request.protocol)
        subrequest = _Raw(request.method, request.raw_path, request.headers)
        if connection.from_proxy:
            answer = await self.listener.answer(subrequest)
        else:
            answer = self.listener.stranger(subrequest.path, connection.peer)
        # An older client than HTTP/1.1 keeps a connection only if it is told to; it is not.
        close = self.draining or not request.keep_alive or request.version < (1, 1)
        return connection.respond(answer, close=close)


class _Raw(NamedTuple):
    """A subrequest that waits for its answer; aiohttp's own `path` is decoded."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]


class _Connection(web.RequestHandler):
    """aiohttp's connection, which keeps from its task what is answered at once."""

    __slots__ = ("_server", "from_proxy", "unanswered")

    def __init__(self, server: CheckServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self.from_proxy = False
        self.unanswered = 0  # messages that were left to aiohttp
        if ANSWERS_AT_ONCE:
            self._parser: Any = _AnsweringParser(self._parser, self)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.from_proxy = self._is_trusted(transport)
        if not self.from_proxy:
            self._parser = _NoParser(self)
            self._loop.call_later(_STRANGER_S, self.force_close)

    def _is_trusted(self, transport: Any) -> bool:
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            return peer[0] in self._server.listener.trusted
        # A Unix socket: whoever may open it is trusted; its mode is the operator's choice.
        return isinstance(transport.get_extra_info("sockname"), (str, bytes))

    @property
    def peer(self) -> str:
        """The address at the other end, "" where there is none or the peer has gone."""
        peer = self.transport and self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def answer_now(self, message: RawRequestMessage, payload: object) -> bool:
        """Answer if that needs no wait, and nothing before it waits for its own answer."""
        if (
            self.unanswered
            or not self.from_proxy
            or self._paused
            or self._close
            or self._server.draining
            or payload is not EMPTY_PAYLOAD
            or message.should_close
            or message.upgrade
            or message.version is not HttpVersion11
            or self.transport is None
        ):
            return False
        answer = self._server.listener.answer_now(message)
        if answer is None:
            return False
        self.transport.write(answer)
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def turn_away(self, data: bytes) -> None:
        """Refuse a peer that is no proxy by the first bytes that it sends, and be rid of it."""
        line = data.partition(b"\r\n")[0].split(b" ")
        target = line[1].decode("latin-1") if len(line) == 3 else ""
        if self.transport is not None:
            answer = self._server.listener.stranger(target, self.peer)
            self.transport.write(answer.on_the_wire(close=True))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  (aiohttp's text quotes the request)
    ) -> web.StreamResponse:
        """Answer a request that cannot be parsed as the denial that it is.

        aiohttp would answer 400, of which nginx makes a 500, and would put the offending line,
        which may be a Cookie, into both the answer and the log.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is sent already")
        answer = self._server.listener.broken(exc, ours=status >= 500)
        return self.respond(answer, close=True)

    def respond(self, answer: Answer, *, close: bool) -> web.StreamResponse:
        """Return what aiohttp takes for a response."""
        return cast("web.StreamResponse", _Written(self, answer, close=close))


class _AnsweringParser:
    """aiohttp's parser, which returns only those messages that were not answered at once.

    Answers go out in the order of the questions: at once only while none is left to aiohttp. Of
    several questions in one read none is answered at once: aiohttp's queue bounds how many are
    taken from one connection, so that it cannot starve the others (measured: it could).
    """

    def __init__(self, parser: Any, connection: _Connection) -> None:
        self._parser = parser
        self._connection = connection

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        connection = self._connection
        try:
            messages, upgraded, tail = self._parser.feed_data(data)
        except Exception:
            connection.unanswered += 1  # aiohttp answers what it cannot parse
            raise
        if len(messages) == 1 and connection.answer_now(*messages[0]):
            self._parser.message_consumed()
            return (), upgraded, tail
        connection.unanswered += len(messages)
        return messages, upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class _NoParser:
    """In place of a parser for whoever is no proxy: nothing of theirs is parsed or kept."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        if data:
            self._connection.turn_away(data)
        return (), False, b""


class _Written:
    """What aiohttp needs of a response: that it can write itself."""

    def __init__(self, connection: _Connection, answer: Answer, *, close: bool) -> None:
        self._connection = connection
        self._answer = answer
        self._close = close

    @property
    def keep_alive(self) -> bool:
        return not self._close

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the whole answer, and wait while the proxy does not take what came before."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the proxy has gone")
        transport.write(
            self._answer.on_the_wire(headless=request.method == "HEAD", close=self._close)
        )
        if not self._close:
            self._connection.unanswered -= 1
        await request.writer.drain()

    async def write_eof(self) -> None:
        """Nothing is left to write."""
