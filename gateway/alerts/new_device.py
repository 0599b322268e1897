"""A device that the user has never signed in on."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Limits
from .history import History, SignIn


def find(sign_in: SignIn, history: History, _: Limits) -> Iterator[Finding]:
    """Compare by the best of id and traits that is known of both sides; else say nothing."""
    known_kinds = {name.partition(":")[0] for name in history.devices}
    comparable = (name for name in sign_in.devices if name.partition(":")[0] in known_kinds)
    name = next(comparable, None)
    if name is not None and name not in history.devices:
        device = {"id": sign_in.device.id, "name": sign_in.device.name}
        yield Finding(f"new_device {name}", {"device": device})
