"""The bodies and queries that the admin API accepts. Every problem is reported at once."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict

from ..errors import Problem
from ..identity import problem_of
from ..lifetime import parse_duration_ms
from ..model import HIGHEST_AAL, LOWEST_AAL, Client, EventId, Login
from ..ports import EventQuery
from ..sessions import CURSOR, MAX_PAGE
from .problems import Refused, unprocessable

MAX_METADATA = 4096
MAX_DEPTH = 16
MAX_GRACE_MS = 60_000

# What identity.problem_of accepts, as the OpenAPI document says it.
_EDGE = r"[^\s\x00-\x20\x7f\x85]"
_CLEAN = rf"^({_EDGE}([^\x00-\x1f\x7f]*{_EDGE})?)?$"
_NAME = rf"^(?!\.\.?$){_EDGE}([^\x00-\x1f\x7f]*{_EDGE})?$"  # `check_identity`: no "." or ".."
_DEVICE_ID = r"^(?!\.\.?$)[A-Za-z0-9._:-]{0,128}$"
_ROLE = rf"^(?!.*,){_EDGE}([^\x00-\x1f\x7f]*{_EDGE})?$"
_SESSION_ID = r"^([0-9a-f]{34})?$"
_EVENT_CURSOR = r"^([0-9a-f]{2}-[0-9]{1,14}-[0-9]{1,15})?$"  # the id of a page's last event
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS  # a zone may reach beyond
_ADDRESS: JsonDict = {"anyOf": [{"const": ""}, {"format": "ipv4"}, {"format": "ipv6"}]}


def _clean(text: str) -> str:
    problem = problem_of(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _without_controls(text: str) -> str:
    """Refuse nobody for what a client wrote, but keep it out of databases and terminals.

    Spaces stand for them: a tab in a header means no more.
    """
    return _CONTROL.sub(" ", text)


def _one_role(text: str) -> str:
    if "," in text:
        raise ValueError('must not hold ",": applications would read several roles')
    return text


def _address(text: str) -> str:
    if "%" in text:  # a zone may hold anything, and means nothing on another machine
        raise ValueError("must be an address without a zone")
    return str(ipaddress.ip_address(text)) if text else text


def _whole(value: object) -> object:
    """To JSON Schema 2.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    if _depth(value) > MAX_DEPTH:  # first: a few hundred levels are more than orjson writes
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH}")
    if len(orjson.dumps(value)) > MAX_METADATA:
        raise ValueError(f"must not be longer than {MAX_METADATA} bytes as JSON")
    return value


def _depth(value: object, most: int = MAX_DEPTH + 1) -> int:
    """Return how deep it is nested, or `most` if it is deeper than that."""
    inner: list[object] = []
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    if not isinstance(value, dict | list) or most == 0:
        return 0
    return 1 + max((_depth(each, most - 1) for each in inner), default=0)


def _grace(text: str) -> str:
    if parse_duration_ms(text) > MAX_GRACE_MS:
        raise ValueError("must not be longer than 60s")
    return text


def _text(most: int, least: int = 0, pattern: str = _CLEAN) -> Any:
    return Annotated[
        StrictStr,
        AfterValidator(_clean),
        Field(min_length=least, max_length=most, json_schema_extra={"pattern": pattern}),
    ]


ShortText = _text(256)
Role = Annotated[
    StrictStr,
    AfterValidator(_clean),
    AfterValidator(_one_role),
    Field(
        min_length=1,
        max_length=64,
        json_schema_extra={"pattern": _ROLE},
    ),
]
Roles = Annotated[list[Role], Field(max_length=64)]
Aal = Annotated[
    int, Field(strict=True, ge=LOWEST_AAL, le=HIGHEST_AAL), BeforeValidator(_whole)
]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]


Ip = Annotated[StrictStr, AfterValidator(_address), Field(json_schema_extra=_ADDRESS)]
UserAgent = Annotated[StrictStr, AfterValidator(_without_controls), Field(max_length=1024)]
Accepted = Annotated[StrictStr, AfterValidator(_without_controls), Field(max_length=512)]
City = Annotated[StrictStr, AfterValidator(_without_controls), Field(max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class CreateSession(_Body):
    """A sign-in that the application vouches for."""

    user: _text(256, 1, _NAME)  # type: ignore[valid-type]
    email: _text(320) = ""  # type: ignore[valid-type]
    name: ShortText = ""  # type: ignore[valid-type]
    roles: Roles = []
    ip: Ip = ""
    user_agent: UserAgent = ""
    accept_language: Accepted = ""
    accept_encoding: Accepted = ""
    country: Annotated[StrictStr, Field(pattern=r"^([A-Z]{2})?$")] = ""
    city: City = ""
    device_id: Annotated[
        StrictStr,
        Field(pattern=r"^[A-Za-z0-9._:-]{0,128}$", json_schema_extra={"pattern": _DEVICE_ID}),
    ] = ""
    metadata: Metadata = {}
    remember: StrictBool = False
    aal: Aal = LOWEST_AAL

    def login(self) -> Login:
        return Login(
            user=self.user,
            email=self.email,
            name=self.name,
            roles=tuple(self.roles),
            client=Client(
                self.ip, self.country, self.city, self.user_agent, self.accept_language,
                self.accept_encoding,
            ),
            device_id=self.device_id,
            metadata=self.metadata,
            remember=self.remember,
            aal=self.aal,
        )


class UpdateSession(_Body):
    """What can change while a session lives; what is left out stays."""

    email: _text(320) = ""  # type: ignore[valid-type]
    name: ShortText = ""  # type: ignore[valid-type]
    roles: Roles = []
    metadata: Metadata = {}
    aal: Aal = LOWEST_AAL

    def changes(self) -> dict[str, object]:
        given = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return given | ({"roles": tuple(given["roles"])} if "roles" in given else {})


_WHERE = ("ip", "user_agent", "accept_language", "accept_encoding")


class RenewSession(_Body):
    """How long the old token still works, for requests that are under way.

    With `aal` the user has just signed in again, at that level; the other facts say where.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["aal"], "properties": {"aal": {"type": "integer"}}},
                {"properties": dict.fromkeys(_WHERE, False)},
            ]
        }
    )

    grace: Annotated[
        StrictStr, AfterValidator(_grace), Field(json_schema_extra={"pattern": r"^[0-5]?[0-9]s$"})
    ] = "0s"
    aal: Aal | None = None
    ip: Ip = ""
    user_agent: UserAgent = ""
    accept_language: Accepted = ""
    accept_encoding: Accepted = ""

    @model_validator(mode="after")
    def _is_a_sign_in(self) -> RenewSession:
        if self.client and self.aal is None:
            raise ValueError("where the user is means something only with aal: at a sign-in")
        return self

    @property
    def client(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in _WHERE if name in self.model_fields_set}

    @property
    def grace_ms(self) -> int:
        return parse_duration_ms(self.grace)


class Introspect(_Body):
    """RFC 7662."""

    token: Annotated[StrictStr, Field(max_length=1024)]


class ListQuery(_Body):
    """One page of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str, Field(pattern=CURSOR)] = ""


class EndQuery(_Body):
    """Why a session is ended, for the event."""

    reason: _text(200) = ""  # type: ignore[valid-type]


class EndAllQuery(EndQuery):
    """Which session to keep: the one in which a password was just changed."""

    except_: Annotated[str, Field(alias="except", pattern=_SESSION_ID)] = ""


def _instant(text: str) -> str:
    _ms_of(text)
    return text


def _ms_of(text: str) -> int | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return min(max(0, (time - _EPOCH) // _MS), _LAST_MS)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a time with a zone, for example 2026-03-01T09:00:00Z") from None


Instant = Annotated[
    str,
    AfterValidator(_instant),
    Field(json_schema_extra={"anyOf": [{"const": ""}, {"format": "date-time"}]}),
]


class EventsQuery(_Body):
    """Which events; what is left out means any. `from` with, `to` without that instant."""

    user: _text(256) = ""  # type: ignore[valid-type]
    session: Annotated[str, Field(pattern=_SESSION_ID)] = ""
    type: Annotated[str, Field(pattern=r"^[a-z._-]{0,64}$")] = ""
    from_: Annotated[Instant, Field(alias="from")] = ""
    to: Instant = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str, Field(pattern=_EVENT_CURSOR)] = ""

    def asked(self) -> EventQuery:
        partition, ms, number = self.cursor.split("-") if self.cursor else ("", "0", "0")
        before = EventId(int(ms), int(number), partition) if self.cursor else None
        return EventQuery(self.user, self.session, self.type, _ms_of(self.from_),
                          _ms_of(self.to), before, self.limit)  # fmt: skip


Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: web.Request, model: type[Model], *, optional: bool = False) -> Model:
    """Return the checked body; raises Refused with 400, 413, 415 or 422."""
    raw = await _raw_body(request)
    if not raw and optional:
        return model()
    if request.content_type != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
    try:
        value = orjson.loads(raw)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    return _validated(model, value)


async def _raw_body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.RequestPayloadError:
        raise Refused(
            HTTPStatus.BAD_REQUEST, "the body is not what its Content-Encoding says"
        ) from None


def read_query(request: web.Request, model: type[Model]) -> Model:
    """Return the checked query; raises Refused with 422, also for a name given twice."""
    twice = {name for name in request.query if len(request.query.getall(name)) > 1}
    if twice:
        raise unprocessable(tuple(Problem(name, "is given twice") for name in sorted(twice)))
    return _validated(model, dict(request.query))


def _validated(model: type[Model], value: object) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise unprocessable(
            tuple(
                Problem(
                    ".".join(map(str, each["loc"])) or "body",
                    each["msg"].removeprefix("Value error, "),
                )
                for each in error.errors(include_url=False, include_input=False)
            )
        ) from None
