"""Ten thousand users over a month: what the alert rules find, miss, and find falsely."""

from __future__ import annotations

import pytest

from tests.alerts.month import Month


@pytest.mark.soak
def test_a_month_of_ten_thousand_users() -> None:
    score = Month(10_000).score()
    score.show()
    assert score.is_as_good_as_can_be()
