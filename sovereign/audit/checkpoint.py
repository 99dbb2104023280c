"""A checkpoint: what a log commits to, in three lines (C2SP tlog-checkpoint).

The origin, the number of entries in decimal, the root hash in base64, signed as a note
under the origin's name. One signed checkpoint fixes every entry before it for ever.
"""

import base64
import re
from dataclasses import dataclass

from sovereign.audit.merkle import HASH_BYTES
from sovereign.audit.note import SignerKey, VerifierKey, from_base64, open_note, sign

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The root over the first `size` entries of the log called `origin`."""

    origin: str
    size: int
    root: bytes

    def signed(self, key: SignerKey) -> bytes:
        """The note that is published."""
        root = base64.b64encode(self.root).decode()
        return sign(f"{self.origin}\n{self.size}\n{root}\n", key)


def read(note: bytes, key: VerifierKey) -> Checkpoint | None:
    """Return the checkpoint when `key` has signed it and it is one, else None.

    The origin it names is the caller's to compare; lines after the third are ignored, as
    the specification asks.
    """
    text = open_note(note, key)
    return None if text is None else parse(text)


def parse(text: str) -> Checkpoint | None:
    """The checkpoint that a note's text says, whoever has signed it; None when it is none."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not _SIZE.fullmatch(lines[1]):
        return None
    try:
        root = from_base64(lines[2])
    except ValueError:
        return None
    return Checkpoint(lines[0], int(lines[1]), root) if len(root) == HASH_BYTES else None
