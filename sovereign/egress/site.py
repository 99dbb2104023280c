"""A site's way out in one value: what it declares, what is planned, and how the kernel differs.

Reads files of the site and the kernel's tables; changes neither, and asks no resolver.
"""

import difflib
import pwd
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sovereign.egress import declared, firewall, pins, ruleset, shapes
from sovereign.egress.plan import Plan, plan
from sovereign.egress.shapes import SERVICES, File, Unit
from sovereign.policy import Policy
from sovereign.settings import Home

KEPT_AS, KEPT_DAYS = "process-log", 30
"""The class of retention that tries are kept under, and the days where it has no number."""


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that the way out of a site follows from, and what it comes to."""

    home: Home
    policy: Policy
    said: File
    declared: tuple[declared.Declared, ...]
    pins: pins.Pins
    plan: Plan
    users: dict[Unit, str]

    @property
    def text(self) -> str:
        """The ruleset, for `nft --file`."""
        kept = self.policy.retention.get(KEPT_AS)
        days = kept.max_days if kept is not None and isinstance(kept.max_days, int) else KEPT_DAYS
        return ruleset.text(self.plan, self.users, max(1, days), self.said.ssh_port)


def of(home: Home, policy: Policy, now: datetime, said: File | None = None) -> Site:
    """The way out of a site, by its own `egress.yaml` unless another file is handed over.

    Raises:
        SettingsUnreadable: the file says something we do not accept.
        StateUnreadable: the pins cannot be read.
    """
    if said is None:
        said = shapes.read(home.root / shapes.FILE_NAME)
    found = declared.of_site(home, policy, said, now)
    pinned = pins.read(home.root / pins.FILE_NAME)
    return Site(home, policy, said, found, pinned, plan(found, pinned), users(said))


def users(said: File) -> dict[Unit, str]:
    """Those the site names, else those of a managed host; none where services are one user."""
    if said.users:
        return dict(said.users)
    found: dict[Unit, str] = {}
    for unit in SERVICES:
        with suppress(KeyError):
            found[unit] = pwd.getpwnam(f"sovereign-{unit}").pw_name
    return found


def differences(site: Site) -> list[str] | None:
    """How what is loaded differs from the plan; None where nothing of ours is loaded at all.

    `+` is in the plan and not loaded, `-` is loaded and not in the plan.

    Raises:
        FirewallUnreadable: it cannot be told here.
    """
    there = firewall.loaded()
    if there is None:
        return None
    wanted = firewall.as_loaded(site.text)
    return [line for line in difflib.ndiff(there, wanted) if line[0] in "+-"]
