"""New rules while checks go on: from the file when it has changed, or on SIGHUP.

Only the policy is taken over. The whole file must be good, else the last good rules stay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from .config import Loaded, Settings, load
from .config.settings import Policy
from .errors import ConfigurationError, Problem

_POLL_S = 1.0

log = structlog.get_logger("gateway")


class Source:
    """The file that the configuration comes from, and how it stood when it was read."""

    def __init__(self, path: str | None) -> None:
        """Begin before the first `load`, so that no change is missed."""
        self.path = path
        self._read = self._seen = self._look()

    def has_changed(self) -> bool:
        """Tell whether it is not what was read, and has rested since the last call.

        A file that is being written may be good TOML already, and ask less than the whole.
        """
        before, self._seen = self._seen, self._look()
        return before == self._seen != self._read

    async def rest(self) -> None:
        """Return once it has not changed for a while: who asks may still be writing."""
        while True:
            before = await asyncio.to_thread(self._look)
            await asyncio.sleep(_POLL_S)
            if await asyncio.to_thread(self._look) == before:
                return

    def forget(self) -> None:
        """Take what was read for changed: it could not be applied."""
        self._read = None

    def load(self) -> Loaded:
        """Read and check it; ConfigurationError if it cannot be read, or not all at once."""
        self._read = self._seen = self._look()
        loaded = load(self.path)
        if self._look() != self._read:
            raise ConfigurationError(f"{self.path}: changed while it was read")
        return loaded

    def _look(self) -> tuple[int, ...] | None:
        if self.path is None:
            return None
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Reloading:
    """Takes over rules that are good. `count` hears "ok" or "error" for every attempt."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        *,
        apply: Callable[[Policy], str],
        count: Callable[[str], None],
    ) -> None:
        self._source = source
        self._settings = settings
        self._apply = apply
        self._count = count
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the file now, whether it has changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Look for changes until cancelled; no file can end this."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _POLL_S)
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                if asked:
                    await self._source.rest()
                if asked or await asyncio.to_thread(self._source.has_changed):
                    await self._reload()
            except Exception:
                log.exception("policy_reload_failed")
                self._count("error")
                self._source.forget()

    async def _reload(self) -> None:
        try:
            loaded = await asyncio.to_thread(self._source.load)
        except ConfigurationError as error:
            self._reject((Problem(self._source.path or "the environment", str(error)),))
            return
        if loaded.settings is None:
            self._reject(loaded.problems)
            return
        problem = _needs_other_peers(self._settings, loaded.settings)
        problem = problem or _needs_other_places(self._settings, loaded.settings)
        if problem:
            self._reject((problem,))
            return
        for warning in loaded.warnings:
            log.warning("configuration", place=warning.place, what=warning.message)
        self._tell_of_others(loaded.settings)
        policy = loaded.settings.policy
        version = self._apply(policy)
        self._count("ok")
        log.info("policy_applied", version=version, rules=len(policy.rules))

    def _reject(self, problems: tuple[Problem, ...]) -> None:
        self._count("error")
        log.error(
            "policy_rejected", problems=list(map(str, problems)), what="the last good rules stay"
        )

    def _tell_of_others(self, new: Settings) -> None:
        changed = [
            name
            for name in Settings.model_fields
            if name != "policy" and getattr(new, name) != getattr(self._settings, name)
        ]
        if changed:
            log.warning("restart_needed", sections=changed, what="only the policy is reloaded")


def _needs_other_peers(running: Settings, new: Settings) -> Problem | None:
    """Return why rules by address cannot be taken over: whose word counts changes at a restart.

    Until then a new balancer's address would be every client's.
    """
    told = "trusted_proxies", "trusted_hops"
    same = all(getattr(new.check, name) == getattr(running.check, name) for name in told)
    if same or not any(rule.networks or rule.country or rule.asn for rule in new.policy.rules):
        return None
    return Problem(
        "check.trusted_proxies",
        "has changed, and rules ask for networks: restart, so that both are taken over at once",
    )


def _needs_other_places(running: Settings, new: Settings) -> Problem | None:
    """Return why rules by country or owner of a network cannot be taken over: nobody knows them."""
    if running.geo == new.geo or not any(rule.country or rule.asn for rule in new.policy.rules):
        return None
    return Problem(
        "geo", "has changed, and rules ask for places: restart, so that both are taken over at once"
    )
