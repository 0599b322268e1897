"""Any order of operations, against a model that is too simple to be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.embedded import EmbeddedValkey
from gateway.errors import AlreadyRenewed, SessionLimitReached
from gateway.lifetime import Lifetime
from gateway.model import EndState, SessionKey
from gateway.store import MemoryOptions

from .world import ACTOR, RULES, SignedIn, fake_world, fresh_key, real_world

Result = TypeVar("Result")

USERS = ("ann", "bob")
DEVICES = ("laptop", "phone", "tv")
LIMIT = 3

# The model's time moves only with `wind`, in steps of a minute; the server's goes on meanwhile.
# So every instant of the model is in the middle of a minute, where a few seconds decide nothing.
MINUTE_MS = 60_000
HALF_MS = MINUTE_MS // 2
IDLE = 5
ABSOLUTE = 12
LIFETIME = Lifetime(IDLE * MINUTE_MS + HALF_MS, ABSOLUTE * MINUTE_MS + HALF_MS)
GRACE = 2


@dataclass
class Modelled:
    """One key of a session as the model has it; times are minutes."""

    signed: SignedIn
    key: SessionKey
    user: str
    device: str
    roles: tuple[str, ...]
    family: int
    seen: int
    ends: int
    ended: bool = False
    in_grace: bool = False

    def live(self, now: int) -> bool:
        return not self.ended and now <= self.ends and now - self.seen <= IDLE


class StoreMachine(RuleBasedStateMachine):
    """Does to the store what it does to the model, and compares."""

    url: str | None = None  # of a real server; None: the fake
    memory: MemoryOptions | None = None
    recalled: ClassVar[list[SessionKey]] = []  # what memory answered, to show that it did

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.world = self.run(self.stack.enter_async_context(self.build()))
        self.keys: list[Modelled] = []
        self.now = 0
        self.families = 0
        self.written: str | None = None  # the user whose index the last operation had to trim

    @classmethod
    def build(cls) -> Any:
        return fake_world() if cls.url is None else real_world(cls.url, memory=cls.memory)

    def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(step)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()

    def live_of(self, user: str) -> list[Modelled]:
        return [each for each in self.keys if each.user == user and each.live(self.now)]

    # --- rules ---------------------------------------------------------------------------

    @rule(
        user=st.sampled_from(USERS),
        device=st.sampled_from(DEVICES),
        deny=st.booleans(),
        one_per_device=st.booleans(),
    )
    def create(self, user: str, device: str, deny: bool, one_per_device: bool) -> None:
        rules = replace(
            RULES,
            lifetime=LIFETIME,
            max_per_user=LIMIT,
            on_limit="deny" if deny else "evict",
            one_per_device=one_per_device,
        )
        replaced = [e for e in self.live_of(user) if one_per_device and e.device == device]
        others = [each for each in self.live_of(user) if each not in replaced]
        surplus = max(0, len([each for each in others if not each.in_grace]) - LIMIT + 1)
        try:
            signed = self.run(self.world.sign_in(user, device, rules))
        except SessionLimitReached:
            assert deny
            assert surplus
            return
        assert not (deny and surplus)
        gone = {each.id: each.why for each in signed.ended if each.why not in ("idle", "expired")}
        evicted = [each for each in others if gone.get(each.key.id) == EndState.EVICTED]
        assert len([each for each in evicted if not each.in_grace]) == surplus
        families = {each.family for each in evicted}
        assert evicted == [each for each in others if each.family in families]
        stay = [each.seen for each in others if each not in evicted and not each.in_grace]
        chosen = [each.seen for each in evicted if not each.in_grace]
        assert max(chosen, default=0) <= min(stay, default=self.now)
        assert gone.keys() == {each.key.id for each in [*replaced, *evicted]}
        for each in [*replaced, *evicted]:
            each.ended = True
        self.families += 1
        ends = self.now + ABSOLUTE
        roles = signed.session.roles
        self.keys.append(
            Modelled(signed, signed.key, user, device, roles, self.families, self.now, ends)
        )
        self.written = user

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def check(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.keys))
        self.recall(each)
        reading = self.run(self.world.store.read(each.key))
        live = reading.session is not None and reading.now_ms < reading.session.idle_expires_ms
        assert live == each.live(self.now)
        if reading.session is not None and live:
            assert (reading.session.user, reading.session.roles) == (each.user, each.roles)
            assert reading.session.device.id == each.device

    def recall(self, each: Modelled) -> None:
        """Whatever memory says must be so; that it says nothing is always right."""
        self.run(self.world.settle())
        remembered = self.world.store.recall(each.key)
        if remembered is not None:
            assert each.live(self.now)
            assert remembered[0].roles == each.roles
            self.recalled.append(each.key)

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.keys))
        touched = self.run(self.world.store.touch(each.key, HALF_MS))
        assert (touched is not None) == each.live(self.now)
        assert (touched is not None and touched.written) == (
            each.live(self.now) and self.now > each.seen
        )
        if touched is not None and touched.written:
            each.seen = self.now

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), roles=st.sampled_from([(), ("admin",), ("a", "b")]))
    def update(self, data: st.DataObject, roles: tuple[str, ...]) -> None:
        each = data.draw(st.sampled_from(self.keys))
        updated = self.run(self.world.store.update(each.key, {"roles": roles}, ACTOR))
        assert (updated is not None) == each.live(self.now)
        if updated is not None:
            assert updated.roles == roles
            for other in self.keys:
                other.roles = roles if other.family == each.family else other.roles

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), grace=st.sampled_from([0, GRACE]))
    def renew(self, data: st.DataObject, grace: int) -> None:
        old = data.draw(st.sampled_from(self.keys))
        _, new = fresh_key(old.user)
        grace_ms = grace * MINUTE_MS + (HALF_MS if grace else 0)
        try:
            renewed = self.run(self.world.store.renew(old.key, new, grace_ms, ACTOR))
        except AlreadyRenewed:
            assert old.in_grace
            assert old.live(self.now)
            return
        assert (renewed is not None) == (old.live(self.now) and not old.in_grace)
        if renewed is None:
            return
        self.keys.append(replace(old, key=new, seen=self.now))
        if grace and self.now + grace < old.ends:
            old.ends, old.in_grace = self.now + grace, True
        else:
            old.ended = True

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.keys))
        user = self.run(self.world.store.end(each.key, EndState.REVOKED, ACTOR))
        assert user == (each.user if each.live(self.now) else None)
        if user is not None:
            for other in self.keys:
                other.ended = other.ended or other.family == each.family

    @rule(user=st.sampled_from(USERS), data=st.data())
    def end_all(self, user: str, data: st.DataObject) -> None:
        keep = data.draw(st.sampled_from([None, *self.live_of(user)]))
        key = keep and keep.key
        family = keep and keep.family
        leaving = [each for each in self.live_of(user) if each.family != family]
        self.assert_ended(self.run(self.world.store.end_all(user, key, ACTOR)), leaving)
        self.written = user

    @rule(user=st.sampled_from(USERS), device=st.sampled_from(DEVICES))
    def end_device(self, user: str, device: str) -> None:
        leaving = [each for each in self.live_of(user) if each.device == device]
        self.assert_ended(self.run(self.world.store.end_device(user, device, ACTOR)), leaving)
        self.written = user

    @rule(minutes=st.integers(1, 6))
    def wind(self, minutes: int) -> None:
        self.now += minutes
        self.run(self.world.wind(minutes * MINUTE_MS))
        self.written = None

    @rule()
    def sweep(self) -> None:
        self.run(self.world.store.sweep())
        for user in USERS:
            live = {each.key.digest for each in self.live_of(user)}
            assert self.run(self.world.members(user)) == self.run(self.world.due(user)) == live

    def assert_ended(self, ended: tuple[Any, ...], leaving: list[Modelled]) -> None:
        assert sorted(each.id for each in ended) == sorted(each.key.id for each in leaving)
        for each in leaving:
            each.ended = True

    # --- what always holds ---------------------------------------------------------------

    @invariant()
    def the_list_is_what_lives(self) -> None:
        for user in USERS:
            expected = {each.key: each.roles for each in self.live_of(user)}
            sessions = self.run(self.world.store.sessions_of(user))
            assert {session.key: session.roles for session in sessions} == expected

    @invariant()
    def no_more_than_the_limit(self) -> None:
        for user in USERS:
            sessions = {each.family for each in self.live_of(user)}
            assert len(sessions) <= LIMIT

    @invariant()
    def every_key_ends(self) -> None:
        assert self.run(self.world.without_ttl()) == []

    @invariant()
    def a_write_leaves_nothing_dead(self) -> None:
        user, self.written = self.written, None
        if user is not None:
            live = {each.key.digest for each in self.live_of(user)}
            assert self.run(self.world.members(user)) == live
            # An index that is gone before a sweep came leaves its due entries to the next sweep.
            assert self.run(self.world.due(user)) >= live


SHRINKING_TAKES_LONG = pytest.mark.timeout(240)


def explore(
    url: str | None,
    examples: int,
    steps: int,
    *,
    derandomize: bool = True,
    memory: MemoryOptions | None = None,
) -> int:
    """The suite tries the same orders each time; `make soak` tries new ones.

    Return how often memory answered.
    """
    recalled: list[SessionKey] = []
    facts = {"url": url, "memory": memory, "recalled": recalled}
    machine = type("Machine", (StoreMachine,), facts)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            phases=(Phase.generate, Phase.shrink),  # explaining traces each line: minutes on 3.11
            suppress_health_check=list(HealthCheck),
        ),
    )
    return len(recalled)


@SHRINKING_TAKES_LONG
def test_any_order_on_the_fake() -> None:
    """No order of operations breaks the limit, brings back what ended or leaves something over."""
    assert explore(None, examples=40, steps=25) == 0


@SHRINKING_TAKES_LONG
def test_any_order_on_a_real_server(valkey: EmbeddedValkey) -> None:
    """The same, for fewer orders, where the commands are the real ones."""
    assert explore(valkey.url, examples=15, steps=25) == 0


@SHRINKING_TAKES_LONG
def test_any_order_with_a_memory(valkey: EmbeddedValkey) -> None:
    """The same with a near cache: it never says what the model does not."""
    assert explore(valkey.url, examples=15, steps=25, memory=MemoryOptions()) > 0
