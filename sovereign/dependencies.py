"""Everything a request of this site may touch, and where each of these is.

A request touches more than its engine: the disk its records rest on, the second machine they are
sent to, the provider that says who calls, whoever is told the time of a checkpoint. Each is a
*dependency* with a place, and is put to the same question as any other place. One that is refused,
and that may see data about people, shuts every endpoint: data that may not go there would.

Most follow from the settings and the policy. What no setting tells, such as where backups go, is
declared (`dependencies` in the settings); a kind in `ASKED` that nobody declared is unknown, which
is shown as such and is no pass.

Sources: GDPR Art. 28(3)(a) and 44, in force since 25 May 2018: the controller instructs transfers
also along the chain. Self-assessment, not legal advice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from sovereign.errors import PolicyUnreadable
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.yamlfile import read_as
from sovereign.residency import Decision, Question, decide
from sovereign.settings import DependencySettings, Home

NONE = "none"
"""The place of what a site does not have, by the operator's word."""
SEES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gateway": (("personal",), ("process",)),
    "engine": (("personal",), ("process",)),
    "log-sink": (("personal",), ("store",)),
    "standby": (("personal",), ("send", "store")),
    "backup": (("backup-ciphertext",), ("send", "store")),
    "key-custody": (("secret",), ("store",)),
    "limits-database": (("operational",), ("store",)),
    "identity-provider": (("personal",), ("store", "process")),
    "tracing": (("operational",), ("process", "store", "send")),
    "alerts": (("operational",), ("send",)),
    "witness": (("operational",), ("send",)),
    "time-stamps": (("operational",), ("send",)),
    "anchor": (("operational",), ("send",)),
    "time": (("operational",), ("send",)),
    "dns": (("operational",), ("process",)),
    "mirror": (("public",), ("send",)),
    "other": (("personal",), ("process", "send", "store")),
}
"""What each kind of dependency sees, and what happens to it there, unless somebody says otherwise:
classes and verbs of rules/data.yaml."""
ASKED = frozenset({"backup", "dns", "key-custody", "time"})
"""Kinds that every site has to say something about: no setting tells where they are."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """One thing that requests touch.

    Args:
        id: its name at this site, unique.
        kind: a word of `SEES`.
        place: a code of facts/places.yaml, `this-host`, `none` where the operator says that there
            is no such thing, "" where nobody has said.
        data: the classes of data it sees or keeps.
        verbs: what happens to them there.
        listener: `address:port` it is reached at; only `this-host` looks at it.
        said_in: where its place is said.
    """

    id: str
    kind: str
    place: str
    data: tuple[str, ...]
    verbs: tuple[str, ...]
    listener: str
    said_in: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A dependency and what the policy says to it.

    `decision` is the first that refuses, or the last that allows; None where nothing was asked,
    because there is no such thing or nobody has said where it is.
    """

    dependency: Dependency
    decision: Decision | None

    @property
    def verdict(self) -> str:
        """`allow`, `refuse`, `none` (there is no such thing) or `unknown` (nobody has said)."""
        if self.decision is not None:
            return self.decision.verdict
        return NONE if self.dependency.place == NONE else "unknown"

    def carries_personal(self, policy: Policy) -> bool:
        """True when what it sees may be about people (rules/data.yaml); in doubt, true."""
        classes = (policy.data.get(name) for name in self.dependency.data)
        return any(each is None or each.personal for each in classes)


def judge(policy: Policy, found: Iterable[Dependency], now: datetime) -> tuple[Judged, ...]:
    """Put each dependency to the question, for every class and verb of its own. Pure."""
    return tuple(Judged(each, _decision(policy, each, now)) for each in found)


def _decision(policy: Policy, asked: Dependency, now: datetime) -> Decision | None:
    if asked.place == NONE or (not asked.place and asked.kind in ASKED):
        return None
    decision = None
    for data in asked.data:
        for verb in _verbs(asked):
            decision = decide(policy, Question(asked.place, data, verb, now, asked.listener))
            if not decision.allowed:
                return decision
    return decision


def _verbs(asked: Dependency) -> Iterable[str]:
    """What is sent to this host stays here: it is read here, and that is what is asked."""
    if asked.place != THIS_HOST:
        return asked.verbs
    return dict.fromkeys("process" if verb == "send" else verb for verb in asked.verbs)


def first_refused(judged: Iterable[Judged], policy: Policy) -> Judged | None:
    """The first that shuts the site's endpoints: refused, and data about people would go there."""
    refused = (each for each in judged if each.decision and not each.decision.allowed)
    return next((each for each in refused if each.carries_personal(policy)), None)


def of_site(home: Home, policy: Policy) -> tuple[Dependency, ...]:
    """Every dependency of a site: by its settings, by its policy, as declared, and not yet said."""
    settings = home.settings
    found = [*_own(home), *_engines(home), *_sinks(home), *_providers(home)]
    found += _outside(policy)
    found += [_declared(policy, each) for each in settings.dependencies]
    said = {each.kind for each in found}
    return (*found, *(_make(kind, kind, "", "", "dependencies") for kind in ASKED - said))


def _make(name: str, kind: str, place: str, listener: str, said_in: str) -> Dependency:
    data, verbs = SEES[kind]
    return Dependency(name, kind, place, data, verbs, listener, said_in)


def _own(home: Home) -> Iterator[Dependency]:
    """This host: what it reads in the clear, and what comes to rest on its disk."""
    place, listener = home.settings.place, home.settings.gateway.listen
    yield _make("gateway", "gateway", place, listener, "place")
    yield _make("audit-logs", "log-sink", place, listener, "place")


def _engines(home: Home) -> Iterator[Dependency]:
    settings = home.settings
    own = settings.own_endpoint, settings.place, settings.engine.listen, "place"
    others = (
        (each.id, each.place, each.address, f"endpoints: {each.id}") for each in settings.endpoints
    )
    for name, place, listener, said_in in (own, *others):
        yield _make(name, "engine", place, listener, said_in)


def _sinks(home: Home) -> Iterator[Dependency]:
    standby, tracing = home.settings.standby, home.settings.tracing
    if standby.url:
        listener = _listener(standby.url)
        yield _make("standby", "standby", standby.place, listener, "standby.place")
    if tracing.endpoint:
        listener = _listener(tracing.endpoint)
        yield _make("tracing", "tracing", tracing.place, listener, "tracing.place")
    if home.settings.gateway.limits_database:
        listener = _listener(home.settings.gateway.limits_database, "127.0.0.1:5432")
        yield _make("limits", "limits-database", home.settings.place, listener, "place")


class _Issuer(msgspec.Struct, frozen=True):
    """What this looks at of an issuer; the gateway reads the whole file, and strictly."""

    id: str
    place: str
    keys: str = ""


class _Issuers(msgspec.Struct, frozen=True):
    issuers: tuple[_Issuer, ...] = ()


def _providers(home: Home) -> Iterator[Dependency]:
    """Identity providers; a file that cannot be read is one whose place nobody knows."""
    if not home.settings.gateway.issuers:
        return
    try:
        file = read_as(home.root / home.settings.gateway.issuers, _Issuers)
    except PolicyUnreadable:
        yield _make("issuers", "identity-provider", "", "", "gateway.issuers")
        return
    for each in file.issuers:
        said_in, listener = f"gateway.issuers: {each.id}", _listener(each.keys)
        yield _make(f"issuer-{each.id}", "identity-provider", each.place, listener, said_in)


def _outside(policy: Policy) -> Iterator[Dependency]:
    for witness in policy.audit.witnesses.known:
        name, listener = f"witness-{witness.id}", _listener(witness.url)
        yield _make(name, "witness", witness.place, listener, "rules/audit.yaml")
    for each in policy.audit.timestamps.authorities:
        name, listener = f"time-stamps-{each.id}", _listener(each.url)
        yield _make(name, "time-stamps", each.place, listener, "rules/audit.yaml")
    for anchor in policy.attestation.round_trips.anchors:
        name, said_in = f"anchor-{anchor.id}", "rules/attestation.yaml"
        yield _make(name, "anchor", anchor.place, anchor.address, said_in)


def _declared(policy: Policy, said: DependencySettings) -> Dependency:
    """As the settings spell it out, or as the policy describes the one they name."""
    known = policy.dependencies.get(said.id)
    data, verbs = SEES[said.kind]
    if known is not None and not said.place:
        data, verbs, place = known.data, known.verbs, known.place
        return Dependency(
            said.id, said.kind, place, data, verbs, said.listener, "rules/dependencies.yaml"
        )
    return Dependency(
        said.id,
        said.kind,
        said.place,
        said.data or data,
        said.verbs or verbs,
        said.listener,
        f"dependencies: {said.id}",
    )


def _listener(url: str, otherwise: str = "") -> str:
    """`address:port` of a URL, for the rule about loopback; a name never is an address."""
    parts = urlsplit(url)
    if not parts.hostname:
        return otherwise
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or {'http': 80, 'postgresql': 5432}.get(parts.scheme, 443)}"
