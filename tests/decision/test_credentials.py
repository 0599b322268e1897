"""The session cookie and the token in it: exact bytes, or nothing."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.credentials import (
    digest_of_user,
    key_of_cookies,
    key_of_id,
    key_of_token,
    new_token,
    partition_of_user,
)
from gateway.decision import Reason
from gateway.model import SessionKey

from .samples import COOKIE, PARTITIONS, TOKEN, cookie, key_of

NAME = COOKIE.encode()
OTHER = b"0b" + TOKEN[2:]


def found_in(headers: list[bytes]) -> SessionKey | Reason:
    """Return what is found in Cookie headers that arrive as these bytes."""
    arrived = [header.decode("utf-8", "surrogateescape") for header in headers]
    return key_of_cookies(arrived, COOKIE, PARTITIONS)


@pytest.mark.parametrize(
    "headers",
    [
        [cookie()],
        [b"a=1; " + cookie() + b"; b=2"],
        [b"a=1;" + cookie()],
        [b";;" + cookie() + b";"],
        [b"  \t" + cookie() + b" \t "],
        [b"a=1;\t__Host-sid \t= \t" + TOKEN + b"\t;b"],
        [b"a=1", cookie()],
        [cookie(), b"a=1"],
        [cookie() + b"; " + cookie()],
        [cookie(), cookie()],
        [b"a=1,b=2; " + cookie()],
        [b"__Host-sid; " + cookie()],
        [b"\xe2\x80\x80__Host-sid=EVIL; " + cookie()],
        [b"\xc2\xa0__Host-sid=EVIL; " + cookie()],
        [b"\x0b__Host-sid=EVIL; " + cookie()],
        [b"\x0c__Host-sid\x0c=EVIL; " + cookie()],
        [b"\x85__Host-sid=EVIL", cookie()],
        [b'"__Host-sid"=EVIL; ' + cookie()],
        [b"$__Host-sid=EVIL; x__Host-sid=EVIL; __Host-sidx=EVIL; " + cookie()],
        [b"__host-sid=EVIL; __HOST-SID=EVIL; __Host-Sid=EVIL; " + cookie()],
        [b"__Host%2Dsid=EVIL; " + cookie()],
        [b"a=__Host-sid=EVIL; " + cookie()],
        [b'a="; __Host-sidx=EVIL; "; ' + cookie()],
    ],
)
def test_the_good_cookie_is_found_beside_others(headers: list[bytes]) -> None:
    """Only SP and HTAB are trimmed, only the exact name counts, in every Cookie header."""
    assert found_in(headers) == key_of(TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        [cookie() + b"; " + cookie(OTHER)],
        [cookie(OTHER) + b"; " + cookie()],
        [cookie(), cookie(OTHER)],
        [cookie() + b"; __Host-sid="],
        [b"__Host-sid=; " + cookie()],
        [b"__Host-sid =EVIL; " + cookie()],
        [cookie(), b"\t__Host-sid\t=EVIL"],
        [cookie() + b'; __Host-sid="' + TOKEN + b'"'],
        [cookie() + b"; " + cookie() + b"; " + cookie(OTHER)],
    ],
)
def test_two_different_values_are_believed_neither(headers: list[bytes]) -> None:
    """Somebody else put one of them there: nobody can tell which."""
    assert found_in(headers) is Reason.DUPLICATE_COOKIE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [b";"],
        [b"a=1"],
        [b"__Host-sid"],
        [TOKEN],
        [b"x" + cookie()],
        [b"a=1, " + cookie()],
        [cookie().replace(b"=", b"%3d")],
        [b"\xe2\x80\x80" + cookie()],
        [cookie().lower()],
        [b"=" + cookie()],
    ],
)
def test_no_cookie_of_that_name_is_no_session(headers: list[bytes]) -> None:
    """Also when another cookie's name or value merely holds the name."""
    assert found_in(headers) is Reason.NO_SESSION


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"EVIL",
        TOKEN[:-1],
        TOKEN + b"A",
        TOKEN + b"=",
        TOKEN[:-1] + b"\n",
        TOKEN[:-1] + b"+",
        TOKEN[:-1] + b"/",
        TOKEN[:-1] + b"%",
        TOKEN[:-1] + b" x",
        TOKEN[:-1] + b"\xff",
        TOKEN[:-1] + b"\x00",
        TOKEN[:-2] + "é".encode(),
        b'"' + TOKEN + b'"',
        TOKEN + b"," + TOKEN,
        TOKEN + b"," + cookie(),
        TOKEN + b",a=1",
        TOKEN + b"\x0c",
        b"\xe2\x80\x80" + TOKEN,
        b"0A" + TOKEN[2:],
        b"0g" + TOKEN[2:],
        b"+a" + TOKEN[2:],
        b" a" + TOKEN[2:],
        b"10" + TOKEN[2:],
        b"ff" + TOKEN[2:],
        "\u0660a".encode() + TOKEN[2:],
        TOKEN[:20] + b"=" + TOKEN[20:],
    ],
)
def test_what_is_no_token_is_malformed(value: bytes) -> None:
    """Two lower hex digits below the number of partitions, 43 base64url characters, no more."""
    assert found_in([NAME + b"=" + value]) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(("partitions", "last"), [(1, 0), (16, 15), (17, 16), (256, 255)])
def test_a_partition_must_exist(partitions: int, last: int) -> None:
    """The last partition has tokens and ids; the one after it has none."""
    for number in range(256):
        token = f"{number:02x}" + TOKEN[2:].decode()
        key = key_of_token(token, partitions)
        assert (key is not None) is (number <= last)
        assert key_of_id(f"{number:02x}" + "0" * 32, partitions) == (
            SessionKey(f"{number:02x}", "0" * 32) if number <= last else None
        )


def test_the_key_is_the_first_half_of_the_tokens_hash() -> None:
    """The id is public: it leads to the session's place, and nowhere back to the token."""
    key = key_of_token(TOKEN.decode(), PARTITIONS)
    assert key == SessionKey("0a", hashlib.sha256(TOKEN).hexdigest()[:32])
    assert key_of_id(key.id, PARTITIONS) == key


@pytest.mark.parametrize(
    "session_id",
    ["", "0a", "0a" + "0" * 31, "0a" + "0" * 33, "0A" + "0" * 32, "0a" + "G" * 32,
     "0a" + "A" * 32,
     "0a" + "0" * 32 + "\n", "10" + "0" * 32, "\u0660a" + "0" * 32,TOKEN.decode(), "*",
     "0a" + "*" * 32],
)  # fmt: skip
def test_what_is_no_session_id_has_no_key(session_id: str) -> None:
    """Nothing but lower hex digits ever gets into a Redis key."""
    assert key_of_id(session_id, PARTITIONS) is None


def test_new_tokens_are_well_formed_and_never_alike() -> None:
    """256 random bits each, in the partition that was asked for."""
    tokens = {new_token("0f") for _ in range(1000)}
    assert len(tokens) == 1000
    for token in tokens:
        key = key_of_token(token, PARTITIONS)
        assert key is not None
        assert key.partition == "0f"


@given(user=st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_user_id_reaches_redis_as_a_digest_only(user: str) -> None:
    """Whatever the id holds, its partition exists and its digest is 160 bits in base64url."""
    for partitions in (1, 16, 256):
        assert 0 <= int(partition_of_user(user, partitions), 16) < partitions
    digest = digest_of_user(user)
    assert len(digest) == 27
    assert set(digest) <= set(string.ascii_letters + string.digits + "-_")


NOISE = st.lists(
    st.sampled_from(
        [NAME, b"=", b";", b"; ", b",", b" ", b"\t", b'"', TOKEN, OTHER, b"a", b"\xe2\x80\x80",
         b"\xa0", b"\x0b", b"\x00", b"\xff", b"__host-sid"]
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


@settings(max_examples=400, deadline=None, database=None)
@given(headers=st.lists(st.one_of(NOISE, st.binary(max_size=60)), max_size=4))
def test_a_key_comes_only_from_the_one_exact_pair(headers: list[bytes]) -> None:
    """By a second reading of the same grammar, character by character."""
    values = {
        after.strip(b"\t ")
        for header in headers
        for pair in header.split(b";")
        for before, equals, after in [pair.partition(b"=")]
        if equals and before.strip(b"\t ") == NAME
    }
    expected: SessionKey | Reason
    if len(values) != 1:
        expected = Reason.DUPLICATE_COOKIE if values else Reason.NO_SESSION
    else:
        (value,) = values
        known = {TOKEN, OTHER} if len(value) == len(TOKEN) else set()
        expected = Reason.MALFORMED_TOKEN
        if value in known:
            digest = hashlib.sha256(value).hexdigest()[:32]
            expected = SessionKey(value[:2].decode(), digest)
    assert found_in(headers) == expected
