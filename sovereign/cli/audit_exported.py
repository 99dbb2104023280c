"""An export that was handed over, verified as its own `verify.py` does.

Beside `audit_export.py`, which makes one and imports what that takes: `sovereign audit verify`
needs none of it.
"""

from pathlib import Path

from sovereign.audit.exports import offline_verifier
from sovereign.audit.exports.export import MANIFEST
from sovereign.cli.audit_args import bytes_of
from sovereign.cli.output import give, say
from sovereign.errors import BadInput, KeyMissing


def is_export(folders: list[str]) -> bool:
    """Whether what was given to verify is one export, and no log."""
    return len(folders) == 1 and (Path(folders[0]) / MANIFEST).is_file()


def verdict(folder: str, vkeys: list[str], kept: list[Path], *, as_json: bool) -> int:
    """Verify an export as its own `verify.py` does, say so, and return the exit code.

    Raises:
        KeyMissing: no key was given, and those in the export prove nothing.
        BadInput: a key is none, or a file cannot be read.
    """
    if not vkeys:
        raise KeyMissing(
            "nothing can be said without a pinned key",
            accepted="--vkey KEY for each log, or a file of keys, from elsewhere than the export",
            next_step="python3 -I verify.py --pin SHA256, in the export, takes their digest",
        )
    try:
        keys = [key for each in vkeys for key in offline_verifier.keys_of(each)]
    except (OSError, ValueError):
        raise BadInput("this is no verifier key", accepted="NAME+8 hex digits+BASE64") from None
    found = offline_verifier.verify(Path(folder), "", keys, [bytes_of(path) for path in kept])
    said = offline_verifier.told(found)
    if as_json:
        give({"ok": found.exit_code == 0, **said})
    else:
        for line in offline_verifier.lines(said):
            say(line)
    return found.exit_code
