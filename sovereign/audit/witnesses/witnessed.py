"""Whether others have seen a log, how many, and how lately: the second trust domain's verdict.

A log verifies against its own key; that says nothing about what its operator, who holds the key,
has taken away at its end. So the policy may ask that other organisations' witnesses have signed
a checkpoint of each log, and that a time-stamping authority has certified one. What counts:

  * Only a cosignature under a key that the policy lists, over a checkpoint that the log's own
    key signed and that the log still contains.
  * Organisations are counted, not keys: two witnesses of one organisation are one.
  * Our own witnesses never count. Alone they leave the question open: a person has to say why
    they are to be believed.
  * Not what is from the future, and for freshness not what is older than `max_age_s`.

Pure: notes and tokens were read, and tokens verified, by the caller (`outside.py`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import CosignerKey

if TYPE_CHECKING:  # the verifier takes the findings from here, and reads no policy
    from sovereign.policy.shapes import TimeStamps, Witness, Witnesses

FINDINGS: dict[str, str] = {
    "witness-quorum": "Fewer other organisations have signed this log than the policy asks for.",
    "cosignature-stale": "Enough other organisations have signed this log, but not lately enough.",
    "timestamp-missing": "No authority has certified the time of any checkpoint of this log.",
    "timestamp-stale": "An authority has certified a checkpoint of this log, not lately enough.",
}
CLOCK_SLACK = timedelta(minutes=5)
"""How far somebody else's clock may be before ours."""


class State(StrEnum):
    """What others have seen, as far as the policy asks."""

    MET = "met"
    OWN_ONLY = "own-only"
    NOT_CONFIGURED = "not-configured"
    MISSING = "missing"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody's good word about a log: its first `size` entries stood there at `at`."""

    id: str
    organisation: str
    own: bool
    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict about one log. `code` is a finding, "" when there is none.

    `at` is the moment up to which it holds: the oldest of the words that were needed.
    """

    state: State
    found: str
    code: str = ""
    at: datetime | None = None
    said: tuple[Said, ...] = ()


def cosigned(
    witnesses: "Iterable[Witness]",
    notes: Iterable[bytes],
    holds: Callable[[bytes], Checkpoint | None],
) -> tuple[Said, ...]:
    """Every good word of a known witness, the newest of each.

    Args:
        holds: gives a note's checkpoint when the log's own key signed it and the log still
            contains it, else None.
    """
    keys = [(each, CosignerKey.parse(each.key)) for each in witnesses]
    newest: dict[str, Said] = {}
    for note in notes:
        tree = holds(note)
        if tree is None:
            continue
        for witness, key in keys:
            word = cosignature.read(note, key)
            if word is None or word.checkpoint != tree:
                continue
            at = _moment(word.at)
            known = newest.get(witness.id)
            if at is not None and (known is None or known.at < at):
                newest[witness.id] = Said(
                    witness.id, witness.organisation, witness.own, at, tree.size
                )
    return tuple(sorted(newest.values(), key=lambda each: each.id))


def judge(rules: "Witnesses", said: Iterable[Said], now: datetime) -> Standing:
    """Say whether the quorum is met at `now`, an aware time."""
    words = tuple(each for each in said if each.at <= now + CLOCK_SLACK)
    if rules.quorum == 0:
        return _without_quorum([each for each in rules.known if each.own], words)
    newest = _newest_by_organisation(words)
    fresh = [at for at in newest if at >= now - timedelta(seconds=rules.max_age_s)]
    found = f"{len(fresh)} of {rules.quorum} organisations within {rules.max_age_s} s"
    if len(fresh) >= rules.quorum:
        return Standing(State.MET, found, at=fresh[rules.quorum - 1], said=words)
    if len(newest) >= rules.quorum:
        at = newest[rules.quorum - 1]
        found = f"{found}; the quorum was last met at {_written(at)}"
        return Standing(State.STALE, found, "cosignature-stale", at, words)
    found = f"{found}; {len(newest)} ever signed what is there"
    return Standing(State.MISSING, found, "witness-quorum", said=words)


def judge_stamps(rules: "TimeStamps", said: Iterable[Said], now: datetime) -> Standing:
    """Say whether an authority that is not ours has certified a checkpoint lately enough."""
    words = tuple(each for each in said if each.at <= now + CLOCK_SLACK)
    others = [each for each in rules.authorities if not each.own]
    if not others:
        return _without_quorum([each for each in rules.authorities if each.own], words)
    newest = max((each.at for each in words if not each.own), default=None)
    if newest is None:
        return Standing(State.MISSING, "no token", "timestamp-missing", said=words)
    found = f"certified at {_written(newest)}"
    if newest < now - timedelta(seconds=rules.max_age_s):
        found = f"{found}, more than {rules.max_age_s} s ago"
        return Standing(State.STALE, found, "timestamp-stale", newest, words)
    return Standing(State.MET, found, at=newest, said=words)


def _without_quorum(own: list[object], words: tuple[Said, ...]) -> Standing:
    """Nobody else is asked for: what our own say is shown, and proves nothing to a stranger."""
    if not own:
        return Standing(State.NOT_CONFIGURED, "nobody is asked", said=words)
    return Standing(State.OWN_ONLY, "our own alone, which count for nothing", said=words)


def _newest_by_organisation(words: Iterable[Said]) -> list[datetime]:
    """The newest word of each other organisation, newest first."""
    newest: dict[str, datetime] = {}
    for each in words:
        if not each.own:
            newest[each.organisation] = max(each.at, newest.get(each.organisation, each.at))
    return sorted(newest.values(), reverse=True)


def _moment(at: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a time no calendar has, such as the year 300,000


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
