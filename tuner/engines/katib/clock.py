"""The clock by which the Katib engine waits. It is injected, so that tests can let time pass faster."""

from __future__ import annotations

import time


class Clock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds on this clock."""
        return time.monotonic()

    def timeout(self, seconds: float) -> float:
        """`seconds` of this clock as the timeout of a blocking call, in seconds of the machine."""
        return seconds

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock."""
        time.sleep(self.timeout(seconds))
