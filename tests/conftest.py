"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# Speed lives in benchmarks: a busy machine fails no property.
settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")
