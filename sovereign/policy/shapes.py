"""The shape of every file under `policies/`, as types.

These types are the schema: the loader converts each file into one of them and refuses
what does not fit, and `policies/schema/` is generated from them. They hold what a file
says, word for word; `model.py` holds what it means once groups and profiles are resolved.
"""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

Country = Annotated[
    str, Meta(pattern="^[A-Z]{2}$", description='ISO 3166-1 alpha-2, quoted: "NO" is Norway.')
]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]*$", description="A stable identifier.")]
Text = Annotated[str, Meta(min_length=3, description="A sentence for a reader.")]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Confidence = Literal["high", "medium", "low"]
Verb = Literal["store", "process", "send"]


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen value that refuses fields it does not know."""


class Owner(Shape, frozen=True):
    """One step up the chain of ownership; the nearest owner comes first."""

    entity: str
    country: Country


class Zone(Shape, frozen=True):
    """One region or zone as the cloud's own interface writes it."""

    zone: str
    region: str
    country: Country
    gpus: bool = False
    note: str = ""


class Provider(Shape, frozen=True):
    """An operator of machines: whose law binds it, who owns it, since when we know.

    `parents` left out means that nobody looked; an empty list means that nobody owns it.
    """

    id: Name
    entity: str
    seat: Country
    under: Country
    source: str
    checked_on: date
    zones: tuple[Zone, ...]
    parents: tuple[Owner, ...] | None = None
    extraterritorial: tuple[str, ...] = ()
    confidence: Confidence = "low"
    note: str = ""


class PlacesFile(Shape, frozen=True):
    """facts/places.yaml."""

    version: Literal[1]
    providers: tuple[Provider, ...]


class Adequacy(Shape, frozen=True, rename={"from_": "from"}):
    """A Commission finding under GDPR Article 45, with the time and recipients it covers."""

    country: Country
    decision: str
    scope: str
    source: str
    checked_on: date
    from_: date | None = None
    until: date | None = None
    confidence: Confidence = "low"
    note: str = ""


class AdequacyFile(Shape, frozen=True):
    """facts/adequacy.yaml."""

    version: Literal[1]
    decisions: tuple[Adequacy, ...]


class Law(Shape, frozen=True):
    """One duty or clock of the law, with the day it applies from."""

    id: Name
    law: str
    article: str
    says: Text
    source: str
    checked_on: date
    confidence: Confidence = "low"
    applies_from: date | None = None
    pending: str = ""
    note: str = ""


class LawFile(Shape, frozen=True):
    """facts/law.yaml."""

    version: Literal[1]
    laws: tuple[Law, ...]


class Package(Shape, frozen=True):
    """Weights that travel in a package registry: the file inside, and its digest."""

    name: str
    version: str
    file: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Sources(Shape, frozen=True):
    """Where a model's weights come from."""

    package: Package | None = None
    repository: str = ""
    ollama: str = ""


class Model(Shape, frozen=True):
    """A model this site may serve. Parameter counts are in thousand millions, as strings."""

    id: Name
    name: str
    licence: str
    licence_terms: Literal["open", "modified", "research", "non-production"]
    parameters_total_b: str
    parameters_active_b: str
    context: int
    capabilities: tuple[str, ...]
    sources: Sources
    status: Literal["current", "retired-upstream", "fixture"]
    source: str
    checked_on: date
    min_gpu_memory_gb: dict[str, int] = {}
    aliases: tuple[str, ...] = ()
    confidence: Confidence = "low"
    note: str = ""


class ModelsFile(Shape, frozen=True):
    """facts/models.yaml."""

    version: Literal[1]
    models: tuple[Model, ...]


class DataClass(Shape, frozen=True):
    """A class of data, and whether it is about people."""

    id: Name
    personal: bool
    describes: Text
    examples: tuple[str, ...] = ()


class VerbEntry(Shape, frozen=True):
    """What a verb means."""

    id: Verb
    describes: Text


class DataFile(Shape, frozen=True):
    """rules/data.yaml."""

    version: Literal[1]
    classes: tuple[DataClass, ...]
    verbs: tuple[VerbEntry, ...]


class Rule(Shape, frozen=True):
    """One residency promise. Its id never changes: audit records point at it."""

    id: Name
    kind: Literal["known", "fresh", "place", "adequacy", "chain", "this-host"]
    verbs: tuple[Verb, ...]
    data: tuple[Name, ...]
    because: Text
    source: str
    decided: str = ""
    countries: tuple[str, ...] = ()
    under: tuple[str, ...] = ()
    max_age_days: Days | None = None
    listeners: tuple[Literal["loopback"], ...] = ()


class ResidencyFile(Shape, frozen=True):
    """rules/residency.yaml."""

    version: Literal[1]
    groups: dict[str, tuple[Country, ...]]
    rules: tuple[Rule, ...]


class RetentionClass(Shape, frozen=True):
    """How long one class of things is kept. `max_days: unlimited` is a decision with a reason."""

    id: Name
    min_days: Days
    max_days: Days | Literal["unlimited"]
    because: Text
    source: str
    bundle_span_max_hours: Annotated[int, Meta(ge=0, le=168)] = 0
    interval_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    applies_to: tuple[str, ...] = ()
    decided: str = ""


class RetentionFile(Shape, frozen=True):
    """rules/retention.yaml."""

    version: Literal[1]
    classes: tuple[RetentionClass, ...]


class AuditFile(Shape, frozen=True):
    """rules/audit.yaml."""

    version: Literal[1]
    publish_within_s: Annotated[int, Meta(ge=1, le=60)]
    attestation_valid_s: Annotated[int, Meta(ge=5, le=86_400)] = 120
    because: str = ""
    source: str = ""
    decided: str = ""


class Dependency(Shape, frozen=True):
    """Something outside that the toolchain or a host talks to, and where it stands."""

    id: Name
    describes: Text
    place: str
    data: tuple[Name, ...]
    verbs: tuple[Verb, ...]
    source: str = ""
    checked_on: date | None = None
    addresses: tuple[str, ...] = ()
    instead: str = ""
    note: str = ""


class DependenciesFile(Shape, frozen=True):
    """rules/dependencies.yaml."""

    version: Literal[1]
    dependencies: tuple[Dependency, ...]


class Licence(Shape, frozen=True):
    """Whether weights under these terms may serve, and on what condition."""

    terms: Literal["open", "modified", "research", "non-production"]
    serve: Literal["yes", "acknowledge", "no"]
    because: Text
    source: str = ""


class LicencesFile(Shape, frozen=True):
    """rules/licences.yaml."""

    version: Literal[1]
    licences: tuple[Licence, ...]


class ArticleRef(Shape, frozen=True):
    """A clause of a law and the date it was read or applies from."""

    law: str
    article: str
    date: str


class Control(Shape, frozen=True):
    """One question of an auditor, and the check that answers it."""

    id: Name
    ref: str
    title: Text
    asks: Text
    check: str
    articles: tuple[ArticleRef, ...]
    evidence: str
    frameworks: dict[str, str] = {}
    version: Literal[1] = 1
    note: str = ""


class Profile(Shape, frozen=True):
    """A named set of residency rules; a site runs under exactly one."""

    id: Name
    describes: Text
    rules: tuple[Name, ...]
    source: str
    version: Literal[1] = 1
    note: str = ""


FILES: dict[str, type[Shape]] = {
    "facts/places.yaml": PlacesFile,
    "facts/adequacy.yaml": AdequacyFile,
    "facts/law.yaml": LawFile,
    "facts/models.yaml": ModelsFile,
    "rules/data.yaml": DataFile,
    "rules/residency.yaml": ResidencyFile,
    "rules/retention.yaml": RetentionFile,
    "rules/audit.yaml": AuditFile,
    "rules/dependencies.yaml": DependenciesFile,
    "rules/licences.yaml": LicencesFile,
}
FOLDERS: dict[str, type[Shape]] = {"controls": Control, "profiles": Profile}
