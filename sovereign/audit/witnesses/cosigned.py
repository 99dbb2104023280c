"""Where the word of others about our logs is kept: beside the logs, outside what they can say.

    cosigned/WRITER-STREAM/ID.note              the newest checkpoint that witness ID has signed
    cosigned/WRITER-STREAM/checkpoint           the newest with the lines of all who signed it
    cosigned/WRITER-STREAM/ID-SIZE.checkpoint   a checkpoint that authority ID has certified,
    cosigned/WRITER-STREAM/ID-SIZE.tsr          and its answer (RFC 3161)

`cosigned` stands beside the folder of pinned keys. A file is put there whole or not at all. The
served `checkpoint` of a log stays as its writer publishes it, five times a second: cosignatures
would be gone from it before anybody read them.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sovereign.audit import checkpoint, note, tiles
from sovereign.audit.scan import Read
from sovereign.errors import TileMissing

NOTE, STAMPED, TOKEN = ".note", ".checkpoint", ".tsr"
FILE_MAX_BYTES = 262_144
FILES_MAX = 1_000


def root_of(trust: Path) -> Path:
    """The folder for all logs whose keys are pinned in `trust`."""
    return trust.parent / "cosigned"


def folder_of(trust: Path, writer: str, stream: str) -> Path:
    """The folder for one log."""
    return root_of(trust) / f"{writer}-{stream}"


def notes(folder: Path) -> dict[str, bytes]:
    """Cosigned checkpoints, by the id of the witness. Nothing of them is believed yet."""
    return {path.stem: raw for path in _files(folder, NOTE) if (raw := _read(path)) is not None}


def everything(folder: Path) -> list[bytes]:
    """Every checkpoint that somebody else has signed or certified: the log must contain it."""
    return [raw for suffix in (NOTE, STAMPED) for p in _files(folder, suffix) if (raw := _read(p))]


def keep_note(folder: Path, witness: str, signed: bytes) -> None:
    """Put a witness' newest note in place of the one before.

    Raises:
        OSError: it is not kept; what stood there still stands.
    """
    _keep(folder / f"{witness}{NOTE}", signed)


def keep_merged(folder: Path) -> None:
    """Put the newest cosigned checkpoint, with every witness' line, where others' tools take it.

    Raises:
        OSError: it is not kept; what stood there still stands.
    """
    together = merged(notes(folder).values())
    if together:
        _keep(folder / tiles.CHECKPOINT, together)


def as_cosigned(read: Read, folder: Path, index: int) -> Read:
    """Read a log as it stood when it was last cosigned, so that a proof carries those lines.

    Raises:
        TileMissing: nobody has cosigned it since entry `index` was written.
    """
    signed = _read(folder / tiles.CHECKPOINT) or b""
    tree = checkpoint.parse(signed.decode(errors="replace"))
    if tree is None or tree.size <= index:
        raise TileMissing(
            "no witness has signed this log since that record was written",
            found="nothing" if tree is None else f"a cosigned checkpoint over {tree.size} records",
            next_step="sovereign audit cosign",
        )
    return lambda path: signed if path == tiles.CHECKPOINT else read(path)


def merged(found: Iterable[bytes]) -> bytes:
    """Of notes over one log, the largest tree's, with all their lines, each once; b"" of none."""
    texts: dict[str, tuple[int, dict[tuple[str, bytes], None]]] = {}
    for each in found:
        try:
            text, signatures = note.parts(each)
        except ValueError:
            continue
        tree = checkpoint.parse(text)
        if tree is not None:
            texts.setdefault(text, (tree.size, {}))[1].update(dict.fromkeys(signatures))
    if not texts:
        return b""
    text, (_, lines) = max(texts.items(), key=lambda each: each[1][0])
    return text.encode() + b"\n" + b"".join(note.signature_line(*each) for each in lines)


def stamps(folder: Path, authority: str) -> Iterator[tuple[bytes, bytes]]:
    """Checkpoint and token of an authority, newest size first; usually two pairs."""
    pairs = [(_size_in(path, authority), path) for path in _files(folder, TOKEN)]
    for _, path in sorted((pair for pair in pairs if pair[0] >= 0), reverse=True):
        signed, token = _read(path.with_suffix(STAMPED)), _read(path)
        if signed is not None and token is not None:
            yield signed, token


def keep_stamp(folder: Path, authority: str, size: int, signed: bytes, token: bytes) -> None:
    """Keep a token with the checkpoint it is about, and the pair before it; let go of the rest.

    The pair before it stays for whoever has just read the names. A crash leaves all pairs as
    they were, or a lone checkpoint beside them.

    Raises:
        OSError: it is not kept; what stood there still stands.
    """
    path = folder / f"{authority}-{size}{TOKEN}"
    _keep(path.with_suffix(STAMPED), signed)
    _keep(path, token)
    sizes = sorted({_size_in(each, authority) for each in _files(folder, STAMPED)} - {-1})
    for older in sizes[: max(0, sizes.index(size) - 1)]:
        for suffix in (TOKEN, STAMPED):
            (folder / f"{authority}-{older}{suffix}").unlink(missing_ok=True)


def _size_in(path: Path, authority: str) -> int:
    """The size in a name `AUTHORITY-SIZE`; -1 when it is of another authority."""
    name, _, size = path.stem.rpartition("-")
    return int(size) if name == authority and size.isascii() and size.isdecimal() else -1


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))[:FILES_MAX]


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX_BYTES)
    except FileNotFoundError:
        return None


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # the controller and a command may both have something
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        os.fsync(fd)
    finally:
        os.close(fd)
