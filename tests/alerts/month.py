"""A synthetic month of sign-ins, with what was planted in it: the truth to hold the rules against.

Users live in cities; each has a phone and a laptop, a network at home and one on the road.
Coordinates scatter inside the radius that the database claims. Into this are planted take-overs (a
thief with the password, far away, soon after the user), travellers (by airliner, in time), new
phones, users who change their provider, and accounts and devices that many share.

Also what rules cannot see (a thief next door with a stolen device cookie) and what must fool them
(a VPN, an address that the database misplaces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from gateway.alerts import Limits
from gateway.alerts.history import Spot
from gateway.alerts.impossible_travel import distance_km
from gateway.model import Client, Place
from gateway.replay import Recorded, Replay

from .samples import CHROME, FIREFOX, HOUR_MS, NOW_MS, watch

DAY_MS = 24 * HOUR_MS
DAYS = 30
_AIRLINER_KMH = 850
_AIRPORTS_MS = 3 * HOUR_MS
_DEGREE_KM = 111.0

# Country, city, where, how far off the database may be, the networks there.
CITIES = (
    ("DE", "Berlin", 52.52, 13.40, 20, (3320, 3209, 6805)),
    ("DE", "Munich", 48.14, 11.58, 20, (3320, 3209, 6805)),
    ("FR", "Paris", 48.86, 2.35, 20, (3215, 12322, 5410)),
    ("GB", "London", 51.51, -0.13, 10, (2856, 5089, 20712)),
    ("ES", "Madrid", 40.42, -3.70, 50, (3352, 12479)),
    ("US", "New York", 40.71, -74.01, 20, (701, 7922, 209)),
    ("US", "Seattle", 47.61, -122.33, 50, (209, 7922)),
    ("BR", "Recife", -8.05, -34.88, 100, (28573, 18881)),
    ("IN", "Pune", 18.52, 73.86, 200, (55836, 24560)),
    ("NG", "Lagos", 6.52, 3.38, 500, (29465, 37148)),
    ("AU", "Perth", -31.95, 115.86, 100, (1221, 7545)),
    ("JP", "Osaka", 34.69, 135.50, 50, (4713, 2516)),
)
AGENTS = (CHROME, FIREFOX)


@dataclass(slots=True)
class Planned:
    """A sign-in to come, and which rules ought to find something."""

    at_ms: int
    user: str
    city: int
    network: int
    device: str
    agent: str
    expected: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()  # of these, what no rule can see
    fooling: frozenset[str] = frozenset()  # what must be found although nothing is wrong


@dataclass(slots=True)
class Score:
    """What came of it, by rule."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    fooling: Counter[str] = field(default_factory=Counter)
    sign_ins: int = 0

    def show(self) -> None:
        """Print the table."""
        print(self.table())  # noqa: T201  (a score without its table proves nothing)

    def is_as_good_as_can_be(self) -> bool:
        """Tell whether all that can be seen is found, and false is only what must fool a rule."""
        return self.found == self.planted - self.hidden and self.false == self.fooling

    def table(self) -> str:
        lines = [f"{'rule':<20}{'planted':>9}{'found':>9}{'missed':>9}{'false':>9}"]
        for rule in watch().actions:
            planted, found = self.planted[rule], self.found[rule]
            numbers = (planted, found, planted - found, self.false[rule])
            lines.append(f"{rule:<20}" + "".join(f"{number:>9}" for number in numbers))
        return "\n".join([*lines, f"{self.sign_ins} sign-ins"])


class Month:
    """The plan of a month; the same for the same seed."""

    def __init__(self, users: int, seed: int = 5) -> None:
        self._random = Random(seed)
        self._users = users

    def plan(self) -> Iterator[list[Planned]]:
        """Return each user's month, in order of time."""
        for number in range(self._users):
            month = self._usual(f"user-{number}")
            match number % 20:
                case 3:
                    self._take_over(month)
                case 5 | 6:
                    self._travel(month)
                case 8:
                    self._new_phone(month)
                case 11:
                    self._move(month)
                case 13 if number % 40 == 13:
                    self._share(month)
                case 14 if number % 60 == 14:
                    self._steal_cookie(month)
                case 15 | 16:
                    self._tunnel(month)
                case 18:
                    self._misplace(month)
                case 19:
                    self._try_one_of_many(month, *divmod(number // 20, 8))
            yield sorted(month, key=lambda each: each.at_ms)

    def score(self) -> Score:
        """Run the rules over the month."""
        score, places = Score(), Places(self._random)
        replay = Replay(watch(), places.locate)
        plan = sorted((each for user in self.plan() for each in user), key=lambda e: e.at_ms)
        for each in plan:
            client = Client(places.address(each), user_agent=each.agent)
            recorded = Recorded(each.at_ms, each.user, client, each.device)
            fired = {alert.type for _, alert in replay.sign_in(recorded)}
            score.sign_ins += 1
            score.planted.update(each.expected)
            score.found.update(fired & each.expected)
            score.false.update(fired - each.expected)
            score.hidden.update(each.hidden)
            score.fooling.update(each.fooling)
        return score

    def _usual(self, user: str) -> list[Planned]:
        """About one sign-in a day, mostly at home."""
        pick = self._random
        city = pick.randrange(len(CITIES))
        home, road = pick.sample(CITIES[city][5], 2)
        devices = [(f"{user}-phone", CHROME), (f"{user}-laptop", pick.choice(AGENTS))]
        month = []
        for day in range(DAYS):
            for _ in range(pick.choice((0, 1, 1, 2))):
                at_ms = NOW_MS + day * DAY_MS + pick.randrange(7 * HOUR_MS, 10 * HOUR_MS)
                device, agent = pick.choice(devices)
                network = home if pick.random() < 0.7 else road
                month.append(Planned(at_ms, user, city, network, device, agent))
        month.sort(key=lambda each: each.at_ms)
        if len(month) < 8:
            return self._usual(user)
        _mark_first_times(month)
        return month

    def _take_over(self, month: list[Planned]) -> None:
        """Within an hour of the user, from another country, on a device of the thief's."""
        before = self._random.choice(month[8:] or month[-1:])
        away = self._other_country(before.city)
        at_ms = before.at_ms + self._random.randrange(60_000, HOUR_MS)
        device = f"{before.user}-thief"
        thief = Planned(at_ms, before.user, away, CITIES[away][5][0], device, CHROME)
        expected = {"new_device", "new_country", "network_change"}
        if _way_km(before.city, away) > Limits().speed_kmh * (at_ms - before.at_ms) / HOUR_MS:
            expected.add("impossible_travel")
        thief.expected = frozenset(expected)
        _clear(month, at_ms, at_ms + 20 * HOUR_MS)
        month.append(thief)

    def _travel(self, month: list[Planned]) -> None:
        """By airliner, with the phone, for the rest of the month."""
        last = month[len(month) // 2]
        away = self._other_country(last.city)
        flight_ms = int(_way_km(last.city, away) / _AIRLINER_KMH * HOUR_MS) + _AIRPORTS_MS
        landed_ms = last.at_ms + flight_ms
        _clear(month, last.at_ms + 1, NOW_MS + DAYS * DAY_MS)
        phone = f"{last.user}-phone"
        known = phone in {each.device for each in month}
        network = CITIES[away][5][1]
        for day in range(3):
            new = {"new_country", "network_change"} if day == 0 else set()
            new |= {"new_device"} if day == 0 and not known else set()
            at_ms = landed_ms + day * DAY_MS
            month.append(
                Planned(at_ms, last.user, away, network, phone, CHROME, frozenset(new))
            )

    def _new_phone(self, month: list[Planned]) -> None:
        last = month[-1]
        at_ms = last.at_ms + HOUR_MS
        month.append(
            Planned(at_ms, last.user, last.city, last.network, f"{last.user}-new", CHROME,
                    frozenset({"new_device"}))
        )  # fmt: skip

    def _move(self, month: list[Planned]) -> None:
        """To a city of the same country or another provider: a network, and nothing else."""
        last = month[-1]
        others = [each for each in CITIES[last.city][5] if each not in {m.network for m in month}]
        if others:
            month.append(
                Planned(last.at_ms + DAY_MS, last.user, last.city, others[0], last.device,
                        last.agent, frozenset({"network_change"}))
            )  # fmt: skip

    def _share(self, month: list[Planned]) -> None:
        """Seven people with one account, all within half an hour."""
        last = month[-1]
        for friend in range(7):
            at_ms = last.at_ms + 2 * HOUR_MS + friend * 240_000
            expected = {"new_device"} | ({"shared_account"} if friend == 4 else set())
            month.append(
                Planned(at_ms, last.user, last.city, last.network, f"{last.user}-friend-{friend}",
                        FIREFOX, frozenset(expected))
            )  # fmt: skip

    def _steal_cookie(self, month: list[Planned]) -> None:
        """Malware next door took password and device cookie: to every rule it is the user."""
        last = month[-1]
        rules = frozenset({"new_device"})
        month.append(
            Planned(last.at_ms + HOUR_MS, last.user, last.city, last.network, last.device,
                    last.agent, rules, hidden=rules)
        )  # fmt: skip

    def _tunnel(self, month: list[Planned]) -> None:
        """Through a VPN into another country, ten minutes later: there it really comes from."""
        last = month[-1]
        away = self._other_country(last.city)
        month.append(
            Planned(last.at_ms + 600_000, last.user, away, CITIES[away][5][0], last.device,
                    last.agent, frozenset({"new_country", "network_change"}),
                    fooling=frozenset({"impossible_travel"}))
        )  # fmt: skip

    def _misplace(self, month: list[Planned]) -> None:
        """The database is sure that an address at home is in the next country."""
        last = month[-1]
        away = self._other_country(last.city)
        month.append(
            Planned(last.at_ms + 600_000, last.user, away, last.network, last.device, last.agent,
                    fooling=frozenset({"new_country", "impossible_travel"}))
        )  # fmt: skip

    def _try_one_of_many(self, month: list[Planned], group: int, nth: int) -> None:
        """One device tries stolen passwords, one user a minute; from the sixth on it tells."""
        last = month[-1]
        at_ms = NOW_MS + (DAYS + 1) * DAY_MS + nth * 60_000
        expected = {"new_device"} | ({"shared_device"} if nth >= Limits().accounts else set())
        month.append(
            Planned(at_ms, last.user, last.city, last.network, f"stuffing-{group}", CHROME,
                    frozenset(expected))
        )  # fmt: skip

    def _other_country(self, city: int) -> int:
        return self._random.choice(
            [n for n, each in enumerate(CITIES) if each[0] != CITIES[city][0]]
        )


class Places:
    """Addresses that stand for a city and a network; each look-up scatters inside the radius."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def address(self, planned: Planned) -> str:
        return f"{planned.city} {planned.network}"

    def locate(self, address: str) -> Place:
        number, asn = map(int, address.split())
        country, city, north, east, radius_km, _ = CITIES[number]
        off = radius_km / _DEGREE_KM / 1.5
        where = (north + self._random.uniform(-off, off), east + self._random.uniform(-off, off))
        return Place(country, city, where, radius_km, asn, f"AS{asn}")


def _mark_first_times(month: list[Planned]) -> None:
    """The second device and the second network are new once, which is true."""
    devices, networks = {month[0].device}, {month[0].network}
    for each in month[1:]:
        expected = set()
        if each.device not in devices:
            expected.add("new_device")
        if each.network not in networks:
            expected.add("network_change")
        devices.add(each.device)
        networks.add(each.network)
        each.expected = frozenset(expected)


def _clear(month: list[Planned], since_ms: int, until_ms: int) -> None:
    """Nobody else signs in then; what would have been new for the first time stays in the month."""
    month[:] = [each for each in month if not since_ms <= each.at_ms < until_ms]
    for each in month:
        each.expected = frozenset()
    _mark_first_times(month)


def _way_km(one: int, other: int) -> float:
    spots = [Spot(0, *CITIES[n][2:4], 0, "", "") for n in (one, other)]
    return distance_km(*spots) - CITIES[one][4] - CITIES[other][4]


if __name__ == "__main__":
    Month(10_000).score().show()
