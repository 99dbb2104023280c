"""Send what is published of a site's logs to a standby, round after round.

What is sent is durable here: a published checkpoint covers groups that are in the journal, so
the standby never holds what this machine could not recover. It lags behind acknowledgement by
publication (0.2 s), the pause between two rounds, and the way.

A round first reads the checkpoint of `controller/evidence`, then those of the others, and sends
in the other order: what the controller says it saw of a log, the standby has of that log too.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sovereign.audit import remembered, tiles
from sovereign.audit.copies import standby_wire
from sovereign.audit.copies.standby_client import Client, Elsewhere, State
from sovereign.audit.copies.standby_wire import CHUNK_BYTES
from sovereign.audit.erasures import Asked
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read, read_or_full
from sovereign.audit.writers import register_of
from sovereign.errors import HistorySplit, TileMissing

RESUMES_MAX = 3
"""How often the standby may name another place within one round."""
NO_STATE = State("", 0, 0, b"")


@dataclass(frozen=True, slots=True)
class Source:
    """A log to send. `memory` is where the standby's newest checkpoint is remembered."""

    vkey: VerifierKey
    read: Read
    memory: Path | None = None

    @property
    def origin(self) -> str:
        return self.vkey.name


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the standby is behind what is published: entries, and the age of the oldest."""

    origin: str
    size: int
    held: int
    seconds: float

    @property
    def entries(self) -> int:
        return self.size - self.held


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A log as a round found it."""

    source: Source
    keys: rotation.History
    note: bytes
    size: int


def snapshots(sources: Iterable[Source]) -> list[Snapshot]:
    """The logs that have a checkpoint, in the order in which they are sent: registers last."""
    ordered = sorted(sources, key=lambda each: each.origin != register_of(each.origin))
    found = [shot for source in ordered if (shot := _snapshot(source)) is not None]
    return found[::-1]


def _snapshot(source: Source) -> Snapshot | None:
    keys, note = rotation.follow(source.read, source.vkey)
    signed = keys.read(note) if note else None
    if note is None or signed is None:
        return None
    return Snapshot(source, keys, note, signed.size)


class Sender:
    """Sends to one standby. Not safe from several threads. `sources` may change between rounds."""

    def __init__(self, client: Client, sources: Iterable[Source]) -> None:
        self._client = client
        self.sources = tuple(sources)
        self._held: dict[str, State] | None = None

    def round(self) -> list[Lag]:
        """Send what is new of every log; say how long the oldest of it had been here alone.

        Raises:
            StandbyUnreachable: it did not answer. The next round goes on.
            HistorySplit: the standby holds more of a log, or another history of it. Its newest
                checkpoint is remembered, so that no writer goes on; the other logs were sent.
            TileMissing: a log has lost files, which `sovereign audit verify` names; the same.
        """
        faults: list[HistorySplit | TileMissing] = []
        try:
            if self._held is None:
                self._held = self._recall()
            found = snapshots(self.sources)  # after asking: what the copy has, is here by now
            before = {origin: state.size for origin, state in self._held.items()}
            for shot in found:
                try:
                    self._push(shot)
                except (HistorySplit, TileMissing) as error:
                    faults.append(error)
        except BaseException:
            self._held = None
            raise
        if faults:
            self._held = None
            raise faults[0]
        return [
            replace(lag_of(shot, before.get(shot.source.origin, 0)), held=shot.size)
            for shot in found
        ]

    def _recall(self) -> dict[str, State]:
        """Ask how far the copies go, and remember it: a log that is put back must not go on."""
        held = self._client.held()
        for source in self.sources:
            state = held.get(source.origin)
            if state is not None and state.note:
                _remember(source, state.note)
        return held

    def _push(self, shot: Snapshot) -> None:
        held = self._held
        assert held is not None
        origin = shot.source.origin
        for _ in range(RESUMES_MAX):
            state = held.get(origin, NO_STATE)
            refuse_split(shot, state)
            if state.size == shot.size:
                return
            try:
                for body in bodies(shot, state.pending):
                    held[origin] = self._client.send(origin, body)
            except Elsewhere as there:
                held[origin] = there.state
                shot = _snapshot(shot.source) or shot  # another sender may have been quicker
                continue
            _remember(shot.source, shot.note)
            return
        raise HistorySplit(f"the standby takes {origin} from another place each time")


def _remember(source: Source, note: bytes) -> None:
    """In `trust/`, where it is ours to write; elsewhere the machine's own memory has to do."""
    if source.memory is not None:
        with suppress(OSError):
            remembered.keep(source.memory, note, rotation.newest(source.read, source.vkey))


def refuse_split(shot: Snapshot, state: State) -> None:
    """What the standby holds must be a prefix of what is here.

    Raises:
        HistorySplit: it is longer, or another.
    """
    known = shot.keys.read_kept(state.note) if state.note else None
    if state.note and known is None:
        raise HistorySplit(
            f"the standby's checkpoint of {shot.source.origin} is signed by none of its keys",
            found=f"{state.size} entries there",
            next_step="docs/runbooks/history-split.md, Fix D",
        )
    if known is None:
        return
    root = Asked(shot.source.read, shot.size).root_at(known.size)
    if known.size > shot.size or root != known.root:
        raise HistorySplit(
            f"the standby holds another history of {shot.source.origin}, or more of it",
            found=f"{shot.size} entries here, {known.size} there",
            next_step="docs/runbooks/history-split.md, Fix D",
        )


def bodies(shot: Snapshot, start: int) -> Iterator[bytes]:
    """What is sent from entry `start` on; the last body ends with the note.

    Raises:
        TileMissing: neither entries nor hashes of a bundle are there.
    """
    body = b"".join(
        standby_wire.handover(number, content)
        for number in range(1, len(shot.keys.handovers) + 1)
        if (content := shot.source.read(rotation.path_of(number))) is not None
    )
    for number in range(start // TILE_WIDTH, -(-shot.size // TILE_WIDTH)):
        if len(body) > CHUNK_BYTES:
            yield body
            body = b""
        first = max(start, number * TILE_WIDTH)
        body += _bundle(shot, number, first) if first < shot.size else b""
    yield body + standby_wire.note(shot.note)


def _bundle(shot: Snapshot, number: int, first: int) -> bytes:
    """The frame for a bundle's entries from `first` on, or their hashes when it is erased."""
    width = tiles.width_of(0, number, shot.size)
    skip = first - number * TILE_WIDTH
    raw = read_or_full(shot.source.read, tiles.bundle_path(number, width))
    if raw is not None:
        return standby_wire.entries(first, _unpacked(shot, raw, width)[skip:])
    tile = read_or_full(shot.source.read, tiles.tile_path(0, number, width)) or b""
    if len(tile) < width * HASH_BYTES or width < TILE_WIDTH:
        raise _lost(shot, tiles.bundle_path(number, width))
    return standby_wire.hashes(first, tiles.split_hashes(tile)[skip:])


def _unpacked(shot: Snapshot, raw: bytes, width: int) -> list[bytes]:
    try:
        entries = tiles.unpack(raw)[:width]
    except ValueError:
        entries = []
    if len(entries) < width:
        raise _lost(shot, "a bundle")
    return entries


def _lost(shot: Snapshot, path: str) -> TileMissing:
    return TileMissing(
        f"{path} of {shot.source.origin} cannot be read", next_step="sovereign audit verify"
    )


def lag_of(shot: Snapshot, held: int, now: datetime | None = None) -> Lag:
    """How far a copy is behind: 0 s when it has everything that is published."""
    if held >= shot.size:
        return Lag(shot.source.origin, shot.size, shot.size, 0.0)
    since = Asked(shot.source.read, shot.size).time_of(held)
    seconds = ((now or datetime.now(UTC)) - since).total_seconds() if since else 0.0
    return Lag(shot.source.origin, shot.size, held, max(0.0, seconds))
