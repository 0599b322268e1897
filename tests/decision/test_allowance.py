"""An allowance: a bucket that fills with time, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.allowance import Allowance


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_second_is_worth_so_many() -> None:
    """As many at once as a second brings, and as many in each second after it."""
    clock = Clock()
    allowance = Allowance(10, clock)
    assert [allowance.take() for _ in range(12)] == [True] * 10 + [False] * 2
    clock.now += 0.5
    assert [allowance.take() for _ in range(6)] == [True] * 5 + [False]


def test_a_long_rest_saves_up_no_more_than_a_second() -> None:
    """However quiet the night was, the flood in the morning is bounded."""
    clock = Clock()
    allowance = Allowance(10, clock)
    clock.now += 10_000
    assert sum(allowance.take() for _ in range(99)) == 10


def test_what_is_given_back_can_be_taken_again() -> None:
    """And never fills the bucket beyond its size."""
    allowance = Allowance(2, Clock())
    for _ in range(5):
        allowance.give_back()
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    allowance.give_back()
    assert allowance.take()


def test_zero_is_no_bound() -> None:
    """Where nothing is counted, everything may be taken."""
    allowance = Allowance(0, Clock())
    allowance.give_back()
    assert all(allowance.take() for _ in range(1000))


@given(steps=st.lists(st.floats(0, 5), max_size=50), rate=st.integers(1, 20))
def test_never_more_than_the_rate_and_one_burst(steps: list[float], rate: int) -> None:
    """Whenever it is asked, over any time."""
    clock = Clock()
    allowance, taken = Allowance(rate, clock), 0
    for step in steps:
        clock.now += step
        taken += sum(allowance.take() for _ in range(50))
    assert taken <= rate + sum(steps) * rate + 1e-6
