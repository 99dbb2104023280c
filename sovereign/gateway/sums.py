"""Count refusals that come without a decision, and record the sums.

One record a minute for each source and code, never one write a refusal: otherwise whoever
knocks without a key could fill the disk and slow the log down. A source is named by an
HMAC under a key that lives only as long as this process, so it cannot be turned back.
"""

import hashlib
import hmac
import secrets
from collections import Counter
from datetime import datetime

SOURCES_MAX = 256
"""Different sources told apart in one minute; the rest are counted together as `other`."""


class Sums:
    """Counts of the running minute."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, source: str, code: str) -> None:
        """Count one refusal."""
        name = hmac.new(self._key, source.encode(), hashlib.sha256).hexdigest()[:16]
        if (name, code) not in self._counts and len(self._counts) >= SOURCES_MAX:
            name = "other"
        self._counts[name, code] += 1

    def take(self, now: datetime) -> list[dict[str, str | int]]:
        """The fields of the records for what was counted since the last call."""
        counted, self._counts = self._counts, Counter()
        minute = now.strftime("%Y-%m-%dT%H:%MZ")
        return [
            {"source": source, "minute": minute, "code": code, "count": count}
            for (source, code), count in sorted(counted.items())
        ]
