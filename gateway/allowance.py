"""How often something may happen: a bucket that fills with time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """At most `per_second` on average, and as many at once. 0: nothing is counted."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = float(per_second)
        self._at = clock()

    def take(self) -> bool:
        """Take one; False if none is left now."""
        if not self._per_second:
            return True
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_second, self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """Undo a `take` that turned out not to count."""
        self._left = min(self._left + 1, self._per_second)
