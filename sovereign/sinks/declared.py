"""The sinks that the settings of a site name: backups, traces, a proxy's logs elsewhere.

A folder that is named by mistake would be emptied. So one that holds anything else of the site, or
the system itself, is not taken: it is unknown, with the reason, and nothing of it is touched.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign.retention import Item
from sovereign.settings import Home, SinkSettings
from sovereign.sinks import prometheus
from sovereign.sinks.files import Files
from sovereign.sinks.folders import Folders
from sovereign.sinks.model import NotErased, Seen, Sink

NEVER = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin"),
    *("/sys", "/usr", "/var/lib/dpkg", "/var/lib/systemd"),
)
DEEP_ENOUGH = 3
"""Parts of a path that a sink has at least: `/srv/backups` has three, `/srv` has two."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A sink that was named, and that nothing may be listed or erased of."""

    name: str
    kept: str
    why: str
    plain: bool = True

    def look(self) -> Seen:
        """Never known: it is not looked at."""
        return Seen("unknown", self.why)

    def items(self) -> Iterator[Item]:
        """None."""
        return iter(())

    def claims(self, path: Path) -> bool:
        """Nothing is known of it, so nothing is excused by it."""
        return False

    def refusal(self, item: Item) -> str:
        """Always."""
        return self.why

    def erase(self, item: Item) -> None:
        """Never."""
        raise NotErased(self.why)

    def sync(self) -> None:
        """Nothing."""

    def settle(self) -> None:
        """Nothing."""

    def faults(self, max_days: int | None) -> tuple[str, ...]:
        """It is not looked at, so nothing is known of it."""
        return ()


def of(home: Home, chosen: SinkSettings, classes: Container[str] | None = None) -> Sink:
    """The adapter of a sink that the settings name.

    Args:
        classes: those of the policy, None for any. What is of none would be erased at once; a
            class that is spelled wrongly must not do that to a folder of backups.
    """
    root = Path(chosen.path)
    why = fault(home, root)
    if not why and classes is not None and chosen.kept not in classes:
        why = "its class is none of the policy"
    if why:
        return NotTaken(chosen.id, chosen.kept, why)
    if chosen.kind == "prometheus":
        return prometheus.sink(root, name=chosen.id, kept=chosen.kept)
    if chosen.kind == "folders":
        return Folders(chosen.id, chosen.kept, root, names=chosen.names, plain=False)
    return Files(chosen.id, chosen.kept, root, chosen.names, deep=True, plain=False)


def fault(home: Home, root: Path) -> str:
    """Why a folder is not taken as a sink; "" when it is."""
    if ".." in root.parts or not root.is_absolute():
        return "its path is not absolute"
    real = root.resolve()
    if len(real.parts) < DEEP_ENOUGH or any(real.is_relative_to(each) for each in NEVER):
        return "it is a folder of the system"
    holds = [home.root, home.audit, home.keys, home.trust, home.registry, home.keystore]
    holds += [home.logs, home.models, home.run, home.exceptions_folder]
    if any(each.resolve().is_relative_to(real) for each in holds):
        return "it holds other state of this site"
    closed = [home.audit, home.keys, home.trust, home.models, home.run, home.exceptions_folder]
    if any(real.is_relative_to(each.resolve()) for each in closed):
        return "it lies in other state of this site"
    return ""
