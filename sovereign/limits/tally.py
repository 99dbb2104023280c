"""What was used, by day, tenant, key and model: the sums that budgets and bills are made of.

The one home of what was used is the audit log: each decision says who, and its completion how much.
A tally is those records added up. A call counts for the day on which it was decided, whenever it
ended; one that was let through and has no completion yet has used nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from sovereign.limits.money import Prices


class Row(NamedTuple):
    """What a sum is of. `day` is the ordinal of a date; `model` is one of the policy."""

    day: int
    tenant: str
    key: str
    model: str


class Used(NamedTuple):
    """How much."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def plus(self, other: "Used") -> "Used":
        """Both together."""
        return Used(
            self.requests + other.requests,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
        )


NOTHING = Used()
NOT_SENT = "not-sent"
"""The outcome of a decision under which nothing was sent: the call went on under another one."""


@dataclass(slots=True)
class Tally:
    """The sums, growing."""

    rows: dict[Row, Used] = field(default_factory=dict)

    def add(self, row: Row, used: Used) -> None:
        """Add what one call used."""
        self.rows[row] = self.rows.get(row, NOTHING).plus(used)

    def forget_before(self, day: int) -> None:
        """Leave out what was used before that day."""
        self.rows = {row: used for row, used in self.rows.items() if row.day >= day}

    def among(
        self,
        days: range,
        *,
        tenant: str | None = None,
        key: str | None = None,
        models: Iterable[str] = (),
    ) -> Iterator[tuple[Row, Used]]:
        """The sums of these days; of one tenant, one key, some models, where that is said."""
        wanted = frozenset(models)
        for row, used in self.rows.items():
            if row.day not in days or (wanted and row.model not in wanted):
                continue
            if tenant in (None, row.tenant) and key in (None, row.key):
                yield row, used


def spent(prices: Prices, sums: Iterable[tuple[Row, Used]]) -> int:
    """What these sums cost, in picoeuros, each day at its own price; what has none is free."""
    total = 0
    for row, used in sums:
        price = prices.on(row.model, row.day)
        if price is not None:
            total += price.of(used.tokens_in, used.tokens_out)
    return total


class Counting:
    """Adds up the records of one log, in order.

    `first` is the first decision that counts, beside those in `also`: what was decided before and
    is not there had been counted when somebody last counted.
    """

    def __init__(self, tally: Tally, first: int = 0, also: Iterable[int] = ()) -> None:
        self._tally = tally
        self._first = first
        self._also = frozenset(also)
        self._decided: dict[int, Row] = {}
        self.last = first - 1

    def see(self, index: int, record: Mapping[str, Any]) -> None:
        """Take the record at `index`."""
        if record["type"] == "decision":
            self.last = max(self.last, index)
            if record["verdict"] == "allow" and (index >= self._first or index in self._also):
                day = date.fromisoformat(record["asked_at"][:10]).toordinal()
                self._decided[index] = Row(day, record["tenant"], record["key"], record["model"])
        elif record["type"] == "completion":
            row = self._decided.pop(record["decision"], None)
            if row is not None and record["outcome"] != NOT_SENT:
                self._tally.add(row, Used(1, record["tokens_in"], record["tokens_out"]))

    @property
    def unended(self) -> tuple[int, ...]:
        """Decisions that have no completion so far."""
        return tuple(self._decided)
