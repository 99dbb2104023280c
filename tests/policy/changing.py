"""Another policy, and putting it in force without the command line."""

import shutil
from pathlib import Path

from sovereign import policy as policies
from sovereign.policy.kept import Versions
from tests.policy.conftest import SHIPPED


def another(folder: Path, name: str = "other", *, broken: bool = False) -> Path:
    """The shipped policy with one word changed, or one that does not load."""
    copy = Path(shutil.copytree(SHIPPED, folder / name))
    path = copy / "rules/retention.yaml"
    old, new = ("version: 1", "version: one") if broken else ("max_days: 365", "max_days: 300")
    path.write_text(path.read_text().replace(old, new, 1))
    return copy


def put_in_force(home: Path, source: Path, digest: str = "") -> str:
    """Swap the policy of a home, as `sovereign policy apply` does."""
    versions = Versions.of("", home)
    digest = digest or policies.load(source).digest
    with versions.locked():
        versions.keep(versions.stage(source), digest, b"")
        versions.put_in_force(digest, versions.in_force())
    return digest
