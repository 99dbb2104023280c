"""What others say of this site's logs: who has seen each, until when, and whether that is enough.

It reads the words of witnesses and time-stamping authorities that were kept beside the logs,
believes those that hold, and lets `audit.witnessed` judge them by the policy. Whether a log
itself is whole is `fleet`; asking others is the controller's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sovereign import fleet
from sovereign.audit import remembered
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.keys import rotation
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read
from sovereign.audit.verify import Finding
from sovereign.audit.witnesses import cosigned, timestamp, witnessed
from sovereign.audit.witnesses.timestamp import NotStamped
from sovereign.audit.witnesses.witnessed import FINDINGS, Said, Standing, State
from sovereign.errors import TileMissing
from sovereign.policy import Policy
from sovereign.policy.shapes import TimeAuthority
from sovereign.settings import Home


@dataclass(frozen=True, slots=True)
class Outside:
    """The two verdicts about one log."""

    origin: str
    witnesses: Standing
    timestamps: Standing

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is not as the policy asks."""
        codes = [each.code for each in (self.witnesses, self.timestamps) if each.code]
        told = {self.witnesses.code: self.witnesses, self.timestamps.code: self.timestamps}
        return tuple(Finding(c, f"{self.origin}: {told[c].found}", FINDINGS[c]) for c in codes)


def standings(home: Home, policy: Policy, now: datetime) -> tuple[Outside, ...]:
    """The verdict about every log of the site whose key is pinned, by writer and stream.

    Raises:
        OSError: something could not be read, so nothing can be said.
    """
    found = (standing(home, policy, member, now) for member in fleet.members(home))
    return tuple(each for each in found if each is not None)


def standing(home: Home, policy: Policy, member: fleet.Member, now: datetime) -> Outside | None:
    """The verdict about one log; None when no key is pinned for it."""
    if member.vkey is None:
        return None
    folder = cosigned.folder_of(home.trust, member.writer, member.stream)
    rules, stamps = policy.audit.witnesses, policy.audit.timestamps
    notes = cosigned.notes(folder).values()
    pairs = {each.id: list(cosigned.stamps(folder, each.id)) for each in stamps.authorities}
    reading = Reading.of(
        member
    )  # after the words: a log only grows, so it holds what they are about
    said = witnessed.cosigned(rules.known, notes, reading.holds)
    certified = [_certified(each, pairs[each.id], reading) for each in stamps.authorities]
    words = [each for each in certified if each is not None]
    return Outside(
        member.origin,
        witnessed.judge(rules, said, now),
        witnessed.judge_stamps(stamps, words, now),
    )


def standing_of(
    read: Read, vkey: VerifierKey, notes: Iterable[bytes], policy: Policy, now: datetime
) -> Outside:
    """The verdict about a log somebody handed over, by the cosigned checkpoints given with it.

    Tokens of time-stamping authorities are not among those; `openssl ts -verify` reads them.
    """
    rules = policy.audit.witnesses
    said = witnessed.cosigned(rules.known, notes, Reading(read, vkey).holds)
    looked_at = Standing(State.NOT_CONFIGURED, "no token is looked at here")
    return Outside(vkey.name, witnessed.judge(rules, said, now), looked_at)


class Reading:
    """One log as it stands now, to compare what others signed with."""

    def __init__(self, read: Read, vkey: VerifierKey) -> None:
        self._read = read
        self.keys, raw = rotation.follow(read, vkey)
        self.signed = self.keys.read(raw) if raw else None

    @classmethod
    def of(cls, member: fleet.Member) -> Self:
        """A log of the site whose key is pinned."""
        assert member.vkey is not None
        return cls(fleet.reader(member.folder), member.vkey)

    def holds(self, note: bytes) -> Checkpoint | None:
        """A note's checkpoint when the log's key signed it and the log still contains it."""
        known = self.keys.read_kept(note)
        if known is None or self.signed is None or known.size > self.signed.size:
            return None
        try:
            root = remembered.root_at(self._read, known, self.signed.size, ())
        except TileMissing:
            return None
        return known if root == known.root else None


def _certified(
    authority: TimeAuthority, pairs: list[tuple[bytes, bytes]], reading: Reading
) -> Said | None:
    """What the newest good token of an authority says, if there is one."""
    for signed, token in pairs:
        tree = reading.holds(signed)
        if tree is None:
            continue
        try:
            stamp = timestamp.check(token, signed, authority.anchor)
        except NotStamped:
            continue
        return Said(authority.id, authority.organisation, authority.own, stamp.at, tree.size)
    return None
