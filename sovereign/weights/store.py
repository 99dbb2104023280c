"""Where sets of weights lie on this machine, and whether they are still what they were.

    models/weights/MODEL/HEX/       a published set; HEX is its digest
    models/weights/.coming/HEX/     one that is on its way, and may be continued

A set appears under its name in one step, whole, checked and recorded; nothing ever writes into it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign.engines import digest
from sovereign.errors import WeightsDiffer
from sovereign.settings import Home
from sovereign.weights import contents, manifest

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A published set. `digest` is the one it was published under."""

    model: str
    digest: str
    path: Path

    @property
    def bytes(self) -> int:
        """What its files take."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())


def folder_of(home: Home) -> Path:
    """Where all sets lie."""
    return home.models / "weights"


def coming_of(home: Home, pin: str) -> Path:
    """Where the set with this digest grows."""
    return folder_of(home) / ".coming" / pin.removeprefix("sha256:")


def path_of(home: Home, model: str, pin: str) -> Path:
    """Where the set with this digest lies once it is published."""
    return folder_of(home) / model / pin.removeprefix("sha256:")


def stored(home: Home) -> Iterator[Stored]:
    """Every published set, by model and digest."""
    for path in sorted(folder_of(home).glob("*/*")):
        model = path.parent.name
        if not model.startswith(".") and _HEX.fullmatch(path.name) and path.is_dir():
            yield Stored(model, f"sha256:{path.name}", path)


def verify(each: Stored) -> manifest.Manifest:
    """Hash every file again, and judge the contents again; return what is there.

    Raises:
        WeightsDiffer: it is not what was published.
        WeightsUnsafe: it is, and would not be published today.
    """
    raw = digest.manifest(each.path).encode()
    found = manifest.digest_of(raw)
    if found != each.digest:
        raise WeightsDiffer(
            f"a set of {each.model} is not what was published",
            found=found,
            accepted=each.digest,
            next_step="remove the folder, and fetch it again",
        )
    whole = manifest.parse(raw)
    contents.check(each.path, whole)
    return whole
