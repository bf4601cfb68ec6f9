"""What functions answer in a run of a state machine, and what they were asked."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

#: Answers a payload, or raises TaskFailed; a list answers one call after the other, the last for ever.
Behaviour = Callable[[Any], Any]


class TaskFailed(Exception):
    """A function that failed, with the name of its error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Throttled(TaskFailed):
    """Lambda itself refused: too many invocations at once."""

    def __init__(self) -> None:
        super().__init__("Lambda.TooManyRequestsException")


class Tasks:
    """The functions of one run, by the name in the definition's `${…}`.

    Attributes
    ----------
    calls : list
        Pairs of function and payload, in the order in which they came.
    """

    def __init__(self, behaviours: Mapping[str, Behaviour | list[Behaviour]]) -> None:
        self._behaviours = {
            name: list(found) if isinstance(found, list) else [found]
            for name, found in behaviours.items()
        }
        self._lock = threading.Lock()
        self.calls: list[tuple[str, Any]] = []

    def call(self, function: str, payload: Any) -> Any:
        """The function's answer.

        Raises
        ------
        TaskFailed
        """
        with self._lock:
            self.calls.append((function, payload))
            behaviours = self._behaviours[function]
            behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        return behaviour(payload)
