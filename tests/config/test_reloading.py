"""When a file counts as changed, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from gateway import reloading
from gateway.config import load
from gateway.config.settings import Policy
from gateway.errors import ConfigurationError
from gateway.reloading import Reloading, Source
from tests.alerts import databases

from .test_loading import GOOD

OTHER = GOOD.replace('"session"', '"deny"')


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "gateway.toml"
    found.write_text(GOOD)
    return found


def test_a_file_that_still_changes_is_left_alone(path: Path) -> None:
    """Half of it may be good TOML that asks less than the whole: it must rest for one look."""
    source = Source(str(path))
    assert not source.has_changed()
    path.write_text(OTHER)
    assert not source.has_changed()
    path.write_text(OTHER + "#")
    assert not source.has_changed()
    assert source.has_changed()
    assert source.has_changed()  # until it is read
    source.load()
    assert not source.has_changed()


def test_a_file_that_is_replaced_by_one_of_the_same_size_is_another(path: Path) -> None:
    """As Kubernetes does it, by a link that points elsewhere."""
    link = path.with_name("link")
    link.symlink_to(path)
    source = Source(str(link))
    other = path.with_name("other")
    other.write_text(GOOD)
    link.unlink()
    link.symlink_to(other)
    assert not source.has_changed()
    assert source.has_changed()


def test_without_a_file_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings may all come from the environment, which does not change."""
    monkeypatch.chdir(tmp_path)
    source = Source(None)
    (tmp_path / "new").touch()
    assert not source.has_changed()
    assert not source.has_changed()


def test_a_file_that_is_gone_is_a_change_once(path: Path) -> None:
    source = Source(str(path))
    path.unlink()
    assert not source.has_changed()
    assert source.has_changed()
    with pytest.raises(ConfigurationError):
        source.load()
    assert not source.has_changed()


def test_a_change_between_the_start_and_the_first_look_is_found(path: Path) -> None:
    """The file is noted before it is read for the first time."""
    source = Source(str(path))
    source.load()
    path.write_text(OTHER)
    assert not source.has_changed()
    assert source.has_changed()


def test_a_file_that_changes_while_it_is_read_is_not_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its old half nor its new one."""
    def overtaken(name: str | None) -> object:
        loaded = load(name)
        path.write_text(OTHER)
        return loaded

    source = Source(str(path))
    monkeypatch.setattr(reloading, "load", overtaken)
    with pytest.raises(ConfigurationError, match="while it was read"):
        source.load()


async def test_nothing_ends_the_watch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a fault of ours: it counts as an error, and the next change is taken."""
    monkeypatch.setattr(reloading, "_POLL_S", 0.01)
    counted = asyncio.Queue[str]()
    attempts: list[Policy] = []

    def apply(policy: Policy) -> str:
        attempts.append(policy)
        if len(attempts) == 1:
            raise RuntimeError("a fault")
        return "version"

    source = Source(str(path))
    settings = source.load().settings
    assert settings is not None
    watch = Reloading(source, settings, apply=apply, count=counted.put_nowait)
    task = asyncio.create_task(watch.run())
    for expected in ("error", "ok"):
        watch.ask()
        async with asyncio.timeout(5):
            assert await counted.get() == expected
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [policy.rules for policy in attempts] == [settings.policy.rules] * 2


async def test_who_asks_may_still_be_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP comes with the first half of a file as well: it is read once it has rested."""
    monkeypatch.setattr(reloading, "_POLL_S", 0.2)
    applied = asyncio.Queue[Policy]()
    source = Source(str(path))
    settings = source.load().settings
    assert settings is not None

    def apply(policy: Policy) -> str:
        applied.put_nowait(policy)
        return "version"

    watch = Reloading(source, settings, apply=apply, count=lambda _: None)
    async with asyncio.timeout(5):
        task = asyncio.create_task(watch.run())
        write(path, GOOD.replace('"session"', '"public"'))
        watch.ask()
        await asyncio.sleep(0.1)
        write(path, OTHER)
        assert {rule.access for rule in (await applied.get()).rules} == {"deny"}
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert applied.empty()


@pytest.mark.parametrize("trusted", ['trusted_proxies = ["10.1.1.1/32"]', "trusted_hops = 1"])
async def test_networks_wait_for_those_who_tell_addresses(path: Path, trusted: str) -> None:
    """Rules by network and a new balancer are taken over together, at a restart, or not at all.

    Else the new balancer's own address would be every client's for as long as it runs.
    """
    counted: list[str] = []
    applied: list[Policy] = []
    source = Source(str(path))
    settings = source.load().settings
    assert settings is not None

    def apply(policy: Policy) -> str:
        applied.append(policy)
        return "version"

    watch = Reloading(source, settings, apply=apply, count=counted.append)
    with_networks = GOOD + '\n[[policy.rules]]\naccess = "public"\nnetworks = ["10.0.0.0/8"]\n'
    write(path, f"[check]\n{trusted}\n{with_networks}")
    await watch._reload()
    assert (counted, applied) == (["error"], [])
    write(path, with_networks)
    await watch._reload()
    assert counted == ["error", "ok"]


@pytest.mark.parametrize("rule", ['country = ["DE"]', "asn = [3320]"])
async def test_places_wait_for_their_database(path: Path, rule: str) -> None:
    """Databases are opened at a restart: until then nobody could say where an address is."""
    counted: list[str] = []
    source = Source(str(path))
    settings = source.load().settings
    assert settings is not None
    watch = Reloading(source, settings, apply=lambda _: "version", count=counted.append)
    file = databases.write(path.with_name("any.mmdb"), databases.CITIES)
    geo = f'[geo]\ncity = "{file}"\nasn = "{file}"\n'
    write(path, f'{geo}{GOOD}\n[[policy.rules]]\naccess = "public"\n{rule}\n')
    await watch._reload()
    write(path, geo + GOOD)
    await watch._reload()
    assert counted == ["error", "ok"]
