"""Assertions: what they say, for how long, and that they are signed no more often than needed."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from gateway import assertion
from gateway.assertion import ALGORITHM, Assertions, BadKeys, Keys, Terms
from gateway.errors import Overloaded
from gateway.identity import NATIVE, HeaderSet, problems_of, standing_of
from gateway.model import Session, Standing

from .samples import MINUTE_MS, NOW_MS, make_session

HEADER = "X-Auth-Jwt-Assertion"
HOST = "app.example.com"
TOLD = HeaderSet(NATIVE.headers, assertion=HEADER)
LIFETIME_MS = 5 * MINUTE_MS


def pem(*, private: bool = True) -> str:
    return ECKey.generate_key("P-256").as_pem(private=private).decode()


PEM = pem()


class Signer:
    """Assertions with a clock that can be wound."""

    def __init__(self, keys: str = PEM, audience: str = "") -> None:
        self.now_ms = NOW_MS
        terms = Terms(HEADER, "https://gateway.example.com", audience, LIFETIME_MS)
        self.assertions = Assertions(Keys(keys), terms, lambda: self.now_ms / 1000)

    def line(self, session: Standing | None = None, host: str = HOST) -> bytes:
        return self.assertions.line(session or stand(), host)

    def claims(self, session: Standing | None = None, host: str = HOST) -> dict[str, Any]:
        """Return what an application reads that checks the signature by the published keys."""
        name, _, token = self.line(session, host).decode().rstrip("\r\n").partition(": ")
        assert name == HEADER
        keys = KeySet.import_key_set(self.assertions.public)  # type: ignore[arg-type]
        found = jwt.decode(token, keys, algorithms=[ALGORITHM])
        assert found.header == {"alg": ALGORITHM, "typ": "JWT", "kid": found.header["kid"]}
        claims: dict[str, Any] = found.claims
        return claims


def stand(session: Session | None = None) -> Standing:
    return standing_of(session or make_session(), TOLD)


def test_an_assertion_says_who_it_is_to_whom_and_for_how_long() -> None:
    now_s = NOW_MS // 1000
    assert Signer().claims() == {
        "iss": "https://gateway.example.com",
        "aud": HOST,
        "sub": "ada",
        "sid": make_session().id,
        "email": "ada@example.com",
        "name": "Ada Lovelace",
        "roles": ["member", "staff"],
        "aal": 1,
        "auth_time": now_s - 60,
        "iat": now_s,
        "exp": now_s + 300,
    }


def test_what_is_not_known_is_not_said() -> None:
    session = make_session(email="", name="", roles=(), authenticated_ms=0)
    assert Signer().claims(stand(session)).keys() == {
        "iss", "aud", "sub", "sid", "roles", "aal", "iat", "exp",
    }  # fmt: skip


@pytest.mark.parametrize("user", ["a.b\ud7ffé", 'a"},"aud":"*', "%41", "\\", "ÿ" * 100])
def test_every_value_comes_back_as_it_was(user: str) -> None:
    """What headers must escape, JSON escapes in its own way; nothing becomes another claim."""
    claims = Signer().claims(stand(make_session(user=user)))
    assert (claims["sub"], claims["aud"]) == (user, HOST)


def test_a_session_is_signed_once_until_half_of_its_life_is_over() -> None:
    signer, session = Signer(), stand()
    first = signer.line(session)
    for _ in range(100):
        signer.now_ms += LIFETIME_MS // 2 // 100 - 1
        assert signer.line(session) is first
    assert signer.assertions.signed == 1
    signer.now_ms = NOW_MS + LIFETIME_MS // 2
    assert signer.claims(session)["exp"] == (signer.now_ms + LIFETIME_MS) // 1000
    assert signer.assertions.signed == 2


@pytest.mark.parametrize(
    "changed",
    [{"roles": ("admin",)}, {"aal": 2}, {"email": ""}, {"authenticated_ms": NOW_MS}],
)
def test_what_changes_is_signed_at_once(changed: dict[str, Any]) -> None:
    """The old assertion would say what the session is no more."""
    signer = Signer()
    before = signer.claims()
    after = signer.claims(stand(make_session(**changed)))
    assert {name for name in before if before[name] != after.get(name)} <= {
        "roles", "aal", "email", "auth_time",
    }  # fmt: skip
    assert before != after


def test_activity_alone_needs_no_new_one() -> None:
    signer, session = Signer(), stand()
    assert signer.line(session) is signer.line(session.seen_at(NOW_MS + 1000))


@pytest.mark.parametrize(
    "session",
    [
        make_session(expires_ms=NOW_MS + 90_500),
        make_session(last_seen_ms=NOW_MS - 29_500, idle_ms=2 * MINUTE_MS),
    ],
)
def test_no_assertion_outlives_its_session(session: Session) -> None:
    """Neither the absolute end nor the idle timeout, as far as it is known."""
    assert Signer().claims(stand(session))["exp"] == NOW_MS // 1000 + 90


@pytest.mark.parametrize("ahead_ms", [999, 5_000, 3_600_999])
def test_near_the_end_and_with_a_clock_ahead_none_is_born_over(ahead_ms: int) -> None:
    """The check has just allowed, by Redis' clock; and not every check costs a signature."""
    signer, session = Signer(), stand(make_session(expires_ms=NOW_MS + 1_000))
    signer.now_ms += ahead_ms
    for _ in range(100):
        signer.now_ms += 9
        claims = signer.claims(session)
        assert claims["iat"] <= signer.now_ms // 1000 < claims["exp"] <= claims["iat"] + 2
    assert signer.assertions.signed == 1


def test_a_clock_that_is_set_back_keeps_nothing_alive() -> None:
    """What was signed in the future would be good for longer than its life."""
    signer = Signer()
    signer.line()
    signer.now_ms -= 3_600_000
    assert signer.claims()["exp"] == (signer.now_ms + LIFETIME_MS) // 1000


def test_each_application_gets_its_own() -> None:
    """What one was told, it cannot show to another; ports and letters make no difference."""
    signer = Signer()
    assert signer.claims(host="other.example.com")["aud"] == "other.example.com"
    assert signer.claims(host="APP.example.com.:8443")["aud"] == HOST
    signer.line(host=HOST)
    assert signer.assertions.signed == 2
    with pytest.raises(ValueError, match="host"):
        signer.line(host="a,b")


def test_the_audience_may_be_one_for_all() -> None:
    signer = Signer(audience="all")
    assert {signer.claims(host=host)["aud"] for host in (HOST, "other")} == {"all"}
    assert signer.assertions.signed == 1


def test_users_do_not_mix() -> None:
    signer = Signer()
    bob = stand(make_session(token=b"0b" + b"B" * 43, user="bob"))
    for _ in range(2):
        assert (signer.claims()["sub"], signer.claims(bob)["sub"]) == ("ada", "bob")


def other(number: int) -> Standing:
    return stand(make_session(token=f"0b{number:043}".encode()))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first; whoever asks again is signed again."""
    monkeypatch.setattr(assertion, "_MOST", 32)
    signer = Signer()
    for number in range(40):
        signer.line(other(number))
        known = signer.assertions._known
        assert sum(map(len, known.values())) == signer.assertions._count <= 32
    signed = signer.assertions.signed
    signer.line(other(39))
    assert signer.assertions.signed == signed
    signer.line(other(0))
    assert signer.assertions.signed == signed + 1


def test_made_up_hosts_cost_no_signature_each() -> None:
    """Nor what others were given; a session that is done with it goes on when they are old."""
    signer, thief, user = Signer(), stand(), other(1)
    signer.line(user)
    for number in range(32):
        signer.line(thief, f"h{number}")
    for number in range(32, 1000):
        with pytest.raises(Overloaded):
            signer.line(thief, f"h{number}")
    for host in ("h0", "h31"):
        signer.line(thief, host)
    signer.line(user)
    assert signer.assertions.signed == 33
    signer.now_ms += LIFETIME_MS // 2
    assert signer.claims(thief, "h99")["aud"] == "h99"
    assert signer.claims(user, "new.example.com")["aud"] == "new.example.com"
    assert signer.assertions._count == 32 + 2


def test_of_a_session_without_claims_nothing_is_signed() -> None:
    with pytest.raises(ValueError, match="nothing is known"):
        Signer().line(standing_of(make_session()))


# --- keys ------------------------------------------------------------------------------------


def test_a_new_key_is_known_before_it_signs_and_an_old_one_after() -> None:
    """Rotation: publish, then sign, then forget. At each step what was signed can be checked."""
    new = pem()
    before, during, after = Signer(PEM), Signer(PEM + new), Signer(new + PEM)
    ids = [{key["kid"] for key in each.assertions.public["keys"]} for each in (before, during)]
    assert ids[0] < ids[1]
    for signer, verifier in ((before, during), (during, before), (during, after), (after, during)):
        token = signer.line().decode().strip().partition(": ")[2]
        keys = KeySet.import_key_set(verifier.assertions.public)  # type: ignore[arg-type]
        assert jwt.decode(token, keys, algorithms=[ALGORITHM]).claims["sub"] == "ada"


def test_what_is_published_is_public() -> None:
    for key in Signer(PEM + pem() + pem(private=False)).assertions.public["keys"]:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_the_key_may_stand_behind_its_parameters() -> None:
    """As `openssl ecparam -genkey` writes it."""
    text = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + PEM
    assert Signer(text).claims()["sub"] == "ada"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no key"),
        ("secret", "no key"),
        (pem(private=False), "begins with a public key"),
        (ECKey.generate_key("P-384").as_pem(private=True).decode(), "P-384"),
        (ECKey.generate_key("P-256").as_pem(private=True, password="x").decode(), "unencrypted"),
        (OKPKey.generate_key("Ed25519").as_pem(private=True).decode(), "no unencrypted EC key"),
        (RSAKey.generate_key(2048).as_pem(private=True).decode(), "no unencrypted EC key"),
        (PEM.replace("M", "!", 1), "no unencrypted EC key"),
        (PEM + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no unencrypted"),
    ],
)
def test_bad_keys_are_refused_without_a_word_of_them(text: str, said: str) -> None:
    with pytest.raises(BadKeys, match=said) as raised:
        Keys(text)
    assert "BEGIN" not in str(raised.value)
    assert raised.value.__cause__ is None


# --- length ----------------------------------------------------------------------------------


def test_a_session_whose_assertion_would_be_too_long_is_refused() -> None:
    """At the sign-in: a head that the proxy cannot take would be an error at every check."""
    roles = tuple(f"role-{number:03}" for number in range(40))
    session = make_session(roles=roles)
    assert problems_of(session, TOLD) == []
    assert len(stand(session).identity + Signer().line(stand(session))) < 2560
    assert problems_of(make_session(roles=roles * 2), TOLD) != []
    assert problems_of(make_session(roles=roles * 2), NATIVE) == []
