"""What came of a translation: settings, rules and notes, and how they are written as TOML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..model import LOWEST_AAL
from ..rules import RuleSpec

_HEAD = """\
# Made by `gateway migrate`. It lets nobody pass whom {peer} would not have let pass, and may refuse
# more: the notes that were printed with it say where, and what to do.
"""
# No token has this digest.
_TOKEN = (
    f'tokens = [{{ name = "app", sha256 = "{"0" * 64}", '
    'scopes = ["sessions:read", "sessions:write"] }]'
)


@dataclass(slots=True)
class Translation:
    """Our configuration, and what is to be done by hand."""

    peer: str
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    rules: list[tuple[RuleSpec, str]] = field(default_factory=list)  # each with where it is from
    notes: list[str] = field(default_factory=list)

    def set(self, section: str, name: str, value: object) -> None:
        self.settings.setdefault(section, {})[name] = value

    def note(self, place: str, text: str) -> None:
        """Say something about one place of the peer's configuration, once."""
        note = f"{place}: {text}"
        if note not in self.notes:
            self.notes.append(note)

    def toml(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield _HEAD.format(peer=self.peer)
        for section, values in sorted(self.settings.items()):
            yield f"[{section}]"
            yield from (f"{name} = {_value(value)}" for name, value in values.items())
            yield ""
        yield "[admin]"
        yield "# EXAMPLE: put the line of `gateway token` here; nobody has this one."
        yield _TOKEN
        for spec, origin in self.rules:
            yield ""
            yield f"# {_comment(origin)}"
            yield "[[policy.rules]]"
            yield from _rule_lines(spec)


def _rule_lines(spec: RuleSpec) -> Iterator[str]:
    for name in ("host", "path", "methods", "roles"):
        value = getattr(spec, name)
        if value:
            yield f"{name} = {_value(value)}"
    if spec.aal > LOWEST_AAL:
        yield f"aal = {spec.aal}"
    yield f'access = "{spec.access}"'


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings are TOML's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
