"""Regular expressions of paths and hosts as patterns of ours, as far as they can be said in them.

Peers match Go's expressions, unanchored. A small part of that language is read here: literals,
alternatives, optional groups, `.*`, `.+`, `[^/]+`, `^` and `$`. Of all else nothing is believed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from ..rules import Access, RuleSpec, problems_of

_MAX_ALTERNATIVES = 64
_CLASS_LETTERS = frozenset("dDwWsS")


class Wild(Enum):
    """What is not a character."""

    START = auto()  # ^
    END = auto()  # $
    ANY = auto()  # .*
    SOME = auto()  # .+
    SEGMENT = auto()  # [^/]+
    DOT = auto()  # . alone; people mean the character
    CLASS = auto()  # a class that patterns cannot name


Token = str | Wild
Sequence = tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """Two sets of patterns: `inner` match nothing but what the expression does, `outer` all of it.

    The empty pattern matches everything. `exact`: both are the same set.
    """

    inner: tuple[str, ...]
    outer: tuple[str, ...]
    exact: bool

    @classmethod
    def union(cls, parts: Iterable[Matches]) -> Matches:
        parts = tuple(parts)
        inner = dict.fromkeys(pattern for part in parts for pattern in part.inner)
        outer = dict.fromkeys(pattern for part in parts for pattern in part.outer)
        return cls(tuple(inner), tuple(outer), all(part.exact for part in parts))

    @classmethod
    def only(cls, *patterns: str) -> Matches:
        return cls(patterns, patterns, exact=True)

    def within(self, outer: str) -> Matches:
        """Return the same with what cannot be said known only to lie in `outer`."""
        return Matches(self.inner, (outer,), exact=False)


EVERYTHING = Matches.only("")
UNKNOWN = Matches((), ("",), exact=False)
NOTHING = Matches.only()


class _NotUnderstood(ValueError):
    pass


class _Reader:
    """Reads an expression into its alternatives."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> tuple[Sequence, ...]:
        found = self._alternatives()
        if self._peek():
            raise _NotUnderstood
        return found

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        sign = self._peek()
        if not sign:
            raise _NotUnderstood
        self._at += 1
        return sign

    def _takes(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> tuple[Sequence, ...]:
        found = self._sequences()
        while self._takes("|"):
            found += self._sequences()
        return found

    def _sequences(self) -> tuple[Sequence, ...]:
        found: tuple[Sequence, ...] = ((),)
        while self._peek() not in ("", "|", ")"):
            piece = self._quantified()
            found = tuple(first + then for first in found for then in piece)
            if len(found) > _MAX_ALTERNATIVES:
                raise _NotUnderstood
        return found

    def _quantified(self) -> tuple[Sequence, ...]:
        atom = self._atom()
        single = atom[0][0] if len(atom) == 1 and len(atom[0]) == 1 else None
        quantifier = self._quantifier()
        if single is Wild.SEGMENT:
            one: Token = Wild.SEGMENT if quantifier in ("*", "+") else Wild.CLASS
            return ((), (one,)) if quantifier in ("*", "?") else ((one,),)
        if single is Wild.DOT and quantifier in ("*", "+"):
            return ((Wild.ANY if quantifier == "*" else Wild.SOME,),)
        if quantifier in ("", "?"):
            return atom if not quantifier else ((), *atom)
        if _has_anchors(atom):
            raise _NotUnderstood
        return ((Wild.CLASS,),)

    def _quantifier(self) -> str:
        """Take a quantifier, also a lazy one: it matches the same."""
        match = re.compile(r"([*+?]|\{[0-9,]+\})\??").match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[1]

    def _atom(self) -> tuple[Sequence, ...]:
        sign = self._next()
        simple = {"^": Wild.START, "$": Wild.END, ".": Wild.DOT}.get(sign)
        if simple:
            return ((simple,),)
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._class()
        if sign == "\\":
            return ((self._escaped(),),)
        if sign in "*+?{":
            raise _NotUnderstood
        return ((_plain(sign),),)

    def _group(self) -> tuple[Sequence, ...]:
        named = re.compile(r"\?P?<\w+>").match(self._text, self._at)
        if named:
            self._at = named.end()
        elif self._peek() == "?" and not self._takes("?:"):
            raise _NotUnderstood  # flags
        found = self._alternatives()
        if not self._takes(")"):
            raise _NotUnderstood
        if not named:
            return found
        if _has_anchors(found):
            raise _NotUnderstood
        return ((Wild.CLASS,),)  # Authelia compares what some names hold with the user

    def _class(self) -> tuple[Sequence, ...]:
        end = self._text.find("]", self._at + 1)
        body = self._text[self._at : end]
        if end < 0 or "[" in body:
            raise _NotUnderstood
        self._at = end + 1
        if body in ("^/", "^\\/"):
            return ((Wild.SEGMENT,),)
        signs = re.sub(r"\\([^\w\s])", r"\1", body)
        if body.startswith("^") or re.search(r"\\|.-.", body):
            return ((Wild.CLASS,),)
        return tuple((_plain(sign),) for sign in signs)

    def _escaped(self) -> Token:
        sign = self._next()
        if sign in _CLASS_LETTERS:
            return Wild.CLASS
        if sign in "Az":
            return Wild.START if sign == "A" else Wild.END
        if sign.isalnum():
            raise _NotUnderstood
        return _plain(sign)


def _has_anchors(found: Iterable[Sequence]) -> bool:
    return any(anchor in sequence for anchor in (Wild.START, Wild.END) for sequence in found)


def _plain(sign: str) -> Token:
    """Return a character; a star would be read as a wildcard in a pattern of ours."""
    return Wild.CLASS if sign == "*" else sign


def _alternatives_of(expression: str) -> tuple[Sequence, ...]:
    """Return the alternatives, each with its anchors at its ends or with ANY in their place."""
    return tuple(map(_anchored, _Reader(expression).read()))


def _anchored(sequence: Sequence) -> Sequence:
    body = sequence[sequence[:1] == (Wild.START,) :]
    starts = len(body) < len(sequence)
    ends = body[-1:] == (Wild.END,)
    body = body[: len(body) - ends]
    if Wild.START in body or Wild.END in body:
        raise _NotUnderstood
    whole = ((), (Wild.ANY,))[not starts] + body + ((), (Wild.ANY,))[not ends]
    return tuple(_without_doubles(whole))


def _without_doubles(sequence: Sequence) -> Iterator[Token]:
    """Leave out an ANY where what stands before it takes all of that already."""
    before: Token = ""
    for token in sequence:
        if not (token is Wild.ANY and before in (Wild.ANY, Wild.SOME)):
            yield token
        before = token


# --- paths -----------------------------------------------------------------------------------


def paths_of(expression: str, *, with_query: bool) -> Matches:
    """Return what an expression says of paths.

    `with_query`: it is matched against the path together with `?` and the query, so it may say
    something of paths only where that makes no difference.
    """
    try:
        alternatives = _alternatives_of(expression)
    except _NotUnderstood:
        return UNKNOWN
    if not with_query:
        return _joined(Matches.union(map(_paths, alternatives)))
    closed = {_literal(each) for each in alternatives if _is_literal(each)}
    queried = {path for each in alternatives if (path := _before_query(each)) is not None}
    both = closed & queried
    return _joined(Matches.union(_paths_with_query(each, both) for each in alternatives))


def _joined(found: Matches) -> Matches:
    """Write `/x` and all that begins with `/x/` as `/x/**`."""

    def join(patterns: tuple[str, ...]) -> tuple[str, ...]:
        both = [each for each in patterns if f"{each}/**/**" in patterns]
        rest = [
            each for each in patterns if each not in both and each[: -len("/**/**")] not in both
        ]
        return (*(f"{each}/**" for each in both), *rest)

    return Matches(join(found.inner), join(found.outer), found.exact)


def _paths(sequence: Sequence) -> Matches:
    """Return the paths of one alternative. Every path begins with a slash."""
    if not sequence or (isinstance(sequence[0], str) and sequence[0] != "/"):
        return NOTHING
    exact = Wild.DOT not in sequence
    prefix = _prefix_of(sequence)
    tokens: Sequence = tuple("." if token is Wild.DOT else token for token in sequence)
    globs = _globs(tokens)
    if globs is None or not all(glob.startswith("/") and _is_fit(glob) for glob in globs):
        return Matches((), (_begins(prefix),), exact=False)
    found = Matches.only(*globs)
    precise = exact and Wild.SOME not in tokens
    return found if precise else found.within(_begins(prefix))


def _paths_with_query(sequence: Sequence, both: set[str]) -> Matches:
    """Return the paths of one alternative that match with every query and without one."""
    path = _before_query(sequence)
    if path is None and _is_literal(sequence):
        path = _literal(sequence)
    if path is not None:
        if path.startswith("/") and _is_fit(path):
            return Matches.only(path) if path in both else Matches((), (path,), exact=False)
        return UNKNOWN
    found = _paths(sequence)
    if "?" in sequence or sequence[-1:] != (Wild.ANY,):
        # What stands behind `?` may match, or keep from matching, whatever the path is.
        inner = found.inner if sequence[-1:] == (Wild.SOME,) and "?" not in sequence else ()
        return Matches(inner, (_begins(_prefix_of(sequence)),), exact=False)
    plain = all(isinstance(token, str) for token in sequence[:-1])
    return found if plain else found.within(_begins(_prefix_of(sequence)))


def _globs(sequence: Sequence) -> tuple[str, ...] | None:
    """Return patterns of exactly these paths (but for `//`), None if there are none such."""
    *body, last = sequence or ("",)
    if Wild.CLASS in sequence:
        return None
    if sequence[:1] == (Wild.ANY,):
        return _ends(sequence[1:])
    if Wild.ANY in body or Wild.SOME in body:
        return None
    if not isinstance(last, Wild) or last is Wild.SEGMENT:
        body, last = [*body, last], ""
    start = "".join("*" if token is Wild.SEGMENT else str(token) for token in body)
    if any(a is Wild.SEGMENT and b is Wild.SEGMENT for a, b in itertools.pairwise(body)):
        return None
    if last is Wild.ANY:
        return (_below(start),)
    if last is Wild.SOME:
        return (f"{start}*/**",) if start.endswith("/") else (f"{start}*/**", f"{start}/**/**")
    return (start,)


def _ends(sequence: Sequence) -> tuple[str, ...] | None:
    """Return patterns of the paths that end so."""
    if not sequence:
        return ("/**",)
    if not _is_literal(sequence):
        return None
    end = _literal(sequence)
    return (f"/**{end}",) if end.startswith("/") else (f"/**/*{end}", f"/**/{end}")


def _below(prefix: str) -> str:
    """Return the pattern of all paths that begin so; `/x/**` alone would match `/x` too."""
    if prefix == "/":
        return "/**"
    return f"{prefix}**/**" if prefix.endswith("/") else f"{prefix}**"


def _begins(prefix: str) -> str:
    """Return the pattern of all paths that begin so, or with less; "" of all paths."""
    shorter = (prefix[:end] for end in range(len(prefix), 0, -1))
    globs = (_below(each) for each in shorter if each.startswith("/"))
    return next((glob for glob in globs if _is_fit(glob)), "")


def _prefix_of(sequence: Sequence) -> str:
    """Return the characters that every match begins with, up to a query."""
    signs = (token if isinstance(token, str) else "?" for token in sequence)
    return "".join(itertools.takewhile(lambda sign: sign != "?", signs))


def _before_query(sequence: Sequence) -> str | None:
    """Return the path of an alternative that is one path with any query."""
    path = _prefix_of(sequence)
    return path if sequence[len(path) :] == ("?", Wild.ANY) else None


def _is_literal(sequence: Sequence) -> bool:
    return all(isinstance(token, str) for token in sequence)


def _literal(sequence: Sequence) -> str:
    return "".join(map(str, sequence))


def _is_fit(glob: str) -> bool:
    return not glob or not problems_of(RuleSpec(Access.PUBLIC, path=glob))


# --- hosts -----------------------------------------------------------------------------------


def hosts_of(expression: str) -> Matches:
    """Return what an expression says of hosts."""
    try:
        alternatives = _alternatives_of(expression)
    except _NotUnderstood:
        return UNKNOWN
    return Matches.union(map(_hosts, alternatives))


def _hosts(sequence: Sequence) -> Matches:
    if _is_literal(sequence):
        name = _literal(sequence)
        return host(name) if name == name.lower() else UNKNOWN
    tokens: Sequence = tuple("." if token is Wild.DOT else token for token in sequence)
    name = _literal(tokens) if _is_literal(tokens) else ""
    inner = host(name).inner if name and name == name.lower() else ()
    ending = itertools.takewhile(lambda token: isinstance(token, str), reversed(sequence))
    end = "".join(map(str, ending))[::-1]
    domain = end[end.find(".") :] if "." in end else ""
    outer = host(f"*{domain}").outer if domain else ("",)
    return Matches(inner, outer, exact=False)


def host(name: str) -> Matches:
    """Return one host, or all below a `*.name`; nothing for what no request can name.

    Peers' `*` stands for any number of labels. In rules that is `**`.
    """
    name = name.lower()
    if not name or name.startswith("**"):
        return NOTHING
    ours = f"*{name}" if name.startswith("*.") else name
    return NOTHING if problems_of(RuleSpec(Access.PUBLIC, host=ours)) else Matches.only(ours)


def hosts_meet(one: Matches, other: Matches) -> bool:
    """Tell whether there may be a host that both are about."""
    pairs = itertools.product(one.outer, other.outer)
    return any(_meet(a, b) or _meet(b, a) for a, b in pairs)


def _meet(pattern: str, other: str) -> bool:
    """Tell whether the first pattern is about a host of the second, itself a host or wider."""
    if not pattern or pattern == other:
        return True
    return pattern.startswith("**.") and other.removeprefix("**").endswith(pattern[2:])
