"""What this site chose: one file, `sovereign.yaml`, and the folders derived from it.

Policies say what is allowed; settings say what runs where. Every setting stands in this
file once, with its default and its bound, and `docs/settings.md` is generated from it.
Nothing here opens a socket or reads a clock.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from sovereign.errors import DeclarationMissing, PolicyUnreadable, SettingsUnreadable
from sovereign.policy import THIS_HOST
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
    body_max_bytes: Annotated[Bytes, Meta(description="Largest request body.")] = 4_194_304
    answer_max_bytes: Annotated[Bytes, Meta(description="Largest answer relayed.")] = 33_554_432
    request_timeout_s: Annotated[Seconds, Meta(description="Longest time for one answer.")] = 300
    body_timeout_s: Annotated[Seconds, Meta(description="Longest wait for a request body.")] = 30
    concurrency_max: Annotated[Count, Meta(description="Requests answered at the same time.")] = 256

    def __post_init__(self) -> None:
        """Refuse half of TLS: it would be plain HTTP by mistake."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key belong together")


class ControllerSettings(Section, frozen=True):
    """controller: the loop that observes and quarantines."""

    interval_s: Annotated[Seconds, Meta(description="Time between two rounds.")] = 5
    probe_timeout_s: Annotated[Seconds, Meta(description="Longest wait for a one-token probe.")] = (
        20
    )
    observe_socket: Annotated[
        str, Meta(description="Socket that answers root-only observations; empty: read directly.")
    ] = ""


class StandbySettings(Section, frozen=True):
    """standby: the second machine that the logs are sent to."""

    url: Annotated[
        str, Meta(description="Address of its receiver (https); empty: nothing is sent.")
    ] = ""
    token_file: Annotated[str, Meta(description="File with the secret it is called with.")] = ""
    tls_ca: Annotated[str, Meta(description="Certificates its own is trusted by.")] = ""
    tls_cert: Annotated[str, Meta(description="Certificate it is shown, when it asks.")] = ""
    tls_key: Annotated[str, Meta(description="Private key of that certificate.")] = ""
    recovery_point_s: Annotated[
        Seconds, Meta(description="How long a record may be on this machine alone.")
    ] = 10


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
    policies: Annotated[str, Meta(description="Policy folder; empty: the one shipped.")] = ""
    engine: EngineSettings = field(default_factory=EngineSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    standby: StandbySettings = field(default_factory=StandbySettings)
    paths: PathSettings = field(default_factory=PathSettings)


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
    def own_places(self) -> Path:
        return self.root / "own-places.yaml"

    @property
    def policies(self) -> Path | None:
        return Path(self.settings.policies) if self.settings.policies else None


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


def refuse_undeclared(settings: Settings) -> None:
    """Listening where others can connect needs the operator's word about where this host is.

    Raises:
        DeclarationMissing: a listener can be reached from other machines, and `place` is the
            undeclared `this-host`. Nothing listens.
    """
    if settings.place != THIS_HOST:
        return
    for listen in (settings.gateway.listen, settings.engine.listen):
        if not is_loopback(listen):
            raise DeclarationMissing(
                f"{listen} can be reached from other machines, and this host's place is not "
                "declared",
                found="place: this-host",
                accepted="a listener on loopback, or a declared place",
                next_step="sovereign places declare --country CC --under CC --entity NAME",
            )


def render(settings: Settings) -> str:
    """The settings as a file that `load` reads back to the same value."""
    return msgspec.yaml.encode(settings).decode()
