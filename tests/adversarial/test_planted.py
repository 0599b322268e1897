"""The suite would notice: a few faults here, all of them by `make planted`."""

from __future__ import annotations

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .planted import FAULTS, Fault, red_cases

# One in the decision, one in the session, one in the proxy.
_SAMPLE = {
    "only the raw path is judged": "path-confusion/",
    "the last cookie wins": "duplicate-cookie/good-last",
    "nginx hands underscores on": "identity-header/underscores",
}


def test_there_are_at_least_twenty_and_each_can_be_planted() -> None:
    assert len(FAULTS) >= 20
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        for edit in fault.edits:
            text = (servers.ROOT / edit.file).read_text()
            assert edit.apply(text) != text, fault.what


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.what in _SAMPLE], ids=lambda f: f.what)
def test_a_planted_fault_turns_its_cases_red(fault: Fault, upstream: int) -> None:
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        red = red_cases(fault, upstream, valkey.url)
    assert any(line.startswith(_SAMPLE[fault.what]) for line in red), red
