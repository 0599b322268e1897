"""Who uses a session, against who signed in: proven the same, proven another, or neither."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import binding
from gateway.alerts import Action, Alert
from gateway.binding import Binding, Bonds, detailed, fingerprint_of, network_of, same_fingerprint
from gateway.decision import Reason
from gateway.identity import standing_of
from gateway.judge import refusal
from gateway.model import NOWHERE, Besides, Caller, Narrowing, Place, Standing
from gateway.policy import Policy
from gateway.rules import Access, RuleSpec

from .samples import NOW_MS, FakeStore, at_once, cookie, make_authorizer, make_request, make_session

CHROME = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/{} Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
MEDIA = "identity;q=1, *;q=0"
HOME = Caller("192.0.2.7", CHROME.format(130), "de-DE,de;q=0.9", "gzip, deflate, br")
PLACES = {
    "192.0.2.7": Place(country="DE", asn=3320),
    "198.51.100.1": Place(country="DE", asn=3320),
    "203.0.113.1": Place(country="US", asn=209),
}
RULES = Policy([RuleSpec(Access.SESSION)]).rules
REFUSING = [Action.STEP_UP, Action.DENY, Action.END]


def locate(address: str) -> Place:
    return PLACES.get(address, NOWHERE)


class Gate:
    """What a check comes to for a session of `known`, and what was told."""

    def __init__(self, bonds: Bonds, known: Caller = HOME) -> None:
        self.told: list[tuple[str, Action, str]] = []
        self.known = known
        self.binding = Binding(bonds, locate, lambda session, caller, alerts: self.told.extend(
            (each.type, each.action, each.fact) for each in alerts
        ))  # fmt: skip

    def check(self, caller: Caller) -> Reason | None:
        session = Standing(
            *make_session().key, (), NOW_MS + 1000, 1000, NOW_MS, b"",
            besides=Besides(caller=self.known),
        )  # fmt: skip
        return refusal(session, NOW_MS, RULES, (self.binding.hold(*caller),))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"user_agent": CHROME.format(131)}, True),  # an update
        ({"user_agent": FIREFOX}, False),
        ({"user_agent": ""}, None),
        ({"user_agent": "curl/8"}, False),
        ({"language": "de-DE, de;q=0.8"}, True),
        ({"language": "en"}, False),
        ({"language": ""}, None),
        ({"encoding": "br, gzip, deflate"}, True),
        ({"encoding": "gzip"}, False),
        ({"encoding": MEDIA}, True),
        ({"encoding": MEDIA, "language": ""}, None),
        ({"encoding": MEDIA, "language": "", "user_agent": ""}, None),
        ({"language": "", "user_agent": FIREFOX}, False),
        ({"user_agent": "\udcff"}, False),
    ],
)
def test_a_fingerprint_is_what_updates_leave(change: dict[str, str], same: bool | None) -> None:
    now = HOME._replace(**change)
    assert same_fingerprint(HOME, now) is same
    if now.encoding != MEDIA:
        assert (fingerprint_of(HOME) == fingerprint_of(now)) is (same is True)


def test_only_what_the_sign_in_told_is_compared() -> None:
    assert same_fingerprint(Caller(user_agent=HOME.user_agent), HOME) is True
    assert same_fingerprint(Caller("192.0.2.7"), HOME) is None
    assert same_fingerprint(Caller(encoding="gzip"), Caller(encoding=MEDIA)) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::1", "2001:db8:1::/56"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_a_network_is_one_access(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("address", "fallen"),
    [
        ("192.0.2.7", ""),
        ("::ffff:192.0.2.7", ""),
        ("192.0.2.99", "address"),
        ("198.51.100.1", "network"),
        ("203.0.113.1", "asn"),
    ],
)
@pytest.mark.parametrize("rung", ["asn", "network", "address"])
@pytest.mark.parametrize("action", REFUSING)
def test_a_rung_holds_until_the_caller_moved_so_far(
    address: str, fallen: str, rung: str, action: Action
) -> None:
    """A new owner is also a new network and a new address."""
    gate = Gate(Bonds(**{rung: action}))
    below = ["asn", "network", "address"]
    falls = fallen != "" and below.index(rung) >= below.index(fallen)
    reason = Reason.STEP_UP_REQUIRED if action is Action.STEP_UP else Reason.ADDRESS_CHANGED
    assert gate.check(HOME._replace(address=address)) is (reason if falls else None)
    assert bool(gate.told) is falls


def test_the_strictest_rung_decides_and_the_widest_is_told() -> None:
    gate = Gate(Bonds(asn=Action.ALERT, network=Action.STEP_UP, address=Action.SHADOW))
    assert gate.check(HOME._replace(address="192.0.2.8")) is None
    assert gate.check(HOME._replace(address="203.0.113.1")) is Reason.STEP_UP_REQUIRED
    assert gate.told == [
        ("address_changed", Action.SHADOW, "address_changed address 192.0.2.8"),
        ("address_changed", Action.STEP_UP, "address_changed asn 209"),
    ]


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("known", [HOME, Caller()])
@pytest.mark.parametrize("now", [Caller(), HOME._replace(address="", user_agent="")])
def test_what_is_unknown_is_refused_and_never_told(
    action: Action, known: Caller, now: Caller
) -> None:
    """It proves neither that it is the same nor that it is another. Nor do two unknown ones."""
    for bond in ("fingerprint", "asn", "network", "address"):
        gate = Gate(Bonds(**{bond: action}), known)
        assert (gate.check(now) is None) is (action not in REFUSING)
        assert gate.told == []


@pytest.mark.parametrize(
    ("known", "proven"),
    [
        (HOME, {"fingerprint", "asn", "network", "address"}),
        (HOME._replace(address=""), {"fingerprint"}),
        (Caller("192.0.2.7"), {"asn", "network", "address"}),
        (Caller("10.0.0.1"), {"asn", "network", "address"}),
        (Caller("unknown", "/", " ", ";q=1"), set()),
    ],
)
def test_to_be_alike_proves_only_what_is_known(known: Caller, proven: set[str]) -> None:
    """A thief who leaves out what the sign-in left out is like the user, as anybody is."""
    for action, bond in itertools.product(REFUSING, ("fingerprint", "asn", "network", "address")):
        gate = Gate(Bonds(**{bond: action}), known)
        assert (gate.check(known) is None) is (bond in proven)


def test_an_unknown_owner_is_the_same_only_in_the_same_network() -> None:
    gate = Gate(Bonds(asn=Action.END))
    assert gate.check(HOME._replace(address="192.0.2.200")) is None
    assert gate.check(HOME._replace(address="10.0.0.1")) is Reason.ADDRESS_CHANGED
    assert gate.told == []


def test_a_session_that_knows_nobody_is_nobodys() -> None:
    """Records from before the setting was on."""
    gate = Gate(Bonds(fingerprint=Action.DENY))
    gate.known = None  # type: ignore[assignment]
    assert gate.check(HOME) is Reason.FINGERPRINT_CHANGED


def test_what_is_told_is_put_together_off_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends another name with each request must not have each of them described."""
    described: list[str] = []

    def describe(text: str) -> tuple[str, str]:
        described.append(text)
        return text, ""

    monkeypatch.setattr(binding, "describe", describe)
    told: list[Alert] = []
    bonds = Bonds(fingerprint=Action.ALERT)
    bound = Binding(bonds, locate, lambda _, __, alerts: told.extend(alerts))
    key, besides = make_session().key, Besides(caller=HOME)
    session = Standing(*key, (), NOW_MS + 1000, 1000, NOW_MS, b"", besides=besides)
    now = HOME._replace(user_agent="curl/8")
    assert refusal(session, NOW_MS, RULES, (bound.hold(*now),)) is None
    assert (len(told), described) == (1, [])
    full = detailed(told[0], HOME, now, locate)
    assert full.details["user_agent"] == "curl/8"
    assert described == [HOME.user_agent, "curl/8"]


def test_a_refused_check_is_no_activity_and_a_lacking_role_is_said_first() -> None:
    bound = Binding(Bonds(fingerprint=Action.DENY))
    store = FakeStore(make_session(), stand=lambda each: standing_of(each, bound=True))
    activity: list[Standing] = []
    authorizer = make_authorizer(
        [RuleSpec(Access.SESSION, path="/admin/**", roles=("admin",)), RuleSpec(Access.SESSION)],
        store, activity, stand=store.stand,
    )  # fmt: skip
    held: tuple[Narrowing, ...] = (bound.hold(*HOME),)
    for remembers in (False, True):
        store.remembers = remembers
        for target, reason in (("/", "fingerprint_changed"), ("/admin/", "role_required")):
            asked = make_request(target, cookies=(cookie(),))._replace(narrowing=held)
            assert at_once(authorizer.check(asked)).reason == reason
    assert activity == []


CALLERS = st.builds(
    Caller,
    st.sampled_from([*PLACES, "10.0.0.1", "::ffff:192.0.2.7", "", "x"]),
    st.sampled_from([CHROME.format(1), CHROME.format(2), FIREFOX, "", "\udc80"]),
    st.sampled_from(["de", "en,de;q=1", ""]),
    st.sampled_from(["gzip", "br, gzip", MEDIA, ""]),
)
BONDS = st.builds(Bonds, *itertools.repeat(st.sampled_from(Action), 4))


@settings(max_examples=400, deadline=None, database=None)
@given(bonds=BONDS, known=CALLERS, now=CALLERS)
def test_bonds_only_refuse_and_only_as_configured(bonds: Bonds, known: Caller, now: Caller) -> None:
    """Whoever asks: no action that refuses, no refusal; none that is on, nothing told."""
    gate = Gate(bonds, known)
    actions = {bonds.fingerprint, *bonds.rungs.values()}
    first, told = gate.check(now), list(gate.told)
    assert gate.check(now) is first
    assert gate.told == told * 2
    if not actions & set(REFUSING):
        assert first is None
    if first is None and bonds.fingerprint in REFUSING:
        assert same_fingerprint(known, now) is True
    if first is None and set(REFUSING) & set(bonds.rungs.values()):
        assert network_of(known.address)
        assert network_of(now.address)
    if actions <= {Action.OFF} or known == now:
        assert told == []
    if first in (Reason.ADDRESS_CHANGED, Reason.FINGERPRINT_CHANGED):
        assert actions & {Action.DENY, Action.END}
    assert {action for _, action, _ in told} <= actions - {Action.OFF}
