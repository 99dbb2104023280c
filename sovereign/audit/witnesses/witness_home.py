"""Where a witness keeps its keys, the logs it knows, and what it has signed of them.

    WITNESS/keys/ALGORITHM.key   its private keys, readable by it alone; made by an explicit verb
    WITNESS/logs/*.vkey          a log's verifier key each, as the log's operator handed it over
    WITNESS/seen/begun           empty; that the memory is the one that began with the first key
    WITNESS/seen/HASH.checkpoint the newest checkpoint signed of the log whose origin has that hash
    WITNESS/seen/HASH.fork       the first one that cannot be true beside it, if there ever was one

The last two are written by `witness.py`. Losing `seen` is not harmless: an empty memory signs
anything once. So it begins once, together with the first key, and a witness whose `seen` is gone
or was emptied does not start.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from sovereign.audit import checkpoint
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import RealDisk
from sovereign.audit.note import VerifierKey
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import ALGORITHMS, CosignerSecret
from sovereign.audit.witnesses.witness import BEGUN, LOGS_MAX, hash_of
from sovereign.errors import BadInput, KeyMissing, LogMissing

KEY_SUFFIX, LOG_SUFFIX = ".key", ".vkey"
FILE_MAX_BYTES = 16_384


class WitnessHome:
    """The folder of one witness."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen = root / "seen"
        self._keys = root / "keys"
        self._logs = root / "logs"

    def signers(self) -> tuple[CosignerSecret, ...]:
        """The keys it signs with.

        Raises:
            KeyMissing: there is none; making one is an explicit verb.
            LogMissing: there is a key, and what was signed with it is gone.
        """
        found = sorted(self._keys.glob(f"*{KEY_SUFFIX}"))
        if not found:
            raise KeyMissing(
                f"there is no witness in {self.root}",
                accepted="a witness that was made once",
                next_step="sovereign witness key --name NAME",
            )
        if not (self.seen / BEGUN).exists():
            raise LogMissing(
                f"the witness in {self.root} has lost its memory",
                found=f"keys, and no {self.seen / BEGUN}",
                accepted="the folder, restored from the newest cosigned checkpoint of each log",
                next_step="docs/formats/witness.md, Restore a witness",
            )
        return tuple(CosignerSecret.parse(_text(path)) for path in found)

    def make_key(self, name: str, algorithm: str) -> CosignerSecret:
        """Make a key of this kind; with the first one the memory begins.

        Raises:
            BadInput: there is one already, the others have another name, or it can name none.
        """
        path = self._keys / f"{algorithm}{KEY_SUFFIX}"
        others = self.signers() if any(self._keys.glob(f"*{KEY_SUFFIX}")) else ()
        if path.exists():
            raise BadInput(f"there is a key in {path} already", accepted="the key that is there")
        if any(other.name != name for other in others):
            raise BadInput(f"this witness is called {others[0].name}", accepted=others[0].name)
        key = CosignerSecret.generate(name, ALGORITHMS[algorithm])
        for folder in (self._keys, self._logs, self.seen):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._keys.chmod(0o700)
        if not others:
            _write(self.seen / BEGUN, "", 0o644)
        _write(path, key.dump(), 0o600)
        for folder in (self.root, self.root.parent):
            RealDisk(folder).sync(".")
        return key

    def logs(self) -> tuple[VerifierKey, ...]:
        """The logs it knows, a key each; of one log there may be several.

        Raises:
            BadInput: a file holds no verifier key, or there are too many.
        """
        files = sorted(self._logs.glob(f"*{LOG_SUFFIX}"))
        if len(files) > LOGS_MAX:
            raise BadInput(f"{len(files)} logs are too many", accepted=f"at most {LOGS_MAX}")
        return tuple(VerifierKey.parse(_text(path)) for path in files)

    def trust(self, key: VerifierKey) -> bool:
        """Know this log from the next start on; False when it was known."""
        path = self._logs / f"{hash_of(key.name)[:16]}-{key.id.hex()}{LOG_SUFFIX}"
        if path.exists():
            return False
        self._logs.mkdir(parents=True, exist_ok=True)
        _write(path, f"{key}\n", 0o644)
        return True

    def remembered(self) -> Iterator[tuple[str, Checkpoint, int, bool]]:
        """Origin, newest signed tree, its time and whether a fork was seen, of every log known.

        Nothing is locked and nothing verified: it is what the files say.
        """
        keys = [secret.verifier for secret in self.signers()]
        for origin in sorted({key.name for key in self.logs()}):
            path = self.seen / f"{hash_of(origin)}.checkpoint"
            signed = path.read_bytes() if path.exists() else b""
            said = [cosignature.read(signed, key) for key in keys]
            times = [each for each in said if each is not None]
            forked = path.with_suffix(".fork").exists()
            if times:
                newest = max(times, key=lambda each: each.at)
                yield origin, newest.checkpoint, newest.at, forked
            else:
                yield origin, Checkpoint(origin, 0, b""), 0, forked

    def signed(self, origin: str) -> bytes | None:
        """The newest checkpoint signed of a log, as the note it is kept as."""
        path = self.seen / f"{hash_of(origin)}.checkpoint"
        return path.read_bytes() if path.exists() else None

    def put_back(self, notes: list[bytes], *, others_never: bool = False) -> list[Checkpoint]:
        """Give the memory back: the newest cosigned checkpoint of every log known here.

        Args:
            others_never: the logs of which there is none were never signed here. Without that
                word each must be given, for one that is forgotten can be rolled back.

        Raises:
            BadInput: no known log has signed one of them, a memory is there, or one is missing.
                Nothing was written.
        """
        given = sorted(((self._signed_in(note), note) for note in notes), key=lambda e: e[0].size)
        found = {tree.origin: (tree, note) for tree, note in given}  # the largest of each log
        there = sorted(origin for origin in found if self.signed(origin) is not None)
        if there:
            raise BadInput(f"what was signed of {there[0]} is remembered", accepted="a lost memory")
        lacking = {key.name for key in self.logs()} - found.keys()
        lacking = {origin for origin in lacking if self.signed(origin) is None}
        if lacking and not others_never:
            raise BadInput(
                f"nothing was given of {', '.join(sorted(lacking))}",
                accepted="a checkpoint of each, or --others-never: they were never signed here",
            )
        self.seen.mkdir(parents=True, exist_ok=True)
        for origin, (_, note) in found.items():
            _write(self.seen / f"{hash_of(origin)}.checkpoint", note.decode(), 0o644)
        _write(self.seen / BEGUN, "", 0o644)
        return [tree for tree, _ in found.values()]

    def _signed_in(self, note: bytes) -> Checkpoint:
        trees = (checkpoint.read(note, key) for key in self.logs())
        tree = next((each for each in trees if each is not None), None)
        if tree is None or tree.origin not in {key.name for key in self.logs()}:
            raise BadInput("no log known here has signed this checkpoint", found=repr(note[:60]))
        return tree


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(FILE_MAX_BYTES).decode(errors="replace")


def _write(path: Path, text: str, mode: int) -> None:
    """Make a file whole and durable, or leave none."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    RealDisk(path.parent).sync(".")
