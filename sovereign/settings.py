"""What this site chose: one file, `sovereign.yaml`, and the folders derived from it.

Policies say what is allowed; settings say what runs where. Every setting stands in this
file once, with its default and its bound, and `docs/settings.md` is generated from it.
Nothing here opens a socket or reads a clock.
"""

import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

from sovereign import policy as policies
from sovereign.errors import DeclarationMissing, PolicyUnreadable, SettingsUnreadable
from sovereign.policy import THIS_HOST, Policy, kept
from sovereign.policy.following import Following
from sovereign.policy.shapes import SiteException
from sovereign.residency import is_loopback

FILE_NAME = "sovereign.yaml"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Address = Annotated[str, Meta(pattern=rf"^[0-9A-Fa-f.:\[\]]+:{_PORT}$", description="address:port")]
"""A name is not accepted: what it leads to may change without anybody being asked."""
Seconds = Annotated[int, Meta(ge=1, le=3600)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Bytes = Annotated[int, Meta(ge=1024, le=1_073_741_824)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the settings file."""


class EngineSettings(Section, frozen=True):
    """engine: what answers."""

    name: Annotated[
        Literal["llamacpp", "vllm", "ollama"], Meta(description="Which engine serves the model.")
    ] = "llamacpp"
    model: Annotated[str, Meta(description="Id of a model in facts/models.yaml.")] = (
        "smollm2-135m-instruct"
    )
    weights: Annotated[
        str,
        Meta(description="Path of weights already on this machine; empty: the model's package."),
    ] = ""
    weights_digest: Annotated[
        str,
        Meta(
            pattern="^(sha256:[0-9a-f]{64})?$",
            description="What the weights must be, as `sovereign weights digest` says; "
            "empty: not compared, unless they are the model's package.",
        ),
    ] = ""
    listen: Annotated[Address, Meta(description="Where the engine listens.")] = "127.0.0.1:8081"
    context: Annotated[Count, Meta(description="Longest context served, in tokens.")] = 2048
    gpus: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="GPUs of this host that vLLM splits every matrix over (tensor parallel); "
            "the other engines choose by themselves.",
        ),
    ] = 1


class EndpointSettings(Section, frozen=True):
    """endpoints: one more engine, started by somebody else, here or on another private host."""

    id: Annotated[
        str,
        Meta(pattern="^[a-z0-9][a-z0-9.-]{0,63}$", description="Its name in records and commands."),
    ]
    name: Annotated[Literal["llamacpp", "vllm", "ollama"], Meta(description="Which engine it is.")]
    model: Annotated[str, Meta(description="Id of the model in facts/models.yaml it serves.")]
    address: Annotated[Address, Meta(description="Where it answers.")]
    place: Annotated[
        str, Meta(description="Code of the place its host is at, by the operator's word.")
    ]
    observe_socket: Annotated[
        str,
        Meta(
            description="Socket that answers observations of its host, brought here from there; "
            "empty: it runs on this host and is read directly."
        ),
    ] = ""
    host: Annotated[
        str,
        Meta(
            pattern="^([a-z0-9][a-z0-9.-]{0,63})?$",
            description="Name of the host it runs on, as places are attested; empty: its id.",
        ),
    ] = ""


class BalanceSettings(Section, frozen=True):
    """balance: how calls are spread over engines that serve the same model."""

    load_percent: Annotated[
        int,
        Meta(
            ge=100,
            le=1000,
            description="Most of an engine's fair share, in percent, that is given to it because "
            "it has read a conversation's beginning before.",
        ),
    ] = 125
    slow_start_s: Annotated[
        int, Meta(ge=0, le=3600, description="Time in which a new engine gets its full share.")
    ] = 30
    eject_after: Annotated[
        int, Meta(ge=1, le=100, description="Failures in a row after which an engine rests.")
    ] = 3
    eject_s: Annotated[
        Seconds, Meta(description="How long it rests first; then twice as long.")
    ] = 1
    eject_max_s: Annotated[Seconds, Meta(description="Longest time it rests.")] = 60
    retries_max: Annotated[
        int,
        Meta(
            ge=0,
            le=8,
            description="Other engines asked when nothing of a call could be sent to the first.",
        ),
    ] = 2


class GatewaySettings(Section, frozen=True):
    """gateway: every call in and out."""

    listen: Annotated[
        Address,
        Meta(description="Where clients connect; anything but loopback needs a declared place."),
    ] = "127.0.0.1:8080"
    tls_certificate: Annotated[
        str, Meta(description="PEM file: certificate chain, leaf first; empty: plain HTTP.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file: its private key, not readable by all.")] = (
        ""
    )
    tls_clients_ca: Annotated[
        str,
        Meta(description="PEM file: authorities whose client certificates are taken; empty: none."),
    ] = ""
    tls_clients: Annotated[
        Literal["accepted", "required"],
        Meta(description="Whether a call may come without a certificate of tls_clients_ca."),
    ] = "accepted"
    issuers: Annotated[
        str,
        Meta(
            description="File of the identity providers whose tokens are taken "
            "(docs/formats/issuers.md); empty: none."
        ),
    ] = ""
    admin_listen: Annotated[
        str,
        Meta(
            pattern=rf"^$|^[0-9A-Fa-f.:\[\]]+:{_PORT}$",
            description="Where the metrics are, on loopback or a private network at a declared "
            "place; empty: nowhere.",
        ),
    ] = "127.0.0.1:9464"
    body_max_bytes: Annotated[Bytes, Meta(description="Largest request body.")] = 4_194_304
    answer_max_bytes: Annotated[Bytes, Meta(description="Largest answer relayed.")] = 33_554_432
    request_timeout_s: Annotated[Seconds, Meta(description="Longest time for one answer.")] = 300
    body_timeout_s: Annotated[Seconds, Meta(description="Longest wait for a request body.")] = 30
    engine_idle_timeout_s: Annotated[
        Seconds, Meta(description="Longest silence of an engine within an answer.")
    ] = 60
    connections_max: Annotated[
        Count, Meta(description="Connections open at the same time, idle ones too.")
    ] = 1024
    concurrency_max: Annotated[Count, Meta(description="Requests answered at the same time.")] = 256
    queue_max: Annotated[
        Count, Meta(description="Calls that may wait for one engine; fewer than concurrency_max.")
    ] = 128
    queue_wait_max_s: Annotated[Seconds, Meta(description="Longest wait for an engine's turn.")] = (
        60
    )
    engine_concurrency_max: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Calls given at a time to an engine that batches; 0: as many as come.",
        ),
    ] = 0
    limits_database: Annotated[
        str,
        Meta(
            pattern="^(postgresql://.*)?$",
            description="PostgreSQL in which several gateways share limits, on a private network, "
            "its password in a passfile; empty: each gateway counts by itself.",
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Refuse half of TLS: it would be plain HTTP by mistake."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_clients_ca and not self.tls_certificate:
            raise ValueError("tls_clients_ca needs tls_certificate and tls_key")
        if self.tls_clients == "required" and not self.tls_clients_ca:
            raise ValueError("tls_clients: required needs tls_clients_ca")
        if self.admin_listen:
            _refuse_public("admin_listen", self.admin_listen)
        if self.admin_listen == self.listen:
            raise ValueError("admin_listen must not be where clients connect")

    @property
    def asks_certificates(self) -> bool:
        """True when no call may come without one."""
        return self.tls_clients == "required"


class ControllerSettings(Section, frozen=True):
    """controller: the loop that observes and quarantines."""

    interval_s: Annotated[Seconds, Meta(description="Time between two rounds.")] = 5
    probe_timeout_s: Annotated[Seconds, Meta(description="Longest wait for a one-token probe.")] = (
        20
    )
    observe_socket: Annotated[
        str, Meta(description="Socket that answers root-only observations; empty: read directly.")
    ] = ""
    metrics_listen: Annotated[
        str,
        Meta(
            pattern=rf"^$|^[0-9A-Fa-f.:\[\]]+:{_PORT}$",
            description="Where the controller's metrics are, as gateway.admin_listen.",
        ),
    ] = "127.0.0.1:9465"

    def __post_init__(self) -> None:
        """Refuse to show metrics to everybody."""
        if self.metrics_listen:
            _refuse_public("metrics_listen", self.metrics_listen)


class TracingSettings(Section, frozen=True):
    """tracing: where spans of calls are sent, without content."""

    endpoint: Annotated[
        str,
        Meta(
            pattern=r"^$|^https?://[^\s@?#/]+(/[^\s@?#]*)?$",
            description="Whole address of an OTLP target, path and all; empty: no spans are made.",
        ),
    ] = ""
    place: Annotated[
        str, Meta(description="Code of the place the target is at; the rules must allow it.")
    ] = "this-host"
    sampled_percent: Annotated[
        int, Meta(ge=1, le=100, description="How many calls in a hundred are told of.")
    ] = 100
    tls_ca: Annotated[str, Meta(description="Certificates the target's own is trusted by.")] = ""

    def __post_init__(self) -> None:
        """Metadata of every call does not cross a network in the clear."""
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and not is_loopback(parts.netloc):
            raise ValueError("a tracing target is asked over https, or at an address of loopback")


class StandbySettings(Section, frozen=True):
    """standby: the second machine that the logs are sent to."""

    url: Annotated[
        str, Meta(description="Address of its receiver (https); empty: nothing is sent.")
    ] = ""
    place: Annotated[
        str, Meta(description="Code of the place it is at; the rules must allow it.")
    ] = "this-host"
    token_file: Annotated[str, Meta(description="File with the secret it is called with.")] = ""
    tls_ca: Annotated[str, Meta(description="Certificates its own is trusted by.")] = ""
    tls_cert: Annotated[str, Meta(description="Certificate it is shown, when it asks.")] = ""
    tls_key: Annotated[str, Meta(description="Private key of that certificate.")] = ""
    recovery_point_s: Annotated[
        Seconds, Meta(description="How long a record may be on this machine alone.")
    ] = 10


class AliasSettings(Section, frozen=True, rename={"from_": "from"}):
    """aliases: what a name that clients use means at this site, and what it will mean."""

    name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$",
            description="What clients ask for, such as codestral-latest.",
        ),
    ]
    model: Annotated[str, Meta(description="Id of the model it stands for.")]
    next: Annotated[str, Meta(description="Id of the model it will stand for.")] = ""
    from_: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="From when on; announced until then."),
    ] = None

    def __post_init__(self) -> None:
        """Refuse a move without its date, and a date without a move."""
        if bool(self.next) != (self.from_ is not None):
            raise ValueError("next and from belong together")


class DependencySettings(Section, frozen=True):
    """dependencies: something else that requests touch, and where it is."""

    id: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9][a-z0-9.-]{0,63}$",
            description="Its name here, or the id of one in rules/dependencies.yaml.",
        ),
    ]
    kind: Annotated[
        Literal[
            "backup",
            "dns",
            "key-custody",
            "time",
            "alerts",
            "log-sink",
            "mirror",
            "other",
        ],
        Meta(description="What it is."),
    ]
    place: Annotated[
        str,
        Meta(
            description="Code of the place it is at; none: there is no such thing; empty: as "
            "rules/dependencies.yaml says."
        ),
    ] = ""
    data: Annotated[
        tuple[str, ...], Meta(description="Classes of data it sees; empty: those of its kind.")
    ] = ()
    verbs: Annotated[
        tuple[Literal["store", "process", "send"], ...],
        Meta(description="What happens there; empty: as for its kind."),
    ] = ()
    listener: Annotated[
        str,
        Meta(description="Its address and port, when it runs on this host or is a mirror."),
    ] = ""


class AttestationSettings(Section, frozen=True):
    """attestation: how others than its operator vouch for where this host is."""

    host: Annotated[
        str,
        Meta(
            pattern="^([a-z0-9][a-z0-9.-]{0,63})?$",
            description="Name of this host in attestations; empty: the name of the site.",
        ),
    ] = ""
    host_key: Annotated[
        str,
        Meta(
            description="Private key this host answers with: an OpenSSH host key (Ed25519), or one "
            "that `sovereign attest bind` made; empty: keys/host.key."
        ),
    ] = ""
    latitude: Annotated[
        str,
        Meta(
            pattern=r"^(-?[0-9]{1,2}(\.[0-9]{1,6})?)?$",
            description="Point of a place of your own, in degrees, quoted.",
        ),
    ] = ""
    longitude: Annotated[
        str,
        Meta(
            pattern=r"^(-?[0-9]{1,3}(\.[0-9]{1,6})?)?$",
            description="Point of a place of your own, in degrees, quoted.",
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Refuse half a point."""
        if bool(self.latitude) != bool(self.longitude):
            raise ValueError("latitude and longitude belong together")


class OrganisationSettings(Section, frozen=True):
    """organisation: who answers for this site, as its register of processing has to say."""

    name: Annotated[str, Meta(max_length=200, description="The organisation; empty: not said.")] = (
        ""
    )
    contact: Annotated[
        str, Meta(max_length=300, description="How it is reached: an address, a mailbox of a role.")
    ] = ""
    representative: Annotated[
        str,
        Meta(max_length=300, description="Its representative in the Union; none: it needs none."),
    ] = ""
    officer: Annotated[
        str,
        Meta(
            max_length=300,
            description="How its data protection officer is reached; none: it has none.",
        ),
    ] = ""


class ProcessingSettings(Section, frozen=True):
    """processing: what the keys of a tenant are for, as far as no key says it."""

    tenant: Annotated[str, Meta(min_length=1, max_length=200, description="Whose keys.")]
    purpose: Annotated[
        str, Meta(max_length=200, description="Only those of this purpose; empty: all of them.")
    ] = ""
    role: Annotated[
        Literal["controller", "processor"],
        Meta(description="What this organisation is for it (GDPR Art. 4(7) and (8))."),
    ] = "controller"
    subjects: Annotated[
        tuple[str, ...],
        Meta(max_length=50, description="Categories of people, such as employees; never names."),
    ] = ()
    controller: Annotated[
        str, Meta(max_length=200, description="On whose behalf, where it is the processor.")
    ] = ""
    contact: Annotated[str, Meta(max_length=300, description="How that controller is reached.")] = (
        ""
    )


class SinkSettings(Section, frozen=True):
    """sinks: something else on this host in which data of this site age."""

    id: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9][a-z0-9.-]{0,63}$",
            description="Its name in receipts; it does not change.",
        ),
    ]
    kind: Annotated[
        Literal["files", "folders", "prometheus"],
        Meta(description="What ages: each file, each folder, or each block of a time series."),
    ]
    path: Annotated[
        str,
        Meta(
            pattern="^/",
            description="Its folder; not one of the system, nor one with other state of the site.",
        ),
    ]
    kept: Annotated[str, Meta(description="Its class in rules/retention.yaml.")]
    names: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...],
        Meta(min_length=1, description="Which names count: patterns of a shell."),
    ] = ("*",)


class PathSettings(Section, frozen=True):
    """paths: where things lie; an empty path is derived from SOVEREIGN_HOME."""

    audit: Annotated[str, Meta(description="Audit logs.")] = ""
    keys: Annotated[str, Meta(description="Private keys of the logs, outside the logs.")] = ""
    trust: Annotated[str, Meta(description="Pinned verifier keys, outside the logs.")] = ""
    registry: Annotated[str, Meta(description="Endpoints; written by the controller alone.")] = ""
    keystore: Annotated[str, Meta(description="API keys (hashed) and tenants.")] = ""
    logs: Annotated[str, Meta(description="Logs of the processes.")] = ""
    models: Annotated[str, Meta(description="Weights and engine state.")] = ""
    run: Annotated[str, Meta(description="Process ids and sockets.")] = ""


class Settings(Section, frozen=True):
    """The whole file."""

    version: Annotated[Literal[1], Meta(description="Form of this file.")] = 1
    site: Annotated[
        str,
        Meta(pattern="^[a-z0-9][a-z0-9.-]*$", description="Name of this site; heads every origin."),
    ] = "local"
    profile: Annotated[str, Meta(description="Residency profile: eea, immune or adequate.")] = "eea"
    place: Annotated[
        str, Meta(description="Code of the place this host is at; this-host: not declared.")
    ] = "this-host"
    environment: Annotated[
        Literal["production", "non-production"],
        Meta(description="What this site is for; licences allow less in production."),
    ] = "production"
    policies: Annotated[str, Meta(description="Policy folder; empty: the one shipped.")] = ""
    engine: EngineSettings = field(default_factory=EngineSettings)
    endpoints: Annotated[
        tuple[EndpointSettings, ...], Meta(max_length=1000, description="Further engines.")
    ] = ()
    aliases: Annotated[
        tuple[AliasSettings, ...],
        Meta(
            max_length=1000,
            description="Names of this site's own for models, each with `name`, `model` and, to "
            "announce a move, `next` and `from`.",
        ),
    ] = ()
    dependencies: Annotated[
        tuple[DependencySettings, ...],
        Meta(max_length=1000, description="What else requests touch, and where it is."),
    ] = ()
    organisation: OrganisationSettings = field(default_factory=OrganisationSettings)
    processing: Annotated[
        tuple[ProcessingSettings, ...],
        Meta(max_length=1000, description="What keys are for, for the register of processing."),
    ] = ()
    sinks: Annotated[
        tuple[SinkSettings, ...],
        Meta(max_length=100, description="Where else data of this site age on this host."),
    ] = ()
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    standby: StandbySettings = field(default_factory=StandbySettings)
    attestation: AttestationSettings = field(default_factory=AttestationSettings)
    paths: PathSettings = field(default_factory=PathSettings)

    def __post_init__(self) -> None:
        """Refuse two endpoints that records could not tell apart, or that are one engine."""
        own = (self.own_endpoint, self.engine.listen)
        ids, addresses = zip(own, *((e.id, e.address) for e in self.endpoints), strict=True)
        for what, found in (("id", ids), ("address", addresses)):
            if len(set(found)) < len(found):
                raise ValueError(f"two endpoints have the same {what}")
        if len({each.id for each in self.sinks}) < len(self.sinks):
            raise ValueError("two sinks have the same id")

    @property
    def own_endpoint(self) -> str:
        """The id of the engine that this site itself starts."""
        return f"{self.site}-{self.engine.name}"


@dataclass(frozen=True, slots=True)
class Home:
    """The settings with every path made absolute. `root` is SOVEREIGN_HOME."""

    root: Path
    settings: Settings

    def _path(self, chosen: str, name: str) -> Path:
        return Path(chosen) if chosen else self.root / name

    @property
    def file(self) -> Path:
        return self.root / FILE_NAME

    @property
    def audit(self) -> Path:
        return self._path(self.settings.paths.audit, "audit")

    @property
    def keys(self) -> Path:
        return self._path(self.settings.paths.keys, "keys/audit")

    @property
    def trust(self) -> Path:
        return self._path(self.settings.paths.trust, "trust")

    @property
    def registry(self) -> Path:
        return self._path(self.settings.paths.registry, "registry.sqlite")

    @property
    def keystore(self) -> Path:
        return self._path(self.settings.paths.keystore, "keys.sqlite")

    @property
    def logs(self) -> Path:
        return self._path(self.settings.paths.logs, "logs")

    @property
    def models(self) -> Path:
        return self._path(self.settings.paths.models, "models")

    @property
    def run(self) -> Path:
        return self._path(self.settings.paths.run, "run")

    @property
    def exceptions_folder(self) -> Path:
        return self.root / "exceptions"

    @property
    def approvers(self) -> Path:
        return self.trust / "approvers"

    @property
    def exceptions(self) -> tuple[SiteException, ...]:
        """Those that somebody signed whose key is pinned here."""
        if not self.exceptions_folder.is_dir():
            return ()
        from sovereign.audit import excepting  # it imports what checks signatures

        found = excepting.read(self.exceptions_folder, self.approvers)
        return tuple(each.exception for each in found if each.exception is not None)

    @property
    def own_places(self) -> Path:
        return self.root / "own-places.yaml"

    @property
    def policies(self) -> Path | None:
        return kept.chosen(self.settings.policies, self.root)

    @property
    def policy_versions(self) -> kept.Versions:
        return kept.Versions.of(self.settings.policies, self.root)


class Round(Struct, frozen=True):
    """How the last sending to the standby went: `code` is "" when it went well."""

    at: datetime
    code: str
    behind_s: int


def standby_file(home: Home) -> Path:
    """Where whoever sends to the standby says how it went; whoever watches reads it there."""
    return home.run / "standby.json"


def default_root() -> Path:
    """`SOVEREIGN_HOME`, else the state folder of the XDG base directory specification."""
    chosen = os.environ.get("SOVEREIGN_HOME")
    if chosen:
        return Path(chosen)
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "sovereign"


def load(root: Path | None = None, file: Path | None = None) -> Home:
    """Read the settings of a home. A home without a file has every default.

    Raises:
        SettingsUnreadable: the file says something we do not accept, with its line.
    """
    root = (root or default_root()).absolute()
    path = file or root / FILE_NAME
    if not path.exists():
        if file is not None:
            raise SettingsUnreadable(f"{file}: there is no such file")
        return Home(root, Settings())
    try:
        from sovereign.policy.yamlfile import read_as  # slow to import, and often not read

        return Home(root, read_as(path, Settings))
    except PolicyUnreadable as error:
        raise SettingsUnreadable(
            error.message, found=error.found, accepted=error.accepted or "docs/settings.md"
        ) from error


def following(home: Home, digest: str) -> Following:
    """What tells a process that is under the policy `digest` that another one is in force."""

    def load() -> Policy:
        profile = home.settings.profile
        return policies.load(home.policies, profile, home.own_places, home.exceptions)

    def where() -> str:
        folder = home.policies
        return (digest if folder is None else folder.name) + _stamps(home)

    return Following(where, load, digest)


def _stamps(home: Home) -> str:
    """What changes when an exception, its signature or a pinned key does; "" without any."""
    if not home.exceptions_folder.is_dir():
        return ""
    files = [*home.exceptions_folder.glob("[!.]*"), *home.approvers.glob("[!.]*")]
    found = ""
    for path in sorted(files):
        with suppress(FileNotFoundError):  # it is gone since; the next look sees that, too
            stat = path.stat()
            found += f" {path.name}:{stat.st_mtime_ns}:{stat.st_size}"
    return found


def refuse_undeclared(settings: Settings) -> None:
    """Listening where others can connect needs the operator's word about where this host is.

    Raises:
        DeclarationMissing: a listener can be reached from other machines, and `place` is the
            undeclared `this-host`. Nothing listens.
    """
    if settings.place != THIS_HOST:
        return
    inside = (settings.gateway.admin_listen, settings.controller.metrics_listen)
    for listen in (settings.gateway.listen, settings.engine.listen, *filter(None, inside)):
        if not is_loopback(listen):
            raise DeclarationMissing(
                f"{listen} can be reached from other machines, and this host's place is not "
                "declared",
                found="place: this-host",
                accepted="a listener on loopback, or a declared place",
                next_step="sovereign places declare --country CC --under CC --entity NAME",
            )


def _refuse_public(name: str, listen: str) -> None:
    """Metrics are for whoever runs the site: loopback, or one address of a private network.

    Raises:
        ValueError: every network of this host, or a public one, could reach it.
    """
    address = ipaddress.ip_address(listen.rpartition(":")[0].strip("[]"))
    if address.is_unspecified or not address.is_private:
        raise ValueError(f"{name} must be on loopback or at one address of a private network")


def render(settings: Settings) -> str:
    """The settings as a file that `load` reads back to the same value."""
    return msgspec.yaml.encode(settings).decode()
