"""The OpenAPI 3.1 document, made from the same table as the routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from .. import __version__
from ..alerts import RULES
from ..model import HIGHEST_AAL, IN_DOUBT_AAL
from .routes import Route

_TEXT = {"type": "string"}
_INSTANT = {"type": "string", "format": "date-time"}
_ID = {"type": "string", "pattern": "^[0-9a-f]{34}$"}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_DEVICE = _object({"id": _TEXT, "name": _TEXT, "type": _TEXT})
_ENDED = _object(
    {"id": _ID, "why": {"enum": ["evicted", "replaced", "expired", "idle", "revoked", "rotated"]}}
)
_AAL = {"type": "integer", "minimum": IN_DOUBT_AAL, "maximum": HIGHEST_AAL}
# And what the rule has found, which differs.
_ALERT = _object({"type": {"enum": list(RULES)}, "action": {"enum": ["alert", "step_up"]}})
_RENEWED = {
    "id": _ID,
    "token": {"type": "string", "pattern": "^[0-9a-f]{2}[A-Za-z0-9_-]{43}$"},
    "set_cookie": _TEXT,
    "user": _TEXT,
    "device": _DEVICE,
    "created_at": _INSTANT,
    "expires_at": _INSTANT,
    "idle_expires_at": _INSTANT,
}
_SESSION = _object(
    {
        "id": _ID,
        "user": _TEXT,
        "email": _TEXT,
        "name": _TEXT,
        "roles": {"type": "array", "items": _TEXT},
        "device": _DEVICE,
        "ip": _TEXT,
        "country": _TEXT,
        "city": _TEXT,
        "user_agent": _TEXT,
        "created_at": _INSTANT,
        "last_seen_at": _INSTANT,
        "expires_at": _INSTANT,
        "idle_expires_at": _INSTANT,
        "aal": _AAL,
        "authenticated_at": _INSTANT,
        "alerts": {"type": "array", "items": {"enum": list(RULES)}},
        "metadata": {"type": "object"},
    }
)
_COUNT = {"type": "integer", "minimum": 0}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Session": _SESSION,
    "NewSession": _object(
        _RENEWED
        | {
            "aal": _AAL,
            "ended": {"type": "array", "items": _ENDED},
            "alerts": {"type": "array", "items": _ALERT},
        }
    ),
    "Renewed": _object(_RENEWED),
    "Page": _object(
        {
            "sessions": {"type": "array", "items": {"$ref": "#/components/schemas/Session"}},
            "next": {"type": ["string", "null"]},
        }
    ),
    "Events": _object(
        {
            "events": {
                "type": "array",
                "items": _object(
                    {
                        "id": _TEXT,
                        "type": _TEXT,
                        "session": _ID,
                        "user": _TEXT,
                        "at": _INSTANT,
                        "by": _TEXT,
                        "reason": _TEXT,
                        "request_id": _TEXT,
                        "details": {"type": "object"},
                    }
                ),
            },
            "next": {"type": ["string", "null"]},
        }
    ),
    "Receipt": _object(
        {
            "ended": _COUNT,
            "sessions": {"type": "array", "items": _ID},
            "replicas": _object({"live": _COUNT, "confirmed": _COUNT, "lease_expired": _COUNT}),
            "complete": {"type": "boolean"},
            "durable": {"type": ["boolean", "null"]},
            "took_ms": {"type": "number"},
        }
    ),
    "Introspection": _object({"active": {"type": "boolean"}}),
    "Health": _object({"status": _TEXT}),
    "object": {"type": "object"},
    "Problem": _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "request_id": _TEXT,
            "problems": {
                "type": "array",
                "items": _object({"place": _TEXT, "message": _TEXT}),
            },
        },
        optional=("problems",),
    ),
}

_PROBLEM = {
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Session Gateway admin API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.query)],
        "responses": _responses(route),
        "security": [] if route.scope == "" else [{"bearer": []}],
    }
    if route.body is not None:
        schema = route.body.model_json_schema()
        required = bool(schema.get("required"))
        operation["requestBody"] = {
            "required": required or route.method == "PATCH",
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _responses(route: Route) -> dict[str, Any]:
    if route.answer == "text":
        content = {"text/plain": {"schema": _TEXT}}
    else:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{route.answer}"}}}
    responses: dict[str, Any] = {
        str(int(route.status)): {"description": "Done.", "content": content}
    }
    for status in _refusals(route):
        responses[str(int(status))] = {"description": status.phrase, **_PROBLEM}
    if route.path == "/readyz":
        responses["503"] = {"description": "Redis cannot be used.", "content": content}
    return responses


def _refusals(route: Route) -> list[HTTPStatus]:
    if route.scope == "":
        return []
    found = [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN]
    if route.path.startswith("/v1/"):
        found += [HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE]
    if "{id}" in route.path:
        found.append(HTTPStatus.NOT_FOUND)
    if route.body is not None:
        found += [
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        ]
    if route.path == "/v1/sessions":
        found.append(HTTPStatus.CONFLICT)
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    properties = query.model_json_schema(by_alias=True)["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in properties.items()
    ]
