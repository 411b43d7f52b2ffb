"""How fast a queue is served, measured while there is one."""

import math

MEMORY = 10.0  # seconds after which a measurement counts 1/e
LEAST = 8  # starts that a rate needs


class ServiceRate:
    """Cost per second that a queue's work starts with, while work waits: a moving average.

    It is in the cost that work is charged as it starts, so that it turns the charges of what waits into seconds.
    """

    def __init__(self) -> None:
        self._cost = self._seconds = self._last = 0.0
        self._starts = 0

    def waiting_since(self, now: float) -> None:
        """Begin to measure: the first work waits. Times are in seconds of one clock."""
        self._last = now

    def started(self, now: float, cost: float) -> None:
        """Count waiting work that starts."""
        passed = now - self._last
        left = math.exp(-passed / MEMORY)
        self._cost = self._cost * left + cost
        self._seconds = self._seconds * left + passed
        self._starts += 1
        self._last = now

    def seconds(self, cost: float) -> float | None:
        """Return in how many seconds so much is served, or None while that is unknown."""
        if self._starts < LEAST or self._cost <= 0:
            return None
        return cost * self._seconds / self._cost
