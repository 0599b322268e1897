"""What follows from what was found, and what is learnt."""

from __future__ import annotations

import pytest

from gateway.alerts import Action, History, Watch
from gateway.config import Settings

from .samples import CHROME, HOUR_MS, NEW_YORK, known, sign_in, watch

THIEF = sign_in(NEW_YORK, HOUR_MS, device="thief")


@pytest.mark.parametrize(
    ("action", "alerts", "learns", "refused"),
    [
        (Action.OFF, 0, True, False),
        (Action.SHADOW, 4, True, False),
        (Action.ALERT, 4, True, False),
        (Action.STEP_UP, 4, False, False),
        (Action.END, 4, False, True),
    ],
)
def test_the_action_says_what_follows(
    action: Action, alerts: int, learns: bool, refused: bool
) -> None:
    """What is in doubt is not learnt: a thief's second try is as suspect as the first."""
    said = watch(action).assess(THIEF, known(sign_in()))
    assert len(said.alerts) == alerts
    assert {alert.action for alert in said.alerts} <= {action}
    assert ("id:thief" in said.after.devices) is learns
    assert ("US" in said.after.countries) is learns
    assert (said.refused, said.in_doubt) == (refused, not learns)


def test_one_doubt_is_enough() -> None:
    said = watch(Action.SHADOW, new_country=Action.STEP_UP).assess(THIEF, known(sign_in()))
    assert said.in_doubt
    assert not said.refused
    assert said.after == known(sign_in())


def test_what_is_remembered_is_bounded() -> None:
    """The longest unseen go first; and however often a thief tries, so do old claims."""
    history = History()
    for number in range(120):
        history = history.with_sign_in(sign_in(device=f"d{number}", after_ms=number))
    assert len(history.devices) == 50
    assert {"id:d119", "ua:Chrome/Windows/desktop"} <= history.devices.keys()
    claims = {f"fact {number}": number for number in range(500)}
    bounded = watch(Action.END).assess(THIEF, history.with_claims(claims)).after
    assert min(bounded.claims.values()) == 300
    assert len(bounded.claims) == 200


def test_a_rule_without_a_setting_is_off() -> None:
    assert not Watch({}).is_on
    assert Watch({}).assess(THIEF, known(sign_in())).alerts == ()


def test_the_defaults_are_on_and_refuse_nobody() -> None:
    defaults = Settings().alerts.watch
    assert defaults is not None
    assert set(defaults.actions.values()) == {Action.ALERT, Action.SHADOW}


def test_traits_do_not_depend_on_what_is_installed() -> None:
    """Names may; a device that was known must not become a new one by an installation."""
    assert sign_in(device="", agent=CHROME).devices == ("ua:Chrome/Windows/desktop",)
