"""Put another policy in force, so that every moment of it is either the old one or the new one.

    stage a copy → judge the copy → keep it under its digest → record what is about to happen
      → swap the link → wait until the gateway says that it is under it

What a crash leaves behind: a copy nobody reads; a version that is kept and not in force; a record
of a change that did not follow, after which the old policy is still in force and says so in every
record; the new policy in force. Doing it again is safe at each of these.
"""

import http.client
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sovereign import door
from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy
from sovereign.policy.kept import Versions
from sovereign.policy.loader import load_with_text
from sovereign.policy.shapes import SiteException
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail

APPLIED, ROLLED_BACK = "applied", "rolled-back"
BY = "operator"
RECORDED_WITHIN_S = 30.0
TAKEN_UP_WITHIN_S = 30.0
"""As long as calls that run may take to end, and a start."""
ANSWERS_WITHIN_S = 2.0
POLL_S = 0.2
UNREADABLE = "unreadable"
"""What a record says of a policy in force that could not be read."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is recorded of a change. Digests, ids and counts only."""

    old: str
    new: str
    profile: str
    verb: str
    reason: str
    approver: str
    loosened: int
    possible: int
    impossible: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy folder, the policy it makes on this site, and what that says in canonical form."""

    folder: Path
    policy: Policy
    text: bytes


def load(home: Home, folder: Path | None) -> Loaded:
    """Load a policy folder as this site would; None for the one in force."""
    chosen = folder or home.policies or policies.default_root()
    loaded = load_with_text(chosen, home.settings.profile, home.own_places, home.exceptions)
    return Loaded(chosen, *loaded)


def staged(home: Home, versions: Versions, source: Path) -> Loaded:
    """A copy of a policy folder, loaded; to be used while the versions are locked.

    Raises:
        PolicyUnreadable: it does not load. Nothing was kept.
    """
    return load(home, versions.stage(source))


def keep(home: Home, versions: Versions, it: Loaded) -> None:
    """Keep a copy under its digest.

    Raises:
        PolicyUnreadable: a version of this name is there and says something else.
    """
    digest = it.policy.digest
    there = versions.folder / digest
    if there.is_dir() and load(home, there).policy.digest != digest:
        raise PolicyUnreadable(
            f"{there} was edited since it was kept",
            accepted="a version as it was when it got its name",
            next_step=f"rm -r {there}, then the same command again",
        )
    versions.keep(it.folder, digest, it.text)


def keep_shipped(home: Home, versions: Versions, old: Loaded) -> str:
    """Keep the shipped policy too, the first time another takes its place; its name."""
    keep(home, versions, staged(home, versions, old.folder))
    return old.policy.digest


def swap(home: Home, versions: Versions, change: Change, name: str, before: str = "") -> str:
    """Record the change and put it in force; the name of the record.

    Args:
        name: the version that is put in force.
        before: the version it replaces, "" when it is put back.

    Raises:
        LogLocked, LogMissing, LogUnwritable: it is not recorded, so the old one is in force.
    """
    return recorded(home, change, lambda: versions.put_in_force(name, before))


def recorded(home: Home, change: Change, do: Callable[[], None]) -> str:
    """Record a change of the policy, then make it; the name of the record.

    Raises:
        LogLocked, LogMissing, LogUnwritable: it is not recorded, so it is not made.
    """
    fields: dict[str, str | int] = {
        "old": change.old,
        "new": change.new,
        "profile": change.profile,
        "verb": change.verb,
        "by": BY,
        "reason": change.reason,
        "loosened": change.loosened,
        "possible": change.possible,
        "impossible": change.impossible,
    }
    if change.approver:
        fields["approver"] = change.approver
    with operator_trail(home, ("evidence",)) as log:
        name = log.record("policy-applied", **fields).result(RECORDED_WITHIN_S).name
        do()
    return name


def load_excepting(home: Home, exceptions: Iterable[SiteException]) -> Loaded:
    """The policy in force as it would be with these exceptions."""
    chosen = home.policies or policies.default_root()
    profile = home.settings.profile
    return Loaded(chosen, *load_with_text(chosen, profile, home.own_places, exceptions))


def under(home: Home) -> str:
    """The digest of the policy that the gateway says it is under; "" when it does not answer."""
    with suppress(OSError, http.client.HTTPException, msgspec.DecodeError):
        with closing(door.connection(home.settings.gateway, ANSWERS_WITHIN_S)) as connection:
            connection.request("GET", "/readyz")
            said = msgspec.json.decode(connection.getresponse().read(65_536))
        return str(said.get("policy", "")) if isinstance(said, dict) else ""
    return ""


def taken_up(home: Home, digest: str, within_s: float = TAKEN_UP_WITHIN_S) -> bool | None:
    """Wait until the gateway is under this policy; None when no gateway answers here.

    To be asked right after a change: a gateway that answers then is silent while it is started
    anew, and is waited for.
    """
    deadline = time.monotonic() + within_s
    said = under(home)
    if not said:
        return None
    while said != digest and time.monotonic() < deadline:
        time.sleep(POLL_S)
        said = under(home)
    return said == digest
