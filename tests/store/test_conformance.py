"""What every SessionStore must keep, on the fake and on a real server alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import AlreadyRenewed, ConfigurationError, SessionLimitReached, StoreUnavailable
from gateway.model import IN_DOUBT_AAL, Client, Device, EndState, Login, Session, SessionKey
from gateway.store import records
from gateway.store.redis_store import BATCH

from .world import (
    ABSOLUTE_MS,
    ACTOR,
    IDLE_MS,
    RULES,
    SLACK_MS,
    SignedIn,
    World,
    fresh_key,
    kinds,
    limited,
    rules_for,
)

INTERVAL_MS = 30_000

# --- create, read, list ----------------------------------------------------------------------


async def test_what_was_created_is_read_back(world: World) -> None:
    """A session is read exactly as it was created, with its three clocks."""
    token, key = fresh_key("zoë")
    login = Login(
        user="zoë",
        email="zoe@example.com",
        name="Zoë",
        roles=("admin", "staff"),
        client=Client("2001:db8::1", "CH", "Zürich", "curl/8"),
        metadata={"plan": "pro", "tags": [], "deep": {"a": [1, 2.5, None, True]}},
        remember=True,
        aal=2,
    )
    device = Device("d1", "curl", "unknown")
    created = await world.store.create(key, login, device, RULES, ACTOR)
    reading = await world.store.read(key)
    assert reading.session == created.session
    session = created.session
    assert (session.user, session.roles, session.device) == ("zoë", ("admin", "staff"), device)
    assert (session.client, session.metadata) == (login.client, login.metadata)
    assert session.remember
    assert (session.aal, session.authenticated_ms) == (2, session.created_ms)
    assert session.expires_ms - session.created_ms == ABSOLUTE_MS
    assert session.idle_expires_ms - session.created_ms == IDLE_MS
    assert 0 <= reading.now_ms - session.created_ms < SLACK_MS
    assert len(token) == 45


async def test_no_session_is_an_answer(world: World) -> None:
    """A key that was never used reads as no session, changes nothing and raises nothing."""
    _, key = fresh_key("ann")
    _, new = fresh_key("ann")
    assert (await world.store.read(key)).session is None
    assert await world.store.update(key, {"roles": ("x",)}, ACTOR) is None
    assert await world.store.renew(key, new, 0, ACTOR) is None
    assert await world.store.end(key, EndState.REVOKED, ACTOR) is None
    assert await world.store.end_all("ann", None, ACTOR) == ()
    assert await world.store.end_device("ann", "d", ACTOR) == ()
    assert await world.store.sessions_of("ann") == ()
    assert await world.names() == ["gw:partitions"]


async def test_users_do_not_share_sessions(world: World) -> None:
    """A user's list and the end of all sessions touch nobody else's, whatever the ids look like."""
    users = ["ann", "Ann", "ann*", "{ann}", "ann:0", "a" * 200, "0"]
    signed = {user: await world.sign_in(user) for user in users}
    for user in users:
        assert await world.listed(user) == {signed[user].key}
    await world.store.end_all("ann", None, ACTOR)
    assert [user for user in users if await world.listed(user)] == users[1:]


async def test_the_list_is_what_checks_allow(world: World) -> None:
    """The list names exactly the sessions that a check would allow, however the others ended."""
    first = await world.sign_in(rules=rules_for(IDLE_MS, IDLE_MS // 2))
    idle = await world.sign_in()
    await world.wind(IDLE_MS - 10_000)
    busy, ended, moved = [await world.sign_in() for _ in range(3)]
    await world.store.end(ended.key, EndState.REVOKED, ACTOR)
    _, renewed = fresh_key("ann")
    await world.store.renew(moved.key, renewed, 60_000, ACTOR)
    await world.wind(10_000 + SLACK_MS)
    every = {each.key for each in (first, idle, busy, ended, moved)} | {renewed}
    allowed = {key for key in every if await world.allows(key)}
    assert allowed == {busy.key, moved.key, renewed}
    assert await world.listed() == allowed


# --- time ------------------------------------------------------------------------------------


async def test_rest_ends_a_session(world: World) -> None:
    """A session nobody used for the idle time is refused, listed no more, and cannot return."""
    signed = await world.sign_in()
    await world.wind(IDLE_MS - SLACK_MS)
    assert await world.allows(signed.key)
    await world.wind(SLACK_MS + 1)
    await assert_gone(world, signed)


async def test_no_activity_outlives_the_absolute_end(world: World) -> None:
    """Touched without pause, a session still ends at its absolute end."""
    signed = await world.sign_in()
    for _ in range(ABSOLUTE_MS // (IDLE_MS // 2) - 1):
        await world.wind(IDLE_MS // 2)
        assert await world.touch(signed, INTERVAL_MS)
        assert await world.allows(signed.key)
    await world.wind(IDLE_MS // 2 + 1)
    await assert_gone(world, signed)


async def test_an_absolute_end_before_the_idle_one_counts(world: World) -> None:
    """A session that may rest longer than it may live is over, and listed no more, at its end."""
    signed = await world.sign_in(rules=rules_for(IDLE_MS, IDLE_MS // 2))
    await world.wind(IDLE_MS // 2 + 1)
    await assert_gone(world, signed)


async def test_a_touch_moves_the_idle_end(world: World) -> None:
    """A touched session may rest for the whole idle time again."""
    signed = await world.sign_in()
    await world.wind(IDLE_MS - SLACK_MS)
    assert await world.touch(signed, INTERVAL_MS)
    await world.wind(IDLE_MS - SLACK_MS)
    assert await world.allows(signed.key)
    await world.wind(SLACK_MS + 1)
    await assert_gone(world, signed)


async def test_the_record_outlives_the_activity(world: World) -> None:
    """However often a session is touched, its record never ends before its activity."""
    signed = await world.sign_in(rules=rules_for(IDLE_MS, 20 * IDLE_MS))
    for _ in range(12):
        await world.wind(IDLE_MS - SLACK_MS)
        assert await world.touch(signed, INTERVAL_MS)
        rests_until = await world.rest(signed.key)
        assert rests_until is not None
        assert await world.client.pexpiretime(world.keys.record(signed.key)) >= rests_until


async def test_activity_is_written_once_per_interval(world: World) -> None:
    """Of many touches within one interval one is written; the next interval has its own."""
    signed = await world.sign_in()
    assert not await world.touch(signed, INTERVAL_MS)
    for _ in range(2):
        await world.wind(INTERVAL_MS)
        written = await asyncio.gather(*(world.touch(signed, INTERVAL_MS) for _ in range(8)))
        assert sum(written) == 1


async def test_a_touch_never_creates(world: World) -> None:
    """A touch that comes after the end, however that came, writes nothing at all."""
    ends = await ended_in_every_way(world)
    before = await world.everything()
    for signed in ends:
        assert not await world.touch(signed, 0)
    assert await world.everything() == before


async def ended_in_every_way(world: World) -> list[SignedIn]:
    ended, rotated, graced, replaced, evicted, everywhere, idle = [
        await world.sign_in("ann", f"d{number}") for number in range(7)
    ]
    await world.wind(1000)
    await world.store.end(ended.key, EndState.REVOKED, ACTOR)
    await world.store.renew(rotated.key, fresh_key("ann")[1], 0, ACTOR)
    await world.store.renew(graced.key, fresh_key("ann")[1], 10_000, ACTOR)
    await world.sign_in("ann", "d3", replace(RULES, one_per_device=True))
    await world.wind(10_001)
    await world.sign_in("ann", rules=limited(1))
    await world.store.end_all("ann", None, ACTOR)
    lapsed = await world.sign_in("ann", rules=rules_for(1000, 5000))
    await world.wind(1001)
    return [ended, rotated, graced, replaced, evicted, everywhere, idle, lapsed]


# --- update ----------------------------------------------------------------------------------


async def test_an_update_changes_only_what_it_names(world: World) -> None:
    """Roles change, everything else and every clock stays."""
    signed = await world.sign_in(email="a@example.com", metadata={"empty": []})
    ends = (
        await world.client.pexpiretime(world.keys.record(signed.key)), await world.rest(signed.key)
    )  # fmt: skip
    updated = await world.store.update(signed.key, {"roles": ()}, ACTOR)
    assert updated == replace(signed.session, roles=())
    assert (await world.store.read(signed.key)).session == updated
    assert ends == (
        await world.client.pexpiretime(world.keys.record(signed.key)), await world.rest(signed.key)
    )  # fmt: skip


async def test_conflicting_updates_lose_nothing(world: World) -> None:
    """Roles and email changed at the same time are both changed."""
    signed = await world.sign_in()
    for turn in range(20):
        await asyncio.gather(
            world.store.update(signed.key, {"roles": (f"r{turn}",)}, ACTOR),
            world.store.update(signed.key, {"email": f"{turn}@example.com"}, ACTOR),
            world.store.update(signed.key, {"metadata": {"turn": turn}}, ACTOR),
        )
        session = await live(world, signed)
        assert (session.roles, session.email) == ((f"r{turn}",), f"{turn}@example.com")
        assert session.metadata == {"turn": turn}


async def test_an_ended_session_is_not_updated(world: World) -> None:
    """An update after the end, or after too long a rest, writes nothing."""
    for signed in await ended_in_every_way(world):
        assert await world.store.update(signed.key, {"roles": ("admin",)}, ACTOR) is None
        assert not await world.allows(signed.key)


# --- renew -----------------------------------------------------------------------------------


async def test_renewal_moves_the_session(world: World) -> None:
    """Without a grace the old key is dead at once, and the new one has the same absolute end."""
    signed = await world.sign_in(roles=("admin",), metadata={"a": []})
    await world.wind(60_000)
    _, new = fresh_key("ann")
    renewed = await world.store.renew(signed.key, new, 0, ACTOR)
    assert renewed is not None
    assert renewed.expires_ms == signed.session.expires_ms - 60_000
    assert replace(renewed, last_seen_ms=0) == replace(
        signed.session,
        key=new,
        created_ms=signed.session.created_ms - 60_000,
        expires_ms=signed.session.expires_ms - 60_000,
        authenticated_ms=signed.session.authenticated_ms - 60_000,
        last_seen_ms=0,
    )
    assert not await world.allows(signed.key)
    assert await world.listed() == {new}
    assert await world.members() == await world.due() == {new.digest}


async def test_a_new_sign_in_is_noted_by_the_renewal(world: World) -> None:
    """Level and instant are those of the new sign-in, until the next one; the end stays."""
    signed = await world.sign_in(metadata={"a": []})
    await world.wind(60_000)
    _, stepped_up = fresh_key("ann")
    renewed = await world.store.renew(signed.key, stepped_up, 0, ACTOR, aal=2)
    assert renewed is not None
    assert renewed.aal == 2
    assert renewed.created_ms == signed.session.created_ms - 60_000
    assert 0 <= renewed.authenticated_ms - signed.session.created_ms < SLACK_MS
    await world.wind(60_000)
    _, later = fresh_key("ann")
    rotated = await world.store.renew(stepped_up, later, 0, ACTOR)
    assert rotated is not None
    assert (rotated.aal, rotated.metadata) == (2, {"a": []})
    assert rotated.authenticated_ms == renewed.authenticated_ms - 60_000
    _, again = fresh_key("ann")
    weaker = await world.store.renew(later, again, 0, ACTOR, aal=1)
    assert weaker is not None
    assert weaker.aal == 1
    assert weaker.authenticated_ms >= renewed.authenticated_ms


async def test_the_old_key_of_a_step_up_stays_what_it_was(world: World) -> None:
    """In the grace the old token has neither the new level nor the new instant."""
    signed = await world.sign_in()
    await world.wind(60_000)
    await world.store.renew(signed.key, fresh_key("ann")[1], 30_000, ACTOR, aal=3)
    old = (await world.store.read(signed.key)).session
    assert old is not None
    assert (old.aal, old.authenticated_ms) == (1, signed.session.authenticated_ms - 60_000)


@pytest.mark.parametrize("by", ["new", "old"])
async def test_no_change_lifts_the_level_of_an_old_key(world: World, by: str) -> None:
    """What was proven after the renewal was proven for the new token; all else is for both."""
    signed = await world.sign_in()
    new = fresh_key("ann")[1]
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    changes = {"aal": 3, "roles": ("other",)}
    assert await world.store.update(new if by == "new" else signed.key, changes, ACTOR) is not None
    old, renewed = [(await world.store.read(each)).session for each in (signed.key, new)]
    assert old is not None
    assert renewed is not None
    assert (old.aal, renewed.aal) == (1, 3)
    assert old.roles == renewed.roles == ("other",)


async def test_what_few_sessions_have_takes_no_memory_in_others(world: World) -> None:
    """It is left out of the record, also where it was taken away again."""
    plain = await world.sign_in()
    assert (await world.fields(plain.key)).rare == {}
    assert await world.store.update(plain.key, {"metadata": {"a": []}}, ACTOR) is not None
    assert (await world.fields(plain.key)).rare == {"metadata": {"a": []}}
    assert await world.store.update(plain.key, {"metadata": {}}, ACTOR) == plain.session
    assert (await world.fields(plain.key)).rare == {}


@pytest.mark.parametrize("aal", [IN_DOUBT_AAL, 1, 3])
async def test_the_level_stands_in_every_record(world: World, aal: int) -> None:
    """Nobody has to guess the level of a session, least of all of one in doubt."""
    signed = await world.sign_in(aal=aal)
    assert (await world.fields(signed.key)).aal == aal
    assert (await world.store.read(signed.key)).session == signed.session


async def test_the_old_key_lives_for_the_grace(world: World) -> None:
    """With a grace both keys are allowed until it is over, touched or not; then only the new."""
    signed = await world.sign_in()
    await world.wind(60_000)
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    assert await world.listed() == {signed.key, new}
    await world.wind(30_000 - SLACK_MS)
    assert await world.touch(signed, 1)
    assert await world.allows(signed.key)
    await world.wind(SLACK_MS + 1)
    assert not await world.allows(signed.key)
    assert not await world.touch(signed, 0)
    assert await world.listed() == {new}


async def test_an_unused_old_key_ends_with_the_grace(world: World) -> None:
    """An old key that nobody used any more ends all the same, and so the index has it."""
    signed = await world.sign_in()
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    index = world.keys.index(new.partition, "ann")
    old_end, new_end = [await world.client.zscore(index, key.digest) for key in (signed.key, new)]
    assert new_end == signed.session.expires_ms
    assert 30_000 <= old_end - signed.session.created_ms < 30_000 + SLACK_MS
    await world.wind(30_000 + SLACK_MS)
    assert await world.listed() == {new}
    await assert_gone(world, signed)
    await world.sign_in(rules=limited(9))
    assert {event["why"] for event in await world.events() if "why" in event} == {"expired"}


async def test_a_change_during_a_renewal_is_kept(world: World) -> None:
    """Roles that change after a renewal has read the session, and before it writes, are kept."""
    signed = await world.sign_in()
    original, _, new = world.store._raw, *fresh_key("ann")

    async def overtaken(key: SessionKey) -> tuple[bytes | None, Session | None]:
        raw = await original(key)
        world.store._raw = original  # type: ignore[method-assign]
        await world.store.update(key, {"roles": ("fewer",)}, ACTOR)
        return raw

    world.store._raw = overtaken  # type: ignore[method-assign]
    renewed = await world.store.renew(signed.key, new, 0, ACTOR)
    assert renewed is not None
    assert renewed.roles == ("fewer",)


async def test_a_change_during_a_grace_is_for_both_keys(world: World) -> None:
    """A role that was taken away is gone, whichever of the two ids it was taken from."""
    for by_old in (True, False):
        signed = await world.sign_in(roles=("admin",))
        _, new = fresh_key("ann")
        await world.store.renew(signed.key, new, 30_000, ACTOR)
        await world.store.update(signed.key if by_old else new, {"roles": ("user",)}, ACTOR)
        for key in (signed.key, new):
            session = (await world.store.read(key)).session
            assert session is not None
            assert session.roles == ("user",)


async def test_a_session_kept_is_kept_whole(world: World) -> None:
    """The end of all others spares both keys of the session to keep, named by either."""
    for by_old in (True, False):
        signed, other = await world.sign_in(), await world.sign_in()
        _, new = fresh_key("ann")
        await world.store.renew(signed.key, new, 30_000, ACTOR)
        ended = await world.store.end_all("ann", signed.key if by_old else new, ACTOR)
        assert [each.id for each in ended] == [other.id]
        assert await world.listed() == {signed.key, new}
        await world.store.end_all("ann", None, ACTOR)


async def test_a_key_in_its_grace_does_not_count(world: World) -> None:
    """The limit is of sessions, not of keys; evicted, a session goes with both of its keys."""
    rules = limited(2)
    signed = await world.sign_in(rules=rules)
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    second = await world.sign_in(rules=rules)
    assert second.ended == ()
    await world.wind(1_000)
    third = await world.sign_in(rules=rules)
    gone = {each.id for each in third.ended}
    assert gone in ({signed.id, new.id}, {second.id})


async def test_a_key_in_its_grace_is_not_renewed(world: World) -> None:
    """What came of it would end with the grace."""
    signed = await world.sign_in()
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    with pytest.raises(AlreadyRenewed):
        await world.store.renew(signed.key, fresh_key("ann")[1], 0, ACTOR)
    assert await world.listed() == {signed.key, new}


async def test_another_number_of_partitions_is_noticed_later_too(world: World) -> None:
    """A Redis that was emptied and set up anew by somebody else is not ours any more."""
    await world.store.check_layout()
    await world.client.set(world.keys.partitions, f"32 {records.VERSION}")
    with pytest.raises(ConfigurationError, match="set up with 32"):
        await world.store.check_layout()
    await world.client.delete(world.keys.partitions)
    await world.store.check_layout()
    assert await world.client.get(world.keys.partitions) == f"16 {records.VERSION}".encode()


@pytest.mark.parametrize("fixed", ["16", "16 2", "16 4", "16 3 3", "16 "])
async def test_records_of_another_version_are_not_shared(world: World, fixed: str) -> None:
    """Gateways that cannot read each other's records could not end each other's sessions whole."""
    await world.client.set(world.keys.partitions, fixed)
    with pytest.raises(ConfigurationError, match=r"redis\.prefix.* version 3"):
        await world.store.check_layout()
    with pytest.raises(ConfigurationError, match=r"another redis\.prefix"):
        await world.store.open()


@pytest.mark.parametrize("ending", ["end", "rest"])
async def test_an_update_that_is_overtaken_by_the_end_writes_nothing(
    world: World, ending: str
) -> None:
    """A session that ends after an update has read it stays ended."""
    signed = await world.sign_in()
    original = world.store._raw

    async def overtaken(key: SessionKey) -> tuple[bytes | None, Session | None]:
        raw = await original(key)
        if ending == "end":
            await world.store.end(key, EndState.REVOKED, ACTOR)
        else:
            await world.client.zrem(world.keys.activities(key.partition), key.digest)
        return raw

    world.store._raw = overtaken  # type: ignore[method-assign]
    assert await world.store.update(signed.key, {"roles": ("admin",)}, ACTOR) is None
    assert await world.store.renew(signed.key, fresh_key("ann")[1], 0, ACTOR) is None
    assert await world.listed() == set()
    assert "updated" not in kinds(await world.events())


async def test_renewal_does_not_stretch_a_life(world: World) -> None:
    """Renewed again and again, also through the old key, a session ends when it had to."""
    signed = await world.sign_in()
    keys = [signed.key]
    for _ in range(8):
        await world.wind(ABSOLUTE_MS // 9)
        for old in keys[-2:]:
            _, new = fresh_key("ann")
            if await world.store.renew(old, new, 300_000, ACTOR) is not None:
                keys.append(new)
    assert await world.listed()
    await world.wind(ABSOLUTE_MS // 9 + 1)
    assert not [key for key in keys if await world.allows(key)]
    assert await world.listed() == set()


@pytest.mark.parametrize("ended", ["old", "new"])
async def test_ending_a_renewed_session_ends_both_its_keys(world: World, ended: str) -> None:
    """During the grace one session has two keys: who ends either has ended the session."""
    signed = await world.sign_in()
    _, new = fresh_key("ann")
    await world.store.renew(signed.key, new, 30_000, ACTOR)
    key = signed.key if ended == "old" else new
    assert await world.store.end(key, EndState.REVOKED, ACTOR) == "ann"
    assert not await world.allows(signed.key)
    assert not await world.allows(new)
    assert await world.members() == await world.due() == set()
    assert kinds(await world.events())[2:] == ["ended/revoked"] * 2


# --- end -------------------------------------------------------------------------------------


async def test_an_ended_session_is_gone(world: World) -> None:
    """Ending names the user once; afterwards there is nothing to read, list, touch or end."""
    signed, other = await world.sign_in(), await world.sign_in()
    assert await world.store.end(signed.key, EndState.REVOKED, ACTOR) == "ann"
    assert not [name for name in await world.names() if signed.key.digest in name]
    await assert_gone(world, signed)
    assert await world.listed() == {other.key}
    assert await world.members() == await world.due() == {other.key.digest}


async def test_all_sessions_end_but_one(world: World) -> None:
    """`keep` stays, everything else of the user ends and is named."""
    signed = [await world.sign_in() for _ in range(4)]
    ended = await world.store.end_all("ann", signed[2].key, ACTOR)
    assert {each.id for each in ended} == {each.id for each in signed} - {signed[2].id}
    assert {each.why for each in ended} == {EndState.REVOKED}
    assert await world.listed() == {signed[2].key}
    assert [each.id for each in await world.store.end_all("ann", None, ACTOR)] == [signed[2].id]
    assert await world.members() == await world.due() == set()


async def test_one_device_is_signed_out(world: World) -> None:
    """Only the sessions on that device end."""
    laptop = [await world.sign_in(device="laptop") for _ in range(3)]
    phone = await world.sign_in(device="phone")
    ended = await world.store.end_device("ann", "laptop", ACTOR)
    assert {each.id for each in ended} == {each.id for each in laptop}
    assert await world.listed() == {phone.key}
    assert await world.store.end_device("ann", "laptop", ACTOR) == ()


async def test_a_clock_that_ran_ahead_protects_nothing(world: World) -> None:
    """Sessions that bear a later time than now, as after a failover, end with all the others."""
    signed = [await world.sign_in(device="laptop") for _ in range(2)]
    await world.wind(-120_000)
    assert len(await world.store.end_device("ann", "laptop", ACTOR)) == 2
    signed.append(await world.sign_in())
    await world.wind(-120_000)
    assert len(await world.store.end_all("ann", None, ACTOR)) == 1
    assert not [each for each in signed if await world.allows(each.key)]


@pytest.mark.parametrize("kept", [False, True], ids=["all", "except"])
async def test_thousands_of_sessions_end_in_batches(real: World, kept: bool) -> None:
    """2,500 sessions, more than two batches, end in one call; the one to keep stays."""
    keys = await real.copies(await real.sign_in(), 2499)
    assert await real.listed() >= set(keys)
    assert len(await real.listed()) == 2500 > 2 * BATCH
    keep = keys[1250] if kept else None
    ended = await real.store.end_all("ann", keep, ACTOR)
    assert len(ended) == len({each.id for each in ended}) == 2500 - kept
    assert await real.listed() == ({keep} if keep else set())
    assert len(await real.members()) == len(await real.due()) == int(kept)


async def test_a_renewal_between_batches_hides_nothing(real: World) -> None:
    """A key that moves to the front while batches run (renewed with a grace) ends all the same."""
    keep = await real.sign_in(device="other")
    await real.copies(await real.sign_in(), 1100)
    last = await real.sign_in(rules=rules_for(IDLE_MS, 2 * ABSOLUTE_MS))
    _, new = fresh_key("ann")
    runs = real.store._scripts["end_all"]

    async def renew_after_the_first(**call: Any) -> object:
        real.store._scripts["end_all"] = runs
        reply = await runs(**call)
        assert await real.store.renew(last.key, new, 60_000, ACTOR) is not None
        return reply

    real.store._scripts["end_all"] = renew_after_the_first  # type: ignore[assignment]
    await real.store.end_all("ann", keep.key, ACTOR)
    assert await real.listed() == {keep.key}


# --- limits ----------------------------------------------------------------------------------


async def test_the_least_recently_active_goes(world: World) -> None:
    """Beyond the limit the session that rested longest is evicted, not the oldest."""
    rules = limited(3)
    signed = []
    for _ in range(3):
        signed.append(await world.sign_in(rules=rules))
        await world.wind(INTERVAL_MS)
    assert await world.touch(signed[0], INTERVAL_MS)
    newest = await world.sign_in(rules=rules)
    assert [(each.id, each.why) for each in newest.ended] == [(signed[1].id, EndState.EVICTED)]
    assert await world.listed() == {signed[0].key, signed[2].key, newest.key}


async def test_a_lowered_limit_evicts_as_many_as_needed(world: World) -> None:
    """With five live sessions and a limit of two, a sign-in leaves two."""
    signed = [await world.sign_in() for _ in range(5)]
    newest = await world.sign_in(rules=limited(2))
    assert len(newest.ended) == 4
    assert len(await world.listed()) == 2
    assert newest.key in await world.listed()
    assert {each.id for each in newest.ended} <= {each.id for each in signed}


async def test_a_denied_sign_in_changes_nothing(world: World) -> None:
    """At the limit, where the rules deny, not one key, value or TTL changes."""
    for _ in range(2):
        await world.sign_in(rules=limited(2, "deny"))
    before = await world.everything()
    with pytest.raises(SessionLimitReached):
        await world.sign_in(rules=limited(2, "deny"))
    assert await world.everything() == before


async def test_what_is_over_does_not_count(world: World) -> None:
    """Idle and expired sessions neither block a sign-in nor are evicted by it."""
    rules = limited(2, "deny")
    idle = await world.sign_in(rules=rules)
    ending = await world.sign_in(
        rules=replace(rules, lifetime=rules_for(900_000, 900_000).lifetime)
    )
    await world.wind(IDLE_MS + 1)
    one = await world.sign_in(rules=rules)
    assert [(each.id, each.why) for each in one.ended] == [(idle.id, EndState.IDLE)]
    await world.wind(900_000 - IDLE_MS)
    await world.touch(one, 1)
    two = await world.sign_in(rules=rules)
    assert [(each.id, each.why) for each in two.ended] == [(ending.id, EndState.EXPIRED)]
    assert await world.listed() == {one.key, two.key}
    assert await world.members() == {one.key.digest, two.key.digest}


async def test_a_device_has_one_session(world: World) -> None:
    """A second sign-in on a device replaces the first, also at the limit that denies."""
    rules = limited(2, "deny", one_per_device=True)
    first = await world.sign_in(device="laptop", rules=rules)
    phone = await world.sign_in(device="phone", rules=rules)
    second = await world.sign_in(device="laptop", rules=rules)
    assert [(each.id, each.why) for each in second.ended] == [(first.id, EndState.REPLACED)]
    assert await world.listed() == {phone.key, second.key}


async def test_a_device_may_have_many(world: World) -> None:
    """Without `one_per_device` nothing is replaced."""
    signed = [await world.sign_in(device="laptop") for _ in range(3)]
    assert not any(each.ended for each in signed)
    assert await world.listed() == {each.key for each in signed}


# --- shared ----------------------------------------------------------------------------------


async def live(world: World, signed: SignedIn) -> Session:
    session = (await world.store.read(signed.key)).session
    assert session is not None
    return session


async def assert_gone(world: World, signed: SignedIn) -> None:
    """There is no way to use, revive or end the session."""
    assert not await world.allows(signed.key)
    assert signed.key not in await world.listed(signed.session.user)
    assert not await world.touch(signed, 0)
    assert await world.store.update(signed.key, {"name": "x"}, ACTOR) is None
    assert await world.store.renew(signed.key, fresh_key("ann")[1], 0, ACTOR) is None
    assert await world.store.end(signed.key, EndState.REVOKED, ACTOR) is None
    assert not await world.allows(signed.key)


async def test_a_store_that_keeps_changing_is_no_answer(world: World) -> None:
    """An update that is overtaken every time says "try again", and has written nothing."""
    signed = await world.sign_in()
    original = world.store._raw

    async def overtaken(key: object) -> object:
        raw = await original(signed.key)
        await world.store._client.set(
            world.keys.record(signed.key), (raw[0] or b"") + b" ", keepttl=True
        )
        return raw

    world.store._raw = overtaken  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailable, match="conflict"):
        await world.store.update(signed.key, {"name": "new"}, ACTOR)
    assert (await live(world, signed)).name == ""
