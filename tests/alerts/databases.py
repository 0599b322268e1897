"""Small databases of places and networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmdb_writer
from netaddr import IPSet

HOME, AWAY, MAPPED, V6 = "81.2.69.142", "216.160.83.56", "::ffff:81.2.69.142", "2001:4860::7"


def city(country: str, name: str, north: float, east: float, radius_km: int) -> dict[str, Any]:
    """Return an entry as City databases have it."""
    return {
        "country": {"iso_code": country},
        "city": {"names": {"en": name}},
        "location": {"latitude": north, "longitude": east, "accuracy_radius": radius_km},
    }


CITIES = {
    "81.2.69.0/24": city("GB", "London", 51.5142, -0.0931, 10),
    "216.160.83.0/24": city("US", "Milton", 47.2513, -122.3149, 22),
    "2001:4860::/32": city("US", "Mountain View", 37.386, -122.0838, 1000),
    "10.0.0.0/8": city("ZZ", "Nowhere", 0.0, 0.0, 1),  # a private network has no place
}
NETWORKS = {
    "81.2.69.0/24": {"autonomous_system_number": 20712,
                     "autonomous_system_organization": "Andrews & Arnold"},
    "216.160.83.0/24": {"autonomous_system_number": 209,
                        "autonomous_system_organization": "Lumen"},
}  # fmt: skip


def write(path: Path, entries: Mapping[str, Any]) -> Path:
    """Write a database, as a new file in place of the old one."""
    writer = mmdb_writer.MMDBWriter(6, "Test", ipv4_compatible=True, int_type="u32")
    for network, entry in entries.items():
        writer.insert_network(IPSet([network]), entry)
    new = path.with_suffix(".new")
    writer.to_db_file(str(new))
    return new.rename(path)
