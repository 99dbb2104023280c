"""What a legal hold is: its facts, the files it consists of, and when it ends. Pure.

A log cannot erase one entry, so a hold does not keep back what it is about: it copies the
records, each with a proof that ties it to a checkpoint its log signed, and the originals go on
time with their neighbours. The copies are files of their own, so they can be erased one day:

    HOLD/hold.json                    the facts below, canonical JSON
    HOLD/records/ORIGIN/INDEX.proof   one tlog-proof a record (`proof.py`)
    HOLD/manifest                     SHA-256 of each of these, as `sha256sum` writes it
    HOLD/recorded                     name of the `hold-placed` record: that has the manifest's hash
    HOLD/released                     name of the `hold-released` record and its time, once there

`sovereign/holds.py` makes and erases them; `verify.py` and `faults` say whether they are right.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from sovereign.audit import proof, record
from sovereign.audit.erasures import HOLD, HoldEvent, Limits, fields_of, when
from sovereign.audit.keys.rotation import History
from sovereign.audit.merkle import leaf_hash, root_from_inclusion
from sovereign.audit.scan import Read
from sovereign.errors import BadInput

FACTS, MANIFEST, RECORDED, RELEASED, RECORDS = (
    "hold.json",
    "manifest",
    "recorded",
    "released",
    "records",
)
FORM = 1
ID = re.compile(r"hold_[0-9a-f]{12}", re.ASCII)
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)", re.ASCII)
RELEASE, EXPIRY, UNRECORDED = "hold-released", "hold-expired", "hold-unrecorded"
"""Why the copies of a hold go: the rule of their receipt."""
KEPT = Limits(0, None, 24)
"""Copies have an end and no age: they go at the next run after it."""
FACTS_MAX_BYTES = 65_536
UNRECORDED_MAX_S = 3600.0
"""How long a hold may be without its record; placing one takes minutes at most."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a hold is about. Times are aware; `scope` is what was asked for, by name."""

    hold: str
    basis: str
    approver: str
    placed_at: datetime
    expires_at: datetime
    oldest: datetime
    newest: datetime
    records: int
    logs: tuple[str, ...]
    policy: str
    scope: Mapping[str, str]

    def encode(self) -> bytes:
        """The canonical bytes of `hold.json`."""
        held: dict[str, Any] = {"form": FORM, **asdict(self)}
        times = {k: record.written(v) for k, v in held.items() if isinstance(v, datetime)}
        return msgspec.json.encode(held | times, order="sorted")


@dataclass(frozen=True, slots=True)
class Standing:
    """A hold as its folder says: whether it was recorded, and when it was released."""

    facts: Facts
    recorded: str
    released_at: datetime | None

    @property
    def ends(self) -> datetime:
        """When the hold is over: at its release, or when it expires."""
        expires, released = self.facts.expires_at, self.released_at
        return expires if released is None else min(expires, released)

    def state(self, now: datetime) -> str:
        """`in-force`, `released` or `expired` at `now`; `unrecorded` when it never began."""
        if not self.recorded:
            return "unrecorded"
        if now < self.ends:
            return "in-force"
        return "released" if self.ends != self.facts.expires_at else "expired"


def parse(content: bytes) -> Facts:
    """Read a `hold.json`.

    Raises:
        BadInput: it is none, or of another form.
    """
    try:
        if len(content) > FACTS_MAX_BYTES:
            raise ValueError
        found = msgspec.json.decode(content, type=dict[str, Any])
        if found.pop("form") != FORM or not ID.fullmatch(found["hold"]):
            raise ValueError
        for name in ("placed_at", "expires_at", "oldest", "newest"):
            found[name] = when(found[name])
        facts = Facts(**{**found, "logs": tuple(found["logs"])})
        if facts.encode() != content:
            raise ValueError
    except (msgspec.MsgspecError, RecursionError, KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(
            "this is no hold", accepted=f"form {FORM} of docs/formats/holds.md"
        ) from None
    return facts


def released_at(content: bytes | None) -> datetime | None:
    """When a hold was released, out of its file `released`; None when it was not."""
    if content is None:
        return None
    _, _, written = content.decode(errors="replace").strip().rpartition(" ")
    try:
        return when(written)
    except ValueError:
        return None


def path_of(origin: str, index: int) -> str:
    """Where the proof of a record lies below a hold.

    Raises:
        BadInput: the log's name would lead somewhere else.
    """
    if not _ORIGIN.fullmatch(origin):
        raise BadInput(f"{origin!r} is no name for a folder", accepted="SITE/WRITER/STREAM")
    return f"{RECORDS}/{origin}/{index}.proof"


def manifest(files: Mapping[str, str]) -> bytes:
    """The manifest over these files, given as path and SHA-256 in hex."""
    return "".join(f"{files[path]}  {path}\n" for path in sorted(files)).encode()


def digest(content: bytes) -> str:
    """SHA-256 in hex: what a manifest holds of a file, and the evidence of a manifest."""
    return sha256(content).hexdigest()


def erase_because(standing: Standing, now: datetime, *, settled_for_s: float) -> str:
    """Why the copies must go at `now`; "" while they may stay.

    Args:
        settled_for_s: how long ago the hold was placed. One that is not recorded after
            `UNRECORDED_MAX_S` never will be: whoever placed it is gone.
    """
    state = standing.state(now)
    if state == "unrecorded":
        return UNRECORDED if settled_for_s > UNRECORDED_MAX_S else ""
    return {"released": RELEASE, "expired": EXPIRY}.get(state, "")


def receipt_of(facts: Facts, rule: str, policy: str) -> dict[str, str | int]:
    """The fields of the `erasure` record for the copies of a hold."""
    last = facts.records - 1
    more = fields_of(
        HOLD,
        KEPT,
        policy=policy,
        first=0,
        last=last,
        oldest=record.written(facts.oldest),
        newest=record.written(facts.newest),
    )
    return {"log": HOLD, "first": 0, "last": last, "rule": rule, "item": facts.hold, **more}


# --- what verification asks ---------------------------------------------------------------------


def faults(
    read: Read, there: Iterable[str], recorded: str, histories: Mapping[str, History]
) -> Iterator[str]:
    """What of a hold's files is not what was recorded: paths, none when all is well.

    Args:
        there: every file of the hold; one that the manifest does not name is a fault too.
        recorded: SHA-256 of the manifest, out of the `hold-placed` record.
        histories: the keys of logs by origin; a proof out of another log is judged by its hash.
    """
    listed = read(MANIFEST)
    if listed is None or digest(listed) != recorded:
        yield MANIFEST
        return
    named = {MANIFEST, RECORDED, RELEASED}
    for line in listed.decode(errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        path = match[2] if match else MANIFEST
        named.add(path)
        content = read(path) if match else None
        same = match is not None and content is not None and digest(content) == match[1]
        if not same or (content and path != FACTS and not _proves(path, content, histories)):
            yield path
    yield from sorted(set(there) - named)


def _proves(path: str, content: bytes, histories: Mapping[str, History]) -> bool:
    """Whether a copy is a record of the log, at the index, that its path names."""
    origin = path.removeprefix(f"{RECORDS}/").rpartition("/")[0]
    try:
        index, entry, hashes, note = proof.parse(content)
        if path != path_of(origin, index):
            return False
    except BadInput:
        return False
    if origin not in histories:
        return True  # nobody gave its key: the hash is all that can be said
    signed = histories[origin].read_kept(note)
    if signed is None or index >= signed.size:
        return False
    return root_from_inclusion(leaf_hash(entry), index, signed.size, hashes) == signed.root


@dataclass(frozen=True, slots=True)
class Placed:
    """A hold as the evidence has it: the hash of its manifest, and when it ends at the latest."""

    hold: str
    manifest: str
    records: int
    ends: datetime


def placed_of(content: Mapping[str, Any]) -> Placed:
    """What a well-formed `hold-placed` record says."""
    return Placed(
        content["hold"], content["manifest"], content["records"], when(content["expires_at"])
    )


def ended(placed: Placed, events: Iterable[HoldEvent]) -> datetime:
    """When a hold is over, with its release among these events."""
    return min([placed.ends, *(e.ends for e in events if e.hold == placed.hold)])


def judged(
    placed: Placed | None,
    ends: datetime,
    read: Read | None,
    there: Iterable[str],
    now: datetime,
    histories: Mapping[str, History],
) -> Iterator[tuple[str, str]]:
    """Codes of `erasures.FINDINGS`, each with the path it is about, "" for the whole hold.

    Args:
        placed: out of the evidence; None for copies that nobody recorded.
        read: the hold's files; None when it has none any more.
        there: their names.
    """
    if placed is None:
        yield "hold-differs", RECORDED
        return
    if read is None:
        if now < ends:
            yield "erased-under-hold", ""
        return
    for path in faults(read, there, placed.manifest, histories):
        yield "hold-differs", path
    if now - ends > timedelta(hours=KEPT.interval_hours):
        yield "hold-overdue", ""
