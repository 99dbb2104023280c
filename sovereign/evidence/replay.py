"""Ask a new policy what the recorded questions of the last days were, and say what it answers.

A decision record holds everything that was asked: place, class, verb, listener, time, and who with
which model where. Both policies are asked the same, at the recorded time, so that what differs is
the policy and nothing else. What a record does not hold (the models and roles of a key) is taken
from the key as it is now; of a key that is gone, only what the record says counts.

Streams: one bundle of a log is in memory at a time, and answers are kept by what was asked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sovereign.access import Access, served
from sovereign.audit.search import Hit, Source, Wanted, search, span
from sovereign.policy import Policy
from sovereign.policy.spoken import Principal
from sovereign.residency import Question, decide

KINDS_MAX = 10_000
"""Kinds of differing answers told apart; more are counted as one."""
ANSWERS_MAX = 200_000
CHAT = "chat"
_ASKED = ("place", "data", "verb", "listener", "key", "model", "endpoint", "engine", "call")
_BOUND = ("tenant", "purpose", "basis")
_WHO = ("key", *_BOUND, "data")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy answers: allowed or not, by which rule."""

    allowed: bool
    rule: str

    def __str__(self) -> str:
        return f"{'allow' if self.allowed else 'refuse'} by {self.rule}"


@dataclass(frozen=True, slots=True)
class Kind:
    """Questions of one kind whose answer changes from `before` to `after`."""

    before: Answer
    after: Answer
    place: str
    data: str
    verb: str
    model: str


@dataclass(slots=True)
class Replayed:
    """What came of it. `asked` questions were asked again; `placeless` records held none, because
    the call was refused before an endpoint was looked at; `gone` entries could not be read."""

    asked: int = 0
    placeless: int = 0
    gone: int = 0
    others: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    example: dict[Kind, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many questions get another answer."""
        return self.counts.total() + self.others

    def note(self, kind: Kind, record: str) -> None:
        """One question more whose answer changes."""
        if kind not in self.counts and len(self.counts) >= KINDS_MAX:
            self.others += 1
            return
        self.counts[kind] += 1
        self.example.setdefault(kind, record)


class Replay:
    """The same questions to two policies."""

    def __init__(self, old: Policy, new: Policy, keys: Mapping[str, Principal]) -> None:
        self._policies = ((old, Access(old)), (new, Access(new)))
        self._keys = keys
        self._known: dict[tuple[str, ...], tuple[Answer, Answer]] = {}

    def ask(self, fields: Mapping[str, Any]) -> tuple[Answer, Answer]:
        """What both answer to the question of one decision record that names a place."""
        at = str(fields["asked_at"])
        asked = tuple(str(fields.get(name, "")) for name in (*_ASKED, *_BOUND))
        about = (*asked, at[:10])  # what residency judges at a time it judges at its date
        found = self._known.get(about)
        if found is None:
            if len(self._known) >= ANSWERS_MAX:
                self._known.clear()
            moment = datetime.fromisoformat(at)
            who = self._who(fields)
            old, new = (_answer(*each, fields, who, moment) for each in self._policies)
            found = self._known[about] = old, new
        return found

    def _who(self, fields: Mapping[str, Any]) -> Principal:
        known = self._keys.get(fields["key"])
        if known is not None:
            return known
        key, tenant, purpose, basis, data = (str(fields[name]) for name in _WHO)
        return Principal(key, tenant, purpose, basis, data)


def replay(
    sources: Iterable[Source],
    since: datetime,
    old: Policy,
    new: Policy,
    keys: Mapping[str, Principal],
) -> Replayed:
    """Ask again what these logs recorded from `since` on.

    Args:
        keys: who each key of the site is to the access rules, by its id.
    """
    both, done = Replay(old, new, keys), Replayed()
    for name, fields in _decisions(sources, since, done):
        if "place" not in fields:
            done.placeless += 1
            continue
        done.asked += 1
        before, after = both.ask(fields)
        if before.allowed is not after.allowed:
            done.note(_kind(before, after, fields), name)
    return done


def _kind(before: Answer, after: Answer, fields: Mapping[str, Any]) -> Kind:
    said = {name: str(fields[name]) for name in ("place", "data", "verb", "model")}
    return Kind(before, after, **said)


def wanted(since: datetime) -> Wanted:
    """Which records are read."""
    return Wanted(since=since, type="decision")


def _decisions(
    sources: Iterable[Source], since: datetime, done: Replayed
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for source in sources:
        for found in search(source, wanted(since), span(source, wanted(since))):
            if isinstance(found, Hit):
                yield found.name, found.fields
            else:
                done.gone += found.last - found.first + 1


def _answer(
    policy: Policy, access: Access, fields: Mapping[str, Any], who: Principal, at: datetime
) -> Answer:
    place, model = str(fields["place"]), str(fields["model"])
    listener = str(fields.get("listener", ""))
    asked = Question(place, str(fields["data"]), str(fields["verb"]), at, listener)
    residency = decide(policy, asked)
    if not residency.allowed or model not in policy.models:
        rule = residency.rule if not residency.allowed else "model-unknown"
        return Answer(False, rule)
    spot = (str(fields.get("endpoint", "")), str(fields.get("engine", "")), place)
    entitled = access.decide(who, str(fields.get("call", CHAT)), served(policy, model, *spot))
    return Answer(True, residency.rule) if entitled.allowed else Answer(False, entitled.rule)
