"""A clock for how long somebody has been waiting, by one who was there all the time."""

from __future__ import annotations

import time
from collections.abc import Callable


class AwakeClock:
    """Seconds that this process has been awake, counted by looking at the clock again and again.

    The clock is the monotonic one: setting the time of day changes nothing.  A look counts for
    twice the usual pause at most, so that hours in which the process (its job, its virtual
    machine) was suspended are not taken for hours in which others did nothing.
    """

    def __init__(self, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``pause`` is that between two looks, in seconds."""
        self._most = 2 * pause
        self._clock = clock
        self._last = clock()
        self.seconds = 0.0
        """As of the last look."""

    def look(self) -> float:
        """Count the time since the last look, and return :attr:`seconds`."""
        now = self._clock()
        self.seconds += min(max(0.0, now - self._last), self._most)
        self._last = now
        return self.seconds
