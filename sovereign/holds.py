"""Legal holds on a site's disk: place, list, release, erase, and say whether they are right.

`audit/holds.py` says what a hold is. The life of one, with what a crash leaves behind:

 1. Choose the records, and copy each with its proof into a folder      a folder beside the holds
    whose name begins with a dot; sync all of it.                       that the next run removes
 2. Give the folder its name, durably.                                  a hold without its record:
                                                                        erased after an hour
 3. Record `hold-placed`, with the hash of the manifest.                a hold; the next run does
    From here on it holds.                                              step 4
 4. Write the record's name into the folder.                            a hold
 5. On release: record `hold-released`, and write that down too.        a hold that is still in
                                                                        force; release it again
 6. The controller writes a receipt, waits until it is published,       copies that are there
    and erases the folder.                                              although a receipt says
                                                                        otherwise; the next run
The evidence never says what was held: no tenant, no subject, no name of a record.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path

from sovereign import fleet
from sovereign.audit import holds, proof, record, search
from sovereign.audit.disk import RealDisk
from sovereign.audit.erasures import FINDINGS, HoldEvent, hold_event_of
from sovereign.audit.holds import Facts, Placed, Standing
from sovereign.audit.keys import rotation
from sovereign.audit.search import Gap, Hit, Wanted
from sovereign.audit.trail import Recorded, Trail
from sovereign.audit.verify import Finding, placer_of
from sovereign.errors import BadInput, TileMissing, UnknownName
from sovereign.policy import Policy
from sovereign.policy.shapes import HoldRules
from sovereign.settings import Home
from sovereign.subjectkeys import SubjectKeys, is_about

FOLDER = "holds"
RECORD_TIMEOUT_S = 30.0
COMPLETED_WITHIN = timedelta(hours=1)
"""A request is answered in this; its completion is looked for no longer."""
FILES_AT_HAND = 64
"""Files of a log kept while its records are proven: all under one checkpoint."""
FILES_MAX = 200_000
"""Files looked at below one hold; more are not ours."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to hold. `logs` are origins, none for every log of class `event`.

    Times are aware; `since` is included and `until` is not.
    """

    logs: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    tenant: str = ""
    subject: str = ""

    def facts(self) -> dict[str, str]:
        """What of it was asked for, as `hold.json` holds it."""
        times = {"since": self.since, "until": self.until}
        asked = {name: record.written(time) for name, time in times.items() if time}
        named = {"logs": ",".join(self.logs), "tenant": self.tenant, "subject": self.subject}
        return asked | {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Terms:
    """On what ground, approved by which role, and until when."""

    basis: str
    approver: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Chosen:
    """The records of a scope: indexes by log, and the times of the oldest and the newest."""

    logs: Mapping[fleet.Member, tuple[int, ...]]
    oldest: datetime
    newest: datetime

    @property
    def count(self) -> int:
        """How many records."""
        return sum(len(indexes) for indexes in self.logs.values())


def root(home: Home) -> Path:
    """Where the holds of a site lie: beside the registry, in a folder of the controller's.

    It is the controller that erases them.
    """
    return home.registry.parent / FOLDER


def _give(folder: Path) -> None:
    """What root made is its folder's owner's: a controller without capabilities erases it."""
    if os.geteuid() == 0:
        above = folder.parent.stat()
        for each in (folder, *folder.rglob("*")):
            os.chown(each, above.st_uid, above.st_gid, follow_symlinks=False)


def name_of(hold: str) -> str:
    """What verification calls a hold."""
    return f"{FOLDER}/{hold}"


# --- place --------------------------------------------------------------------------------------


def refuse(policy: Policy, terms: Terms, now: datetime) -> HoldRules:
    """The policy's rules for holds, if it admits these terms.

    Raises:
        UnknownName: the ground or the role is not in the policy.
        BadInput: it would end in the past, or later than the policy allows.
    """
    rules = policy.holds
    if rules is None:
        raise BadInput("the policy has no rules for holds", accepted="`holds` in retention.yaml")
    bases = [each.id for each in rules.bases]
    if terms.basis not in bases:
        raise UnknownName(f"{terms.basis!r} is no ground for a hold", accepted=", ".join(bases))
    if terms.approver not in rules.approvers:
        raise UnknownName(
            f"{terms.approver!r} may not approve a hold", accepted=", ".join(rules.approvers)
        )
    latest = now + timedelta(days=rules.max_days)
    if not now < terms.expires_at <= latest:
        raise BadInput(
            f"a hold may not expire at {record.written(terms.expires_at)}",
            accepted=f"after {record.written(now)}, and not after {record.written(latest)}",
        )
    return rules


def choose(
    home: Home, scope: Scope, records_max: int, keys: Mapping[str, SubjectKeys] | None = None
) -> Chosen:
    """Look for the records of a scope; a completion goes with its decision.

    Args:
        keys: the subjects' keys by tenant, to know the records of a subject by.

    Raises:
        UnknownName: a log of the scope is none of this site.
        BadInput: nothing matches, more does than a hold may have, or a record in the range
            cannot be read. Nothing was copied.
    """
    found: dict[fleet.Member, tuple[int, ...]] = {}
    times: list[str] = []
    left = records_max
    for member in _members(home, scope):
        hits = _matching(member, scope, left, keys or {})
        if hits:
            found[member] = tuple(sorted(hits))
            times += hits.values()
            left -= len(hits)
    if not times:
        raise BadInput(
            "no record is in this scope", accepted="another log, time, tenant or subject"
        )
    first, last = min(times), max(times)
    return Chosen(found, datetime.fromisoformat(first), datetime.fromisoformat(last))


def _members(home: Home, scope: Scope) -> list[fleet.Member]:
    known = {m.origin: m for m in fleet.members(home) if m.vkey is not None}
    unknown = [origin for origin in scope.logs if origin not in known]
    if unknown:
        raise UnknownName(f"no log is called {unknown[0]!r}", accepted=", ".join(known))
    wanted = scope.logs or [origin for origin, m in known.items() if m.stream == "event"]
    return [known[origin] for origin in wanted]


def _matching(
    member: fleet.Member, scope: Scope, at_most: int, keys: Mapping[str, SubjectKeys]
) -> dict[int, str]:
    """The records of one log that are in the scope, each with its time."""
    source = fleet.source(member)
    asked = Wanted(since=scope.since, until=scope.until, tenant=scope.tenant or None)
    found: dict[int, str] = {}
    for hit in _hits(search.search(source, asked, search.span(source, asked))):
        if not scope.subject or is_about(hit.fields, scope.subject, keys):
            _take(found, hit, at_most)
    decisions = found.keys() if scope.tenant or scope.subject else set()
    until = scope.until + COMPLETED_WITHIN if scope.until else None
    ends = Wanted(since=scope.since, until=until, type="completion")
    for hit in _hits(search.search(source, ends, search.span(source, ends))) if decisions else ():
        if hit.fields["decision"] in decisions:
            _take(found, hit, at_most)
    return found


def _hits(found: Iterable[Hit | Gap]) -> Iterator[Hit]:
    for each in found:
        if isinstance(each, Hit):
            if each.fields["type"] != "filler":
                yield each
        elif each.state != "gone":
            raise BadInput(f"{each.name} cannot be read", next_step="sovereign audit verify")


def _take(found: dict[int, str], hit: Hit, at_most: int) -> None:
    if len(found) >= at_most:
        raise BadInput(
            f"more records are in this scope than a hold may have: {at_most}",
            accepted="a narrower scope, or several holds",
        )
    found[hit.index] = str(hit.fields["at"])


def place(
    home: Home,
    policy: Policy,
    scope: Scope,
    chosen: Chosen,
    terms: Terms,
    trail: Trail,
    now: datetime,
) -> tuple[Facts, Recorded]:
    """Copy the records and hold them; `trail` is the operator's.

    Raises:
        TileMissing: a record has been erased since it was chosen. Nothing is held.
        LogUnwritable: it could not be recorded. The copies go within an hour or so.
        OSError: the disk refused. Nothing is held.
    """
    facts = Facts(
        hold=f"hold_{secrets.token_hex(6)}",
        basis=terms.basis,
        approver=terms.approver,
        placed_at=now,
        expires_at=terms.expires_at,
        oldest=chosen.oldest,
        newest=chosen.newest,
        records=chosen.count,
        logs=tuple(sorted(member.origin for member in chosen.logs)),
        policy=policy.digest,
        scope=scope.facts(),
    )
    folder = root(home)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    _give(folder)
    making = folder / f".{facts.hold}.new"
    try:
        listed = _copy(making, facts, chosen)
        _give(making)
        making.rename(folder / facts.hold)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    RealDisk(folder).sync(".")
    recorded = trail.record(
        "hold-placed",
        hold=facts.hold,
        basis=facts.basis,
        approver=facts.approver,
        expires_at=record.written(facts.expires_at),
        records=facts.records,
        logs=len(facts.logs),
        manifest=holds.digest(listed),
        policy=policy.digest,
    ).result(RECORD_TIMEOUT_S)
    _note(folder / facts.hold, holds.RECORDED, f"{recorded.name}\n")
    return facts, recorded


def _copy(making: Path, facts: Facts, chosen: Chosen) -> bytes:
    """Write every file of a hold durably; return its manifest."""
    disk, digests = RealDisk(making), dict[str, str]()
    making.mkdir(mode=0o750)
    for path, content in chain([(holds.FACTS, facts.encode())], _proofs(chosen)):
        disk.write(path, content)
        disk.sync(path)
        digests[path] = holds.digest(content)
    listed = holds.manifest(digests)
    disk.write(holds.MANIFEST, listed)
    disk.sync(holds.MANIFEST)
    above = {str(each) for path in digests for each in Path(path).parents}
    for folder in sorted(above, reverse=True):
        disk.sync(folder)
    return listed


def _proofs(chosen: Chosen) -> Iterator[tuple[str, bytes]]:
    for member, indexes in chosen.logs.items():
        read = lru_cache(FILES_AT_HAND)(fleet.reader(member.folder))
        assert member.vkey is not None, "a log without a pinned key is not chosen"
        vkey = rotation.newest(read, member.vkey)
        for index in indexes:
            yield holds.path_of(member.origin, index), proof.prove(read, vkey, index)


def _note(folder: Path, name: str, text: str) -> None:
    """Write a small file whole and durably, or not at all."""
    disk = RealDisk(folder)
    disk.write(f"{name}.new", text.encode())
    disk.sync(f"{name}.new")
    disk.rename(f"{name}.new", name)
    _give(folder)
    disk.sync(".")


# --- list and release ---------------------------------------------------------------------------


def standing(home: Home) -> Iterator[Standing]:
    """Every hold of a site whose facts can be read, by its name."""
    for folder in _folders(home):
        try:
            yield _standing(folder)
        except BadInput:
            continue  # verification finds it


def _folders(home: Home) -> list[Path]:
    there = root(home).iterdir() if root(home).is_dir() else ()
    return sorted(folder for folder in there if holds.ID.fullmatch(folder.name))


def _standing(folder: Path) -> Standing:
    read = fleet.reader(folder)
    facts = holds.parse(read(holds.FACTS) or b"")
    if facts.hold != folder.name:
        raise BadInput(f"{folder} holds the facts of {facts.hold}")
    recorded = (read(holds.RECORDED) or b"").decode(errors="replace").strip()
    return Standing(facts, recorded, holds.released_at(read(holds.RELEASED)))


def named(home: Home, hold: str) -> Standing:
    """One hold.

    Raises:
        UnknownName: there is none of that name, or its facts cannot be read.
    """
    found = {each.facts.hold: each for each in standing(home)}
    if hold not in found:
        raise UnknownName(
            f"there is no hold {hold!r}",
            accepted=", ".join(found) or "no hold is placed",
            next_step="sovereign hold list",
        )
    return found[hold]


def release(
    home: Home, policy: Policy, hold: str, approver: str, trail: Trail, now: datetime
) -> Recorded:
    """End a hold; its copies go at the next retention run.

    Raises:
        UnknownName, BadInput: as `releasable`.
        LogUnwritable: it is not recorded, so the hold stays in force.
    """
    releasable(home, policy, hold, approver, now)
    recorded = trail.record("hold-released", hold=hold, approver=approver).result(RECORD_TIMEOUT_S)
    _note(root(home) / hold, holds.RELEASED, f"{recorded.name} {record.written(now)}\n")
    return recorded


def releasable(home: Home, policy: Policy, hold: str, approver: str, now: datetime) -> Standing:
    """The hold, when this role may end it now.

    Raises:
        UnknownName: there is no such hold, or the role may not approve.
        BadInput: it is not in force any more. Nothing was changed.
    """
    found = named(home, hold)
    allowed = policy.holds.approvers if policy.holds else ()
    if approver not in allowed:
        raise UnknownName(f"{approver!r} may not release a hold", accepted=", ".join(allowed))
    state = found.state(now)
    if state != "in-force":
        raise BadInput(f"the hold {hold} is not in force", found=state, accepted="in-force")
    return found


# --- what retention and verification ask -----------------------------------------------------


def ended(home: Home, now: datetime) -> list[tuple[Facts, str]]:
    """The holds whose copies must go, each with the rule that says so.

    On the way it removes what is left of holds that were never placed, or half erased, and
    writes down the record of one whose placing was interrupted after it was recorded.
    """
    for remains in root(home).glob(".hold_*.new") if root(home).is_dir() else ():
        if now.timestamp() - remains.stat().st_mtime > holds.UNRECORDED_MAX_S:
            shutil.rmtree(remains)
    found = []
    for each in standing(home):
        placed_for_s = (now - each.facts.placed_at).total_seconds()
        rule = holds.erase_because(each, now, settled_for_s=placed_for_s)
        if rule == holds.UNRECORDED and _is_in_evidence(home, each.facts):
            continue
        if rule:
            found.append((each.facts, rule))
    return found


def _is_in_evidence(home: Home, facts: Facts) -> bool:
    """Whether a hold that does not know its record has one; then it is told."""
    placer = _placer(home)
    hit = next(
        (
            hit
            for hit in (_of_type(placer, "hold-placed") if placer else ())
            if hit.fields["hold"] == facts.hold
        ),
        None,
    )
    if hit is not None:
        _note(root(home) / facts.hold, holds.RECORDED, f"{hit.name}\n")
    return hit is not None


def erase(home: Home, hold: str) -> None:
    """Remove the copies of a hold, durably; ones that are gone already are fine."""
    folder = root(home) / hold
    if folder.is_dir():
        gone = folder.with_name(f".{hold}.new")  # one step, so that no hold is left by halves
        folder.rename(gone)
        shutil.rmtree(gone)
        RealDisk(root(home)).sync(".")


def verify(home: Home, now: datetime) -> tuple[fleet.Result, ...]:
    """Whether every hold of a site is what its evidence says: in force, whole, or gone on time.

    Raises:
        OSError: something could not be read, so nothing can be said.
    """
    logs = [m for m in fleet.members(home) if m.vkey is not None]
    placer = _placer(home)
    placed, events = _recorded(placer) if placer else ({}, [])
    histories = {m.origin: rotation.history(fleet.reader(m.folder), m.vkey) for m in logs if m.vkey}
    there = {folder.name: folder for folder in _folders(home)}
    found = []
    for hold in sorted(placed.keys() | there.keys()):
        known, folder = placed.get(hold), there.get(hold)
        ends = holds.ended(known, events) if known else now
        read = fleet.reader(folder) if folder else None
        names = _names(folder) if folder else ()
        wrong = tuple(
            Finding(code, f"{name_of(hold)}/{path}".removesuffix("/"), FINDINGS[code])
            for code, path in holds.judged(known, ends, read, names, now, histories)
        )
        size, gone = (known.records if known else 0), folder is None
        place_ = folder or root(home) / hold
        found.append(fleet.Result(name_of(hold), place_, size, size * gone, wrong))
    return tuple(found)


def _recorded(placer: fleet.Member) -> tuple[dict[str, Placed], list[HoldEvent]]:
    """Every hold of the evidence, and what became of each."""
    placed = [holds.placed_of(hit.fields) for hit in _of_type(placer, "hold-placed")]
    released = [hold_event_of(hit.fields, hit.name) for hit in _of_type(placer, "hold-released")]
    return {each.hold: each for each in placed}, released


def _placer(home: Home) -> fleet.Member | None:
    """The one log of a site that holds are placed in, when its key is pinned."""
    logs = (m for m in fleet.members(home) if m.vkey is not None)
    return next((m for m in logs if m.origin == placer_of(m.origin)), None)


def _of_type(placer: fleet.Member, kind: str) -> Iterator[Hit]:
    source = fleet.source(placer)
    return _hits(search.search(source, Wanted(type=kind), range(source.size)))


def _names(folder: Path) -> list[str]:
    """The files below a hold, bounded: what is not a plain file is named too."""
    found = []
    for above, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(above) / name).is_symlink()]
        found += [str((Path(above) / name).relative_to(folder)) for name in (*files, *links)]
        if len(found) > FILES_MAX:
            raise TileMissing(f"{folder} holds more than {FILES_MAX} files")
    return found
