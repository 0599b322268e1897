"""Identity headers: ASCII, without control characters, and never two users in one value."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.identity import (
    AUTHELIA,
    HEADERS,
    MAX_BLOCK,
    NATIVE,
    NOBODY,
    OAUTH2_PROXY,
    SEPARATORS,
    HeaderSet,
    encode,
    headers_of,
    lines,
    problem_of,
    problems_of,
    standing_of,
)
from gateway.sessions import check_identity

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
        headers_of(
            dataclasses.replace(session, **changes),  # type: ignore[arg-type]
            dataclasses.replace(NATIVE, raw_utf8=raw_utf8),
        )


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
    raw = dataclasses.replace(NATIVE, raw_utf8=True)
    assert dict(headers_of(session, raw))["X-Auth-Name"] == "100% Zoë"
    assert dict(headers_of(make_session(roles=(), email="")))["X-Auth-Roles"] == ""


TOLD = HeaderSet(
    (
        ("X-User", "user"),
        ("X-Roles", "roles"),
        ("X-Tenant", "metadata.tenant"),
        ("X-Teams", "metadata.teams"),
    ),
    separator="|",
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("acme", "acme"),
        ("Zoë", "Zo%C3%AB"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (None, ""),
        ("", ""),
        ([], ""),
        (["a", "b"], "a|b"),
        (["a", 1, False, None], "a|1|false|"),
        ("a|b", "a|b"),
    ],
)
def test_metadata_can_be_told(value: object, written: str) -> None:
    """Text as it is, numbers and truth as JSON, lists joined; what is missing is empty."""
    session = dataclasses.replace(make_session(), metadata={"tenant": value, "other": {}})
    assert headers_of(session, TOLD) == (
        ("X-User", "ada"),
        ("X-Roles", "member|staff"),
        ("X-Tenant", written),
        ("X-Teams", ""),
    )
    assert problems_of(session, TOLD) == []


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1},
        [["a"]],
        [{}],
        "a\r\nX-Roles: admin",
        "a\né",
        ["a", "b|c"],
        "a ",
        "\ud800",
        ["a\n"],
    ],
)
def test_metadata_that_cannot_be_told_is_a_problem_and_never_written(value: object) -> None:
    """At sign-in it is refused with its place; from a store it raises, and so denies."""
    session = dataclasses.replace(make_session(), metadata={"teams": value})
    assert [field for field, _ in problems_of(session, TOLD)] == ["metadata.teams"]
    with pytest.raises(ValueError, match=r"header|list|neither"):
        headers_of(session, TOLD)
    with pytest.raises(ValueError, match=r"header|list|neither"):
        standing_of(session, NATIVE, (TOLD,))
    with pytest.raises(InvalidInput):
        check_identity(session, (NATIVE, TOLD))
    check_identity(session, (NATIVE,))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_one_role_is_never_read_as_two(separator: str) -> None:
    """A role that holds the separator in use is refused, and never written."""
    told = dataclasses.replace(TOLD, separator=separator)
    session = make_session(roles=(f"a{separator}b",))
    with pytest.raises(ValueError, match="list"):
        headers_of(session, told)
    with pytest.raises(InvalidInput, match="roles"):
        check_identity(session, (told,))


def test_lines_are_rendered_once_for_each_family() -> None:
    """Each under its own names; the address is kept only where a profile may ask for it."""
    session = make_session()
    plain, full = standing_of(session), standing_of(session, NATIVE, (OAUTH2_PROXY, AUTHELIA))
    assert plain.besides == ((), "", b"", None)
    assert full.identity == plain.identity
    assert [block.decode().splitlines() for block in full.besides.profiles] == [
        [
            "X-Auth-Request-User: ada",
            "X-Auth-Request-Email: ada@example.com",
            "X-Auth-Request-Preferred-Username: ada",
            "X-Auth-Request-Groups: member,staff",
        ],
        [
            "Remote-User: ada",
            "Remote-Groups: member,staff",
            "Remote-Name: Ada Lovelace",
            "Remote-Email: ada@example.com",
        ],
    ]
    assert full.besides.email == "ada@example.com"
    assert OAUTH2_PROXY.nobody.count(b": \r\n") == AUTHELIA.nobody.count(b": \r\n") == 4


def test_every_family_s_lines_are_bounded() -> None:
    """A sign-in that fits under our names may not fit under longer ones; it is refused then."""
    long = HeaderSet(tuple((f"X-{'Long' * 20}-{number}", "name") for number in range(8)))
    session = make_session(name="x" * 400)
    check_identity(session, (NATIVE,))
    assert [field for field, _ in problems_of(session, long)] == ["roles"]
    with pytest.raises(InvalidInput, match=str(MAX_BLOCK)):
        check_identity(session, (NATIVE, long))


@given(user=FIT, name=FIT, role=FIT, raw_utf8=st.booleans())
def test_whatever_is_told_is_one_line_for_each_name(
    user: str, name: str, role: str, raw_utf8: bool
) -> None:
    """No value ends its line, for any family."""
    session = make_session(user=user, name=name, roles=(role,))
    for told in (NATIVE, OAUTH2_PROXY, AUTHELIA, TOLD):
        chosen = dataclasses.replace(told, raw_utf8=raw_utf8)
        try:
            written = lines(headers_of(session, chosen))
        except ValueError:  # a role with the separator
            continue
        found = [line.partition(b": ")[0].decode() for line in written.split(b"\r\n")[:-1]]
        assert found == list(told.names)
