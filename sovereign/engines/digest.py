"""The name of a set of weights: `sha256:…` over what is on disk.

A file's digest is the SHA-256 of its bytes, so `sha256sum` prints the same. A folder's is the
SHA-256 of its manifest: one line `HEX  NAME` a file, sorted by name, each closed by a newline;
`cd FOLDER && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum`
gives the same for names without blanks. Links are followed: what counts is what would be read.
"""

import hashlib
from pathlib import Path

from sovereign.errors import BadInput


def model_digest(path: Path) -> str:
    """Return the digest of a weights file or folder.

    Raises:
        BadInput: there is nothing at `path`, or a folder without a file.
    """
    if path.is_file():
        return f"sha256:{_of_file(path)}"
    return f"sha256:{hashlib.sha256(manifest(path).encode()).hexdigest()}"


def manifest(path: Path) -> str:
    """Return the manifest of a weights folder: what `sha256sum` says of its files, by name.

    Raises:
        BadInput: there is no file in it.
    """
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    if not names:
        raise BadInput("there are no weights here", found=str(path), accepted="a file or a folder")
    return "".join(f"{_of_file(path / name)}  {name}\n" for name in names)


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
