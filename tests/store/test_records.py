"""What is exactly a record, and nothing else: no other value is taken for somebody's identity."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from gateway.errors import StoreUnavailable
from gateway.model import Client, Device, Login, SessionKey
from gateway.store import scripts
from gateway.store.records import Fields, Rare, parse, rest_for_key, rest_of_login

KEY = SessionKey("0a", "0123456789abcdef" * 2)
LOGIN = Login(
    "ann", "ann@example.com", "Ann", ("staff",), Client("192.0.2.1", "SE", "Lund", "agent", "de"),
    metadata={"a": [1]}, remember=True, aal=2,
)  # fmt: skip
DEVICE = Device("laptop", "Firefox on Linux", "desktop")
ACTIVITY = 1_800_000_600_000.0
HEAD = b"[1800000000000,1800003600000,1800000000001,"  # as scripts write it
# One of each type that JSON has, as a record might.
VALUES: tuple[object, ...] = (None, True, 1_800_000_000_000, 1.5, "text", ["a", "b"], {})


def values() -> list[Any]:
    """Return what stands in the record of a session that has something of everything."""
    rest = rest_of_login(KEY, "0" * 27, LOGIN, DEVICE, 600_000, alerts=("new_device",))
    found: list[Any] = orjson.loads(HEAD + rest_for_key(HEAD + rest, KEY, in_grace=True))
    return found


def assert_refused(record: object) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        pytest.fail(f"{record} is {parse(KEY, orjson.dumps(record), ACTIVITY)}")
    assert refused.value.kind == "garbage_record"


def test_a_record_is_the_session() -> None:
    """Every value comes back where it belongs: the types alone would not tell two texts apart."""
    session = parse(KEY, orjson.dumps(values()), ACTIVITY)
    assert session is not None
    assert (session.user, session.email, session.name) == ("ann", "ann@example.com", "Ann")
    assert (session.roles, session.metadata, session.remember) == (("staff",), {"a": [1]}, True)
    assert (session.device, session.client) == (DEVICE, LOGIN.client)
    assert (session.created_ms, session.expires_ms) == (1_800_000_000_000, 1_800_003_600_000)
    assert (session.authenticated_ms, session.idle_ms) == (1_800_000_000_001, 600_000)
    assert (session.aal, session.alerts) == (2, ("new_device",))


@pytest.mark.parametrize("place", range(len(Fields._fields)), ids=Fields._fields)
def test_a_value_of_another_type_is_refused_in_every_place(place: int) -> None:
    good = values()
    for value in VALUES:
        if type(value) is not type(good[place]):
            assert_refused([*good[:place], value, *good[place + 1 :]])


@pytest.mark.parametrize("place", range(len(Fields._fields)), ids=Fields._fields)
def test_one_field_too_few_or_too_many_is_refused(place: int) -> None:
    """Also where the next field, moved to its place, has the same type."""
    good = values()
    assert_refused(good[:place])
    assert_refused([*good[:place], *good[place + 1 :]])
    assert_refused([*good[:place], good[place], *good[place:]])


def test_fields_by_name_are_refused() -> None:
    """What a record of another version was: nobody looks for names, nor takes them for values."""
    assert_refused(dict(zip(Fields._fields, values(), strict=True)))


@pytest.mark.parametrize("name", Rare.__annotations__)
def test_a_rare_value_of_another_type_is_refused(name: str) -> None:
    good = values()
    rare = good[Fields._fields.index("rare")]
    for value in VALUES:
        if type(value) is not type(rare[name]):
            assert_refused([{**each, name: value} if each is rare else each for each in good])


def test_scripts_read_the_same_order() -> None:
    """The prelude names the first fields, and takes the version that is written."""
    text = scripts.source("touch")
    listed = re.search(r"fields_read = (\d+), \{(.*?)\n\}", text, re.DOTALL)
    assert listed is not None
    named = re.findall(r"\{'(\w+)', '(\w+)'\}", listed[2])
    types = {"number": int, "string": str, "table": dict}
    assert [name for name, _ in named] == [*Fields._fields[: len(named)]]
    assert [types[kind] for _, kind in named] == [*map(type, values()[: len(named)])]
    assert int(listed[1]) == values()[Fields._fields.index("version")]
