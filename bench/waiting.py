"""Wait until a number of records is acknowledged, at next to no cost to the log."""

import threading

from bench.figures import CheckFailed
from sovereign.errors import LogUnwritable

PATIENCE_S = 60.0


class Counting:
    """Hears of `expected` records; the log's thread calls it, one other thread waits."""

    def __init__(self, expected: int) -> None:
        self._lacking = expected
        self._failure: LogUnwritable | None = None
        self._done = threading.Event()

    def acknowledged(self, index: int) -> None:
        """One more is durable."""
        self._lacking -= 1
        if self._lacking == 0:
            self._done.set()

    def failed(self, error: LogUnwritable) -> None:
        """One will never be."""
        self._failure = error
        self._done.set()

    def wait(self) -> None:
        """Return once all are durable.

        Raises:
            CheckFailed: the log stopped, or took longer than `PATIENCE_S`.
        """
        if not self._done.wait(PATIENCE_S) or self._failure is not None:
            raise CheckFailed(f"records were not acknowledged: {self._failure or 'too slow'}")


def completion(number: int) -> dict[str, str | int]:
    """The fields of a record as a gateway writes it at the end of a request."""
    return {
        "decision": number,
        "outcome": "answered",
        "status": 200,
        "tokens_in": 212,
        "tokens_out": 164,
        "latency_us": 1_234_567,
        "finish": "stop",
    }
