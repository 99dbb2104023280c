"""The register of a site's logs, what was seen of them, and what that says of the set. Pure.

The controller writes three things into `controller/evidence`: which logs the site has and under
which keys (`writer-registered`), how far each had come and to which root (`log-seen`), and
whether a writer's process answered (`writer-seen`). So whoever holds that one log and its key
can verify the whole set away from the machine: the other keys follow from it, and so does which
logs must be there.

What the set can show, and what it cannot, is decision 0035. In short: a log that is missing or
that nobody registered; a log that is shorter than, or other than, what the controller saw of it,
even if it was signed anew with its own key; a stretch of time in which a writer was seen at work
and its own log holds no sign of life. A writer that answers, gives signs of life and does not
write down what it does is not found here, nor by anything that reads logs.

Only a log that was found intact may speak here: this module checks no signature and no hash of
an entry.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sovereign.audit import record, tiles
from sovereign.audit.erasures import Asked, when
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read, read_or_full
from sovereign.errors import BadInput, RecordInvalid

FINDINGS: dict[str, str] = {
    "log-absent": "A log that its site's register names is not among those that were given.",
    "log-unregistered": "A log is not in its site's register, or not under this key.",
    "writer-silent": "A writer was seen at work, and its own log has no sign of life from then.",
}
REGISTER = "controller/evidence"
ALIVE_EVERY_S = 900
"""A writer that serves gives a sign of life, and the controller writes what it sees, as often."""
EVERY_MAX_S = 86_400
"""No look is further from the next than a day, whatever a record says."""
GRACE = timedelta(seconds=120)
"""How late a sign of life may be: a busy machine is no gap."""
GAPS_MAX = 20
"""Stretches of silence of one writer that are named; more say no more about it."""
UP, NOT_SEEN = "up", "not-seen"
_SIGNS = ("writer-alive", "writer-stopped", "log-created", "log-reopened", "log-restored")
REGISTERED = ("writer-registered", "log-seen", "writer-seen")

Found = tuple[str, str, str]
"""The origin of a log, a code, and where."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A log that was found intact: its key, its files, and how far they go."""

    vkey: VerifierKey
    read: Read
    size: int
    registered: tuple[tuple[int, dict[str, Any]], ...] = ()

    @classmethod
    def now(
        cls,
        vkey: VerifierKey,
        read: Read,
        inspected: int,
        registered: Iterable[tuple[int, dict[str, Any]]] = (),
    ) -> "Sound":
        """The log as far as it goes now; it may have grown since it was inspected."""
        history, raw = rotation.follow(read, vkey)
        signed = history.read(raw) if raw else None
        size = max(inspected, signed.size if signed else 0)
        return cls(vkey, read, size, tuple(registered))

    @property
    def origin(self) -> str:
        return self.vkey.name

    def bundles(self) -> Iterator[tuple[int, int, bytes]]:
        """Index of the first entry, number of entries and bytes of each bundle; b"" when gone."""
        for number in range(-(-self.size // TILE_WIDTH)):
            width = tiles.width_of(0, number, self.size)
            raw = read_or_full(self.read, tiles.bundle_path(number, width))
            yield number * TILE_WIDTH, width, raw or b""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the controller saw of a log: so many entries, and the root over them in hex."""

    size: int
    root: str
    record: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """Whether a writer's process answered at a time; the next look is due in `every`."""

    at: datetime
    up: bool
    every: timedelta


@dataclass(slots=True)
class Register:
    """What a site's `controller/evidence` says of the site's logs and writers."""

    keys: dict[str, list[VerifierKey]] = field(default_factory=dict)
    newest: datetime | None = None
    anchors: dict[str, list[Anchor]] = field(default_factory=dict)
    sightings: dict[str, list[Sighting]] = field(default_factory=dict)

    @classmethod
    def of(cls, evidence: Sound) -> "Register":
        """Read it."""
        found = cls()
        for index, content in evidence.registered:
            found._take(content, f"{evidence.origin}#{index}")
        return found

    def _take(self, content: dict[str, Any], name: str) -> None:
        at = when(content["at"])
        if content["type"] == "writer-registered":
            self._register(content["log"], content["vkey"], at)
        elif content["type"] == "log-seen":
            anchor = Anchor(content["size"], content["root"], name)
            self.anchors.setdefault(content["log"], []).append(anchor)
        else:
            every = timedelta(seconds=min(content["every_s"], EVERY_MAX_S))
            sighting = Sighting(at, content["state"] == UP, every)
            self.sightings.setdefault(content["writer"], []).append(sighting)

    def _register(self, log: str, text: str, at: datetime) -> None:
        try:
            vkey = VerifierKey.parse(text)
        except BadInput:
            return
        if vkey.name == log:
            keys = self.keys.setdefault(log, [])
            if vkey not in keys:
                keys.append(vkey)
            self.newest = at if self.newest is None else max(self.newest, at)

    def key_of(self, origin: str) -> VerifierKey | None:
        """The key that was registered for a log first: later ones follow from records in it."""
        keys = self.keys.get(origin)
        return keys[0] if keys else None


def register_of(origin: str) -> str:
    """The origin of the log that holds the register for the log called `origin`; "" for none."""
    site, slash, _ = origin.rpartition("/")[0].rpartition("/")
    return f"{site}/{REGISTER}" if slash else ""


def judge(
    sound: Mapping[str, Sound], given: Collection[str], unknown: Collection[str] = ()
) -> Iterator[Found]:
    """What is wrong with a set of logs, as far as the registers in it can tell.

    Args:
        sound: the logs that were found intact, by origin.
        given: the origins of every log that was handed over, sound or not.
        unknown: origins that were claimed by logs for which nobody had a key.
    """
    for evidence in [each for name, each in sound.items() if register_of(name) == name]:
        register = Register.of(evidence)
        if register.newest is None:
            continue  # a controller older than the register; nothing can be said
        site = evidence.origin.removesuffix(REGISTER)
        for origin in register.keys:
            if origin not in given:
                yield origin, "log-absent", f"{origin}, which {evidence.origin} names"
        for origin in unknown:
            if origin.startswith(site) and origin not in register.keys:
                yield origin, "log-unregistered", origin
        for origin, each in sound.items():
            if origin.startswith(site):
                yield from _judge_one(register, register.newest, each)
        yield from _silences(register, site, sound)


def _judge_one(register: Register, newest: datetime, log: Sound) -> Iterator[Found]:
    asked = Asked(log.read, log.size)
    keys = rotation.history(log.read, log.vkey).keys  # a registered one leads to the others
    if not set(keys) & set(register.keys.get(log.origin, [])):
        began = asked.time_of(0)
        if began is None or began < newest or log.origin in register.keys:
            where = f"{log.origin} under {log.vkey.id.hex()}"
            yield log.origin, "log-unregistered", where
    for anchor in register.anchors.get(log.origin, []):
        if anchor.size > log.size:
            yield log.origin, "cut-short", f"{anchor.record} saw {anchor.size} entries"
            return
        root = asked.root_at(anchor.size)
        if root is None or root.hex() != anchor.root:
            where = f"{anchor.record} saw another root over {anchor.size} entries"
            yield log.origin, "history-split", where
            return


def _silences(register: Register, site: str, sound: Mapping[str, Sound]) -> Iterator[Found]:
    for writer, sightings in register.sightings.items():
        log = sound.get(f"{site}{writer}/security")
        if log is not None:
            since, signs = signs_of(log)
            for start, end in silences(since, signs, sightings):
                where = f"{record.written(start)} to {record.written(end)}"
                yield log.origin, "writer-silent", where


def signs_of(log: Sound) -> tuple[datetime | None, list[datetime]]:
    """From when on nothing of a log is erased, and its writer's signs of life since then."""
    since: datetime | None = None
    signs: list[datetime] = []
    for first, width, raw in log.bundles():
        if not raw:
            since, signs = None, []
            continue
        if since is None:
            since = Asked(log.read, log.size).time_of(first)
        signs += [when(each["at"]) for _, each in _of_types(raw, width, _SIGNS)]
    return since, sorted(signs)


def silences(
    since: datetime | None, signs: Iterable[datetime], sightings: Iterable[Sighting]
) -> list[tuple[datetime, datetime]]:
    """Stretches in which a writer was seen up all along and gave no sign of life, oldest first.

    Up all along means: at two looks that follow each other on time. So a controller that was
    down, or a machine that slept, accuses nobody.
    """
    if since is None:
        return []
    marks = sorted(signs)
    found = []
    for start, end, limit in _runs(sightings):
        begin = max(start, since)
        points = [begin, *(mark for mark in marks if begin < mark < end), end]
        found += [(one, two) for one, two in pairwise(points) if two - one > limit]
    return found[:GAPS_MAX]


def _runs(sightings: Iterable[Sighting]) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Start, end and patience of each time in which a writer was seen up at every look."""
    start: Sighting | None = None
    last: Sighting | None = None
    for each in sorted(sightings, key=lambda sighting: sighting.at):
        on_time = last is not None and each.at - last.at <= last.every + GRACE
        if start is not None and last is not None and not (each.up and on_time):
            yield start.at, last.at, start.every + GRACE
            start = None
        if each.up and start is None:
            start = each
        last = each
    if start is not None and last is not None:
        yield start.at, last.at, start.every + GRACE


def _of_types(
    raw: bytes, width: int, types: Collection[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and fields of a bundle's records of these types; others are not taken apart.

    In canonical form a record's type stands there in exactly these bytes.
    """
    marks = [f'"type":"{name}"'.encode() for name in types]
    if not any(mark in raw for mark in marks):
        return
    try:
        entries = tiles.unpack(raw)[:width]
    except ValueError:
        return
    for offset, entry in enumerate(entries):
        if any(mark in entry for mark in marks):
            try:
                content = record.parse(entry)
            except RecordInvalid:
                continue
            if content["type"] in types:
                yield offset, content
