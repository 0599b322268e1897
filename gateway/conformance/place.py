"""What the operator says of an installation, and how a case is filled in with it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..identity import HEADERS

COOKIE = "__Host-sid"
UNKNOWN_TOKEN = "00" + "A" * 43  # has the form of a token, and is none

# How a client may spell an identity header so that some application takes it for the real one.
SPELLINGS: Mapping[str, Callable[[str], tuple[str, ...]]] = {
    "as-is": lambda name: (name,),
    "lower": lambda name: (name.lower(),),
    "upper": lambda name: (name.upper(),),
    "underscores": lambda name: (name.replace("-", "_"),),
    "dots": lambda name: (name.replace("-", "."),),
    "first-underscore": lambda name: (name.replace("-", "_", 1),),
    "last-underscore": lambda name: ("_".join(name.rsplit("-", 1)),),
    "upper-underscores": lambda name: (name.upper().replace("-", "_"),),
    "exclamation-marks": lambda name: (name.replace("-", "!"),),
    "tildes": lambda name: (name.replace("-", "~"),),
    "other-signs": lambda name: tuple(name.replace("-", sign) for sign in "#$%&'*+^`|"),
    "http-prefix": lambda name: ("HTTP_" + name.upper().replace("-", "_"),),
    "spaces": lambda name: (name.replace("-", " "),),
    "doubled": lambda name: (name, name),
    "three-cases": lambda name: (name.lower(), name.upper(), name),
    "fullwidth-hyphen": lambda name: (name.replace("-", "\uff0d"),),
    "unicode-hyphen": lambda name: (name.replace("-", "\u2010"),),
    "long-s": lambda name: (name.replace("s", "\u017f"),),
    "soft-hyphen": lambda name: (name.replace("-", "-\u00ad"),),
    "trailing-no-break-space": lambda name: (name + "\u00a0",),
}


@dataclass(frozen=True, slots=True)
class Place:
    """An installation. Paths are plain, begin with `/` and have neither query nor escapes."""

    host: str  # as the Host header has it
    protected: str  # a page that a stranger may not open
    public: str  # a page that anybody may open
    page: str = ""  # a page that the cookie's session may open
    cookie: str = ""  # name=value of a live session; "": none is known
    identity: tuple[str, ...] = HEADERS
    mark: str = field(default_factory=lambda: f"mark{secrets.token_hex(5)}")

    def fill(self, text: str, start: str = "") -> str:
        """Return the text of a case with this installation's names; `start` is where it is sent."""
        return text.format_map(self._names() | {"S": start or self.public})

    def _names(self) -> dict[str, object]:
        public = self.public.rstrip("/")
        inside = self.protected.lstrip("/")
        cookie, _, token = self.cookie.partition("=")
        return {
            "H": self.host,
            "P": self.protected,
            "p": inside,
            "p1": _escaped(inside, 1),
            "p2": _escaped(inside, 2),
            "p3": _escaped(inside, 3),
            "U": public,
            "V": self.public,
            "up": _Repeated(public.count("/")),
            "G": self.page,
            "C": self.cookie,
            "N": cookie or COOKIE,
            "n": _in_other_case(cookie or COOKIE),
            "N1": _escaped(cookie or COOKIE, 1),
            "T": token,
            "W": UNKNOWN_TOKEN,
            "M": self.mark,
            "I": _Spelt(self.identity, self.mark),
        }


def _escaped(path: str, layers: int) -> str:
    """Return the path with its first character percent-encoded so many times."""
    return f"%{'25' * (layers - 1)}{ord(path[0]):02x}{path[1:]}"


def _in_other_case(name: str) -> str:
    """Return a cookie's name in lower case, or in upper case if it is in lower case already."""
    return name.upper() if name.islower() else name.lower()


class _Repeated:
    """`{up:../}` is `../` as often as the public page is deep."""

    def __init__(self, times: int) -> None:
        self._times = times

    def __format__(self, piece: str) -> str:
        return piece * self._times


class _Spelt:
    """`{I:dots}` is a header line for each identity header, spelt so; `{I:list}` names them."""

    def __init__(self, names: tuple[str, ...], mark: str) -> None:
        self._names = names
        self._mark = mark

    def __format__(self, spelling: str) -> str:
        if spelling == "list":
            return ", ".join(self._names)
        spelt = [each for name in self._names for each in SPELLINGS[spelling](name)]
        return "\r\n".join(f"{name}: {self._mark}" for name in spelt)
