"""Identity headers: ASCII, without control characters, and never two users in one value."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.identity import (
    HEADERS,
    MAX_BLOCK,
    NOBODY,
    encode,
    headers_of,
    lines,
    problem_of,
    size_of,
)

from .samples import make_session

FIT = st.text(max_size=24).filter(lambda text: problem_of(text) is None)


@given(one=FIT, other=FIT)
@example(one="café", other="caf%C3%A9")
@example(one="caf%C3%A9", other="caf%c3%a9")
@example(one="caf%C3%A9", other="caf%25C3%25A9")
@example(one="100%", other="100%25")
@example(one="é", other="e\u0301")
@example(one="Å", other="\u212b")
@example(one="a", other="\uff41")
def test_two_users_never_share_a_value(one: str, other: str) -> None:
    """Two different values differ on the wire too: else one user could pass for another."""
    assume(one != other)
    assert encode(one) != encode(other)


@given(text=FIT)
def test_a_value_is_printable_ascii_and_comes_back(text: str) -> None:
    """`urllib.parse.unquote` at the application returns exactly what was told."""
    value = encode(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert unquote(value, errors="strict") == text


@pytest.mark.parametrize("text", ["ada", "a+b@example.com", "a,b", 'O"Hara; x=y', "a b", ""])
def test_plain_values_stay_as_they_are(text: str) -> None:
    """What is ASCII needs no decoding, but for the percent sign."""
    assert encode(text) == text


@pytest.mark.parametrize(
    "text",
    [*(f"a{chr(code)}b" for code in (*range(0x20), 0x7F)), "a\udce9min", "\ud800", " a", "a ",
     "\u00a0a", "a\u3000", "a\u2028", "a\n", "\ta", " "],
)  # fmt: skip
def test_what_no_header_can_carry_is_a_problem(text: str) -> None:
    """CR, LF, NUL, the other controls, lone surrogates, and space at either end."""
    assert problem_of(text) is not None


@pytest.mark.parametrize("raw_utf8", [True, False])
@pytest.mark.parametrize("field", ["user", "email", "name", "role", "device"])
@pytest.mark.parametrize(
    "value", ["a\r\nX-Auth-Roles: admin", "a\nb", "ad\udce9min", "a ", "a\x00"]
)
def test_an_unfit_value_is_never_written(field: str, value: str, raw_utf8: bool) -> None:
    """Checked again before writing, whatever the store holds: it raises, and so denies."""
    session = make_session()
    changes: dict[str, object] = {
        "role": {"roles": ("x", value)},
        "device": {"device": dataclasses.replace(session.device, id=value)},
    }.get(field, {field: value})  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"header|surrogates"):
        headers_of(dataclasses.replace(session, **changes), raw_utf8=raw_utf8)  # type: ignore[arg-type]


def test_every_header_is_there_once_whoever_asks() -> None:
    """All six, in one order, empty where nothing is known."""
    assert lines((name, "") for name in HEADERS) == NOBODY
    session = make_session(user="zoë", name="100% Zoë", roles=("a", "b c", "d"))
    assert headers_of(session) == (
        ("X-Auth-User", "zo%C3%AB"),
        ("X-Auth-Email", "ada@example.com"),
        ("X-Auth-Name", "100%25 Zo%C3%AB"),
        ("X-Auth-Roles", "a,b c,d"),
        ("X-Auth-Session", session.id),
        ("X-Auth-Device", "laptop-1"),
    )
    assert dict(headers_of(session, raw_utf8=True))["X-Auth-Name"] == "100% Zoë"
    assert dict(headers_of(make_session(roles=(), email="")))["X-Auth-Roles"] == ""


@given(user=FIT, name=FIT, roles=st.lists(FIT, max_size=3).map(tuple))
def test_the_size_is_what_the_wire_takes(user: str, name: str, roles: tuple[str, ...]) -> None:
    """The limit at sign-in counts the bytes that a check will write."""
    session = make_session(user=user, name=name, roles=roles)
    try:
        pairs = headers_of(session)
    except ValueError:  # a role may end what the list begins
        return
    written = sum(len(f"{name}: {value}\r\n".encode()) for name, value in pairs)
    assert written == size_of(user, session.email, name, roles, session.device.id)
    assert MAX_BLOCK < 3072
