"""Links that ask a user "was this you?": signed, for one alert, for a while. No I/O.

The token is all that whoever opens the link needs; so it stands in no event and no log, only in the
answer of the sign-in and in the lists that notifications are made of.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import NamedTuple

import orjson

_PURPOSE = b"was this you?\n"  # the secret may sign other things one day
_LONGEST = 2048


class Question(NamedTuple):
    """What a link asks about."""

    alert_id: str
    session_id: str  # the first that the session had
    user: str
    at_ms: int
    type: str
    where: str  # in words, for the user
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads links. `url` has `{token}` where the token goes."""

    url: str
    secret: bytes
    lifetime_ms: int

    def to(self, question: Question) -> str:
        """Return the link."""
        body = _encoded(orjson.dumps(tuple(question)))
        return self.url.replace("{token}", f"{body}.{self._signature(body)}")

    def read(self, token: str) -> Question | None:
        """Return what a token asks about, be it expired or not; None if we did not sign it."""
        body, _, signature = token.partition(".")
        if len(token) > _LONGEST or not token.isascii():
            return None
        if not hmac.compare_digest(self._signature(body), signature):
            return None
        try:
            return Question(*orjson.loads(_decoded(body)))
        except (TypeError, ValueError):  # of another version
            return None

    def _signature(self, body: str) -> str:
        return _encoded(hmac.digest(self.secret, _PURPOSE + body.encode(), hashlib.sha256))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
