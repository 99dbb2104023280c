"""Which keys a log has been signed with, and how each vouches for the next.

A log's key is replaced by a *handover*: the record `key-rotated` in the log itself names the old
key and the new one, and a checkpoint that covers the record is signed by both. The file
`handover/N` in the log's folder, N counting from 1, holds that as one proof (C2SP tlog-proof), so
that it still stands alone when the record's bundle has been erased on time.

`follow` walks the handovers. Whoever holds any one key of the chain can tell the others: forwards
since the old key signed, backwards since the new one did. A key's *term* ends with the size of
the checkpoint that hands over: what it signed beyond that counts for nothing, and only the newest
key may sign the log as it stands. `docs/formats/rotation.md` has the bytes.

Pure, and shared by writer and verifier.
"""

from dataclasses import dataclass

from sovereign.audit import checkpoint, proof, record
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import leaf_hash, root_from_inclusion
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read
from sovereign.audit.tiles import CHECKPOINT
from sovereign.errors import BadInput, RecordInvalid

RECORD = "key-rotated"
HANDOVERS_MAX = 1000
"""More changes of key than a log that changes it weekly makes in nineteen years."""


FINDINGS: dict[str, str] = {
    "key-retired": "A key signed this after it had been replaced.",
    "handover-missing": "A record says that the log's key was replaced, and no handover shows it.",
    "handover-damaged": "A handover from one key to the next does not hold.",
}


@dataclass(frozen=True, slots=True)
class Handover:
    """One key vouching for the next: record `index` says so, and both signed `over`."""

    old: VerifierKey
    new: VerifierKey
    index: int
    over: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class History:
    """The keys of one log, as far as the given key leads to them.

    `damaged` names the first handover that does not hold, "" when all do. `keys` is the given key
    alone when no handover names it: then the others are somebody else's.
    """

    given: VerifierKey
    keys: tuple[VerifierKey, ...]
    handovers: tuple[Handover, ...] = ()
    damaged: str = ""

    @property
    def newest(self) -> VerifierKey:
        """The one key that may sign the log as it stands."""
        return self.keys[-1]

    def read(self, note: bytes) -> Checkpoint | None:
        """The log's own checkpoint: signed by its newest key, and in its name."""
        signed = checkpoint.read(note, self.newest)
        return signed if signed is not None and signed.origin == self.given.name else None

    def read_kept(self, note: bytes) -> Checkpoint | None:
        """A checkpoint from any time: signed by the key whose term it falls into."""
        for position, key in enumerate(self.keys):
            signed = checkpoint.read(note, key)
            if signed is None or signed.origin != self.given.name:
                continue
            ends = self.handovers[position : position + 1]
            if not ends or signed.size <= ends[0].over.size:
                return signed
        return None

    def is_retired(self, note: bytes) -> bool:
        """True when a key of this log signed it, after it had been replaced."""
        return self.read_kept(note) is None and any(
            checkpoint.read(note, key) is not None for key in self.keys[:-1]
        )

    def lacks(self, rotations: list[tuple[int, str]]) -> list[str]:
        """Records (index and new key) whose key did take over, though no handover says so.

        One whose key never did is no fault: a rotation that was cut short leaves it.
        """
        shown = {str(each.new) for each in self.handovers}
        known = {str(key) for key in self.keys} - shown
        return [f"{self.given.name}#{index}" for index, new in rotations if new in known]

    def says(self) -> tuple[str, ...]:
        """What whoever gave the key should know, when the log has had several."""
        if not self.handovers:
            return ()
        position = self.keys.index(self.given)
        last = self.handovers[-1]
        if self.given == self.newest:
            first = self.handovers[position - 1]
            return (
                f"only the newest of its {len(self.keys)} keys was given; it took over at "
                f"#{first.index} from {first.old}, which vouched for it there",
            )
        return (
            f"its key was replaced at #{self.handovers[position].index}; "
            f"from #{last.index} on keep {last.new}",
        )


def path_of(number: int) -> str:
    """Where the handover stands that ended the term of the log's key `number`, from 1."""
    return f"handover/{number}"


def parse(raw: bytes, origin: str) -> Handover | None:
    """Read one handover of the log called `origin`; None when it does not hold."""
    try:
        index, entry, hashes, note = proof.parse(raw)
        said = record.parse(entry)
        if said["type"] != RECORD:
            return None
        old, new = VerifierKey.parse(said["old"]), VerifierKey.parse(said["new"])
    except (BadInput, RecordInvalid):
        return None
    over = checkpoint.read(note, old)
    if over is None or checkpoint.read(note, new) != over or old == new:
        return None
    if {over.origin, old.name, new.name} != {origin}:
        return None
    if root_from_inclusion(leaf_hash(entry), index, over.size, hashes) != over.root:
        return None
    return Handover(old, new, index, over, note)


def history(read: Read, vkey: VerifierKey) -> History:
    """Walk the handovers of a log from the first; `vkey` is the key somebody was given."""
    chain: list[Handover] = []
    keys: list[VerifierKey] = []
    damaged = ""
    for number in range(1, HANDOVERS_MAX + 1):
        raw = read(path_of(number))
        if raw is None:
            break
        found = parse(raw, vkey.name)
        if found is None or not _continues(chain, keys, found):
            damaged = path_of(number)
            break
        keys += [found.new] if keys else [found.old, found.new]
        chain.append(found)
    if vkey not in keys:
        return History(vkey, (vkey,), damaged=damaged)
    return History(vkey, tuple(keys), tuple(chain), damaged)


def _continues(chain: list[Handover], keys: list[VerifierKey], found: Handover) -> bool:
    """The newest key hands over, later than it was handed to, and to one that is really new."""
    if not chain:
        return True
    return found.old == keys[-1] and found.new not in keys and found.index >= chain[-1].over.size


def follow(read: Read, vkey: VerifierKey) -> tuple[History, bytes | None]:
    """The history of a log and its checkpoint, of one moment.

    The key may be replaced between two reads. So the history is read first, and both again when
    they do not fit and the history has moved on.
    """
    known = history(read, vkey)
    while True:
        raw = read(CHECKPOINT)
        if raw is None or known.read(raw) is not None:
            return known, raw
        again = history(read, vkey)
        if again == known:
            return known, raw
        known = again


def newest(read: Read, vkey: VerifierKey) -> VerifierKey:
    """The key that signs the log now, for somebody who holds this one."""
    return history(read, vkey).newest
