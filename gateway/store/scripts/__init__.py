"""One atomic move, one named Lua file; `prelude.lua` stands in front of those about sessions,
`relay_prelude.lua` in front of the relay's.

Run with EVALSHA and loaded again when the server has forgotten them (redis-py does both).
"""

from __future__ import annotations

from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

NAMES = (
    "create", "touch", "update", "renew", "end_one", "end_all", "end_device", "end_family",
    "sweep", "note_use", "answer_alert",
)  # fmt: skip
RELAY_NAMES = (
    "relay_take", "relay_done", "relay_bury", "relay_requeue", "relay_survey", "witness",
)  # fmt: skip

# A revocation must succeed at maxmemory: it frees memory, and its event can be reported as lost.
_ENDS = frozenset({"end_one", "end_all", "end_device", "end_family", "sweep"})
_ALLOW_OOM = "#!lua flags=allow-oom\n"


def register_relay(client: Redis, *, knows_flags: bool) -> dict[str, AsyncScript]:
    """Return the relay's scripts. At maxmemory they must run: they free memory."""
    head = _ALLOW_OOM if knows_flags else ""
    return {
        name: client.register_script(head + source(name, behind="relay_prelude"))
        for name in RELAY_NAMES
    }


def source(name: str, *, behind: str = "prelude") -> str:
    """Return the text of a script with its prelude in front."""
    folder = files(__package__)
    return "".join((folder / f"{part}.lua").read_text() for part in (behind, name))


def register(client: Redis, *, knows_flags: bool) -> dict[str, AsyncScript]:
    """Return every script, ready to be called. `knows_flags`: the server is Redis 7 or later."""
    return {
        name: client.register_script(
            (_ALLOW_OOM if knows_flags and name in _ENDS else "") + source(name)
        )
        for name in NAMES
    }
