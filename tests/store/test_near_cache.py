"""What may be recalled from memory, whatever happened before: a clock of its own, no I/O."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.model import SessionKey, Standing
from gateway.store.near_cache import NearCache

LEASE_MS = 500
MAX_ENTRIES = 3
BLOCK = b"X-Auth-User: ann\r\n"
FAR_MS = 10**15
KEYS = [SessionKey("00", f"{number:032x}") for number in range(5)]


def standing(
    key: SessionKey = KEYS[0],
    *,
    expires_ms: int = FAR_MS,
    seen_ms: int = 0,
    idle_ms: int = FAR_MS,
    identity: bytes = BLOCK,
) -> Standing:
    return Standing(*key, ("staff",), expires_ms, idle_ms, seen_ms, identity)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms * 1_000_000


def cache(
    clock: Clock, *, max_entries: int = MAX_ENTRIES, max_bytes: int = 10**9, skew_ms: int = 0
) -> NearCache:
    """Return an empty memory whose lease has just begun."""
    near = NearCache(lease_ms=LEASE_MS, max_entries=max_entries, max_bytes=max_bytes, clock=clock)
    near.extend_lease(clock.now_ms, clock.now_ms + skew_ms)
    return near


def test_nothing_is_trusted_before_the_first_heartbeat() -> None:
    """What was read is not recalled until a master has answered."""
    clock = Clock()
    near = NearCache(lease_ms=LEASE_MS, max_entries=9, max_bytes=10**9, clock=clock)
    near.keep(standing())
    assert not near.fresh()
    assert near.recall(KEYS[0]) is None
    near.extend_lease(clock.now_ms, clock.now_ms)
    assert near.recall(KEYS[0]) is not None


@given(waited_ms=st.integers(0, 3 * LEASE_MS), late_ms=st.integers(0, 3 * LEASE_MS))
def test_the_lease_counts_from_when_the_heartbeat_was_sent(waited_ms: int, late_ms: int) -> None:
    """An answer that took its time gives that much less trust."""
    clock = Clock()
    near = NearCache(lease_ms=LEASE_MS, max_entries=9, max_bytes=10**9, clock=clock)
    near.keep(standing())
    sent_ms = clock.now_ms
    clock.now_ms += late_ms
    near.extend_lease(sent_ms, sent_ms)
    clock.now_ms += waited_ms
    trusted = late_ms + waited_ms < LEASE_MS
    assert near.fresh() is trusted
    assert (near.recall(KEYS[0]) is not None) is trusted


def test_an_older_answer_does_not_shorten_the_lease() -> None:
    """Answers that come in their order never take trust back."""
    clock = Clock()
    near = cache(clock)
    near.extend_lease(clock.now_ms - 400, clock.now_ms - 400)
    clock.now_ms += LEASE_MS - 1
    assert near.fresh()


@given(
    skew_ms=st.integers(-(10**12), 10**12),
    idle_ms=st.integers(1, 400),
    left_ms=st.integers(1, 400),
    passed_ms=st.integers(0, LEASE_MS - 1),
)
def test_an_entry_ends_by_its_own_clocks(
    skew_ms: int, idle_ms: int, left_ms: int, passed_ms: int
) -> None:
    """Whatever Redis says or does not say; its times are Redis', however far that is from ours."""
    clock = Clock()
    near = cache(clock, skew_ms=skew_ms)
    redis_ms = clock.now_ms + skew_ms
    near.keep(standing(expires_ms=redis_ms + left_ms, seen_ms=redis_ms, idle_ms=idle_ms))
    clock.now_ms += passed_ms
    recalled = near.recall(KEYS[0])
    assert (recalled is not None) is (passed_ms < min(idle_ms, left_ms))
    if recalled is not None:
        assert recalled[1] == redis_ms + passed_ms


def test_a_digest_alone_recalls_nothing() -> None:
    """The partition counts too, although no two tokens have one digest."""
    near = cache(Clock())
    near.keep(standing())
    assert near.recall(SessionKey("01", KEYS[0].digest)) is None
    assert near.recall(KEYS[0]) is not None


def test_activity_only_moves_forward_and_never_creates() -> None:
    """A later activity lengthens what is remembered; an earlier one, or none at all, nothing."""
    clock = Clock()
    near = cache(clock)
    near.keep(standing(seen_ms=clock.now_ms, idle_ms=100))
    near.note_activity(KEYS[0], clock.now_ms - 50)
    near.note_activity(KEYS[1], clock.now_ms)
    assert near.recall(KEYS[1]) is None
    clock.now_ms += 99
    assert near.recall(KEYS[0]) is not None
    near.note_activity(KEYS[0], clock.now_ms)
    clock.now_ms += 99
    assert near.recall(KEYS[0]) is not None
    clock.now_ms += 1
    assert near.recall(KEYS[0]) is None


def test_the_oldest_go_first() -> None:
    """Beyond the bound what was read last stays."""
    near = cache(Clock(), max_entries=64)
    keys = [SessionKey("00", f"{number:032x}") for number in range(200)]
    for key in keys:
        near.keep(standing(key))
        assert near.recall(key) is not None
    assert [near.recall(key) is not None for key in keys] == sorted(
        near.recall(key) is not None for key in keys
    )
    assert 32 <= len(near) <= 64


def test_activity_makes_nothing_younger() -> None:
    """What was read longest ago goes, however often it was used since."""
    clock = Clock()
    near = cache(clock, max_entries=2)
    near.keep(standing(KEYS[0]))
    near.keep(standing(KEYS[1]))
    near.note_activity(KEYS[0], clock.now_ms)
    near.keep(standing(KEYS[2]))
    assert [near.recall(key) is not None for key in KEYS[:3]] == [False, True, True]


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=60))
def test_bytes_are_bounded(sizes: list[int]) -> None:
    """However long the identities are, the estimate stays below the bound, and goes back to 0."""
    near = cache(Clock(), max_entries=10**6, max_bytes=8_000)
    keys = [SessionKey("00", f"{number:032x}") for number in range(len(sizes))]
    for key, size in zip(keys, sizes, strict=True):
        near.keep(standing(key, identity=b"x" * size))
        assert near.recall(key) is not None
        assert near.bytes <= 8_000
    for key in keys:
        near.forget(key)
    assert (near.bytes, len(near)) == (0, 0)


def test_unknown_keys_cost_nothing() -> None:
    """A flood of made-up tokens pushes nobody out."""
    near = cache(Clock())
    near.keep(standing())
    for number in range(10_000):
        assert near.recall(SessionKey("01", f"{number:032x}")) is None
    assert near.recall(KEYS[0]) is not None
    assert len(near) == 1


class Model(RuleBasedStateMachine):
    """Any order of what the stream can bring, against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.near = cache(self.clock)
        self.known: dict[SessionKey, Standing] = {}  # the oldest first
        self.trusted_until = self.clock.now_ms + LEASE_MS

    @rule(
        key=st.sampled_from(KEYS),
        size=st.integers(0, 50),
        left_ms=st.integers(1, 2000),
        idle_ms=st.integers(1, 1000),
    )
    def keep(self, key: SessionKey, size: int, left_ms: int, idle_ms: int) -> None:
        now = self.clock.now_ms
        kept = standing(
            key, expires_ms=now + left_ms, seen_ms=now, idle_ms=idle_ms, identity=b"x" * size
        )
        self.near.keep(kept)
        self.known.pop(key, None)
        self.known[key] = kept
        if len(self.known) > MAX_ENTRIES:
            del self.known[next(iter(self.known))]

    @rule(key=st.sampled_from(KEYS), late_ms=st.integers(-50, 600))
    def touch(self, key: SessionKey, late_ms: int) -> None:
        seen_ms = self.clock.now_ms - late_ms
        self.near.note_activity(key, seen_ms)
        if key in self.known:
            old = self.known[key]
            self.known[key] = old.seen_at(max(seen_ms, old.last_seen_ms))

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: SessionKey) -> None:
        self.near.forget(key)
        self.known.pop(key, None)

    @rule()
    def lose(self) -> None:
        self.near.forget_all()
        self.known.clear()
        self.trusted_until = 0

    @rule(late_ms=st.integers(0, 600))
    def beat(self, late_ms: int) -> None:
        sent_ms = self.clock.now_ms - late_ms
        self.near.extend_lease(sent_ms, sent_ms)
        self.trusted_until = max(self.trusted_until, sent_ms + LEASE_MS)

    @rule(ms=st.integers(0, 400))
    def wait(self, ms: int) -> None:
        self.clock.now_ms += ms

    def expected(self, key: SessionKey) -> Standing | None:
        session, now = self.known.get(key), self.clock.now_ms
        if session is None or now >= self.trusted_until:
            return None
        return session if now < min(session.expires_ms, session.idle_expires_ms) else None

    @invariant()
    def recalls_what_is_known_and_may_be_trusted(self) -> None:
        for key in KEYS:
            recalled = self.near.recall(key)
            assert (None if recalled is None else recalled[0]) == self.expected(key)

    @invariant()
    def stays_within_its_bounds(self) -> None:
        assert len(self.near) == len(self.known) <= MAX_ENTRIES

    def teardown(self) -> None:
        """Whatever went before, what is left adds up: without it there is nothing."""
        for key in KEYS:
            assert (self.near.bytes == 0) == (len(self.near) == 0)
            self.near.forget(key)
        assert (self.near.bytes, len(self.near)) == (0, 0)


def test_any_order() -> None:
    """Recalled is exactly what was kept, not forgotten, has not ended, and may be trusted."""
    run_state_machine_as_test(Model, settings=settings(max_examples=150, stateful_step_count=40))
