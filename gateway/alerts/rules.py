"""The rules, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping

from . import (
    impossible_travel,
    network_change,
    new_country,
    new_device,
    shared_account,
    shared_device,
)
from .finding import Rule

RULES: Mapping[str, Rule] = {
    "new_device": new_device.find,
    "new_country": new_country.find,
    "impossible_travel": impossible_travel.find,
    "network_change": network_change.find,
    "shared_account": shared_account.find,
    "shared_device": shared_device.find,
}
