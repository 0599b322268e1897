"""Where an address is, and whose network it belongs to: MaxMind databases (maxminddb).

A file is read into memory of our own: one that is mapped and then cut short in place would end
the process (SIGBUS). The reader is the one in Python: that in C takes 4 us instead of 50, and ends
the process over some broken files (found by fuzzing). Whatever is missing, private or broken is
unknown; nothing here raises but `Geo.open`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import maxminddb
import structlog

from .errors import ConfigurationError
from .model import NOWHERE, Place

_POLL_S = 10.0
_LONGEST_NAME = 128
_MOST_KNOWN = 8192  # addresses; a flood of them only makes it look up again

log = structlog.get_logger("gateway.geo")


class Database:
    """One file, read again when it was replaced; a bad one keeps the last good one."""

    def __init__(self, setting: str, path: str) -> None:
        self._setting = setting
        self._path = Path(path)
        self._reader: maxminddb.Reader | None = None
        self._read: tuple[int, ...] | None = None

    def open(self) -> None:
        """Read the file. Raises ConfigurationError if that is not such a database."""
        self._read = self._look()
        try:
            reader = maxminddb.open_database(self._path, maxminddb.MODE_MEMORY)
            reader.get("192.0.2.1")  # of a broken one even this fails
        except (OSError, ValueError, TypeError, maxminddb.InvalidDatabaseError) as error:
            raise ConfigurationError(
                f"{self._setting}: {self._path} is no database that can be read ({error}); "
                "give the path of a file in the MaxMind format (.mmdb)"
            ) from None
        self._reader = reader

    def renew(self) -> bool | None:
        """Read the file again if it is another one; tell whether it was good."""
        if self._look() == self._read:
            return None
        try:
            self.open()
        except ConfigurationError as error:
            log.error("geo_rejected", why=str(error), what="the last good one stays")
            return False
        log.info("geo_read", path=str(self._path))
        return True

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> dict[str, Any]:
        """Return what is said of the address; nothing if that cannot be told."""
        try:
            found = None if self._reader is None else self._reader.get(address)
        except (ValueError, TypeError, LookupError, RecursionError, maxminddb.InvalidDatabaseError):
            return {}
        return found if isinstance(found, dict) else {}

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Geo:
    """Looks addresses up. `count` hears "ok" or "error" for every file that is read again."""

    def __init__(self, city: str, asn: str, count: Callable[[str], None]) -> None:
        self._city = Database("geo.city", city) if city else None
        self._asn = Database("geo.asn", asn) if asn else None
        self._count = count
        self._open: list[Database] = []
        self._known: dict[str, Place] = {}

    def open(self, *, city: bool = True, asn: bool = True) -> None:
        """Read the files that are wanted here and not read yet. Raises ConfigurationError.

        One that cannot be read is looked at again when it is replaced.
        """
        for database, wanted in ((self._city, city), (self._asn, asn)):
            if database is not None and wanted and database not in self._open:
                self._open.append(database)
                self._known.clear()
                database.open()

    async def run(self) -> None:
        """Read files again that were replaced, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            await self.renew()

    async def renew(self) -> None:
        for database in self._open:
            good = await asyncio.to_thread(database.renew)
            if good is not None:
                self._known.clear()
                self._count("ok" if good else "error")

    def locate(self, text: str) -> Place:
        """Return what is known of an address; NOWHERE of one that is private or is none."""
        known = self._known.get(text)
        if known is None:
            known = self._look_up(text)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[text] = known
        return known

    def _look_up(self, text: str) -> Place:
        address = _public(text)
        if address is None:
            return NOWHERE
        city = self._city.find(address) if self._city else {}
        network = self._asn.find(address) if self._asn else {}
        location = _inner(city, "location")
        return Place(
            country=_country(_inner(city, "country").get("iso_code")),
            city=_name(_inner(_inner(city, "city"), "names").get("en")),
            coordinates=_coordinates(location.get("latitude"), location.get("longitude")),
            radius_km=_number(location.get("accuracy_radius")),
            asn=_number(network.get("autonomous_system_number")),
            network=_name(network.get("autonomous_system_organization")),
        )


def _public(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return address if address.is_global else None


def _inner(values: dict[str, Any], name: str) -> dict[str, Any]:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def _country(value: object) -> str:
    good = isinstance(value, str) and len(value) == 2 and value.isascii() and value.isupper()
    return str(value) if good else ""


def _name(value: object) -> str:
    return value[:_LONGEST_NAME] if isinstance(value, str) and value.isprintable() else ""


def _number(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _coordinates(north: object, east: object) -> tuple[float, float] | None:
    if not isinstance(north, int | float) or not isinstance(east, int | float):
        return None
    return (north, east) if abs(north) <= 90 and abs(east) <= 180 else None
