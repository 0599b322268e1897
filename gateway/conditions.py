"""What a rule may ask of a request beside method, host and path: query, address, preflight.

Upstreams do not agree about queries: which of two values counts, whether `;` separates, whether an
empty value is one, whether names have a case. So a condition has three answers. Where it may hold
or not, the rule decides, and so does the next: the request passes only if both let it.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from .model import NOWHERE, Place

Reading = dict[str, list[tuple[str, str]]]  # names and values, by what the names resemble
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Locate = Callable[[str], Place]  # what is known of an address; asked only where a rule wants it

MAX_QUERY = 4096
MAX_PARAMETERS = 128
MAX_DECODES = 3

# `name`, `!name` or `name=value`, in characters that no client escapes.
_CONDITION = re.compile(r"(!?)([A-Za-z0-9._~-]+)(?:(=)([A-Za-z0-9._~-]+))?", re.ASCII)
_SOUND = re.compile(r'(?:[!"$&-~]|%[0-9A-Fa-f]{2})*', re.ASCII)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_WIDE = re.compile(r"%[uU]")  # `%u0065` is an escape too, to some
_BREAKS = re.compile(r"[&;?#,]")
_ENDS = re.compile(r"[?#]")
_CUTS = re.compile(r"[\[\]\x00]")
_CUTS_AND_DOTS = re.compile(r"[\[\].\x00]")
_PLAIN = re.compile(r"[A-Za-z0-9._~%-]+", re.ASCII)
_UNTOLD = re.compile(r"[^a-z0-9]")


class Holds(IntEnum):
    """Whether a condition holds. Of several the least counts."""

    NO = 0
    MAYBE = 1
    YES = 2


_PREFLIGHT = {True: Holds.YES, None: Holds.MAYBE, False: Holds.NO}


class QueryCondition(NamedTuple):
    """One condition on a parameter; `value` is None where any will do."""

    name: str
    value: str | None = None
    absent: bool = False

    def __str__(self) -> str:
        """Return it as an operator writes it."""
        named = self.name if self.value is None else f"{self.name}={self.value}"
        return f"!{named}" if self.absent else named


class Query:
    """A query string, with everything that an upstream may read in it."""

    def __init__(self, text: str | None) -> None:
        """`text` is raw; None stands for a query that may be anything."""
        self._text = text
        self._known: list[Reading] | None = None  # not looked at yet

    def holds(self, condition: QueryCondition) -> Holds:
        """Tell whether the condition holds: for sure only if it does in every reading."""
        name = _fold(condition.name)
        found = {_found(reading.get(name, []), condition) for reading in self._readings()}
        answer = found.pop() if len(found) == 1 else Holds.MAYBE
        return Holds(Holds.YES - answer) if condition.absent else answer

    def _readings(self) -> list[Reading]:
        """Return every reading; none at all of a query that may be anything."""
        if self._known is None:
            layers = None if self._text is None else _layers(self._text)
            self._known = [] if layers is None else list(map(_by_name, _readings(layers)))
        return self._known


def nowhere(_: str) -> Place:
    """Know no place."""
    return NOWHERE


class Asked(NamedTuple):
    """What conditions look at in one request."""

    query: Query
    address: str  # the client's, "" if the proxy does not say
    preflight: bool | None  # None: servers may differ
    locate: Locate = nowhere


class Conditions(NamedTuple):
    """What one rule asks; all of it must hold."""

    query: tuple[QueryCondition, ...] = ()
    networks: tuple[IpNetwork, ...] = ()
    preflight: bool = False
    countries: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()

    def hold(self, asked: Asked) -> Holds:
        """Tell whether the rule is about this request, as far as that can be told."""
        answers = [holds for _, holds in self.each(asked)]
        return min(answers, default=Holds.YES)

    def each(self, asked: Asked) -> Iterator[tuple[str, Holds]]:
        """Name and answer every condition."""
        if self.preflight:
            yield "preflight", _PREFLIGHT[asked.preflight]
        if self.networks:
            yield "network", _comes_from(asked.address, self.networks)
        if self.countries:
            yield "country", _is_one_of(asked.locate(asked.address).country, self.countries)
        if self.asns:
            yield "asn", _is_one_of(asked.locate(asked.address).asn, self.asns)
        for condition in self.query:
            yield f"query {condition}", asked.query.holds(condition)


def parse_query_condition(text: str) -> QueryCondition | None:
    """Return the condition that an operator wrote, or None if it is none."""
    match = _CONDITION.fullmatch(text)
    if match is None or (match[1] and match[3]) or not _fold(match[2]):
        return None
    return QueryCondition(match[2], match[4], bool(match[1]))


def network_problem(network: IpNetwork) -> str | None:
    """Return why no client can be in a network, or None."""
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        return f"{network}: clients of IPv4 are known by their IPv4 address; write that network"
    return None


def _comes_from(address: str, networks: Iterable[IpNetwork]) -> Holds:
    ip = _parse_address(address)
    if ip is None:
        return Holds.MAYBE  # the proxy does not say
    return Holds.YES if any(ip in network for network in networks) else Holds.NO


def _is_one_of(found: str | int, wanted: Iterable[str | int]) -> Holds:
    if not found:
        return Holds.MAYBE  # unknown: it may be one of them, or not
    return Holds.YES if found in wanted else Holds.NO


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _layers(query: str) -> tuple[str, ...] | None:
    """Return the query as it came and as each decoding leaves it; None if it may be anything."""
    if len(query) > MAX_QUERY or not _SOUND.fullmatch(query):
        return None
    layers = [query]
    try:
        while _ESCAPE.search(layers[-1]):
            if len(layers) > MAX_DECODES:
                return None
            layers.append(unquote(layers[-1], errors="strict"))
            if _WIDE.search(layers[-1]):
                return None
    except UnicodeDecodeError:
        return None
    return None if len(_BREAKS.findall(layers[-1])) > MAX_PARAMETERS else tuple(layers)


def _readings(layers: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
    """Return names and values for every way to take a query apart."""
    for layer in layers:
        for text in {layer, *_ENDS.split(layer)} if _ENDS.search(layer) else (layer,):
            yield _pairs(text.split("&"))
            if ";" in text:
                yield _pairs(re.split("[&;]", text))


def _pairs(pieces: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (piece.partition("=") for piece in pieces)]


def _by_name(pairs: Iterable[tuple[str, str]]) -> Reading:
    """Put together what some upstream could take for the same name."""
    found: Reading = {}
    for pair in pairs:
        for alike in _folds(pair[0]):
            found.setdefault(alike, []).append(pair)
    return found


def _found(alike: list[tuple[str, str]], condition: QueryCondition) -> Holds:
    """Judge one reading by the parameters whose names are, or resemble, the condition's."""
    name, wanted, _ = condition
    if not alike:
        return Holds.NO
    if wanted is None:
        # Empty is none to many, and so are spaces and commas; Go drops a piece with `;`.
        certain = all(each == name and _PLAIN.fullmatch(value) for each, value in alike)
        return Holds.YES if certain else Holds.MAYBE
    if alike == [(name, wanted)]:
        return Holds.YES
    near = any(_fold(wanted) in _folds(part) for _, value in alike for part in value.split(","))
    return Holds.MAYBE if near else Holds.NO


def _folds(text: str) -> set[str]:
    """Return what an upstream may make of a name.

    `a[]`, `a[b]`, `[a]b`, `a]b`, `a.b` and `a%00b` can all be `a` (qs, Rack, PHP).
    """
    if _CUTS_AND_DOTS.search(text) is None:
        return {_fold(text)}
    return {_fold(each) for each in (text, *_CUTS.split(text), *_CUTS_AND_DOTS.split(text))}


@lru_cache(maxsize=1024)
def _fold(text: str) -> str:
    """Return a text without case, marks and signs (PHP takes `a.b` and `a b` for `a_b`).

    Java compares the dotless i as an i.
    """
    bare = unicodedata.normalize("NFKD", text.casefold()).casefold().replace("\u0131", "i")
    return _UNTOLD.sub("", bare)
