"""Receivers verify with any library of Standard Webhooks."""

from __future__ import annotations

import base64

import pytest

from gateway.webhooks.signature import key_of, signatures

# The example that the libraries of Standard Webhooks are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_it_is_the_signature_of_the_specification() -> None:
    assert signatures([key_of(SECRET)], ID, TIMESTAMP, BODY) == SIGNATURE


def test_each_secret_signs_so_that_one_can_be_exchanged() -> None:
    new = b"n" * 32
    both = signatures([key_of(SECRET), new], ID, TIMESTAMP, BODY).split(" ")
    assert both == [SIGNATURE, signatures([new], ID, TIMESTAMP, BODY)]


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "begins with whsec_"),
        (SECRET.removeprefix("whsec_"), "begins with whsec_"),
        ("whsec_", "has 24 to 64 bytes, this one 0"),
        ("whsec_not base64!", "is base64"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "has 24 to 64 bytes, this one 23"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "has 24 to 64 bytes, this one 65"),
    ],
)
def test_a_weak_or_broken_secret_is_refused_without_being_shown(secret: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        key_of(secret)
    assert secret.removeprefix("whsec_") in ("", str(raised.value)) or (
        secret.removeprefix("whsec_") not in str(raised.value)
    )


@pytest.mark.parametrize("length", [24, 64])
def test_secrets_of_every_allowed_length_are_taken(length: int) -> None:
    assert key_of("whsec_" + base64.b64encode(b"k" * length).decode()) == b"k" * length
