"""Errors as problem+json (RFC 9457), with every problem of the input, and the request's id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web

from ..errors import (
    AlreadyRenewed,
    InvalidInput,
    Problem,
    SessionLimitReached,
    SignInRefused,
    SinkUnavailable,
    StoreUnavailable,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_log = structlog.get_logger("gateway.admin")


class Refused(Exception):
    """A request that ends here, with its status."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        problems: tuple[Problem, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = problems
        self.headers = headers or {}


def unprocessable(problems: tuple[Problem, ...]) -> Refused:
    """Return the refusal of input that is well-formed but wrong."""
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "some values are not acceptable", problems)


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id and turn every refusal and fault into problem+json."""
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    response = await _answered(request, handler)
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers["Cache-Control"] = "no-store"
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return _problem(request, error.status, error.detail, error.problems, error.headers)
    except InvalidInput as error:
        refused = unprocessable(error.problems)
        return _problem(request, refused.status, refused.detail, refused.problems)
    except SignInRefused as error:
        found = tuple(Problem("alerts", each) for each in error.types)
        return _problem(request, HTTPStatus.FORBIDDEN, str(error), found)
    except (SessionLimitReached, AlreadyRenewed) as error:
        return _problem(request, HTTPStatus.CONFLICT, str(error))
    except StoreUnavailable as error:
        _log.warning("store_unavailable", kind=error.kind, request_id=request[REQUEST_ID])
        detail = "Redis gave no answer that can be trusted"
        if request.method != "GET":
            detail += "; whether the change happened is unknown"
        return _problem(
            request, HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"}
        )
    except SinkUnavailable as error:
        _log.warning("history_unavailable", kind=error.kind, request_id=request[REQUEST_ID])
        return _problem(
            request, HTTPStatus.SERVICE_UNAVAILABLE, "Postgres gave no answer",
            headers={"Retry-After": "1"},
        )  # fmt: skip
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _problem(request, HTTPStatus(error.status), error.reason, headers=headers)
    except Exception:  # noqa: BLE001  (the last line: never a traceback to a caller)
        _log.exception("internal_error", request_id=request[REQUEST_ID])
        return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the gateway")


def _problem(
    request: web.Request,
    status: HTTPStatus,
    detail: str,
    problems: tuple[Problem, ...] = (),
    headers: dict[str, str] | None = None,
) -> web.Response:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "request_id": request[REQUEST_ID],
    }
    if problems:
        body["problems"] = [{"place": each.place, "message": each.message} for each in problems]
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/problem+json",
        headers=headers,
    )
