"""A worker that dies in the same instant as a reload: what the others and its replacement get.

The workers here only write down what they are told; one that is dead still has its seat for as long
as somebody holds its standard output.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway import workers
from gateway.config.settings import Policy, Settings
from gateway.workers import Assignment, Inbox, Workers
from tests import servers

from .harness import until

# One line of figures: it is ready. Then all that it is told goes into a file named by its id. Its
# child holds standard output, and nothing else, until somebody opens the gate.
WORKER = """\
#!{python} -IS
import os
folder = {folder!r}
if os.fork() == 0:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(2, 4096)
    os.read(os.open(folder + "/gate", os.O_RDONLY), 1)
    os._exit(0)
os.write(1, b'[["counter", "x", [], 1]]\\n')
with open(f"{{folder}}/told.{{os.getpid()}}", "wb", 0) as told:
    while words := os.read(0, 65536):
        told.write(words)
"""
POLICIES = [
    Policy.model_validate({"rules": [{"access": "deny", "path": f"/{number}"}]})
    for number in range(20)
]
Told = tuple[list[Policy], list[Policy]]


def files(folder: Path) -> list[Path]:
    """Return the workers' files, in the order of their starts."""
    return sorted(folder.glob("told.*"), key=process_of)


def process_of(told: Path) -> int:
    return int(told.suffix[1:])


def told(path: Path) -> list[Policy]:
    """Return the rules that a worker began with, and those that came later, if any did."""
    messages: list[Any] = [*Inbox().feed(path.read_bytes())]
    return [each.settings.policy if isinstance(each, Assignment) else each for each in messages]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the workers write; `gate` ends their hold on the standard output of the dead."""
    os.mkfifo(tmp_path / "gate")
    program = tmp_path / "worker"
    program.write_text(WORKER.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(workers, "_RESTART_S", 0.0)
    return tmp_path


@asynccontextmanager
async def two_workers(folder: Path) -> AsyncIterator[tuple[Workers, list[Path]]]:
    """Run two, and end them; in their order, each has a file with what it is told."""
    check = {"listen": [f"127.0.0.1:{servers.free_port()}"], "workers": 2, "drain": "0s"}
    settings = Settings.model_validate({"check": check, "policy": POLICIES[0]})
    group = Workers(settings, "redis://127.0.0.1:1")
    running = asyncio.create_task(group.run())
    try:
        await asyncio.to_thread(
            until, lambda: group.ready() and sum(map(bool, map(told, files(folder)))) == 2, "ready"
        )
        yield group, files(folder)
    finally:
        await asyncio.gather(group.stop(), open_gate(folder))
        await running


async def open_gate(folder: Path) -> None:
    """Let go of all standard outputs."""
    os.close(await asyncio.to_thread(os.open, folder / "gate", os.O_WRONLY))


async def scenario(folder: Path) -> Told:
    """Reload again and again while one is dead; return what the other and the next one are told."""
    async with two_workers(folder) as (group, [dead, alive]):
        os.kill(process_of(dead), signal.SIGKILL)
        for policy in POLICIES[1:-1]:
            group.use(policy)
            await asyncio.sleep(0.005)
        assert files(folder) == [dead, alive]  # a dead one had its seat all the time
        await open_gate(folder)
        await asyncio.to_thread(until, lambda: len(files(folder)) == 3, "replaced")
        replacement = files(folder)[-1]
        await asyncio.to_thread(until, lambda: bool(told(replacement)), "told")
        both, last = (alive, replacement), POLICIES[-1]
        group.use(last)
        await asyncio.to_thread(until, lambda: all(told(each)[-1] == last for each in both), "told")
        return told(alive), told(replacement)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_death_in_the_middle_of_a_reload_costs_nobody_else_the_rules(
    folder: Path, run: Callable[[Coroutine[Any, Any, Told]], Told]
) -> None:
    """Every reload reaches the living worker, and the last one whoever replaces the dead."""
    living, replacing = run(scenario(folder))
    assert living == POLICIES
    assert replacing == POLICIES[-2:]


async def test_only_who_was_there_and_is_not_gets_no_connections(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first to come after a start would get, and keep, those of every proxy."""
    chosen: list[list[int]] = []
    monkeypatch.setattr(workers, "spread_over", lambda _, places: chosen.append([*places]))
    async with two_workers(folder) as (_, [dead, alive]):
        assert [0, 1] in chosen
        assert chosen.count([0, 1]) == len(chosen)
        os.kill(process_of(dead), signal.SIGKILL)
        await open_gate(folder)
        await asyncio.to_thread(until, lambda: len(files(folder)) == 3, "replaced")
        await asyncio.to_thread(until, lambda: chosen[-1] == [0, 1], "there again")
        assert chosen[-2] in ([0], [1])
        os.kill(process_of(alive), 0)
