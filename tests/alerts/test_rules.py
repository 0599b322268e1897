"""What each rule finds, and about what it keeps silent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts import RULES, History, Limits, SignIn, Spot
from gateway.alerts.impossible_travel import EARTH_KM, distance_km
from gateway.model import NOWHERE, Client, Device, Place

from .samples import (
    APIA,
    BERLIN,
    FIREFOX,
    HOUR_MS,
    MUNICH,
    NEW_YORK,
    NOW_MS,
    POTSDAM,
    SUVA,
    known,
    sign_in,
)

LIMITS = Limits()
HOME = known(sign_in())


def found(rule: str, new: SignIn, history: History, limits: Limits = LIMITS) -> list[str]:
    """Return the facts."""
    return [finding.fact for finding in RULES[rule](new, history, limits)]


@pytest.mark.parametrize("rule", RULES)
def test_a_first_sign_in_is_nothing_unusual(rule: str) -> None:
    assert found(rule, sign_in(), History()) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_same_again_is_nothing_unusual(rule: str) -> None:
    assert found(rule, sign_in(after_ms=HOUR_MS), HOME) == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("order", ["unknown then known", "known then unknown"])
def test_between_unknown_and_known_nothing_is_found(rule: str, order: str) -> None:
    """A database that is missing, or came later, alarms nobody."""
    blank = SignIn("ann", NOW_MS, Client(), Device("~1", "", "unknown"), NOWHERE)
    far = replace(sign_in(NEW_YORK, device="other", agent=FIREFOX), at_ms=NOW_MS + 1)
    before, new = (blank, far) if order == "unknown then known" else (far, blank)
    assert found(rule, new, known(before)) == []


# --- devices ---------------------------------------------------------------------------------


def test_a_new_id_is_a_new_device() -> None:
    """Also with the browser that the user has: a thief has that too."""
    assert found("new_device", sign_in(device="thief"), HOME) == ["new_device id:thief"]


def test_a_known_id_is_known_in_another_browser() -> None:
    assert found("new_device", sign_in(agent=FIREFOX), HOME) == []


def test_without_an_id_the_traits_tell_devices_apart() -> None:
    assert found("new_device", sign_in(device=""), HOME) == []
    other = found("new_device", sign_in(device="", agent=FIREFOX), HOME)
    assert other == ["new_device ua:Firefox/Linux/desktop"]


def test_an_application_that_begins_to_give_ids_alarms_nobody() -> None:
    """Of a user without any id the traits are compared."""
    history = known(sign_in(device=""))
    assert found("new_device", sign_in(device="first"), history) == []
    assert found("new_device", sign_in(device="first", agent=FIREFOX), history) != []


# --- countries and networks ------------------------------------------------------------------


def test_a_new_country_is_told_with_the_one_before() -> None:
    history = known(sign_in(NEW_YORK), sign_in(BERLIN, HOUR_MS))
    (finding,) = RULES["new_country"](sign_in(SUVA, 2 * HOUR_MS), history, LIMITS)
    assert finding.fact == "new_country FJ"
    assert finding.details == {"previous_country": "DE", "new_country": "FJ", "city": "Suva"}
    assert found("new_country", sign_in(NEW_YORK, 2 * HOUR_MS), history) == []


def test_the_application_knows_the_country_better() -> None:
    assert found("new_country", sign_in(NEW_YORK, country="DE"), HOME) == []
    assert found("new_country", sign_in(BERLIN, country="FR"), HOME) == ["new_country FR"]


def test_a_new_network_is_told_with_the_one_before() -> None:
    (finding,) = RULES["network_change"](sign_in(NEW_YORK), HOME, LIMITS)
    assert finding.fact == "network_change 701"
    assert finding.details == {"previous_asn": 3320, "new_asn": 701, "network": "Verizon"}
    assert found("network_change", sign_in(MUNICH), HOME) == []


# --- travel ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "hours", "alert"),
    [
        (NEW_YORK, 1, True),
        (NEW_YORK, 6.2, True),  # 6315 km between the circles, at 1018 km/h
        (NEW_YORK, 6.4, False),
        (NEW_YORK, 24, False),
        (POTSDAM, 0, False),  # the circles meet
        (MUNICH, 0, True),  # 464 km in no time
        (MUNICH, 0.5, False),
        (NEW_YORK, -1, True),  # the clock went back: no time at all
    ],
)
def test_travel_is_judged_by_its_speed(place: Place, hours: float, alert: bool) -> None:
    assert bool(found("impossible_travel", sign_in(place, int(hours * HOUR_MS)), HOME)) is alert


def test_travel_over_the_date_line_is_short() -> None:
    """Suva and Samoa are 1,140 km apart, not half a world."""
    history = known(sign_in(SUVA))
    assert found("impossible_travel", sign_in(APIA, 2 * HOUR_MS), history) == []


def test_both_radii_are_given_their_doubt() -> None:
    """A place known only to within a country is no place to have travelled from."""
    vague = replace(BERLIN, radius_km=3500)
    unclear = replace(NEW_YORK, radius_km=3000)
    assert found("impossible_travel", sign_in(unclear), known(sign_in(vague))) == []
    assert found("impossible_travel", sign_in(NEW_YORK), known(sign_in(vague))) != []


def test_the_allowed_speed_is_a_limit() -> None:
    fast = Limits(speed_kmh=2000)
    assert found("impossible_travel", sign_in(NEW_YORK, 5 * HOUR_MS), HOME, fast) == []


def test_travel_back_and_forth_is_one_fact_a_day() -> None:
    there = found("impossible_travel", sign_in(NEW_YORK, 1), HOME)
    back = found("impossible_travel", sign_in(BERLIN, 2), known(sign_in(NEW_YORK, 1)))
    assert there == back


SPOTS = st.builds(
    Spot, st.just(0), st.floats(-90, 90), st.floats(-180, 180), st.just(0), st.just(""), st.just("")
)


@given(one=SPOTS, other=SPOTS)
def test_no_way_on_earth_is_longer_than_half_of_it(one: Spot, other: Spot) -> None:
    """And the way there is the way back."""
    way = distance_km(one, other)
    assert 0 <= way <= EARTH_KM * 3.14160
    assert way == pytest.approx(distance_km(other, one))


def test_distances_are_those_of_the_atlas() -> None:
    berlin, new_york = sign_in(BERLIN).spot, sign_in(NEW_YORK).spot
    assert berlin is not None
    assert new_york is not None
    assert distance_km(berlin, new_york) == pytest.approx(6385, abs=5)


# --- shared ----------------------------------------------------------------------------------


def test_more_devices_at_once_than_one_person_has() -> None:
    history = known(*(sign_in(device=f"d{n}", after_ms=n) for n in range(4)))
    assert found("shared_account", sign_in(device="d3", after_ms=9), history) == []
    facts = found("shared_account", sign_in(device="d4", after_ms=9), history)
    assert facts == ["shared_account devices 2027-01-15"]
    later = sign_in(device="d4", after_ms=HOUR_MS + 9)
    assert found("shared_account", later, history) == []


def test_more_countries_and_networks_at_once_than_one_person_sees() -> None:
    history = known(sign_in(BERLIN), sign_in(NEW_YORK, 1))
    limits = Limits(countries=2, networks=2)
    facts = found("shared_account", sign_in(SUVA, 2), history, limits)
    assert [fact.split()[1] for fact in facts] == ["countries", "networks"]


def test_many_accounts_on_one_device() -> None:
    assert found("shared_device", sign_in(accounts=5), HOME) == []
    assert found("shared_device", sign_in(accounts=6), HOME) == ["shared_device laptop"]
