"""Alerts: raised in the step that signs in, once for each fact, and pushed at least once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Disconnected

from gateway.alerts import RULES, Action, History, Limits, Seen, Spot, Watch
from gateway.credentials import partition_of_user
from gateway.embedded import EmbeddedValkey
from gateway.errors import SessionLimitReached, SignInRefused, StoreUnavailable
from gateway.model import IN_DOUBT_AAL, NOWHERE, Client, Device, Login
from gateway.store import AlertQueue, Lists, histories
from tests.alerts.samples import BERLIN, NEW_YORK
from tests.alerts.samples import sign_in as sample

from .world import ACTOR, PARTITIONS, World, fresh_key, real_world
from .world import RULES as NO_WATCH

SIGN_INS = 50
LISTS = Lists(("security:alerts", "notification:queue"), 1000)


def rules(action: Action = Action.ALERT, **others: Any) -> Any:
    """Return sign-in rules with all alert rules at one action."""
    return replace(NO_WATCH, watch=Watch(dict.fromkeys(RULES, action), **others))


async def sign_in(
    world: World, device: str = "laptop", country: str = "DE", *, user: str = "ann",
    wanted: Any = None, place: Any = NOWHERE,
) -> Any:  # fmt: skip
    _, key = fresh_key(user)
    login = Login(user=user, client=Client("192.0.2.1", country))
    described = Device(device, "Firefox on Linux", "desktop")
    return await world.store.create(key, login, described, wanted or rules(), ACTOR, place=place)


def queue(
    world: World, lists: Lists = LISTS, client: Any = None, counts: Counter[str] | None = None
) -> AlertQueue:
    counted = Counter() if counts is None else counts
    return AlertQueue(
        client or world.client, "gw:", PARTITIONS, lists,
        count_error=lambda kind: counted.update([kind]),
        count_pushed=lambda count: counted.update(pushed=count),
        count_dropped=lambda count: counted.update(dropped=count),
    )  # fmt: skip


async def pushed(world: World, name: str = "security:alerts") -> list[dict[str, Any]]:
    return [orjson.loads(each) for each in reversed(await world.client.lrange(name, 0, -1))]


async def alert_events(world: World, user: str = "ann") -> list[dict[str, str]]:
    return [each for each in await world.events(user) if each["type"].startswith("alert.")]


async def test_an_alert_is_in_the_answer_the_outbox_and_the_lists(world: World) -> None:
    """With who, what, when and from where."""
    await sign_in(world)
    created = await sign_in(world, "phone", "FR")
    assert [alert.type for alert in created.alerts] == ["new_device", "new_country"]
    events = await alert_events(world)
    assert [each["type"] for each in events] == ["alert.new_device", "alert.new_country"]
    assert {each["id"] for each in events} == {created.session.id}
    data = orjson.loads(events[1]["data"])
    assert (data["previous_country"], data["new_country"]) == ("DE", "FR")
    assert (data["action"], data["ip"]) == ("alert", "192.0.2.1")
    alerts = queue(world)
    assert await alerts.waiting() == 2
    assert await alerts.push() == 2
    assert await alerts.waiting() == 0
    device, country = await pushed(world)
    assert device["type"] == "new_device"
    assert country.pop("timestamp").endswith("Z")
    assert country == {
        "id": f"{created.session.id}.1", "type": "new_country", "userId": "ann",
        "previousCountry": "DE", "newCountry": "FR", "ip": "192.0.2.1", "country": "FR",
        "city": "", "action": "alert", "sessionId": created.session.id,
    }  # fmt: skip
    assert await pushed(world, "notification:queue") == await pushed(world)


async def test_what_is_known_is_known_again(world: World) -> None:
    """First and last seen are kept, for as long as the user is remembered."""
    await sign_in(world)
    await sign_in(world, "phone")
    await asyncio.sleep(0.002)
    again = await sign_in(world, "phone")
    assert again.alerts == ()
    name = world.keys.history(partition_of_user("ann", PARTITIONS), "ann")
    first_ms, last_ms = orjson.loads(await world.client.hget(name, "device:id:phone"))
    assert again.session.created_ms - 1000 < first_ms < last_ms <= again.session.created_ms
    assert 0 < await world.client.pttl(name) <= 180 * 86_400_000
    assert not [each for each in await world.without_ttl() if not each.startswith("gw:w:")]


async def test_shadows_are_reported_and_nothing_else(world: World) -> None:
    told: list[Any] = []
    world.store._on_alerts = told.extend
    await sign_in(world, wanted=rules(Action.SHADOW))
    created = await sign_in(world, "phone", wanted=rules(Action.SHADOW))
    assert created.alerts == ()
    assert created.session.aal == 1
    assert [(alert.type, alert.action) for alert in told] == [("new_device", "shadow")]
    assert (await alert_events(world), await queue(world).waiting()) == ([], 0)


async def test_a_session_in_doubt_must_step_up_however_often_it_is_tried(world: World) -> None:
    """One alert; but every try is in doubt, until the user has signed in again there."""
    await sign_in(world, wanted=rules(Action.STEP_UP))
    tries = [await sign_in(world, "thief", wanted=rules(Action.STEP_UP)) for _ in range(3)]
    assert [each.session.aal for each in tries] == [IN_DOUBT_AAL] * 3
    assert [len(each.alerts) for each in tries] == [1, 0, 0]
    stored = (await world.store.read(tries[0].session.key)).session
    assert stored is not None
    assert stored.aal == IN_DOUBT_AAL
    _, new = fresh_key("ann")
    renewed = await world.store.renew(stored.key, new, 0, ACTOR)
    assert renewed is not None
    assert renewed.aal == IN_DOUBT_AAL  # a renewal alone proves nothing
    await world.store.learn(replace(sample(device="thief"), at_ms=stored.created_ms), 60_000)
    known = await sign_in(world, "thief", wanted=rules(Action.STEP_UP))
    assert (known.session.aal, known.alerts) == (1, ())
    assert len(await alert_events(world)) == 1


async def test_a_session_knows_what_its_sign_in_raised(world: World) -> None:
    """Told before or not, but no shadows; until its user has signed in again, for the new key."""
    await sign_in(world)
    first = await sign_in(world, "phone", "GB", wanted=rules(Action.STEP_UP))
    created = await sign_in(world, "phone", "GB", wanted=rules(Action.STEP_UP))
    assert first.session.alerts == created.session.alerts == ("new_device", "new_country")
    read = (await world.store.read(created.session.key)).session
    assert read is not None
    assert read.alerts == created.session.alerts
    _, rotated = fresh_key("ann")
    kept = await world.store.renew(read.key, rotated, 0, ACTOR)
    assert kept is not None
    assert kept.alerts == read.alerts
    _, new = fresh_key("ann")
    again = await world.store.renew(rotated, new, 5000, ACTOR, aal=1)
    assert again is not None
    assert again.alerts == ()
    in_grace = (await world.store.read(rotated)).session
    assert in_grace is not None
    assert in_grace.alerts == read.alerts
    shadow = await sign_in(world, "tv", "US", wanted=rules(Action.SHADOW))
    assert shadow.session.alerts == ()


async def test_a_refused_sign_in_leaves_an_alert_and_no_session(world: World) -> None:
    """Nor does it end one of the user's, or make the thief's device known."""
    home = await sign_in(world, wanted=rules(Action.END))
    limited = replace(rules(Action.END), max_per_user=1, one_per_device=True)
    for _ in range(3):
        with pytest.raises(SignInRefused) as caught:
            await sign_in(world, "thief", wanted=limited)
        assert caught.value.types == ("new_device",)
    assert await world.listed() == {home.session.key}
    assert await world.due() == {home.session.key.digest}
    (event,) = await alert_events(world)
    assert orjson.loads(event["data"])["action"] == "end"
    assert await queue(world).waiting() == 1


async def test_a_denied_sign_in_is_not_learnt(world: World) -> None:
    """Beyond the limit nothing changes, also not what is known."""
    denying = replace(rules(), max_per_user=1, on_limit="deny")
    await sign_in(world, wanted=denying)
    name = world.keys.history(partition_of_user("ann", PARTITIONS), "ann")
    before = await world.client.hgetall(name)
    with pytest.raises(SessionLimitReached):
        await sign_in(world, "phone", wanted=denying)
    assert await world.client.hgetall(name) == before


async def test_a_device_of_many_users_is_told(world: World) -> None:
    """Across partitions; each user counts once, and those without an id never."""
    wanted = rules(limits=Limits(accounts=2))
    for user in ("ann", "bob", "bob", "ann"):
        assert (await sign_in(world, "kiosk", user=user, wanted=wanted)).alerts == ()
    (alert,) = (await sign_in(world, "kiosk", user="eve", wanted=wanted)).alerts
    assert (alert.type, alert.details["accounts"]) == ("shared_device", 3)
    assert (await sign_in(world, "~1", user="joe", wanted=wanted)).alerts == ()


async def test_travel_needs_both_places(world: World) -> None:
    await sign_in(world, place=BERLIN)
    await sign_in(world)  # from an unknown place: the one before stays the last known
    (alert,) = (await sign_in(world, place=NEW_YORK)).alerts[-1:]
    assert alert.type in ("impossible_travel", "network_change")


async def test_a_broken_history_keeps_nobody_out(world: World) -> None:
    await sign_in(world)
    name = world.keys.history(partition_of_user("ann", PARTITIONS), "ann")
    broken = {"device:id:laptop": "[", "country:DE": "[1]", "spot": "[1,2]", "!x": "y", "\xff": ""}
    await world.client.hset(name, mapping=broken)
    assert (await sign_in(world, "phone", "FR")).session.aal == 1


@pytest.fixture
async def worlds(valkey: EmbeddedValkey) -> Any:
    """Gateways with connections of their own to one server."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(real_world(valkey.url, empty=number == 0))
            for number in range(4)
        ]


@pytest.mark.parametrize("action", [Action.ALERT, Action.STEP_UP, Action.SHADOW])
async def test_parallel_sign_ins_raise_one_alert_for_each_fact(
    worlds: list[World], action: Action
) -> None:
    """Fifty at once through four gateways, from a new device in a new country far away."""
    told: list[Any] = []
    for world in worlds:
        world.store._on_alerts = told.extend
    await sign_in(worlds[0], place=BERLIN)
    results = await asyncio.gather(
        *(
            sign_in(worlds[n % 4], "phone", "US", wanted=rules(action), place=NEW_YORK)
            for n in range(SIGN_INS)
        )
    )
    expected = {"new_device", "new_country", "impossible_travel", "network_change"}
    assert Counter(alert.type for alert in told) == dict.fromkeys(expected, 1)
    answered = 0 if action is Action.SHADOW else 4
    assert sum(len(each.alerts) for each in results) == answered
    assert len(await alert_events(worlds[0])) == answered
    assert len(await worlds[0].listed()) == SIGN_INS + 1
    levels = {each.session.aal for each in results}
    assert levels == ({IN_DOUBT_AAL} if action is Action.STEP_UP else {1})


async def test_parallel_sign_ins_from_everywhere_see_one_another(worlds: list[World]) -> None:
    """Seven new devices at once: each is told of once, and the shared account too."""
    told: list[Any] = []
    for world in worlds:
        world.store._on_alerts = told.extend
    await sign_in(worlds[0])
    await asyncio.gather(*(sign_in(worlds[n % 4], f"d{n}") for n in range(7)))
    assert Counter(alert.type for alert in told) == {"new_device": 7, "shared_account": 1}


INSTANTS = st.integers(min_value=0, max_value=2**53)
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
SEEN = st.dictionaries(NAMES, st.builds(Seen, INSTANTS, INSTANTS), max_size=5)
SPOTS = st.builds(
    Spot, INSTANTS, st.floats(-90, 90), st.floats(-180, 180), st.integers(0, 9999), NAMES, NAMES
)


@given(st.builds(History, SEEN, SEEN, SEEN, st.none() | SPOTS))
def test_a_history_is_read_as_it_was_written(history: History) -> None:
    written = {name.encode(): value.encode() for name, value in histories._encoded(history).items()}
    assert histories._decoded(written) == history


FIELDS = st.sampled_from([b"spot", b"revision", b"device:id:x", b"country:DE", b"!fact"])
ODD = st.sampled_from([b"[1,2,3,4,5,6]", b"[[],{}]", b"9" * 5000])


@given(st.dictionaries(st.binary(max_size=12) | FIELDS, st.binary(max_size=30) | ODD))
def test_whatever_a_history_holds_it_can_be_read(fields: dict[bytes, bytes]) -> None:
    """Read, judged and written over, without a fault."""
    known = histories.Known(histories._decoded(fields), "0", 1)
    watch = Watch(dict.fromkeys(RULES, Action.ALERT))
    said = watch.assess(sample(), known.history)
    links = [""] * len(said.alerts)
    assert histories.Watched(watch, sample(), known, said).argument("00" * 17, links)


# --- pushing ---------------------------------------------------------------------------------


class Failing:
    """A client that loses its connection at one command of one round, and then works."""

    def __init__(self, client: Any, command: str) -> None:
        self._client = client
        self._command = command
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **options: Any) -> Any:
        pipeline, outer = self._client.pipeline(**options), self
        execute = pipeline.execute

        async def failing() -> Any:
            commands = {str(each[0][0]) for each in pipeline.command_stack}
            result = await execute()
            if outer._command in commands and not outer.failed:
                outer.failed = True
                raise Disconnected("the answer was lost")
            return result

        pipeline.execute = failing
        return pipeline


@pytest.mark.parametrize("command", ["LRANGE", "LPUSH", "LREM"])
async def test_a_lost_answer_repeats_an_alert_and_loses_none(world: World, command: str) -> None:
    """Whatever step it was; the ids tell which are repeats."""
    for number in range(30):
        await sign_in(world, f"d{number}")
    failing = Failing(world.client, command)
    alerts = queue(world, client=failing)
    with pytest.raises(StoreUnavailable):
        await alerts.push()
    await alerts.push()
    ids = [each["id"] for each in await pushed(world)]
    assert len(set(ids)) == 30  # 29 devices, and the shared account
    assert len(ids) == (60 if command == "LPUSH" else 30)
    assert await alerts.waiting() == 0


async def test_two_replicas_do_not_push_the_same(worlds: list[World]) -> None:
    for number in range(150):
        await sign_in(worlds[0], f"d{number}", user=f"user-{number % 50}")
    await asyncio.gather(*(queue(world).push() for world in worlds for _ in range(3)))
    await queue(worlds[0]).push()
    ids = [each["id"] for each in await pushed(worlds[0])]
    assert len(ids) == len(set(ids)) == 100


async def test_full_lists_drop_the_oldest_and_count(world: World) -> None:
    for number in range(13):
        await sign_in(world, f"d{number}")
    counts: Counter[str] = Counter()
    await queue(world, Lists(("one",), 5), counts=counts).push()
    devices = [each["device"]["id"] for each in await pushed(world, "one") if "device" in each]
    assert devices[-1] == "d12"
    assert await world.client.llen("one") == 5
    assert counts == {"pushed": 13, "dropped": 8}


async def test_a_list_of_another_type_holds_alerts_back(world: World) -> None:
    """They wait and are counted as errors; sign-ins and revocations go on."""
    await world.client.set("security:alerts", "mine")
    await sign_in(world)
    created = await sign_in(world, "phone")
    alerts = queue(world)
    with pytest.raises(StoreUnavailable):
        await alerts.push()
    assert await alerts.waiting() == 1
    assert await world.store.end_all("ann", None, ACTOR)
    await world.client.delete("security:alerts")
    assert await alerts.push() == 1
    assert (await pushed(world))[0]["sessionId"] == created.session.id


async def dropped(world: World) -> int:
    counts = [await world.client.get(world.keys.dropped(f"{n:02x}")) for n in range(16)]
    return sum(int(count or 0) for count in counts)


async def test_too_many_waiting_alerts_are_dropped_and_counted(valkey: EmbeddedValkey) -> None:
    """Nobody pushes: the oldest go, so that memory does not."""
    async with real_world(valkey.url, outbox_limit=10) as world:
        before = await dropped(world)
        for number in range(9):
            await sign_in(world, f"d{number}", country=f"A{chr(65 + number)}")
        assert await queue(world).waiting() == 10
        assert await dropped(world) > before


async def test_who_dies_in_its_turn_keeps_the_others_waiting_but_not_for_ever(real: World) -> None:
    """What it had pushed and not taken away is pushed again."""
    await sign_in(real)
    await sign_in(real, "phone")
    await real.client.set(real.keys.pushing, "dead", px=50)
    alerts = queue(real)
    assert await alerts.push() == 0
    await asyncio.sleep(0.1)
    assert await alerts.push() == 1
    assert not await real.client.exists(real.keys.pushing)
