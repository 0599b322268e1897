"""What the use cases need from outside, and what they may rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from .lifetime import Lifetime
from .model import Actor, Device, Ended, EndState, Login, Session, SessionKey, Standing


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


@dataclass(frozen=True, slots=True)
class Created:
    """A new session and those that had to go for it."""

    session: Session
    ended: tuple[Ended, ...]


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
        self, key: SessionKey, login: Login, device: Device, rules: SignInRules, actor: Actor
    ) -> Created:
        """Add a session. Raises SessionLimitReached where the rules deny; then nothing changed."""

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
    ) -> Session | None:
        """Move a live session to a new key; the old one ends after `grace_ms`.

        With `aal` the user has just signed in again, at that level; the old key keeps its own.
        """

    async def end(
        self, key: SessionKey, why: EndState, actor: Actor, fence: Fence | None = None
    ) -> str | None:
        """End one session; return its user, or None if there was none."""

    async def end_all(
        self, user: str, keep: SessionKey | None, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        """End all sessions that the user had when the call began, but `keep`."""

    async def end_device(
        self, user: str, device_id: str, actor: Actor, fence: Fence | None = None
    ) -> tuple[Ended, ...]:
        """End the user's sessions on one device."""

    async def sessions_of(self, user: str) -> tuple[Session, ...]:
        """Return the user's live sessions: exactly those that a check would find."""

    async def sweep(self) -> tuple[EndState, ...]:
        """End the sessions that are over by themselves, with their events."""

    async def ping(self) -> None:
        """Return if the store can be used now."""
