"""The story of `make deploy` on one machine, in steps that can be run again.

Each step looks first and changes only what is not as it should be, so an interrupted
deployment is finished by running it again, and a finished one is left alone. Nothing here
prints: a step returns one line saying what is now true, and the command line shows it.
"""

import http.client
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from sovereign import door, fleet, licence
from sovereign import policy as policies
from sovereign import settings as settings_files
from sovereign.acknowledged import standing
from sovereign.audit import trail
from sovereign.audit.record import STREAMS
from sovereign.audit.trail import WRITERS, Trail
from sovereign.engines import ENGINES
from sovereign.errors import (
    AuditFinding,
    BadInput,
    EngineUnhealthy,
    ProcessFailed,
    ResidencyRefused,
)
from sovereign.keystore import Key, Keystore, new_id
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import Model
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.residency import Question, decide
from sovereign.settings import GatewaySettings, Home
from sovereign.supervisor import control, engine

ENDPOINT_WITHIN_S = {"llamacpp": 60.0, "ollama": 120.0, "vllm": 240.0}
GATEWAY_WITHIN_S = 20.0
PUBLISHED_WITHIN_S = 10.0
"""A record is published within a second; the rest is a busy machine's."""
OPERATOR_WAITS_S = 10.0
REQUEST_TIMEOUT_S = 120.0
POLL_S = 0.2
FIRST_QUESTION = "Answer in one word. Capital of France?"
FIRST_TENANT, FIRST_PURPOSE = "default", "first-steps"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator asked for; None leaves the settings as they are."""

    engine: str | None = None
    model: str | None = None
    weights: str | None = None
    listen: str | None = None


class Deployed(msgspec.Struct):
    """`run/deployed.json`: what the last deployment found, to see whether anything changed."""

    settings: str = ""
    policy: str = ""
    key_id: str = ""
    record: str = ""


@dataclass(slots=True)
class Deployment:
    """State between the steps. `secret` is set only when a key was made in this run.

    `started_at` is when the processes were started anew in this run, None when they were not.
    """

    home: Home
    choices: Choices
    policy: Policy
    deployed: Deployed
    secret: str = ""
    started_at: datetime | None = None
    changed: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """What a client sets as its server; without `/v1`."""
        return url_of(self.home.settings.gateway)


def url_of(gateway: GatewaySettings) -> str:
    """The address for clients; where every interface listens, `HOST` is theirs to fill in."""
    host, _, port = gateway.listen.rpartition(":")
    everywhere = not host.strip("[]0.:")
    at = f"HOST:{port}" if everywhere else gateway.listen
    return f"{door.scheme(gateway)}://{at}"


Step = Callable[[Deployment], str]


def begin(root: Path, choices: Choices) -> Deployment:
    """Load the policy, and write the settings if they are new or changed.

    Raises:
        BadInput, DeclarationMissing, EngineMissing: these choices could not be served. The
            settings are as they were.
        LicenceRefused: the terms of the weights do not let the model serve here. The settings are
            as they were.
        ResidencyRefused: the declared place may not process personal data, so that the
            controller would never vouch for it. The settings are as they were.
    """
    home = settings_files.load(root)
    wanted = _with_choices(home.settings, choices)
    settings_files.refuse_undeclared(wanted)
    policy = policies.load(home.policies, wanted.profile, home.own_places, home.exceptions)
    new = not home.file.exists() or wanted != home.settings
    home = Home(home.root, wanted)
    _refuse_place(policy, wanted.place)
    _refuse_licence(home, policy)
    engine.launch_spec(home, policy)
    if new:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(home.file, settings_files.render(wanted).encode())
    changed = ["settings"] if new else []
    return Deployment(home, choices, policy, _deployed(home), changed=changed)


def _refuse_licence(home: Home, policy: Policy) -> None:
    """Before anything is looked for; a model that nobody described is refused by `launch_spec`."""
    if home.settings.engine.model in policy.models:
        licence.refuse(_licence(home, policy), what="nothing was started")


def _licence(home: Home, policy: Policy) -> licence.Decision:
    model = home.settings.engine.model
    return licence.decide(policy, model, standing(home, policy, model), utcnow())


def _refuse_place(policy: Policy, place: str) -> None:
    if place == THIS_HOST:
        return
    answer = decide(policy, Question(place, "personal", "process", utcnow()))
    if not answer.allowed:
        raise ResidencyRefused(
            f"{place} may not process personal data; nothing was started",
            rule=answer.rule,
            because=answer.because,
            found=answer.found,
            next_step="sovereign places declare, if that is not where this host is",
        )


def _with_choices(current: settings_files.Settings, choices: Choices) -> settings_files.Settings:
    replace = msgspec.structs.replace
    engine_now, gateway_now = current.engine, current.gateway
    if choices.engine is not None:
        if choices.engine not in ENGINES:
            raise BadInput(
                f"{choices.engine!r} is no engine; nothing was changed",
                accepted=", ".join(ENGINES),
            )
        engine_now = replace(engine_now, name=choices.engine)
    if choices.model is not None:
        engine_now = replace(engine_now, model=choices.model)
    if choices.weights is not None:
        # Processes are started in another folder than the one this word was typed in.
        weights = choices.weights and str(Path(choices.weights).absolute())
        engine_now = replace(engine_now, weights=weights)
    if choices.listen is not None:
        gateway_now = replace(gateway_now, listen=choices.listen)
    chosen = replace(current, engine=engine_now, gateway=gateway_now)
    try:
        return msgspec.convert(msgspec.to_builtins(chosen), settings_files.Settings)
    except msgspec.ValidationError:
        raise BadInput(
            f"{choices.listen!r} is no address to listen on; nothing was changed",
            accepted="an IP address and a port, as in 127.0.0.1:8080; no name",
        ) from None


def _deployed(home: Home) -> Deployed:
    path = home.run / "deployed.json"
    if not path.exists():
        return Deployed()
    return msgspec.json.decode(path.read_bytes(), type=Deployed)


def find_engine(deployment: Deployment) -> str:
    """The engine is on this machine and the weights are the ones the policy pins."""
    spec = engine.launch_spec(deployment.home, deployment.policy)
    digest = engine.check_weights(deployment.home, deployment.policy, spec)
    name = deployment.home.settings.engine.name
    warning = _licence(deployment.home, deployment.policy).warning
    noted = f"; {warning}" if warning else ""
    return f"{name} {spec.found.version}, {spec.served_name} {digest[:19]}…{noted}"


def create_logs(deployment: Deployment) -> str:
    """Every writer of this home has its logs; existing ones are left alone."""
    home = deployment.home
    site = home.settings.site
    made = [w for w in WRITERS if trail.create(home.audit, home.keys, home.trust, w, site)]
    if made:
        deployment.changed.append("logs")
        return f"created for {', '.join(made)} under {home.audit}"
    return f"in place under {home.audit}"


def create_first_key(deployment: Deployment) -> str:
    """A tenant and a key exist that answered once; one never shown working is replaced.

    A crash after any line leaves no key that a record does not name, and none that the next
    run does not know to revoke.
    """
    store = Keystore(deployment.home.keystore)
    store.create()
    known = store.known()
    if deployment.deployed.record and known.keys:
        return f"{len(known.keys)} in place; sovereign key create makes more"
    with operator_trail(deployment.home) as log:
        replaced = [k for k in known.keys.values() if k.id == deployment.deployed.key_id]
        for stale in replaced:
            store.revoke(stale.id, utcnow())
            _record_key(log, "key-revoked", stale)
        key = Key(
            id=new_id(),
            tenant=FIRST_TENANT,
            purpose=FIRST_PURPOSE,
            basis="legitimate-interests",
            data="personal",
            subject="none",
            created_at=utcnow(),
        )
        deployment.deployed.key_id = key.id
        _save(deployment)  # a crash here: an id that is no key yet, so nothing to revoke
        _record_key(log, "key-created", key)  # here: a record of a key that was never active
        deployment.secret = store.add(key)  # here: its secret was shown to nobody, so it goes
    deployment.changed.append("key")
    instead = "".join(f"; it replaces {stale.id}, which never answered" for stale in replaced)
    return f"{key.id} for tenant {key.tenant}, purpose {key.purpose}{instead}"


def operator_trail(home: Home, streams: tuple[str, ...] = STREAMS) -> Trail:
    """The operator's own logs, or its `streams`, for what the command line decides and changes.

    Other commands, and the controller while it seals old bundles, hold them for a moment.

    Raises:
        LogLocked: somebody still holds them after `OPERATOR_WAITS_S`.
    """
    site = home.settings.site
    opened = (home.audit, home.keys, "operator", site, utcnow, OPERATOR_WAITS_S)
    return Trail.open(*opened, home.trust, streams)


def _record_key(log: Trail, kind: str, key: Key) -> None:
    log.record(kind, key=key.id, tenant=key.tenant, purpose=key.purpose, by="operator").result()


def start_processes(deployment: Deployment) -> str:
    """Engine, gateway and controller run with these settings and this policy; none is given up.

    Raises:
        ProcessFailed: another program has one of their addresses. What runs goes on.
    """
    home = deployment.home
    now = Deployed(
        settings=settings_files.render(home.settings),
        policy=deployment.policy.digest,
        key_id=deployment.deployed.key_id,
        record=deployment.deployed.record,
    )
    same = (now.settings, now.policy) == (deployment.deployed.settings, deployment.deployed.policy)
    given_up = _given_up(home)
    if control.is_up(home) and same and not given_up:
        return "running, unchanged"
    control.refuse_taken(home)
    restarted = control.down(home)
    deployment.started_at = utcnow()
    control.up(home)
    deployment.deployed = now
    _save(deployment)
    deployment.changed.append("processes")
    why = f"{given_up[0]} was given up" if given_up and same else "settings or policy changed"
    return f"restarted: {why}" if restarted else "started"


def wait_for_endpoint(deployment: Deployment) -> str:
    """The controller vouches for the engine: its place, its environment, one token.

    An attestation outlives a restart, so it is not enough: gateway and engine must answer now.
    """
    home = deployment.home
    limit_s = ENDPOINT_WITHIN_S[home.settings.engine.name]
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        endpoint = _usable(deployment)
        if endpoint is not None and _both_answer(deployment, endpoint):
            return f"{endpoint.id} at {endpoint.place}, vouched for until {_clock(endpoint)} UTC"
        refuse_given_up(home)
        time.sleep(POLL_S)
    shown = Registry(home.registry).snapshot().endpoints
    reasons = "; ".join(f"{e.id}: {e.quarantine}: {e.reason}" for e in shown) or "nothing observed"
    raise EngineUnhealthy(
        f"no usable endpoint within {limit_s:.0f} s",
        found=reasons,
        next_step=f"read {home.logs}/engine.*.log, then run make deploy again",
    )


def _usable(deployment: Deployment) -> Endpoint | None:
    """The endpoint vouched for now; what was said of processes that ended does not count."""
    now, since = utcnow(), deployment.started_at
    model = deployment.home.settings.engine.model
    for endpoint in Registry(deployment.home.registry).snapshot().endpoints:
        attested = endpoint.attested_at
        new = since is None or (attested is not None and attested >= since)
        if new and not endpoint.quarantine and endpoint.is_fresh(now) and model in endpoint.models:
            return endpoint
    return None


def _both_answer(deployment: Deployment, endpoint: Endpoint) -> bool:
    """The gateway, and no other program, says it is ready, and the engine gives a token."""
    chosen = deployment.home.settings
    if not control.serves(deployment.home, "gateway", chosen.gateway.listen):
        return False
    with suppress(EngineUnhealthy):
        status, _, _ = _call(deployment, "GET", "/readyz", None)
        probe, limit_s = ENGINES[endpoint.engine].probe, chosen.controller.probe_timeout_s
        url = f"http://{endpoint.address}"
        return status == 200 and probe(url, chosen.engine.model, limit_s).ok
    return False


def _clock(endpoint: Endpoint) -> str:
    return f"{endpoint.expires_at:%H:%M:%S}"


def refuse_given_up(home: Home) -> None:
    """Raise `ProcessFailed` when a process ended too often to be started again."""
    given_up = ["supervisor"] if control.state(home) is None else _given_up(home)
    if given_up:
        raise ProcessFailed(
            f"{given_up[0]} ended again and again and was given up",
            next_step=f"read {home.logs}/{given_up[0]}.*.log, then: make deploy",
        )


def _given_up(home: Home) -> list[str]:
    state = control.state(home)
    return [child.name for child in state.children if child.state == "given-up"] if state else []


def ask_once(deployment: Deployment) -> str:
    """One real chat, or one text to a model of vectors, went through the gateway and was
    recorded."""
    if not deployment.secret:
        return f"not repeated; the first answer is record {deployment.deployed.record}"
    name = deployment.home.settings.engine.model
    path, body = _first_question(deployment.policy.models[name])
    _wait_for_gateway(deployment)
    status, record, answer = _call_with_key(deployment, "POST", path, body)
    if status != 200 or not record:
        raise EngineUnhealthy(f"the first chat was answered with {status}", found=answer[:300])
    if not _is_recorded(deployment, record):
        raise EngineUnhealthy(
            "the first chat was answered, and its record is not in the log here",
            found=record[:300],
            next_step=f"read {deployment.home.logs}/gateway.*.log, then run make deploy again",
        )
    deployment.deployed.record = record
    _save(deployment)
    return _first_answer(msgspec.json.decode(answer))


def _first_question(model: Model) -> tuple[str, dict[str, object]]:
    if engine.only_embeds(model):
        return "/v1/embeddings", {"model": model.id, "input": FIRST_QUESTION}
    messages = [{"role": "user", "content": FIRST_QUESTION}]
    asked = {"model": model.id, "messages": messages, "max_tokens": 16, "temperature": 0}
    return "/v1/chat/completions", asked


def _first_answer(said: Mapping[str, Any]) -> str:
    if "data" in said:
        return f"answered with a vector of {len(said['data'][0]['embedding'])} numbers"
    content = said["choices"][0]["message"]["content"]
    return f"answered {str(content).strip()[:60]!r}"


def _wait_for_gateway(deployment: Deployment) -> None:
    """The gateway reads keys and endpoints on its own time; go on once it lists the model."""
    deadline = time.monotonic() + GATEWAY_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(EngineUnhealthy):
            status, _, answer = _call_with_key(deployment, "GET", "/v1/models", None)
            if status == 200 and f'"{deployment.home.settings.engine.model}"' in answer:
                return
        refuse_given_up(deployment.home)
        time.sleep(POLL_S)


def _is_recorded(deployment: Deployment, record: str) -> bool:
    """The decision of this name, about our key, is published in a log of this home."""
    origin, _, number = record.rpartition("#")
    known = [m for m in fleet.members(deployment.home) if m.origin == origin]
    index = int(number) if number.isascii() and number.isdigit() else 0
    deadline = time.monotonic() + PUBLISHED_WITHIN_S
    while known and time.monotonic() < deadline:
        for _, entry in fleet.records(known[0], index, index + 1):
            return entry.get("key") == deployment.deployed.key_id
        time.sleep(POLL_S)
    return False


def _call_with_key(
    deployment: Deployment, method: str, path: str, body: dict[str, object] | None
) -> tuple[int, str, str]:
    """The key is for our gateway alone, and a port does not say who listens there."""
    listen = deployment.home.settings.gateway.listen
    if not control.serves(deployment.home, "gateway", listen):
        raise EngineUnhealthy(
            f"our gateway does not listen on {listen}; the key was not sent",
            next_step=f"ss -ltnp 'sport = :{listen.rpartition(':')[2]}' shows who does",
        )
    return _call(deployment, method, path, body, {"authorization": f"Bearer {deployment.secret}"})


def _call(
    deployment: Deployment,
    method: str,
    path: str,
    body: dict[str, object] | None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, str, str]:
    headers = {"content-type": "application/json", **more}
    content = None if body is None else msgspec.json.encode(body)
    gateway = deployment.home.settings.gateway
    try:
        with closing(door.connection(gateway, REQUEST_TIMEOUT_S)) as connection:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            answer = response.read().decode(errors="replace")
            return response.status, response.getheader("x-sovereign-record", ""), answer
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnhealthy(
            "the gateway does not answer",
            found=type(error).__name__,
            next_step=f"read {deployment.home.logs}/gateway.*.log",
        ) from error


def verify_logs(deployment: Deployment) -> str:
    """Every log of this home verifies under its pinned key."""
    results = fleet.verify(deployment.home)
    faults = [f"{r.origin}: {finding}" for r in results for finding in r.findings]
    if faults:
        raise AuditFinding(
            f"{faults[0]}",
            found=f"{len(faults)} findings in {len(results)} logs",
            next_step="sovereign audit verify",
        )
    count = sum(result.size for result in results)
    return f"{count} records in {len(results)} logs; their keys: {deployment.home.trust}"


def _save(deployment: Deployment) -> None:
    path = deployment.home.run / "deployed.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(path, msgspec.json.encode(deployment.deployed))


def _write(path: Path, content: bytes) -> None:
    """Put a file in place whole: an interrupted deployment is finished by running it again."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


STEPS: tuple[tuple[str, Step], ...] = (
    ("engine", find_engine),
    ("audit logs", create_logs),
    ("key", create_first_key),
    ("processes", start_processes),
    ("endpoint", wait_for_endpoint),
    ("first chat", ask_once),
    ("log verifies", verify_logs),
)
"""The story in order. Settings and policy come before it, in `begin`."""
