"""What a route is, for the router and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel

# A method of `api.Api`, whose type would make a circle here.
Handler = Callable[[Any, web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `scope` None: any valid token; "" : no token."""

    method: str
    path: str
    scope: str | None
    handler: Handler
    summary: str
    answer: str  # the schema of the answer in openapi.SCHEMAS
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    status: HTTPStatus = HTTPStatus.OK
