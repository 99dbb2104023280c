"""What a set of weights may consist of, told from the names in its manifest. Pure.

A manifest is what `sha256sum` writes, sorted by name: `HEX  NAME` a line. Its own SHA-256 is the
digest of the set (`engines/digest.py`), so whoever changes a name or a hash makes another set.

Silence means no: a kind of file that nobody listed here is refused, and so is, by name, whatever an
engine might run (pickles, modules, libraries). A set is whole: tensors with a configuration and a
tokenizer, or GGUF files, which have both inside.
"""

import hashlib
import re
from dataclasses import dataclass

from sovereign.errors import WeightsUnsafe

MANIFEST_MAX_BYTES = 1024 * 1024
FILES_MAX = 2000
SUFFIX = ".sha256"
"""A manifest lies beside its folder, under the folder's name with this; no part of the set."""
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]{1,400})")
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+-]{0,199}/){0,3}[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_TOKENIZER = re.compile(r"tekken\.json|tokenizer\.json|tokenizer\.model(\.v[0-9]+(m[0-9]+)?)?")
_CONFIG = ("config.json", "params.json")
_PROSE = re.compile(r"(LICEN[CS]E|NOTICE|README|USE_POLICY|COPYING)(\.(md|txt))?")
TENSORS, GGUF = ".safetensors", ".gguf"
_DATA = (TENSORS, GGUF, ".json", ".jinja", ".txt", ".md")
_RUNS = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".joblib"),
    *(".py", ".pyc", ".so", ".sh", ".zip", ".tar", ".gz", ".whl"),
)
"""Formats in which code can hide, or that are code."""
ACCEPTED = "safetensors or GGUF, JSON, a tokenizer, a chat template, prose"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a set: its name below the folder, and its SHA-256 in hex."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a set by name, and the digest that pins them all."""

    entries: tuple[Entry, ...]
    digest: str

    @property
    def tokenizer(self) -> str:
        """The digest of the file that turns text into tokens; "" when it is inside the weights."""
        found = (each for each in self.entries if _TOKENIZER.fullmatch(each.name))
        return next((f"sha256:{each.sha256}" for each in found), "")

    @property
    def only_gguf(self) -> Entry | None:
        """The one GGUF file that llama.cpp would be given; None where there is no such one."""
        found = [each for each in self.entries if each.name.endswith(GGUF)]
        return found[0] if len(found) == 1 else None


def digest_of(raw: bytes) -> str:
    """The digest of the set that `raw` is the manifest of."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def parse(raw: bytes) -> Manifest:
    """Read a manifest, and judge what it names.

    Raises:
        WeightsUnsafe: it is no manifest, or of something that is not served.
    """
    if len(raw) > MANIFEST_MAX_BYTES:
        raise _unsafe("the manifest is too long", f"{len(raw)} bytes", str(MANIFEST_MAX_BYTES))
    lines = raw.decode("ascii", errors="replace").split("\n")
    if len(lines) > FILES_MAX + 1 or len(lines) < 2 or lines.pop() != "":
        raise _unsafe("it is no manifest", f"{len(lines)} lines", "`HEX  NAME` a line")
    found = [_LINE.fullmatch(line) for line in lines]
    entries = tuple(Entry(each[2], each[1]) for each in found if each is not None)
    names = [each.name for each in entries]
    if len(entries) < len(lines) or names != sorted(set(names)):
        raise _unsafe("it is no manifest", "a line that is none", "`HEX  NAME`, sorted, each once")
    for name in names:
        _refuse_name(name, names)
    _refuse_partial(names)
    return Manifest(entries, digest_of(raw))


def is_taken(name: str) -> bool:
    """True when a file of this name may be part of a set."""
    try:
        _refuse_alone(name)
    except WeightsUnsafe:
        return False
    return True


def _refuse_name(name: str, names: list[str]) -> None:
    _refuse_alone(name)
    if any(other.startswith(f"{name}/") for other in names):
        raise _unsafe("a name is a file and a folder", repr(name[:80]), "one of both")


def _refuse_alone(name: str) -> None:
    shown = repr(name[:80])
    if not _NAME.fullmatch(name) or ".." in name.split("/"):
        raise _unsafe("a name could lead elsewhere", shown, "letters, digits and . _ + -")
    last = name.rpartition("/")[2]
    if last.lower().endswith(_RUNS):
        raise _unsafe("a file could run as code", shown, ACCEPTED)
    if not (last.endswith(_DATA) or _TOKENIZER.fullmatch(last) or _PROSE.fullmatch(last)):
        raise _unsafe("a file is of a kind that no engine here reads", shown, ACCEPTED)


def _refuse_partial(names: list[str]) -> None:
    if any(name.endswith(GGUF) for name in names):
        return
    if not any(name.endswith(TENSORS) for name in names):
        raise _unsafe("there are no weights in it", f"{len(names)} files", "safetensors or GGUF")
    if not any(name in _CONFIG for name in names):
        raise _unsafe("nothing says what network it is", "no configuration", " or ".join(_CONFIG))
    if not any(_TOKENIZER.fullmatch(name) for name in names):
        wanted = "tekken.json, tokenizer.json or tokenizer.model"
        raise _unsafe("its tokenizer is not pinned with it", "none", wanted)


def _unsafe(what: str, found: str, accepted: str) -> WeightsUnsafe:
    return WeightsUnsafe(f"{what}; nothing was published", found=found, accepted=accepted)
