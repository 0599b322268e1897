"""Durations as people write them, and the presets with the figures of their standards."""

from __future__ import annotations

import pytest

from gateway.lifetime import PRESETS, Lifetime, beyond, duration_text, parse_duration_ms

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("0s", 0),
        ("1s", SECOND),
        ("15m", 15 * MINUTE),
        ("4h", 4 * HOUR),
        ("30d", 30 * DAY),
        ("1h30m", 90 * MINUTE),
        ("1d12h30m5s250ms", DAY + 12 * HOUR + 30 * MINUTE + 5 * SECOND + 250),
        ("007s", 7 * SECOND),
    ],
)
def test_a_duration_is_read_in_milliseconds(text: str, ms: int) -> None:
    """`m` is minutes and `ms` milliseconds, alone or one after the other."""
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "5 m", " 5m", "5m ", "5m\n", "-5m", "+5m", "1.5h", "5M", "5min", "5w", "1h 5m",
     "\u0665m", "\uff15m", "1e3s", "0x5s", "5m;", "1h-5m"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """Never a default and never a guess; the message shows how to write it."""
    with pytest.raises(ValueError, match="is not a duration; write for example"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("preset", "idle_ms", "absolute_ms"),
    [
        ("aal1", 30 * DAY, 30 * DAY),
        ("aal2", HOUR, 24 * HOUR),
        ("aal3", 15 * MINUTE, 12 * HOUR),
        ("pci", 15 * MINUTE, 24 * HOUR),
    ],
)
def test_a_preset_has_the_figures_of_its_standard(
    preset: str, idle_ms: int, absolute_ms: int
) -> None:
    """NIST SP 800-63B-4 for the three levels, PCI DSS 8.2.8 for fifteen idle minutes."""
    assert PRESETS[preset] == Lifetime(idle_ms, absolute_ms)
    assert beyond(PRESETS[preset], preset) == []


def test_there_are_no_other_presets() -> None:
    """A new one needs its source and its figures above."""
    assert set(PRESETS) == {"aal1", "aal2", "aal3", "pci"}


@pytest.mark.parametrize(
    ("idle_ms", "absolute_ms", "longer"),
    [
        (HOUR, 24 * HOUR, []),
        (HOUR + 1, 24 * HOUR, ["idle"]),
        (HOUR, 24 * HOUR + 1, ["absolute"]),
        (HOUR + 1, 24 * HOUR + 1, ["idle", "absolute"]),
    ],
)
def test_a_lifetime_beyond_its_preset_is_told(
    idle_ms: int, absolute_ms: int, longer: list[str]
) -> None:
    """Each timeout that is longer than the standard allows is named; equal is allowed."""
    assert beyond(Lifetime(idle_ms, absolute_ms), "aal2") == longer


@pytest.mark.parametrize(
    ("idle_ms", "interval_ms"),
    [
        (4 * HOUR, MINUTE),
        (20 * MINUTE, MINUTE),
        (10 * MINUTE, 30 * SECOND),
        (100, 5),
        (10, 1),
        (0, 1),
    ],
)
def test_activity_is_noted_at_most_a_minute_late(idle_ms: int, interval_ms: int) -> None:
    """A twentieth of the idle time, at most a minute, never nothing."""
    assert Lifetime(idle_ms, DAY).touch_interval_ms == interval_ms


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0d"), (1, "1ms"), (SECOND, "1s"), (90 * MINUTE, "90m"), (24 * HOUR, "1d"),
     (36 * HOUR, "36h"), (1500, "1500ms")],
)  # fmt: skip
def test_a_duration_is_written_as_it_is_read(ms: int, text: str) -> None:
    """One number, in the largest unit that fits."""
    assert duration_text(ms) == text
    assert parse_duration_ms(text) == ms
