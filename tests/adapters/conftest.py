"""A gate for each test, with one member signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.decision.samples import make_session

from .families import FAMILIES, Family
from .gate import Gate, serving


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with serving(make_session(), folder=tmp_path) as gate:
        yield gate


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen
