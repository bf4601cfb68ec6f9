"""A circuit breaker: a dead store costs microseconds, not a time-out."""

import time
from collections.abc import Callable
from typing import Final

FAILURES_MAX: Final = 2
REST_S: Final = 1.0


class Breaker:
    """Opens after a few failures in a row; after a rest it lets one try through.

    Examples
    --------
    >>> breaker = Breaker()
    >>> breaker.failed(); breaker.failed()
    >>> breaker.allows()
    False
    """

    def __init__(
        self,
        failures_max: int = FAILURES_MAX,
        rest_s: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._rest_s = rest_s
        self._clock = clock
        self._failures = 0
        self._closed_again_s = 0.0

    def allows(self) -> bool:
        """Whether to try at all."""
        if self._failures < self._failures_max:
            return True
        if self._clock() < self._closed_again_s:
            return False
        # Half open: this one try, and the next only after another rest.
        self._closed_again_s = self._clock() + self._rest_s
        return True

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0

    def failed(self) -> None:
        """The store did not answer."""
        self._failures += 1
        self._closed_again_s = self._clock() + self._rest_s
