"""The one result type of a check, for every proxy.

A `Decision` without a reason allows; there is no other way to allow, and nothing builds one
but `authorizer.Authorizer.check`.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from .model import Standing


class Reason(StrEnum):
    """Stable codes: operators alert on them, applications show them. Never renamed."""

    NO_SESSION = "no_session"
    MALFORMED_TOKEN = "malformed_token"  # noqa: S105  (a code, not a secret)
    DUPLICATE_COOKIE = "duplicate_cookie"
    UNKNOWN_SESSION = "unknown_session"
    EXPIRED = "expired"
    IDLE = "idle"
    ROLE_REQUIRED = "role_required"
    USER_NOT_ALLOWED = "user_not_allowed"
    NO_RULE = "no_rule"
    DENIED_BY_RULE = "denied_by_rule"
    AMBIGUOUS_PATH = "ambiguous_path"
    BAD_HOST = "bad_host"
    BAD_METHOD = "bad_method"
    BAD_FORWARDED_REQUEST = "bad_forwarded_request"
    UNTRUSTED_PEER = "untrusted_peer"
    FINGERPRINT_CHANGED = "fingerprint_changed"
    ADDRESS_CHANGED = "address_changed"
    STEP_UP_REQUIRED = "step_up_required"
    STORE_UNAVAILABLE = "store_unavailable"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"  # a fault of ours; never an allow


class Kind(Enum):
    """The four answers a proxy can be given; adapters turn a kind into a status."""

    ALLOW = "allow"
    SIGN_IN = "sign_in"  # no session: signing in would help
    FORBIDDEN = "forbidden"  # signing in again would not help
    UNKNOWN = "unknown"  # we do not know


_SIGN_IN = frozenset(
    {
        Reason.NO_SESSION,
        Reason.MALFORMED_TOKEN,
        Reason.DUPLICATE_COOKIE,
        Reason.UNKNOWN_SESSION,
        Reason.EXPIRED,
        Reason.IDLE,
    }
)
_UNKNOWN = frozenset({Reason.STORE_UNAVAILABLE, Reason.OVERLOADED, Reason.INTERNAL_ERROR})


def kind_of(reason: Reason | None) -> Kind:
    """Return the kind of answer for a reason; a reason unknown to the sets is forbidden."""
    if reason is None:
        return Kind.ALLOW
    if reason in _SIGN_IN:
        return Kind.SIGN_IN
    return Kind.UNKNOWN if reason in _UNKNOWN else Kind.FORBIDDEN


class Decision(NamedTuple):
    """What the gateway answers. `reason is None` is the only allow.

    `session` is set only on an allow by a session rule; a public rule allows with nobody.
    `step_up` is set only with STEP_UP_REQUIRED: what a sign-in must bring.
    """

    reason: Reason | None = Reason.NO_RULE
    session: Standing | None = None
    step_up: str = ""

    @property
    def kind(self) -> Kind:
        return kind_of(self.reason)


PUBLIC = Decision(reason=None)
DENIALS = {reason: Decision(reason=reason) for reason in Reason}
