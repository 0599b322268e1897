"""A user's own table of requests and of what the policy must make of each.

TOML or JSON, a list `tests`. docs/policy.md has an example.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from ..decision import Reason
from ..errors import ConfigurationError, InvalidInput, Problem
from ..model import HIGHEST_AAL, LOWEST_AAL
from .loading import place_of, read_text, read_toml, what_is_wrong
from .settings import Address, Duration, Section

ALLOW, DENY = "allow", "deny"


def _expected(text: str) -> str:
    if text not in (ALLOW, DENY, *Reason):
        raise ValueError('write "allow", "deny" or a reason such as "role_required"')
    return text


def _whole_address(url: str) -> str:
    if not re.match(r"https?://[^/?#]", url):
        raise ValueError("write the whole address: https://app.example.com/admin/")
    return url


Country = Annotated[str, Field(pattern="^([A-Z]{2})?$")]


class SupposedSession(Section):
    """Who asks; `age` since the sign-in, `rested` since the last activity."""

    user: str = "somebody"
    roles: tuple[str, ...] = ()
    aal: Annotated[int, Field(ge=LOWEST_AAL, le=HIGHEST_AAL)] = LOWEST_AAL
    age: Duration = 0
    rested: Duration = 0
    alerts: tuple[str, ...] = ()


class Expectation(Section):
    """One request and what must come of it. Without `session` nobody is signed in."""

    url: Annotated[str, AfterValidator(_whole_address)]
    expect: Annotated[str, AfterValidator(_expected)]
    name: str = ""
    method: str = "GET"
    ip: Address = ""
    country: Country = ""
    asn: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    preflight: bool = False
    session: SupposedSession | None = None

    def is_met(self, reason: Reason | None) -> bool:
        """Tell whether a decision with this reason (None: allowed) is what was expected."""
        if self.expect == DENY:
            return reason is not None
        return (ALLOW if reason is None else reason) == self.expect


class Expectations(Section):
    """The whole table; one that expects nothing is a mistake."""

    tests: Annotated[tuple[Expectation, ...], Field(min_length=1)]


def load_expectations(path: str) -> tuple[Expectation, ...]:
    """Return the table in a file.

    Raises ConfigurationError if it cannot be read, InvalidInput with all that is wrong in it.
    """
    values = _read_json(path) if path.endswith(".json") else read_toml(path)
    try:
        return Expectations.model_validate(values).tests
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = [Problem(place_of(each["loc"]), what_is_wrong(each)) for each in found]
        raise InvalidInput(tuple(problems)) from None


def _read_json(path: str) -> object:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not valid JSON: {error}") from None
