"""A gate for each test, with one member signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.decision.samples import make_session

from .families import FAMILIES, PROFILES, Family
from .gate import Gate, serving


@pytest.fixture(scope="session")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: to make one for each test takes longer than the test."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture(params=[False, True], ids=["read", "remembered"])
async def gate(request: pytest.FixtureRequest, sockets: Path) -> AsyncIterator[Gate]:
    """Both ways of an answer: through aiohttp's task, and at once inside the connection."""
    async with serving(make_session(), folder=sockets) as gate:
        gate.store.remembers = request.param
        yield gate


@pytest.fixture(params=FAMILIES + PROFILES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen
