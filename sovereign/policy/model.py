"""What the policy means: one frozen value that every decision is handed.

A `Policy` is what is left once the files are read, groups are spelled out and one profile
is chosen. It holds no file, no path and no clock, so the same `Policy` gives the same
answers on every machine; `digest` names it in every record made under it.

A `Place` is a machine's country *and* the law its operator is under, as two fields. It is
not a region: regions are how a cloud spells a place, and are only ever looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from sovereign.policy.cedar import AccessRules
from sovereign.policy.shapes import (
    Acknowledging,
    Adequacy,
    Architecture,
    AttestationFile,
    AuditFile,
    Control,
    DataClass,
    Dependency,
    GpusFile,
    HoldRules,
    Hosted,
    Law,
    Licence,
    LicenceText,
    LimitsFile,
    Location,
    Model,
    Owner,
    RegionalSurcharge,
    RetentionClass,
    SiteException,
)

THIS_HOST = "this-host"
"""The code of the place that is wherever this machine is; it satisfies no country rule."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine stands and whose law binds its operator. `code` is `provider:zone`.

    `parents` is None when the chain of owners is not known.
    """

    code: str
    provider: str
    zone: str
    region: str
    country: str
    under: str
    entity: str
    parents: tuple[Owner, ...] | None
    extraterritorial: tuple[str, ...]
    source: str
    checked_on: date
    confidence: str
    gpus: bool

    def describe(self) -> str:
        """One sentence for a refusal: where it stands and whose law binds its operator."""
        return (
            f"{self.code} stands in {self.country}, "
            f"its operator {self.entity} answers to the law of {self.under}"
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """A residency rule with its groups spelled out. Codes of countries are upper case."""

    id: str
    kind: str
    verbs: frozenset[str]
    data: frozenset[str]
    countries: frozenset[str]
    under: frozenset[str]
    max_age_days: int | None
    listeners: frozenset[str]
    because: str
    source: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What facts/models.yaml knows beyond the models a site may serve.

    `hosted` are the models that only Mistral serves, `licences` are texts by name. None of it
    allows anything: it is what `sovereign models`, `size` and `cost` show and compute with.
    """

    architectures: Mapping[str, Architecture]
    hosted: Mapping[str, Hosted]
    licences: Mapping[str, LicenceText]
    regional: RegionalSurcharge


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that is true, allowed and asked, under one profile.

    `digest` is the SHA-256, in hex, of the canonical form of the files and the profile's
    name (`digest.py`); comments and the order of entries do not count.
    """

    digest: str
    profile: str
    places: Mapping[str, Place]
    residency: tuple[Rule, ...]
    retention: Mapping[str, RetentionClass]
    data: Mapping[str, DataClass]
    models: Mapping[str, Model]
    catalogue: Catalogue
    gpus: GpusFile
    adequacy: tuple[Adequacy, ...]
    law: Mapping[str, Law]
    licences: Mapping[str, Licence]
    dependencies: Mapping[str, Dependency]
    controls: Mapping[str, Control]
    audit: AuditFile
    limits: LimitsFile
    holds: HoldRules | None = None
    acknowledging: Acknowledging = field(default_factory=Acknowledging)
    access: AccessRules = field(default_factory=AccessRules)
    exceptions: tuple[SiteException, ...] = ()
    attestation: AttestationFile = field(default_factory=lambda: AttestationFile(1))
    locations: Mapping[str, Location] = field(default_factory=dict)

    def bundle_spans(self) -> Mapping[str, timedelta]:
        """How long a bundle of each retention class may stay open before it is sealed."""
        return {
            kept.id: timedelta(hours=kept.bundle_span_max_hours)
            for kept in self.retention.values()
            if kept.bundle_span_max_hours
        }
