"""Whether the times of a log's records go forward, as those of an honest writer do.

A clock may be set back: by a hand, by a machine that woke up wrong, by whoever wants a record to
look older than it is. A writer whose clock went back by more than `SLACK` says so in a record,
`clock-set-back`, and goes on with the new time. So a time that falls back without that record in
its place is a finding: the writer's word about time cannot be taken there.

The first record of a log, `log-created`, does not count: it is written by whoever sets the site
up, perhaps before that machine's clock is right.

Threads that record at once may be a little out of order, and clocks are corrected by seconds;
`SLACK` is far above both, and all that a lie can gain without a trace. Pure.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

RECORD = "clock-set-back"
"""The type of the record, and the finding where it is missing."""
FINDINGS = {RECORD: "A record is older than one before it, and no record says why."}
SLACK = timedelta(hours=1)
MARK = b'"type":"clock-set-back"'
"""In a canonical record this stands for its type and for nothing else."""


def went_back(before: datetime | None, now: datetime) -> bool:
    """True when a clock that said `before` has been set back."""
    return before is not None and before - now > SLACK


class Times:
    """The times of a log's records, seen in order."""

    def __init__(self) -> None:
        self._latest = ""

    def steps_back(self, times: Sequence[tuple[int, str, bool]]) -> Iterator[int]:
        """The indexes at which time falls back and nothing says why.

        Args:
            times: index, time as records hold it, and whether that record is `clock-set-back`.
        """
        for index, time, noted in times:
            if index == 0:
                continue
            back = time < self._latest and went_back(_read(self._latest), _read(time))
            if back and not noted:
                yield index
            self._latest = time if back else max(time, self._latest)


def _read(time: str) -> datetime:
    return datetime.fromisoformat(time)
