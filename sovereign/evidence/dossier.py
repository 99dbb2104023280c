"""Everything that is recorded of one person, with what the law wants said beside it. Pure.

GDPR Art. 15(1) names eight things that go with the copy of the data: purposes, categories,
recipients, how long it stays, the rights, the authority, the source, and automated decisions; Art.
15(2) adds what a transfer rests on. Most of it is what the register says (`register.py`), for the
purposes that occur in this person's records. The records are the copy (Art. 15(3)), whole, and each
says whether Art. 20(1) lets the person take it elsewhere: it does where the basis is consent or a
contract.

What nobody said is `UNKNOWN` and is listed in `unknown`. In force since 25 May 2018.
Self-assessment, not legal advice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sovereign.audit.record import RECORD_TYPES
from sovereign.evidence.register import UNKNOWN, Activity, Limit, Recipient, Register
from sovereign.policy.shapes import RetentionClass

PORTABLE = ("consent", "contract")
"""Legal bases on which Art. 20(1)(a) gives the right to take the data elsewhere."""
NOT_SHOWN = ("salt", "subject", "tenant", "v")
"""Fields that say nothing about the person: random bytes, the format, and who was asked about."""
NEVER_KEPT = "what was asked and what was answered: it is passed on and written nowhere"
SOURCE = "whoever called in the person's name sent it with the request (Art. 15(1)(g))"
AUTOMATED = (
    "the verdicts here are about whether a call may be made, not about the person; whether answers "
    "are used to decide about the person, the controller has to say (Art. 15(1)(h), 22)"
)
RIGHTS = (
    "to have it put right (Art. 16) or erased (Art. 17), to restrict its use (Art. 18), to object "
    "(Art. 21), to take it elsewhere (Art. 20), to complain to a supervisory authority (Art. 77)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A record about the person as it was read; `hold` is the hold that has it, "" for the log."""

    name: str
    fields: Mapping[str, Any]
    hold: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as the person is given it.

    `until` is when it is erased at the latest, "" where nothing says; a hold keeps it for longer.
    """

    record: str
    at: str
    what: str
    said: Mapping[str, Any]
    purpose: str
    basis: str
    until: str
    hold: str
    portable: bool


@dataclass(frozen=True, slots=True)
class Dossier:
    """The answer to one person, as of `at`."""

    at: datetime
    site: str
    tenant: str
    pseudonym: str
    policy: str
    restricted: bool
    organisation: Mapping[str, str]
    purposes: tuple[Activity, ...]
    recipients: tuple[Recipient, ...]
    limits: tuple[Limit, ...]
    entries: tuple[Entry, ...]
    holds: tuple[str, ...]
    unreadable: tuple[str, ...]
    unknown: tuple[str, ...]
    source: str = SOURCE
    rights: str = RIGHTS
    automated: str = AUTOMATED
    never_kept: str = NEVER_KEPT


def dossier(
    register: Register,
    retention: Mapping[str, RetentionClass],
    who: tuple[str, str],
    sources: Iterable[Source],
    unreadable: Iterable[str] = (),
    *,
    restricted: bool = False,
) -> Dossier:
    """The answer to a person, out of the register of now and the records that were found.

    Args:
        who: the tenant, and the pseudonym that the person has there.
        sources: each once, but for copies in holds; the log's own is taken where both are there.
        unreadable: entries that could not be read, and may be about the person.
    """
    tenant, pseudonym = who
    found = _each_once(sources)
    decided = {name: each.fields for name, each in found.items() if "purpose" in each.fields}
    entries = tuple(_entry(each, decided, retention) for each in found.values())
    named = {each.purpose for each in entries}
    purposes = tuple(a for a in register.activities if a.tenant == tenant and a.purpose in named)
    unknown = [
        f"{name} of the organisation" for name, v in register.organisation.items() if v == UNKNOWN
    ]
    unknown += [f"where {each.id} is" for each in register.recipients if each.country == UNKNOWN]
    unknown += [
        f"what lets data be at {each.id}"
        for each in register.recipients
        if each.transfer == UNKNOWN
    ]
    unknown += [f"{each.purpose}: {what}" for each in purposes for what in each.unknown]
    missing = named - {each.purpose for each in purposes} - {UNKNOWN}
    unknown += [f"{purpose}: nobody may call for it any more" for purpose in sorted(missing)]
    unknown += [f"what {name} says" for name in unreadable]
    return Dossier(
        at=register.at,
        site=register.site,
        tenant=tenant,
        pseudonym=pseudonym,
        policy=register.policy,
        restricted=restricted,
        organisation=register.organisation,
        purposes=purposes,
        recipients=register.recipients,
        limits=tuple(each for each in register.limits if each.id == "event"),
        entries=tuple(sorted(entries, key=lambda each: (each.at, each.record))),
        holds=tuple(sorted({each.hold for each in found.values() if each.hold})),
        unreadable=tuple(unreadable),
        unknown=tuple(unknown),
    )


def _each_once(sources: Iterable[Source]) -> dict[str, Source]:
    """By name; one that a hold has too is kept as long as the hold, and says so."""
    found: dict[str, Source] = {}
    for each in sources:
        before = found.get(each.name)
        if before is None or each.hold:
            found[each.name] = each
    return found


def _entry(
    source: Source,
    decided: Mapping[str, Mapping[str, Any]],
    retention: Mapping[str, RetentionClass],
) -> Entry:
    fields = source.fields
    kind, origin = str(fields["type"]), source.name.rpartition("#")[0]
    of = fields if "purpose" in fields else decided.get(f"{origin}#{fields.get('decision')}", {})
    basis = str(of.get("basis", UNKNOWN))
    shown = {
        name: value for name, value in fields.items() if name not in (*NOT_SHOWN, "type", "at")
    }
    return Entry(
        record=source.name,
        at=str(fields["at"]),
        what=RECORD_TYPES[kind].says,
        said={"type": kind, **shown},
        purpose=str(of.get("purpose", UNKNOWN)),
        basis=basis,
        until=_until(str(fields["at"]), origin, retention),
        hold=source.hold,
        portable=basis in PORTABLE,
    )


def _until(at: str, origin: str, retention: Mapping[str, RetentionClass]) -> str:
    """The day on which its class lets it be no longer."""
    kept = retention.get(origin.rpartition("/")[2])
    if kept is None or kept.max_days == "unlimited":
        return ""
    return f"{datetime.fromisoformat(at) + timedelta(days=kept.max_days):%Y-%m-%d}"
