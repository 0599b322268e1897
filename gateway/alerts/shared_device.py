"""One device on which many users sign in: somebody tries what was stolen, or a shared computer."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding, Limits
from .history import History, SignIn


def find(sign_in: SignIn, _: History, limits: Limits) -> Iterator[Finding]:
    """Tell of each user beyond the limit."""
    if sign_in.accounts_on_device > limits.accounts:
        device = {"id": sign_in.device.id, "name": sign_in.device.name}
        yield Finding(
            f"shared_device {sign_in.device.id}",
            {"device": device, "accounts": sign_in.accounts_on_device},
        )
