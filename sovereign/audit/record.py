"""What a record may hold: the one table of types and fields, and their canonical bytes.

A record is canonical JSON (RFC 8785, of which strings and whole numbers up to 2**53 - 1
are all we use): keys sorted, no spaces. Each carries 16 random bytes of salt, so that its
hash says nothing once the entry itself is erased. There is no field for content, and a
value that is too long for a name is refused, so content cannot slip in under one.

`docs/formats/records.md` is compared with the table by a test.
"""

import os
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from sovereign.errors import NaiveTime, RecordInvalid

VERSION = 1
INTEGER_MAX = 2**53 - 1
NAME_MAX_CHARS = 256
REASON_MAX_CHARS = 1024
SALT_BYTES = 16
SALTS_AT_ONCE = 64
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_SALT = re.compile(r"[0-9a-f]{32}")
_ENCODER = msgspec.json.Encoder(order="sorted")


class Kind(Enum):
    """What a field holds."""

    NAME = "a name, code or digest of at most 256 characters"
    REASON = "one of our own sentences, at most 1024 characters"
    INTEGER = "a whole number from 0 to 2**53 - 1"
    TIME = "UTC with microseconds, as 2026-11-23T12:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Field:
    """A field's kind, and whether a record may go without it."""

    kind: Kind
    required: bool = True


@dataclass(frozen=True, slots=True)
class RecordType:
    """Where records of a type go, and what they hold. `stream` is "any" for the log's own."""

    stream: str
    says: str
    fields: Mapping[str, Field]


N, R, I, T = Field(Kind.NAME), Field(Kind.REASON), Field(Kind.INTEGER), Field(Kind.TIME)  # noqa: E741 - a table's shorthand
OPTIONAL = Field(Kind.NAME, required=False)
OPTIONAL_TIME = Field(Kind.TIME, required=False)

STREAMS = ("event", "security", "evidence")
RECORD_TYPES: dict[str, RecordType] = {
    "log-created": RecordType("any", "The log begins.", {"origin": N}),
    "log-reopened": RecordType(
        "any",
        "A writer took the log up again; torn bytes are of a group nobody was told of.",
        {"size": I, "ended": N, "torn_bytes": I},
    ),
    "key-rotated": RecordType(
        "any",
        "The log's key is replaced; both keys sign the checkpoint over this record.",
        {"old": N, "new": N, "why": N},
    ),
    "log-restored": RecordType(
        "any",
        "The log was put back from a copy; what was acknowledged beyond `size` is lost.",
        {"size": I, "source": N},
    ),
    "filler": RecordType("any", "Fills a bundle on a quiet stream so that it can expire.", {}),
    "clock-set-back": RecordType(
        "any",
        "The writer's clock went back by more than an hour; it said `was` when it was last read.",
        {"was": T},
    ),
    "decision": RecordType(
        "event",
        "What was decided about one request, before anything was answered.",
        {
            "request": I,
            "tenant": N,
            "key": N,
            "purpose": N,
            "basis": N,
            "subject": OPTIONAL,
            "data": N,
            "verb": N,
            "call": OPTIONAL,
            "model": N,
            "endpoint": OPTIONAL,
            "engine": OPTIONAL,
            "place": OPTIONAL,
            "listener": OPTIONAL,
            "after": Field(Kind.INTEGER, required=False),
            "asked_at": T,
            "verdict": N,
            "rule": N,
            "policy": N,
        },
    ),
    "completion": RecordType(
        "event",
        "How a request that was let through ended; `decision` is the index of its decision.",
        {
            "decision": I,
            "outcome": N,
            "status": I,
            "tokens_in": I,
            "tokens_out": I,
            "latency_us": I,
            "finish": N,
        },
    ),
    "refusals": RecordType(
        "security",
        "How often one source was refused in one minute without a decision.",
        {"source": N, "minute": N, "code": N, "count": I},
    ),
    "writer-alive": RecordType(
        "security",
        "The writer serves, and says so at its start and every `every_s` seconds.",
        {"since": T, "every_s": I},
    ),
    "writer-stopped": RecordType("security", "The writer ended as it was told to.", {"since": T}),
    "key-created": RecordType(
        "security", "An API key was made.", {"key": N, "tenant": N, "purpose": N, "by": N}
    ),
    "key-revoked": RecordType(
        "security", "An API key was revoked.", {"key": N, "tenant": N, "purpose": N, "by": N}
    ),
    "key-replaced": RecordType(
        "security",
        "An API key got a successor, and works until `until` itself.",
        {"key": N, "tenant": N, "purpose": N, "successor": N, "until": T, "by": N},
    ),
    "key-expiry-set": RecordType(
        "security",
        "An API key was given another end.",
        {"key": N, "tenant": N, "purpose": N, "until": T, "by": N},
    ),
    "tenant-created": RecordType("security", "A tenant was made.", {"tenant": N, "by": N}),
    "tenant-suspended": RecordType(
        "security", "All keys of a tenant are refused from now on.", {"tenant": N, "by": N}
    ),
    "tenant-resumed": RecordType(
        "security", "A suspended tenant's keys are let in again.", {"tenant": N, "by": N}
    ),
    "log-read": RecordType(
        "security",
        "Records of a log were about to be shown: `count` of them from `first` on were looked at.",
        {"by": N, "reason": N, "log": N, "filters": OPTIONAL, "first": I, "count": I, "policy": N},
    ),
    "log-exported": RecordType(
        "security",
        "A log was about to be handed over: `count` records from `first` on, in one export.",
        {"by": N, "reason": N, "log": N, "first": I, "count": I, "manifest": N, "policy": N},
    ),
    "policy-loaded": RecordType(
        "evidence", "A process took up a policy.", {"policy": N, "profile": N}
    ),
    "policy-applied": RecordType(
        "evidence",
        "Another policy was about to be put in force; `loosened`: in so many ways it allows more.",
        {
            "old": N,
            "new": N,
            "profile": N,
            "verb": N,
            "by": N,
            "reason": N,
            "approver": OPTIONAL,
            "loosened": I,
            "possible": I,
            "impossible": I,
        },
    ),
    "issuers-taken": RecordType(
        "evidence",
        "A gateway took up a file of identity providers and bindings.",
        {"digest": N, "issuers": I, "bindings": I, "policy": N},
    ),
    "issuer-judged": RecordType(
        "evidence",
        "What was decided about an identity provider, which sees personal data where it stands.",
        {
            "issuer": N,
            "place": N,
            "listener": OPTIONAL,
            "data": N,
            "verb": N,
            "asked_at": T,
            "verdict": N,
            "rule": N,
            "policy": N,
        },
    ),
    "attestation": RecordType(
        "evidence",
        "The controller vouches for an endpoint's place until `expires_at`.",
        {
            "endpoint": N,
            "place": N,
            "listener": OPTIONAL,
            "asked_at": T,
            "signal": N,
            "expires_at": T,
            "verdict": N,
            "rule": N,
            "policy": N,
        },
    ),
    "quarantine": RecordType(
        "evidence",
        "An endpoint may not be used.",
        {
            "endpoint": N,
            "place": N,
            "listener": OPTIONAL,
            "asked_at": T,
            "code": N,
            "reason": R,
            "rule": OPTIONAL,
            "policy": N,
        },
    ),
    "release": RecordType(
        "evidence",
        "An endpoint may be used again.",
        {
            "endpoint": N,
            "place": N,
            "listener": OPTIONAL,
            "asked_at": T,
            "code": N,
            "reason": R,
            "rule": OPTIONAL,
            "policy": N,
        },
    ),
    "observation": RecordType(
        "evidence", "Something seen that changed nothing.", {"endpoint": N, "what": N, "found": R}
    ),
    "writer-registered": RecordType(
        "evidence", "A log belongs to this site and verifies under this key.", {"log": N, "vkey": N}
    ),
    "writer-seen": RecordType(
        "evidence",
        "Whether a writer's process answered; the controller looks again within `every_s` seconds.",
        {"writer": N, "state": N, "every_s": I},
    ),
    "log-seen": RecordType(
        "evidence",
        "How far a log had come, as the controller saw it: entries, and the root over them.",
        {"log": N, "size": I, "root": N},
    ),
    "retention-run": RecordType(
        "evidence",
        "A run of the retention rules.",
        {
            "due": I,
            "erased": I,
            "kept": I,
            "refused": Field(Kind.INTEGER, required=False),
            "unseen": Field(Kind.INTEGER, required=False),
        },
    ),
    "erasure": RecordType(
        "evidence",
        "A receipt: these entries of a log, or this item of another sink, are erased.",
        {
            "log": N,
            "first": I,
            "last": I,
            "rule": N,
            "item": OPTIONAL,
            "form": Field(Kind.INTEGER, required=False),
            "class": OPTIONAL,
            "count": Field(Kind.INTEGER, required=False),
            "from": Field(Kind.TIME, required=False),
            "to": Field(Kind.TIME, required=False),
            "size": Field(Kind.INTEGER, required=False),
            "root": OPTIONAL,
            "policy": OPTIONAL,
            "min_days": Field(Kind.INTEGER, required=False),
            "max_days": Field(Kind.INTEGER, required=False),
            "interval_hours": Field(Kind.INTEGER, required=False),
            "youngest_s": Field(Kind.INTEGER, required=False),
            "oldest_s": Field(Kind.INTEGER, required=False),
        },
    ),
    "retention-asked": RecordType(
        "evidence",
        "Somebody asked for a run of the retention rules, now.",
        {"by": N, "clock": N},
    ),
    "erasure-refused": RecordType(
        "evidence",
        "A sink did not erase an item although its receipt was written: the item is still there.",
        {"log": N, "rule": N, "item": N, "reason": R},
    ),
    "hold-placed": RecordType(
        "evidence",
        "Records were copied, to be kept for longer than their class allows.",
        {
            "hold": N,
            "basis": N,
            "approver": N,
            "expires_at": T,
            "records": I,
            "logs": I,
            "manifest": N,
            "policy": N,
        },
    ),
    "subject-erased": RecordType(
        "evidence",
        "A person's key was destroyed: what names them in that many records is unreadable.",
        {"tenant": N, "records": I, "plain": I, "request": OPTIONAL, "policy": N},
    ),
    "request-received": RecordType(
        "evidence",
        "A person asked for something at `received_at` (GDPR Art. 15 to 21); its month runs.",
        {"request": N, "asked": N, "received_at": T, "policy": N},
    ),
    "request-extended": RecordType(
        "evidence",
        "The person was told at `told_at` why it takes two months more (GDPR Art. 12(3)).",
        {"request": N, "reason": N, "told_at": T, "policy": N},
    ),
    "request-answered": RecordType(
        "evidence",
        "The person was answered; a refusal says on which ground (GDPR Art. 12(4) and (5)).",
        {"request": N, "outcome": N, "ground": OPTIONAL, "answered_at": T, "policy": N},
    ),
    "subject-restricted": RecordType(
        "evidence",
        "A person had the use of their data restricted (GDPR Art. 18(1)): for all or one purpose.",
        {"restriction": N, "tenant": N, "purpose": OPTIONAL, "ground": N, "policy": N},
    ),
    "subject-unrestricted": RecordType(
        "evidence",
        "A restriction was lifted; the person had been told so at `told_at` (GDPR Art. 18(3)).",
        {"restriction": N, "reason": N, "told_at": T, "policy": N},
    ),
    "hold-released": RecordType(
        "evidence",
        "A hold ended before it expired; the next retention run erases its copies.",
        {"hold": N, "approver": N},
    ),
    "licence-acknowledged": RecordType(
        "evidence",
        "A role read the terms of a licence and answers for the use of a model until `expires_at`.",
        {
            "acknowledgement": N,
            "model": N,
            "licence": N,
            "environment": N,
            "approver": N,
            "purpose": N,
            "expires_at": T,
            "policy": N,
        },
    ),
    "licence-revoked": RecordType(
        "evidence",
        "An acknowledgement ended before it expired.",
        {"acknowledgement": N, "model": N, "approver": N, "policy": N},
    ),
    "weights-fetched": RecordType(
        "evidence",
        "A set of weights was brought in: its digest pins every file, its contents were checked.",
        {
            "model": N,
            "licence": N,
            "digest": N,
            "source": N,
            "place": N,
            "files": I,
            "bytes": I,
            "tokenizer": OPTIONAL,
            "template": OPTIONAL,
            "policy": N,
        },
    ),
    "weights-removed": RecordType(
        "evidence",
        "A set of weights that nothing served was removed from this machine.",
        {"model": N, "digest": N, "policy": N},
    ),
    "plan-decision": RecordType(
        "evidence",
        "What the guard decided about a resource of a plan.",
        {
            "stack": N,
            "resource": N,
            "place": N,
            "listener": OPTIONAL,
            "data": N,
            "verb": N,
            "asked_at": OPTIONAL_TIME,
            "verdict": N,
            "rule": N,
            "policy": N,
        },
    ),
    "stack-changed": RecordType(
        "evidence",
        "The machines of a stack were made, changed or removed.",
        {
            "stack": N,
            "verb": N,
            "place": N,
            "created": I,
            "changed": I,
            "deleted": I,
            "policy": N,
        },
    ),
    "deployment": RecordType("evidence", "A step of a deployment.", {"step": N, "outcome": N}),
    "drill": RecordType(
        "evidence",
        "A drill was run on this site, and what it showed.",
        {
            "drill": N,
            "verdict": N,
            "cases": I,
            "findings": I,
            "unknown": I,
            "took_s": I,
            "version": N,
            "policy": N,
        },
    ),
    "place-attested": RecordType(
        "evidence",
        "Who vouched for a host's place, and what spoke against it; `attestation` is the note.",
        {
            "host": N,
            "place": N,
            "verdict": N,
            "vouchers": I,
            "signals": N,
            "against": N,
            "expires_at": T,
            "attestation": N,
            "profile": N,
            "policy": N,
        },
    ),
    "host-bound": RecordType(
        "evidence",
        "A host's key was pinned; what speaks for its place is bound to it.",
        {"host": N, "fingerprint": N, "vkey": N, "by": N},
    ),
    "incident-opened": RecordType(
        "evidence",
        "An incident began, `suspected` or `confirmed`; `noticed_at` is when we became aware.",
        {
            "incident": N,
            "state": N,
            "kinds": N,
            "roles": OPTIONAL,
            "harms": OPTIONAL,
            "noticed_at": T,
            "cause": N,
            "about": OPTIONAL,
            "trigger": OPTIONAL,
            "by": N,
            "policy": N,
        },
    ),
    "incident-state": RecordType(
        "evidence",
        "An incident was confirmed, closed or opened again.",
        {"incident": N, "verb": N, "reason": OPTIONAL, "approver": OPTIONAL, "policy": N},
    ),
    "incident-noticed": RecordType(
        "evidence",
        "We became aware of an incident at another time than was said; both times stand.",
        {"incident": N, "noticed_at": T, "reason": N, "approver": N, "policy": N},
    ),
    "incident-handled": RecordType(
        "evidence",
        "An incident that went on was handled at `handled_at` (NIS2 Art. 23(4)(e)).",
        {"incident": N, "handled_at": T, "policy": N},
    ),
    "incident-scope": RecordType(
        "evidence",
        "An incident is of further kinds, in further roles, or led to further harm.",
        {"incident": N, "kinds": OPTIONAL, "roles": OPTIONAL, "harms": OPTIONAL, "policy": N},
    ),
    "incident-fact": RecordType(
        "evidence",
        "Something is known of an incident, in a word of the policy, and about how many.",
        {
            "incident": N,
            "what": N,
            "word": N,
            "count": Field(Kind.INTEGER, required=False),
            "policy": N,
        },
    ),
    "incident-duty": RecordType(
        "evidence",
        "A duty of an incident was done, does not arise, or arises after all.",
        {
            "incident": N,
            "duty": N,
            "state": N,
            "done_at": OPTIONAL_TIME,
            "how": OPTIONAL,
            "document": OPTIONAL,
            "reference": OPTIONAL,
            "reason": OPTIONAL,
            "approver": OPTIONAL,
            "policy": N,
        },
    ),
    "place-declared": RecordType(
        "evidence", "The operator said where this host is.", {"place": N, "country": N, "under": N}
    ),
    "egress-pinned": RecordType(
        "evidence",
        "A name was resolved, and what it led to is what may be connected to from now on.",
        {"name": N, "addresses": R, "before": R, "policy": N},
    ),
}
_COMMON = {"v", "type", "at", "salt"}


class _Salts:
    """Random bytes, drawn many at a time and handed out once.

    Every draw is a system call that gives the interpreter away; on the path of each request
    that cost more than the rest of the record. A process that forks would hand its salts to
    its child too, so a child begins with none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn = b""
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._drawn = b""

    def take(self) -> bytes:
        """Return 16 bytes that nobody else is given."""
        with self._lock:
            if not self._drawn:
                self._drawn = secrets.token_bytes(SALT_BYTES * SALTS_AT_ONCE)
            salt, self._drawn = self._drawn[:SALT_BYTES], self._drawn[SALT_BYTES:]
            return salt


_SALTS = _Salts()


def encode(kind: str, fields: Mapping[str, str | int], at: datetime, salt: bytes = b"") -> bytes:
    """Return the canonical bytes of a record.

    Args:
        at: aware time; written in UTC with microseconds.
        salt: 16 random bytes; left out, they are drawn here.

    Raises:
        RecordInvalid: a field is missing, unknown or of the wrong kind. Nothing was written.
        NaiveTime: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise NaiveTime("a record needs a time with a zone")
    if not _COMMON.isdisjoint(fields):
        raise RecordInvalid(f"a {kind!r} record's version, type, time and salt are set here")
    record: dict[str, Any] = {
        "v": VERSION,
        "type": kind,
        "at": written(at),
        "salt": (salt or _SALTS.take()).hex(),
        **fields,
    }
    try:
        entry = _encoded(kind, fields, record)
        fault = "" if entry else find_fault(record)
        if fault:
            raise RecordInvalid(f"a {kind!r} record cannot be written: {fault}")
        return entry or _ENCODER.encode(record)
    except UnicodeEncodeError:
        raise RecordInvalid(f"a {kind!r} record cannot be written: half a character") from None


def _encoded(kind: str, fields: Mapping[str, str | int], record: Mapping[str, Any]) -> bytes:
    """The bytes of a record that is as the table says, quickly; b"" when that is not sure."""
    row = shape(kind) if kind in RECORD_TYPES else None
    if row is None or not _PLAIN.issuperset(map(type, fields.values())):
        return b""
    try:
        entry = _ENCODER.encode(record)
        row.decoder.decode(entry)
    except (msgspec.MsgspecError, OverflowError):
        return b""
    return entry if all(_is(Kind.TIME, fields.get(name, AN_HOUR)) for name in row.times) else b""


def written(time: datetime) -> str:
    """A time as records hold it."""
    offset = time.utcoffset()
    return (time - offset if offset else time).isoformat(timespec="microseconds")[:26] + "Z"


def time_of(entry: bytes) -> datetime:
    """The aware time at which an entry of ours was recorded.

    Raises:
        RecordInvalid: it is no record.
    """
    return datetime.fromisoformat(str(parse(entry)["at"]))


def parse(entry: bytes) -> dict[str, Any]:
    """Return a record's fields.

    Raises:
        RecordInvalid: not JSON, not in canonical form, or not as the table says.
    """
    try:
        record = msgspec.json.decode(entry)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RecordInvalid("the entry is not JSON") from None
    if not isinstance(record, dict) or _ENCODER.encode(record) != entry:
        raise RecordInvalid("the entry is not in canonical form")
    fault = find_fault(record)
    if fault:
        raise RecordInvalid(fault)
    return record


def find_fault(record: Mapping[str, Any]) -> str:
    """The first thing that is wrong with a record, "" when nothing is."""
    name = record.get("type")
    kind = RECORD_TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return "no such type of record"
    version = record.get("v")
    if type(version) is not int or version != VERSION or not _is(Kind.TIME, record.get("at")):
        return "no version or no time"
    if not _matches(_SALT, record.get("salt")):
        return "no salt"
    if record.keys() - _COMMON - kind.fields.keys():
        return "it has a field that is not in the table"
    return _find_field_fault(kind, record)


def _find_field_fault(kind: RecordType, record: Mapping[str, Any]) -> str:
    for name, field in kind.fields.items():
        if name not in record:
            if field.required:
                return f"the field {name!r} is missing"
        elif not _is(field.kind, record[name]):
            return f"the field {name!r} is not {field.kind.value}"
    return ""


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_time(value: str) -> bool:
    if _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is(kind: Kind, value: object) -> bool:
    if kind is Kind.INTEGER:
        return type(value) is int and 0 <= value <= INTEGER_MAX
    if not isinstance(value, str):
        return False
    if kind is Kind.TIME:
        return _is_time(value)
    return len(value) <= (NAME_MAX_CHARS if kind is Kind.NAME else REASON_MAX_CHARS)


# --- the table, compiled ----------------------------------------------------------------------

_PLAIN = {str, int}
AN_HOUR = "1970-01-01T00:00:00.000000Z"
"""Some time, for a field of that kind that a record goes without."""
_MEANT: Mapping[Kind, Any] = {
    Kind.NAME: Annotated[str, msgspec.Meta(max_length=NAME_MAX_CHARS)],
    Kind.REASON: Annotated[str, msgspec.Meta(max_length=REASON_MAX_CHARS)],
    Kind.INTEGER: Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)],
    Kind.TIME: Annotated[str, msgspec.Meta(min_length=27, max_length=27)],
}
"""What a kind looks like to a decoder. A time has more to it; a kind that is missing here is
never looked at quickly."""
_SHARED: Mapping[str, Any] = {
    "at": _MEANT[Kind.TIME],
    "salt": Annotated[str, msgspec.Meta(min_length=2 * SALT_BYTES, max_length=2 * SALT_BYTES)],
    "v": Literal[VERSION],
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A row of the table as a type that decodes fast; `times` are its own fields of that kind.

    `bulk.py` looks at many records at once with it.
    """

    type: type[msgspec.Struct]
    decoder: msgspec.json.Decoder[Any]
    times: tuple[str, ...]


@cache
def shape(name: str) -> Shape | None:
    """The row of that name, made when it is first asked for; None for one that has to be slow."""
    row = RECORD_TYPES.get(name)
    if row is None or not all(field.kind in _MEANT for field in row.fields.values()):
        return None
    fields: list[Any] = list(_SHARED.items())
    for each, field in row.fields.items():
        kind = _MEANT[field.kind]
        fields.append(
            (each, kind) if field.required else (each, kind | msgspec.UnsetType, msgspec.UNSET)
        )
    made = msgspec.defstruct(
        name, fields, tag_field="type", tag=name, forbid_unknown_fields=True, kw_only=True, gc=False
    )
    times = tuple(each for each, field in row.fields.items() if field.kind is Kind.TIME)
    return Shape(made, msgspec.json.Decoder(made), times)
