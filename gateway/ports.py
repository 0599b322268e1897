"""What the use cases need from outside, and what they may rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from .alerts import Alert, SignIn, Watch
from .lifetime import Lifetime
from .links import Question
from .model import (
    NOWHERE,
    Actor,
    Caller,
    Client,
    Device,
    Ended,
    EndState,
    Event,
    EventId,
    Login,
    Place,
    Session,
    SessionKey,
    Standing,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the store knew of a session at `now_ms` (Redis' clock)."""

    session: Session | None
    now_ms: int


# A session that lives, as memory may vouch for it, and Redis' time in milliseconds. None says
# nothing: the store must be read.
Recall = Callable[[SessionKey], tuple[Standing, int] | None]


class Confirmation(NamedTuple):
    """How many replicas answered checks from memory, and what became of that after a change.

    `complete`: each has either passed the change or lost the right to trust its memory.
    """

    live: int = 0
    confirmed: int = 0
    lease_expired: int = 0
    complete: bool = True


class Fence(Protocol):
    """Stands behind one change; `SessionStore.confirmed` waits until it has been passed."""

    def next_step(self) -> str:
        """Return the name of the fence behind the next step of the change."""

    def undo_step(self) -> None:
        """Take the last step back: there was nothing to change, and its fence was not written."""


class Touched(NamedTuple):
    """When a session was last seen, and whether this call wrote it."""

    seen_ms: int
    written: bool


@dataclass(frozen=True, slots=True)
class SignInRules:
    """What a new session may do to the user's others."""

    lifetime: Lifetime
    max_per_user: int  # 0: no limit
    on_limit: Literal["evict", "deny"]
    one_per_device: bool
    watch: Watch | None = None  # the alert rules; None: nobody asks


@dataclass(frozen=True, slots=True)
class Created:
    """A new session, those that had to go for it, and what nobody was told of before."""

    session: Session
    ended: tuple[Ended, ...]
    alerts: tuple[Alert, ...] = ()


class SessionStore(Protocol):
    """Sessions in Redis, or in anything that keeps these promises.

    Every method raises StoreUnavailable when it cannot know; nothing else means "no session".
    Every change is atomic, writes its event in the same step, and never revives what has ended.
    """

    @property
    def recall(self) -> Recall: ...

    async def read(self, key: SessionKey) -> Reading:
        """Return the session as it is now; a missing one is an answer, not a fault."""

    async def create(
        self,
        key: SessionKey,
        login: Login,
        device: Device,
        rules: SignInRules,
        actor: Actor,
        *,
        place: Place = NOWHERE,
    ) -> Created:
        """Add a session. Raises SessionLimitReached where the rules deny; then nothing changed.

        Of each fact of a user there is one alert, also under parallel sign-ins. Raises
        SignInRefused where the alert rules do; then there is no session, but the alert.
        """

    async def learn(self, sign_in: SignIn, memory_ms: int) -> None:
        """Know from now on that the user signs in from there."""

    async def note_use(self, session: Standing, caller: Caller, alerts: tuple[Alert, ...]) -> None:
        """Tell of a session that somebody else uses: of each fact of it once, while it lives."""

    async def touch(self, key: SessionKey, interval_ms: int) -> Touched | None:
        """Note activity if none was noted for `interval_ms`; None if there is no such session."""

    def fence(self) -> Fence:
        """Begin a change that every replica is to confirm."""

    async def confirmed(self, fence: Fence) -> Confirmation:
        """Wait, within bounds, until no replica can allow by what it knew before the change."""

    async def update(
        self,
        key: SessionKey,
        changes: Mapping[str, object],
        actor: Actor,
        fence: Fence | None = None,
    ) -> Session | None:
        """Change roles, email, name, metadata or aal of a live session; None if there is none."""

    async def renew(
        self,
        key: SessionKey,
        new: SessionKey,
        grace_ms: int,
        actor: Actor,
        fence: Fence | None = None,
        *,
        aal: int | None = None,
        client: Client | None = None,
    ) -> Session | None:
        """Move a live session to a new key; the old one ends after `grace_ms`.

        With `aal` the user has just signed in again, at that level, there where `client` says; the
        old key keeps its own.
        """

    async def end(
        self, key: SessionKey, why: EndState, actor: Actor, fence: Fence | None = None
    ) -> str | None:
        """End one session; return its user, None if there was none, "" if nobody can tell whose."""

    async def end_all(
        self, user: str, keep: SessionKey | None, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        """End all sessions that the user had when the call began, but `keep`."""

    async def end_device(
        self, user: str, device_id: str, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        """End the user's sessions on one device."""

    async def end_family(
        self, user: str, key: SessionKey, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        """End the session that had this key first, whatever keys it has now."""

    async def sessions_of(self, user: str) -> tuple[Session, ...]:
        """Return the user's live sessions: exactly those that a check would find."""

    async def sweep(self) -> tuple[EndState, ...]:
        """End the sessions that are over by themselves, with their events."""

    async def ping(self) -> None:
        """Return if the store can be used now."""


class Entry(NamedTuple):
    """An event, and where it is in the outbox: a dead letter that was put back keeps its id."""

    stream_id: str
    event: Event


class Unreadable(NamedTuple):
    """An entry of the outbox that is no event, and why."""

    stream_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one partition's outbox, oldest first; `full`: there may be more."""

    entries: tuple[Entry, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    # Ids of what the bounded outbox has dropped before it was taken, or is for another sink alone.
    skipped: tuple[str, ...] = ()
    full: bool = False

    def __len__(self) -> int:
        return len(self.entries) + len(self.unreadable) + len(self.skipped)


class Sink(Protocol):
    """Where events go. A new one is a class with these two and its line in `app`.

    `name` is that of its consumer group: it must never change, or all events come again.
    """

    @property
    def name(self) -> str: ...

    async def take(self, partition: str, events: Sequence[Event]) -> int:
        """Return how many of these, from the first on, are safe; only these are acknowledged.

        At least one must be; what is left comes again at once. They come at least once: repeats
        bear the same id, alone or among others. After a replica was given up for dead they may come
        behind later ones, and so does a dead letter that was put back. All else is in order: one
        call at a time for each partition, which holds all events of a user.

        Raise SinkUnavailable (or StoreUnavailable, or TimeoutError) while nothing can be taken: the
        same comes again, for ever, but see its `give_up_s`. Any other exception is laid to one of
        the events: they are then given one by one, and one that fails several times becomes a dead
        letter. It is cancelled after half of `events.takeover`, as if it were away.
        """


class Outbox(Protocol):
    """The events that sinks have not yet taken. Raises StoreUnavailable as the store does."""

    async def take(self, sink: str, partition: str) -> Batch:
        """Hold the partition for this sink and return what it is to take next.

        That is first whatever was taken before and is not done, by whomever. Empty if there is
        nothing, or while another replica holds it.
        """

    async def done(
        self, sink: str, partition: str, stream_ids: Sequence[str], *, release: bool
    ) -> bool:
        """Acknowledge, and remove what all sinks have; False if the partition is not held."""

    async def bury(self, sink: str, partition: str, stream_id: str, why: str) -> bool:
        """Move an event to the dead letters of this sink; False if the partition is not held."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events: empty or None means any. Newest first, those before `before`."""

    user: str = ""
    session: str = ""
    type: str = ""
    from_ms: int | None = None  # with this
    to_ms: int | None = None  # without this
    before: EventId | None = None
    limit: int = 50


class EventLog(Protocol):
    """Events that can still be read."""

    async def page(self, query: EventQuery) -> tuple[Event, ...]:
        """Return up to `limit` events, newest first.

        Raises SinkUnavailable or StoreUnavailable when it cannot know.
        """


class Mark(NamedTuple):
    """A place in a partition's chain of events: how many it holds, and the hash of the last."""

    length: int
    hash: str  # hex

    def __str__(self) -> str:
        return f"{self.length}:{self.hash}"


NO_MARK = Mark(0, "00" * 32)


class Witnessed(NamedTuple):
    """What is remembered of a chain outside of where it is kept.

    `contradicted` is a head that the history once did not have any more: it had lost events.
    """

    start: Mark = NO_MARK
    head: Mark = NO_MARK
    contradicted: Mark | None = None


class Witness(Protocol):
    """Remembers the ends of the chains, so that cutting one off is found."""

    async def seen(self, partition: str) -> Witnessed: ...

    async def saw_head(self, partition: str, head: Mark) -> None:
        """Remember a longer chain; a shorter one is ignored."""

    async def saw_start(self, partition: str, start: Mark) -> None:
        """Remember where the chain begins since its oldest part was removed on purpose."""

    async def saw_contradiction(self, partition: str, lost: Mark) -> None:
        """Remember for ever that the history had lost this head; the next head replaces it."""


class Answers(Protocol):
    """What users have answered about alerts, until the link is too old. Raises StoreUnavailable."""

    async def is_answered(self, alert_id: str) -> bool:
        """Tell whether somebody has answered, or is about it."""

    async def begin_answer(self, alert_id: str) -> bool:
        """Claim the one answer; for a minute, lest a crash takes it. False: somebody was first."""

    async def forget_answer(self, alert_id: str) -> None:
        """Give the claim back: nothing was done."""

    async def finish_answer(
        self, question: Question, data: Mapping[str, object], actor: Actor
    ) -> None:
        """Keep the claim, and write the event."""
