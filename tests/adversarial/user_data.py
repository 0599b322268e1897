"""Users whose names are attacks on the headers that carry them."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """Whom the application signs in."""

    user: str = "ordinary"
    name: str = "Ada"
    email: str = "ada@example.com"
    roles: tuple[str, ...] = ("member",)

    def asked(self) -> dict[str, object]:
        """Return what the application asks the gateway for."""
        return {"user": self.user, "name": self.name, "email": self.email,
                "roles": list(self.roles)}  # fmt: skip

    def differs(self) -> str:
        """Return what is not ordinary about it."""
        ordinary = User().asked()
        return json.dumps({k: v for k, v in self.asked().items() if v != ordinary[k]})


USERS = {
    "line-break": User(name="a\r\nX-Auth-Roles: admin"),
    "line-feed": User(name="a\nX-Auth-Roles: admin"),
    "carriage-return": User(name="a\rX-Auth-Roles: admin"),
    "line-break-in-user": User(user="a\r\nX-Auth-User: admin"),
    "line-break-in-email": User(email="a@example.com\r\nX-Auth-User: admin"),
    "line-break-in-role": User(roles=("member\r\nX-Auth-User: admin",)),
    "line-break-at-the-end": User(name="a\r\n"),
    "nul": User(user="ordinary\x00admin"),
    "delete": User(name="a\x7f"),
    "next-line": User(name="a\u0085X-Auth-Roles: admin"),
    "line-separator": User(name="a\u2028X-Auth-Roles: admin"),
    "truncated-line-break": User(name="a\u560d\u560aX-Auth-Roles: admin"),
    "escaped-line-break": User(name="a%0d%0aX-Auth-Roles: admin"),
    "escape-lookalike": User(user="caf%C3%A9"),
    "accent": User(user="caf\u00e9"),
    "other-script": User(name="\u5c71\u7530 \u592a\u90ce"),
    "beyond-16-bit": User(name="\U0001f600"),
    "lone-surrogate": User(user="ad\udce9min"),
    "leading-space": User(user=" ordinary"),
    "trailing-space": User(user="ordinary "),
    "no-break-space": User(user="\u00a0ordinary"),
    "comma-in-role": User(roles=("member,admin",)),
    "comma-in-name": User(name="Lovelace, Ada"),
    "empty-role": User(roles=("", "member")),
    "semicolon": User(name="a; X-Auth-Roles: admin"),
    "quotes": User(name='"a" <b> \\c'),
    "path": User(user="../admin"),
    "long": User(name="n" * 200),
    "too-long": User(name="n" * 20_000),
}
