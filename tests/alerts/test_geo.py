"""Looking addresses up, in files that are replaced, cut short, missing or no such files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.geo import Geo
from gateway.model import NOWHERE, Client

from .databases import AWAY, CITIES, HOME, MAPPED, NETWORKS, V6, city, write


@pytest.fixture
def counts() -> list[str]:
    return []


@pytest.fixture
def geo(tmp_path: Path, counts: list[str]) -> Geo:
    """Both databases."""
    cities = write(tmp_path / "city.mmdb", CITIES)
    networks = write(tmp_path / "asn.mmdb", NETWORKS)
    built = Geo(str(cities), str(networks), counts.append)
    built.open()
    return built


def test_an_address_has_a_place_and_a_network(geo: Geo) -> None:
    place = geo.locate(HOME)
    assert (place.country, place.city, place.radius_km) == ("GB", "London", 10)
    assert place.coordinates == pytest.approx((51.5142, -0.0931))
    assert (place.asn, place.network) == (20712, "Andrews & Arnold")


def test_a_mapped_address_is_the_address(geo: Geo) -> None:
    assert geo.locate(MAPPED) == geo.locate(HOME)


def test_what_one_database_does_not_know_the_other_may(geo: Geo) -> None:
    place = geo.locate(V6)
    assert (place.country, place.asn, place.network) == ("US", 0, "")


@pytest.mark.parametrize(
    "address",
    ["", "10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::1", "fe80::1", "100.64.0.1", "8.8.8.8",
     "no address", "81.2.69.142:80", "2606:4700::1"],
)  # fmt: skip
def test_private_missing_and_wrong_addresses_are_unknown(geo: Geo, address: str) -> None:
    assert geo.locate(address) == NOWHERE


def test_without_databases_everything_is_unknown() -> None:
    geo = Geo("", "", lambda _: None)
    geo.open()
    assert geo.locate(HOME) == NOWHERE


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"country": {"iso_code": "gb"}, "city": "London", "location": {"latitude": "north"}},
        {"country": {"iso_code": 5}, "city": {"names": []}, "location": {"latitude": 1.0}},
        city("\u00c4\u00d6", "Lon\ndon", 91.0, 0.0, 0),
    ],
)
def test_an_entry_of_another_form_is_unknown(tmp_path: Path, entry: dict[str, object]) -> None:
    geo = Geo(str(write(tmp_path / "city.mmdb", {"81.2.69.0/24": entry})), "", lambda _: None)
    geo.open()
    assert geo.locate(HOME) == NOWHERE


async def test_a_replaced_file_is_read_again(geo: Geo, tmp_path: Path, counts: list[str]) -> None:
    await geo.renew()
    assert counts == []
    assert geo.locate(HOME).city == "London"
    write(tmp_path / "city.mmdb", {"81.2.69.0/24": city("IE", "Dublin", 53.3, -6.2, 5)})
    await geo.renew()
    await geo.renew()
    assert (geo.locate(HOME).city, counts) == ("Dublin", ["ok"])


@pytest.mark.parametrize("fault", ["cut short", "emptied", "removed", "garbage"])
async def test_a_bad_file_keeps_the_last_good_one(
    geo: Geo, tmp_path: Path, counts: list[str], fault: str
) -> None:
    """Cut short in place a mapped file would end the process."""
    path = tmp_path / "city.mmdb"
    if fault == "removed":
        path.unlink()
    elif fault == "garbage":
        path.write_bytes(os.urandom(4096))
    else:
        os.truncate(path, 0 if fault == "emptied" else path.stat().st_size // 2)
    assert geo.locate(HOME).city == "London"
    await geo.renew()
    assert (geo.locate(HOME).city, counts) == ("London", ["error"])
    write(path, CITIES)
    await geo.renew()
    assert (geo.locate(AWAY).city, counts) == ("Milton", ["error", "ok"])


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_a_start_without_the_file_says_which(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "city.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"geo\.city: .*city\.mmdb is no database"):
        Geo(str(path), "", lambda _: None).open()


def test_what_the_application_says_of_the_place_counts(geo: Geo) -> None:
    place = geo.locate(HOME)
    assert Client(HOME).at(place) == Client(HOME, "GB", "London")
    assert Client(HOME, "GB").at(place) == Client(HOME, "GB", "London")
    assert Client(HOME, "FR").at(place) == Client(HOME, "FR", "")
    assert Client(HOME, "FR", "Paris").at(place) == Client(HOME, "FR", "Paris")


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    """A worker reads the databases that its rules ask, when they first do."""
    cities = write(tmp_path / "city.mmdb", CITIES)
    geo = Geo(str(cities), str(tmp_path / "none.mmdb"), lambda _: None)
    assert geo.locate(HOME) == NOWHERE
    geo.open(city=True, asn=False)
    assert geo.locate(HOME).country == "GB"
    with pytest.raises(ConfigurationError):
        geo.open()


def test_a_flood_of_addresses_is_forgotten(geo: Geo) -> None:
    for number in range(20_000):
        geo.locate(f"81.2.{number // 250 % 250}.{number % 250}")
    assert len(geo._known) <= 8192
    assert geo.locate(HOME).city == "London"


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(where=st.integers(0, 4000), bytes_=st.binary(min_size=1, max_size=40))
def test_a_broken_database_says_nothing_or_something_fit(
    tmp_path: Path, where: int, bytes_: bytes
) -> None:
    """Whatever is in the file: no crash, and only values that fit."""
    path = write(tmp_path / "broken.mmdb", CITIES)
    content = bytearray(path.read_bytes())
    where %= len(content)
    content[where : where + len(bytes_)] = bytes_
    path.write_bytes(content)
    geo = Geo(str(path), "", lambda _: None)
    try:
        geo.open()
    except ConfigurationError:
        return
    for address in (HOME, AWAY, MAPPED, V6):
        place = geo.locate(address)
        assert place.country == "" or re.fullmatch("[A-Z]{2}", place.country)
        assert len(place.city) <= 128
        assert place.asn >= 0
