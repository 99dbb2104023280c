"""The sinks of a managed host that lie outside the site's own folders.

There each process has its own user and systemd keeps what it prints. On one machine of a person
there are none: that person's shell and journal are not this site's, and it is said so.
"""

import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign.settings import Home
from sovereign.sinks import prometheus
from sovereign.sinks.files import Files
from sovereign.sinks.folders import Folders
from sovereign.sinks.journal import Journal
from sovereign.sinks.model import Sink

HISTORY, PROXY, TEMPORARY, CORE = "shell-history", "proxy-log", "temporary", "core"
SERVICE_USERS = "sovereign-"
"""How the names of the users of a managed host begin (`playbooks/roles/baseline`)."""
ONE_MACHINE = "the site runs as a person's own processes, on one machine"
HISTORIES = (
    *(".bash_history", ".sh_history", ".zsh_history", ".ash_history", ".history"),
    *(".python_history", ".psql_history", ".sqlite_history", ".lesshst", ".viminfo"),
)
PROXIES = ("nginx", "haproxy", "apache2", "caddy", "traefik")
"""Folders below /var/log of what may stand before the gateway."""
LOGS = ("*.log", "*.log.[0-9]*", "*.log-*", "access*", "error*")
CORES = ("var/lib/systemd/coredump", "var/crash", "var/cores")
TEMPORARIES = ("tmp", "var/tmp", "dev/shm")
METRICS = "var/lib/prometheus/metrics2"
"""Where Debian's package has Prometheus keep its time series."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it is looked at: where its `/` is, and whether it is one of services.

    `users` are the user ids of the site's services; None: those of `SERVICE_USERS`.
    """

    managed: bool
    root: Path = Path("/")
    proc: Path = Path("/proc")
    users: frozenset[int] | None = None
    homes: tuple[Path, ...] | None = None

    @classmethod
    def of(cls, home: Home) -> "Host":
        """A site with an observer runs as services of a managed host."""
        return cls(bool(home.settings.controller.observe_socket))

    @property
    def absent(self) -> str:
        """Why there is none of what a managed host has, "" on one."""
        return "" if self.managed else ONE_MACHINE

    def owners(self) -> frozenset[int]:
        """The user ids of the services."""
        return frozenset(each.pw_uid for each in _services()) if self.users is None else self.users

    def folders(self) -> tuple[Path, ...]:
        """The homes of the services' users."""
        if self.homes is not None:
            return self.homes
        return tuple(sorted({Path(each.pw_dir) for each in _services()}))


def _services() -> list[pwd.struct_passwd]:
    return [each for each in pwd.getpwall() if each.pw_name.startswith(SERVICE_USERS)]


def journal(host: Host) -> Journal:
    """What the services print."""
    return Journal(host.root / "var/log/journal", host.root / "etc", absent=host.absent)


def histories(host: Host) -> Iterator[Files]:
    """What was typed in a shell as one of the services; nobody should have."""
    if not host.managed:
        yield Files(HISTORY, "content", host.root, absent=host.absent)
    for folder in host.folders() if host.managed else ():
        yield Files(HISTORY, "content", folder, HISTORIES)


def proxies(host: Host) -> Iterator[Files]:
    """Logs of a proxy before the gateway: they have the addresses of clients."""
    for name in PROXIES:
        root = host.root / "var/log" / name
        yield Files(PROXY, "process-log", root, LOGS, deep=True, absent=host.absent)


def cores(host: Host) -> Iterator[Files]:
    """Where this host puts the memory of a process that crashed."""
    for name in CORES:
        root = host.root / name
        yield Files(CORE, "content", root, owners=host.owners(), plain=False, absent=_why(host))


def temporary(host: Host) -> Iterator[Files]:
    """What the services left in folders that everybody may write to."""
    for name in TEMPORARIES:
        root = host.root / name
        yield Files(
            TEMPORARY, "temporary", root, owners=host.owners(), plain=False, absent=_why(host)
        )


def _why(host: Host) -> str:
    """Without a user of the services everybody's files would count as theirs: then none does."""
    return host.absent or ("" if host.owners() else "this host has no user of the services")


def metrics(host: Host) -> Folders:
    """The time series of a Prometheus on this host."""
    return prometheus.sink(host.root / METRICS, host.absent, host.proc)


def of_host(host: Host) -> Iterator[Sink]:
    """Each of them, in the order in which a run takes them."""
    yield journal(host)
    yield from proxies(host)
    yield from histories(host)
    yield from cores(host)
    yield from temporary(host)
    yield metrics(host)
