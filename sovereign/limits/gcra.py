"""The generic cell rate algorithm: what is used comes back evenly, and some of it at once.

The algorithm is the one of ITU-T I.371, Annex A, in its virtual scheduling form: one number, the
theoretical arrival time (`tat`), says how full the bucket is. It is counted in ticks, of which
`at_most` pass in a nanosecond and one unit takes `period_ns`, so that every figure is a whole
number and nothing is ever rounded.

Two things are added, because what a call costs is known only when it is over:
  * what is reserved for calls that run stands beside `tat` and does not come back by itself;
  * a cost larger than the burst is let through by a full bucket, and leaves a debt.

So in any time T at most `burst + T * at_most / period` is let through, and what calls turned out
to cost beyond what was reserved for them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`at_most` units in `period_ns` nanoseconds, `burst` of them at once. All at least 1."""

    at_most: int
    period_ns: int
    burst: int

    def wait_ns(self, tat: int, reserved: int, now_ns: int, cost: int) -> int:
        """How long until `cost` can be taken; 0: now. Never less than it will take."""
        now = now_ns * self.at_most
        level = max(0, tat - now) + (reserved + min(cost, self.burst)) * self.period_ns
        over = level - self.burst * self.period_ns
        return 0 if over <= 0 else -(-over // self.at_most)

    def charged(self, tat: int, now_ns: int, cost: int) -> int:
        """The `tat` once `cost` was used."""
        return max(tat, now_ns * self.at_most) + cost * self.period_ns

    def left(self, tat: int, reserved: int, now_ns: int) -> int:
        """How many units can be taken now."""
        level = max(0, tat - now_ns * self.at_most)
        return max(0, self.burst - reserved - -(-level // self.period_ns))

    def used(self, tat: int, now_ns: int) -> int:
        """How many units have not come back yet."""
        return -(-max(0, tat - now_ns * self.at_most) // self.period_ns)

    def full_in_ns(self, tat: int, reserved: int, now_ns: int) -> int:
        """How long until all of it is back, if what is reserved were used now."""
        level = max(0, tat - now_ns * self.at_most) + reserved * self.period_ns
        return -(-level // self.at_most)
