"""Files of a site that nobody declared: no state of it, no log, and no item of any sink.

A file like that has no class, so nothing would ever erase it: whoever put it there, its data are
kept for ever. So every folder of a site is walked, and what is in none of the tables is a finding.

The tables say what belongs there without an age: settings, keys, the registry, versions of the
policy, what an engine needs. They are as narrow as our own programs write; a copy of a bundle
beside the bundles is in none of them.

KNOWN: below `models`, and below the folder of weights that the settings name, everything counts as
the engine's, for weights come in every shape. What is called like a log or a core file is an item
of a sink below `models` too.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sovereign.audit.witnesses import cosigned
from sovereign.settings import Home
from sovereign.sinks import safely
from sovereign.sinks.model import Sink
from sovereign.sinks.safely import Entry

FOUND_MAX = 1_000
"""So many are named; more of them say nothing new."""
_LOG = r"[a-z0-9-]+/(event|security|evidence)"
_TILE = r"tile/(entries|[0-9]{1,2})/(x[0-9]{3}/)*[0-9]{3}(\.p/[0-9]{1,3})?"
_SQLITE = r"(-wal|-shm|-journal)?"
AUDIT = (
    rf"{_LOG}/(lock|{_TILE}|(journal|checkpoint|part)(\.new)?)",
    r"[a-z0-9-]+/((event|security|evidence)\.checkpoint(\.new)?|\.kept\.lock)",
)
KEYS = (r"[a-z0-9-]+\.key(\.next)?(\.new)?",)
TRUST = (
    r"[a-z0-9-]+\.(vkey|former|checkpoint|standby|witnessed)(\.new)?",
    r"\.(kept\.lock|[a-z0-9-]+-begun)",
    r"(approvers|attesters|hosts)/[^/]+\.vkey",
)
COSIGNED = (r"[a-z0-9-]+/(checkpoint|[^/]+\.(note|checkpoint|tsr))(\.new)?",)
ROOT = (
    r"(sovereign|own-places|egress)\.yaml",
    r"\.?egress-pins\.json(\.new)?",
    r"exceptions/[^/]+\.yaml(\.sig)?",
    r"policy-versions/([0-9a-f]{64}(/.+|\.before)|texts/[0-9a-f]{64}|in-force|\.lock)",
    r"(files|infra|policies|tls|witness)/.+",
)
ATTESTATION = (r"attestation/(statements/)?[^/]+\.(note|challenge)(\.new)?",)
RUN = (r"supervisor\.(json|lock)", r"(deployed|standby)\.json", r"[a-z0-9-]+\.(sock|pid)")
DRILLS = (r"drills/(lock|note\.json)",)
HOLDS = (r"holds/\.?hold_.+",)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of the site, and which paths below it are state."""

    root: Path
    state: tuple[re.Pattern[str], ...]

    def has(self, path: Path) -> bool:
        """Whether a file is part of what a site consists of."""
        if not path.is_relative_to(self.root):
            return False
        inside = path.relative_to(self.root).as_posix()
        return any(rule.fullmatch(inside) for rule in self.state)


def find(home: Home, sinks: Iterable[Sink]) -> Iterator[Path]:
    """Each file that nobody declared, at most `FOUND_MAX`, in no order.

    Raises:
        OSError: a folder cannot be read, so nobody knows what is in it.
    """
    places, named = tuple(_places(home)), _named(home)
    declaring = [sink for sink in sinks if sink.look().state != "absent"]
    count = 0
    for root in _outermost(home):
        for entry in _files(root):
            path = root / entry.path
            if path in named or any(place.has(path) for place in places):
                continue
            if any(sink.claims(path) for sink in declaring):
                continue
            yield path
            count += 1
            if count == FOUND_MAX:
                return


def _files(root: Path) -> Iterator[Entry]:
    try:
        yield from safely.walked(root)
    except FileNotFoundError:
        return


def _places(home: Home) -> Iterator[Place]:
    keystore, registry = re.escape(home.keystore.name), re.escape(home.registry.name)
    lease = re.escape(home.registry.with_suffix(".lease").name)
    for root, rules in (
        (home.audit, AUDIT),
        (home.keys, KEYS),
        (home.keys.parent, (r"host\.key",)),
        (home.trust, TRUST),
        (cosigned.root_of(home.trust), COSIGNED),
        (home.run, RUN),
        (home.models, (r".+",)),
        (home.keystore.parent, (keystore + _SQLITE, *DRILLS)),
        (home.registry.parent, (registry + _SQLITE, lease, *HOLDS, *ATTESTATION)),
        (home.root, ROOT),
    ):
        yield Place(root, tuple(re.compile(rule) for rule in rules))
    weights = home.root / home.settings.engine.weights
    if home.root in weights.parents:
        yield Place(weights, (re.compile(r".+"),))


def _outermost(home: Home) -> list[Path]:
    """The folders to walk, none of them below another."""
    every = {home.root, home.audit, home.keys, home.trust, home.logs, home.run, home.models}
    every |= {home.registry.parent, home.keystore.parent, cosigned.root_of(home.trust)}
    return [one for one in sorted(every) if not any(one.is_relative_to(o) for o in every - {one})]


def _named(home: Home) -> frozenset[Path]:
    """Files that the settings name: certificates, tokens, the list of identity providers."""
    return frozenset(home.root / said for said in _strings(msgspec.to_builtins(home.settings)))


def _strings(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield from [said] if said else []
    elif isinstance(said, dict):
        for each in said.values():
            yield from _strings(each)
    elif isinstance(said, list | tuple):
        for each in said:
            yield from _strings(each)
