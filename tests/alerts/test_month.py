"""The rules against a month of which the truth is known."""

from __future__ import annotations

from .month import Month


def test_a_month_of_three_hundred_users() -> None:
    """Of every kind there is some; `make soak` has ten thousand users."""
    score = Month(320).score()
    score.show()
    assert score.sign_ins > 8000
    assert min(score.planted.values()) >= 5
    assert score.is_as_good_as_can_be()
