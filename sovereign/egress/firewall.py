"""The kernel's side: read a table of nftables as it is loaded, and what it has counted.

Nothing here changes the rules of a host. Both the loaded table and the planned one are printed by
the same `nft`, the planned one out of a network namespace of its own in which it was really loaded,
so that what differs is the rules and never the spelling.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sovereign.egress.ruleset import OTHER, TABLE
from sovereign.errors import FirewallUnreadable

TAKES_AT_MOST_S = 20.0
NET_ADMIN = 12
"""CAP_NET_ADMIN, as capabilities(7) numbers it."""
PROTOCOLS = {"6": "tcp", "17": "udp"}
"""What nft prints for these where the host has no /etc/protocols, as a minimal Debian has not."""
PROGRAMS = {"nft": "nftables", "unshare": "util-linux"}
_ELSEWHERE = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_LOAD_AND_LIST = 'nft --file - && nft --stateless --terse list table inet "$1"'
_ABSENT = "No such file or directory"


@dataclass(frozen=True, slots=True)
class Try:
    """What a user tried: packets of new connections to an address and port; 0 is no port."""

    uid: int
    address: str
    protocol: str
    port: int
    packets: int


def lacking(proc: Path = Path("/proc")) -> list[str]:
    """What stands in the way of reading and changing the firewall, in words; empty if nothing."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_ELSEWHERE))
    found = [
        f"the program {program} (package {package})"
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=path) is None
    ]
    if not _capabilities(proc) >> NET_ADMIN & 1:
        found.insert(0, f"the capability CAP_NET_ADMIN (uid {os.geteuid()} runs without it)")
    return found


def _capabilities(proc: Path) -> int:
    """The effective set of this process; none where it cannot be read."""
    try:
        lines = (proc / "self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def need() -> None:
    """Go on only when nothing is lacking.

    Raises:
        FirewallUnreadable: it says what is.
    """
    missing = lacking()
    if missing:
        raise FirewallUnreadable(
            "the firewall of this host can be neither read nor changed",
            found=f"it lacks {' and '.join(missing)}",
            accepted="root, or CAP_NET_ADMIN in this network namespace",
            next_step="the same command as root",
        )


def run(*words: str, given: str = "") -> str:
    """Run a program of nftables; what it printed.

    Raises:
        FirewallUnreadable: it failed, and nothing of what it was given was loaded.
    """
    done = _done(words, given)
    if done.returncode != 0:
        raise _failed(words, done)
    return done.stdout


def _done(words: tuple[str, ...], given: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((os.environ.get("PATH", ""), *_ELSEWHERE))
    try:
        return subprocess.run(
            words,
            check=False,
            input=given,
            capture_output=True,
            text=True,
            timeout=TAKES_AT_MOST_S,
            env={"PATH": path, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallUnreadable(
            f"{words[0]} could not be asked", found=type(error).__name__, next_step="as root"
        ) from None


def _failed(words: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> FirewallUnreadable:
    said = done.stderr.strip().splitlines() or ["nothing was said"]
    return FirewallUnreadable(f"{words[0]} ended with {done.returncode}", found=said[0][:300])


def loaded(table: str = TABLE) -> tuple[str, ...] | None:
    """The lines of a table as it is loaded, without what it counted; None when there is none.

    Raises:
        FirewallUnreadable: it cannot be read here.
    """
    need()
    words = ("nft", "--stateless", "--terse", "list", "table", "inet", table)
    done = _done(words, "")
    if done.returncode != 0 and _ABSENT in done.stderr:
        return None
    if done.returncode != 0:
        raise _failed(words, done)
    return tuple(done.stdout.splitlines())


def as_loaded(text: str, table: str = TABLE) -> tuple[str, ...]:
    """The lines of a ruleset as they would be printed once loaded; nothing is loaded here.

    Raises:
        FirewallUnreadable: it cannot be tried here, or nft does not take it.
    """
    need()
    words = ("unshare", "--net", "--", "sh", "-c", _LOAD_AND_LIST, "sh", table)
    return tuple(run(*words, given=text).splitlines())


def tries(kind: str, table: str = TABLE) -> tuple[Try, ...]:
    """What a set of the loaded table has kept: `opened` or `denied`.

    Raises:
        FirewallUnreadable: it cannot be read here, or there is no such table.
    """
    need()
    listed = msgspec.json.decode(run("nft", "--json", "list", "table", "inet", table))
    wanted = {kind, f"{kind}6"} | ({OTHER} if kind == "denied" else set())
    sets = [entry["set"] for entry in listed["nftables"] if "set" in entry]
    found = [each for one in sets if one["name"] in wanted for each in _tries(one)]
    return tuple(sorted(found, key=lambda t: (t.uid, t.address, t.port, t.protocol)))


def _tries(one: dict[str, Any]) -> Iterator[Try]:
    for entry in one.get("elem", ()):
        kept = entry["elem"]
        uid, *rest = kept["val"]["concat"]
        packets = kept.get("counter", {}).get("packets", 0)
        address, protocol, port = rest if one["name"] != OTHER else ("", rest[0], 0)
        named = PROTOCOLS.get(str(protocol), str(protocol))
        yield Try(int(uid), str(address), named, int(port), packets)
