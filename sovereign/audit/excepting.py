"""Read the exceptions of a site: each a YAML file, and beside it who signed it.

`NAME.yaml` says what is excepted, `NAME.yaml.sig` holds signature lines of a signed note (C2SP
signed-note, Ed25519) whose text is the YAML, byte for byte. Keys are pinned outside: a file
`ROLE.vkey` below the site's trust folder. What nobody signed whose key is pinned, what was changed
since, and what cannot be read, counts as if it were not there; this module says why.

Whether an exception is one that the policy allows, and when it holds, is judged elsewhere
(`policy/excepted.py`, `residency.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign.audit.note import SignerKey, VerifierKey, open_note, sign
from sovereign.errors import BadInput, PolicyUnreadable
from sovereign.policy.shapes import SiteException
from sovereign.policy.yamlfile import read_as

SIGNED = ".sig"
PIN = ".vkey"
FILES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """One file. `exception` is None when it does not count, and `fault` says why."""

    path: Path
    exception: SiteException | None
    fault: str = ""


def read(folder: Path, pins: Path) -> tuple[Found, ...]:
    """Every exception of a folder, by file name; at most `FILES_MAX` are looked at."""
    paths = sorted(folder.glob("*.yaml"))[:FILES_MAX]
    keys = tuple(_keys(pins)) if paths else ()
    return tuple(_found(path, keys) for path in paths)


def judged(path: Path, pins: Path) -> Found:
    """The exception of one file, wherever it lies."""
    return _found(path, tuple(_keys(pins)))


def _keys(pins: Path) -> Iterator[VerifierKey]:
    for path in sorted(pins.glob(f"*{PIN}")):
        try:
            yield VerifierKey.parse(path.read_text())
        except (BadInput, OSError, UnicodeDecodeError):
            continue  # a pin that is none vouches for nobody


def _found(path: Path, keys: tuple[VerifierKey, ...]) -> Found:
    signature = path.with_name(path.name + SIGNED)
    try:
        raw = path.read_bytes()
        note = raw + b"\n" + signature.read_bytes()
    except OSError:
        return Found(path, None, "unsigned")
    signers = {key.name for key in keys if open_note(note, key) is not None}
    if not signers:
        return Found(path, None, "no pinned key signed what it says")
    try:
        said = read_as(path, SiteException, raw)
    except PolicyUnreadable as error:
        return Found(path, None, error.message)
    if said.approver not in signers:
        return Found(path, None, f"not signed by {said.approver}")
    return Found(path, said)


def signature(raw: bytes, key: SignerKey) -> bytes:
    """The signature lines that go beside a file with this content.

    Raises:
        BadInput: it is no text that ends in a newline, or holds what a note may not.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = ""
    note = sign(text, key) if text.endswith("\n") else b""
    if open_note(note, key.verifier) != text or not text:
        raise BadInput("this cannot be signed", accepted="UTF-8 that ends in a newline")
    return note[len(raw) + 1 :]
