"""Every audit log of a site as a set: where they are, whether they verify, what is in them.

The set is what the pinned keys say, not what a folder happens to hold: a log whose key is
pinned and that is gone is a finding, and a log that nobody pinned is not determined. Each
verification on the machine also remembers the newest checkpoint beside the pinned key, so
that a log cut short since then, or taken away together with its pinned key, is noticed here,
before an auditor comes with a copy of hers.

Beside what each log shows by itself stands what the site's register says of the set
(`audit/writers.py`): which logs there must be, under which keys, and how far they had come.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sovereign.audit import record, remembered, tiles, writers
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.erasures import Rules
from sovereign.audit.folder import Folder
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.remembered import Places
from sovereign.audit.scan import Read, read_or_full
from sovereign.audit.search import Source
from sovereign.audit.trail import KEPT_SUFFIX, PIN_SUFFIX, kept_path
from sovereign.audit.verify import (
    FINDINGS,
    Finding,
    Inspection,
    Report,
    eraser_of,
    inspect,
    judge_all,
)
from sovereign.audit.witnesses import cosigned
from sovereign.audit.writers import Register, Sound
from sovereign.errors import BadInput, TileDamaged
from sovereign.settings import Home

Place = Path | Read
"""Where a log that was handed over lies: a folder, or whatever reads it, as from a server."""
NAME_MAX_CHARS = 256
ERASURE_WITHIN_S = 5.0
"""How long a retention run that goes on may take from receipts that are published to deletion."""
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Member:
    """One log of the site. `vkey` is None when no key is pinned for it."""

    folder: Path
    writer: str
    stream: str
    vkey: VerifierKey | None
    kept: Path

    @property
    def origin(self) -> str:
        """Its name, as its pinned key says."""
        return f"{self.writer}/{self.stream}" if self.vkey is None else self.vkey.name


@dataclass(frozen=True, slots=True)
class Result:
    """What verification found.

    `determined` is False when no key is pinned, or entries are gone and the log that would
    excuse it is not there or not sound; `open_gaps` names those entries.
    """

    origin: str
    folder: Place
    size: int
    erased: int
    findings: tuple[Finding, ...]
    determined: bool = True
    open_gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    withheld: bool = False

    @classmethod
    def of(cls, report: Report, folder: Place) -> "Result":
        """A report with the folder it is about."""
        return cls(
            report.origin,
            folder,
            report.size,
            report.erased,
            report.findings,
            not report.open_gaps,
            report.open_gaps,
            report.notes,
            report.withheld,
        )


def members(home: Home) -> tuple[Member, ...]:
    """Every log that is there or should be, by writer and stream.

    Raises:
        BadInput: a pinned key is none.
    """
    pins = {path.stem: path for path in home.trust.glob(f"*{PIN_SUFFIX}")}
    kept = {path.stem for path in home.trust.glob(f"*{KEPT_SUFFIX}")}
    there = {
        f"{folder.parent.name}-{folder.name}": folder
        for folder in home.audit.glob("*/*")
        if folder.is_dir()
    }
    found = []
    for name in sorted(pins.keys() | there.keys() | kept):
        writer, _, stream = name.rpartition("-")
        folder = there.get(name, home.audit / writer / stream)
        pin = _pinned(pins[name]) if name in pins else None
        if pin is not None and not f"/{pin.name}".endswith(f"/{writer}/{stream}"):
            raise BadInput(f"{pins[name]} pins {pin.name}", accepted=f"a key of {writer}/{stream}")
        vkey = rotation.newest(reader(folder), pin) if pin is not None else None
        found.append(Member(folder, writer, stream, vkey, kept_path(home.trust, writer, stream)))
    return tuple(found)


def _pinned(pin: Path) -> VerifierKey:
    try:
        return VerifierKey.parse(pin.read_text())
    except UnicodeDecodeError:
        raise BadInput(
            f"{pin} holds no verifier key", accepted="the one line that was pinned"
        ) from None


def reader(folder: Path) -> Folder:
    """Read plain files below a folder; None for what is not there."""
    return Folder(folder)


def verify(home: Home, rules: Rules | None = None) -> tuple[Result, ...]:
    """Verify every log against its pinned key, the remembered checkpoints and all receipts.

    Args:
        rules: the policy and the time to judge erasures by; without it lateness is not judged.

    Raises:
        OSError: something could not be read, so nothing can be said.
    """
    known = members(home)
    there = [m for m in known if m.vkey is not None and m.folder.is_dir()]
    there.sort(key=lambda member: member.origin == eraser_of(member.origin))
    seen = [_inspected(member) for member in there]  # receipts last: retention may be running
    reports = _judged(seen, rules)
    results = [_result(member, reports) for member in known]
    strangers = {_claimed_in(m.folder): m.origin for m in known if m.vkey is None}
    return _as_a_set(results, _sound(seen, reports), strangers)


def verify_folders(
    folders: Sequence[Place],
    keys: list[VerifierKey],
    kept: list[bytes],
    rules: Rules | None = None,
    *,
    part: bool = False,
) -> tuple[Result, ...]:
    """Verify logs somebody handed over as a set, each under the given key of its own name.

    A key that was not given is taken from the site's register, when its `controller/evidence`
    was handed over too and is intact under a key that was given. A log that claims a name no key
    is known for is not determined. A single log is verified by itself, under a single key
    whatever it claims: then a foreign name is a finding.

    Args:
        kept: checkpoints kept from earlier, of any of these logs.
        rules: as for `verify`.
        part: more logs were there than were handed over; the register's others are not missed.

    Raises:
        BadInput: a kept checkpoint is of a log whose key is not known.
    """
    only = keys[0] if len(keys) == len(folders) == 1 else None
    claimed = {folder: _claimed_in(folder) for folder in folders}
    named = {key.name: key for key in keys}
    chosen = {folder: only or named.get(claimed[folder]) for folder in folders}
    seen = _inspected_all(chosen, kept)
    if only is None and None in chosen.values():
        named = _registered(_sound(seen.values(), judge_all(seen.values()))) | named
        chosen = {folder: named.get(claimed[folder]) for folder in folders}
        seen = _inspected_all(chosen, kept)
    origins = [key.name for key in chosen.values() if key is not None]
    if len(set(origins)) < len(origins):
        raise BadInput("two of these logs have one name", accepted="each log once")
    for note in kept:
        if only is None and _claimed(note) not in origins:
            raise BadInput(
                f"a kept checkpoint is of {_claimed(note)!r}", accepted=", ".join(origins)
            )
    reports = judge_all(seen.values(), rules)
    results = [
        Result.of(reports[key.name], folder)
        if key is not None
        else Result(claimed[folder], folder, 0, 0, (), False)
        for folder, key in chosen.items()
    ]
    if len(folders) == 1:
        return tuple(results)
    strangers = {claimed[folder]: claimed[folder] for folder, key in chosen.items() if key is None}
    return _as_a_set(results, _sound(seen.values(), reports), strangers, part=part)


def _inspected_all(
    chosen: Mapping[Place, VerifierKey | None], kept: list[bytes]
) -> dict[Place, Inspection]:
    """Inspect every log whose key is known, the one with receipts and register last."""
    known = [(folder, key) for folder, key in chosen.items() if key is not None]
    known.sort(key=lambda each: each[1].name == eraser_of(each[1].name))
    alone = len(chosen) == 1
    return {
        folder: inspect(
            read_of(folder), key, kept=[n for n in kept if alone or _claimed(n) == key.name]
        )
        for folder, key in known
    }


def _registered(sound: Mapping[str, Sound]) -> dict[str, VerifierKey]:
    """The keys of every log that an intact register among these names."""
    registers = [Register.of(log) for log in sound.values() if log.origin == eraser_of(log.origin)]
    return {name: keys[0] for register in registers for name, keys in register.keys.items()}


def _sound(seen: Iterable[Inspection], reports: Mapping[str, Report]) -> dict[str, Sound]:
    """The logs that may speak about the set: those that are what was signed.

    Registers first: what the controller saw of a log, that log has when it is looked at later.
    """
    intact = [each for each in seen if reports[each.vkey.name].intact]
    intact.sort(key=lambda each: each.vkey.name != eraser_of(each.vkey.name))
    return {
        each.vkey.name: Sound.now(
            each.vkey, each.read, reports[each.vkey.name].size, each.registered
        )
        for each in intact
    }


def _as_a_set(
    results: list[Result],
    sound: Mapping[str, Sound],
    strangers: Mapping[str, str],
    *,
    part: bool = False,
) -> tuple[Result, ...]:
    """The results with what the registers among them say of the set.

    Args:
        strangers: by the name it claims, the result of each log that no key is known for.
    """
    found = {result.origin: result for result in results}
    for origin, code, where in writers.judge(sound, found, strangers):
        finding = Finding(code, where, FINDINGS[code])
        name = strangers.get(origin, origin)
        if name in found:
            old = found[name]
            found[name] = replace(old, findings=(*old.findings, finding))
        elif not part:
            found[name] = Result(origin, _expected(origin, results), 0, 0, (finding,))
    return tuple(found.values())


def _expected(origin: str, results: list[Result]) -> Path:
    """Where a log that was not handed over would lie, beside its site's register."""
    found = (r.folder for r in results if r.origin == eraser_of(origin))
    register: Place = next(found, Path())
    _, writer, stream = origin.rsplit("/", 2)
    if not isinstance(register, Path):
        return Path(writer) / stream
    return register.parent.parent / writer / stream


def read_of(place: Place) -> Read:
    """Read a log where it lies, or where it is served."""
    return reader(place) if isinstance(place, Path) else place


def _claimed_in(folder: Place) -> str:
    return _claimed(read_of(folder)(tiles.CHECKPOINT) or b"")


def _claimed(note: bytes) -> str:
    """The origin a checkpoint names, believed by nobody, without what a terminal would obey."""
    name = note.partition(b"\n")[0].decode(errors="replace")[:NAME_MAX_CHARS]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)


def _judged(seen: list[Inspection], rules: Rules | None) -> dict[str, Report]:
    """Judge the set; an erasure that is just being carried out is given time to end."""
    deadline = time.monotonic() + ERASURE_WITHIN_S
    while True:
        reports = judge_all(seen, rules)
        codes = {finding.code for report in reports.values() for finding in report.findings}
        if "erasure-incomplete" not in codes or time.monotonic() > deadline:
            return reports
        time.sleep(POLL_S)


def _result(member: Member, reports: dict[str, Report]) -> Result:
    report = reports.get(member.origin)
    if report is not None:
        if report.intact:
            _keep(member, report)
        return replace(Result.of(report, member.folder), notes=())  # the site knows its own keys
    if member.vkey is None and not member.kept.exists():
        return Result(member.origin, member.folder, 0, 0, (), determined=False)
    gone = Finding("log-gone", str(member.folder), FINDINGS["log-gone"])
    return Result(member.origin, member.folder, 0, 0, (gone,))


def _inspected(member: Member) -> Inspection:
    assert member.vkey is not None
    kept = Places.of(member.folder, member.vkey, member.kept.parent).notes()
    outside = cosigned.folder_of(member.kept.parent, member.writer, member.stream)
    kept += cosigned.everything(outside)
    return inspect(reader(member.folder), member.vkey, kept=kept)


def _keep(member: Member, report: Report) -> None:
    """Remember a checkpoint that was found sound; an auditor without write access does not."""
    assert member.vkey is not None
    vkey = rotation.newest(reader(member.folder), member.vkey)
    try:
        remembered.keep(member.kept, report.checkpoint, vkey)
    except OSError as error:
        if error.errno not in remembered.NOT_OURS_TO_WRITE:
            raise


def statuses(home: Home) -> list[dict[str, Any]]:
    """What each log says of itself, quickly and without verifying it."""
    return [
        {
            "origin": member.origin,
            "dir": str(member.folder),
            "vkey": None if member.vkey is None else str(member.vkey),
            "size": size_of(member),
            "checkpoint": _served(member),
        }
        for member in members(home)
    ]


def _served(member: Member) -> str | None:
    """The signed checkpoint as it stands, for somebody to keep."""
    raw = reader(member.folder)(tiles.CHECKPOINT)
    return None if raw is None else raw.decode(errors="replace")


def size_of(member: Member) -> int | None:
    """Entries published so far; None when there is no checkpoint that the log's key signed."""
    signed = checkpoint_of(member)
    return None if signed is None else signed.size


def checkpoint_of(member: Member) -> Checkpoint | None:
    """The checkpoint as it stands there, when the newest key of the log has signed it."""
    if member.vkey is None:
        return None
    history, raw = rotation.follow(reader(member.folder), member.vkey)
    return history.read(raw) if raw else None


def source(member: Member) -> Source:
    """A log to search: what is published so far; nothing of one whose key is not pinned."""
    return Source(member.origin, size_of(member) or 0, reader(member.folder))


def _entries(member: Member, number: int, bundle: bytes) -> list[bytes]:
    try:
        return tiles.unpack(bundle)
    except ValueError:
        raise TileDamaged(f"bundle {number} of {member.origin} is none") from None


def records(member: Member, start: int, end: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and fields of the records from `start` up to `end`; erased ones are left out.

    Raises:
        TileDamaged: a bundle is none.
        RecordInvalid: an entry is no record.
    """
    read, size = reader(member.folder), size_of(member) or 0
    for number in range(start // TILE_WIDTH, -(-min(end, size) // TILE_WIDTH)):
        path = tiles.bundle_path(number, tiles.width_of(0, number, size))
        bundle = read_or_full(read, path)
        for offset, entry in enumerate(_entries(member, number, bundle) if bundle else ()):
            index = number * TILE_WIDTH + offset
            if start <= index < min(end, size):
                yield index, record.parse(entry)
