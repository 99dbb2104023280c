"""The story of `make deploy` on one machine, in steps that can be run again.

Each step looks first and changes only what is not as it should be, so an interrupted
deployment is finished by running it again, and a finished one is left alone. Nothing here
prints: a step returns one line saying what is now true, and the command line shows it.
"""

import http.client
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign import fleet
from sovereign import policy as policies
from sovereign import settings as settings_files
from sovereign.audit import trail
from sovereign.audit.trail import Trail
from sovereign.engines import ENGINES
from sovereign.errors import AuditFinding, BadInput, EngineUnhealthy, ProcessFailed
from sovereign.keystore import Key, Keystore, new_id
from sovereign.policy import Policy
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import Home
from sovereign.supervisor import control, engine

WRITERS = ("gateway", "controller", "operator")
ENDPOINT_WITHIN_S = {"llamacpp": 60.0, "ollama": 120.0, "vllm": 240.0}
GATEWAY_WITHIN_S = 20.0
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
        return f"http://{self.home.settings.gateway.listen}"


Step = Callable[[Deployment], str]


def begin(root: Path, choices: Choices) -> Deployment:
    """Load the policy, and write the settings if they are new or changed.

    Raises:
        BadInput, DeclarationMissing, EngineMissing: these choices could not be served. The
            settings are as they were.
    """
    home = settings_files.load(root)
    wanted = _with_choices(home.settings, choices)
    settings_files.refuse_undeclared(wanted)
    policy = policies.load(home.policies, wanted.profile, home.own_places)
    new = not home.file.exists() or wanted != home.settings
    home = Home(home.root, wanted)
    engine.launch_spec(home, policy)
    if new:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(home.file, settings_files.render(wanted).encode())
    changed = ["settings"] if new else []
    return Deployment(home, choices, policy, _deployed(home), changed=changed)


def _with_choices(current: settings_files.Settings, choices: Choices) -> settings_files.Settings:
    replace = msgspec.structs.replace
    engine_now, gateway_now = current.engine, current.gateway
    if choices.engine is not None:
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
    except msgspec.ValidationError as error:
        raise BadInput(
            "this cannot be a setting; nothing was changed",
            found=str(error),
            accepted="what docs/settings.md says",
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
    return f"{name} {spec.found.version}, {spec.served_name} {digest[:19]}…"


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
    """A tenant and a key exist that answered once; one never shown working is replaced."""
    store = Keystore(deployment.home.keystore)
    store.create()
    known = store.known()
    if deployment.deployed.record and known.keys:
        return f"{len(known.keys)} in place; sovereign key create makes more"
    with operator_trail(deployment.home) as log:
        for stale in [k for k in known.keys.values() if k.id == deployment.deployed.key_id]:
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
        deployment.secret = store.add(key)
        _record_key(log, "key-created", key)
    deployment.deployed.key_id = key.id
    _save(deployment)
    deployment.changed.append("key")
    return f"{key.id} for tenant {key.tenant}, purpose {key.purpose}"


def operator_trail(home: Home) -> Trail:
    """The operator's own logs, for what the command line decides and changes."""
    return Trail.open(home.audit, home.keys, "operator", home.settings.site, utcnow)


def _record_key(log: Trail, kind: str, key: Key) -> None:
    log.record(kind, key=key.id, tenant=key.tenant, purpose=key.purpose, by="operator").result()


def start_processes(deployment: Deployment) -> str:
    """Engine, gateway and controller run with these settings and this policy."""
    home = deployment.home
    now = Deployed(
        settings=settings_files.render(home.settings),
        policy=deployment.policy.digest,
        key_id=deployment.deployed.key_id,
        record=deployment.deployed.record,
    )
    same = (now.settings, now.policy) == (deployment.deployed.settings, deployment.deployed.policy)
    if control.is_up(home) and same:
        return "running, unchanged"
    restarted = control.down(home)
    deployment.started_at = utcnow()
    control.up(home)
    deployment.deployed = now
    _save(deployment)
    deployment.changed.append("processes")
    return "restarted: settings or policy changed" if restarted else "started"


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
        _stop_if_given_up(home)
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
    """The gateway says it is ready, and the engine gives a token."""
    chosen = deployment.home.settings
    with suppress(EngineUnhealthy):
        status, _, _ = _call(deployment, "GET", "/readyz", None)
        probe, limit_s = ENGINES[endpoint.engine].probe, chosen.controller.probe_timeout_s
        url = f"http://{endpoint.address}"
        return status == 200 and probe(url, chosen.engine.model, limit_s).ok
    return False


def _clock(endpoint: Endpoint) -> str:
    return f"{endpoint.expires_at:%H:%M:%S}"


def _stop_if_given_up(home: Home) -> None:
    state = control.state(home)
    children = state.children if state else []
    given_up = [child.name for child in children if child.state == "given-up"]
    if state is None:
        given_up = ["supervisor"]
    if given_up:
        raise ProcessFailed(
            f"{given_up[0]} ended again and again and was given up",
            next_step=f"read {home.logs}/{given_up[0]}.*.log, then: make destroy && make deploy",
        )


def ask_once(deployment: Deployment) -> str:
    """One real chat went through the gateway and was recorded."""
    if not deployment.secret:
        return f"not repeated; the first answer is record {deployment.deployed.record}"
    body = {
        "model": deployment.home.settings.engine.model,
        "messages": [{"role": "user", "content": FIRST_QUESTION}],
        "max_tokens": 16,
        "temperature": 0,
    }
    _wait_for_gateway(deployment)
    status, record, answer = _call(deployment, "POST", "/v1/chat/completions", body)
    if status != 200 or not record:
        raise EngineUnhealthy(f"the first chat was answered with {status}", found=answer[:300])
    deployment.deployed.record = record
    _save(deployment)
    content = msgspec.json.decode(answer)["choices"][0]["message"]["content"]
    return f"answered {str(content).strip()[:60]!r}"


def _wait_for_gateway(deployment: Deployment) -> None:
    """The gateway reads keys and endpoints on its own time; go on once it lists the model."""
    deadline = time.monotonic() + GATEWAY_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(EngineUnhealthy):
            status, _, answer = _call(deployment, "GET", "/v1/models", None)
            if status == 200 and f'"{deployment.home.settings.engine.model}"' in answer:
                return
        _stop_if_given_up(deployment.home)
        time.sleep(POLL_S)


def _call(
    deployment: Deployment, method: str, path: str, body: dict[str, object] | None
) -> tuple[int, str, str]:
    host, _, port = deployment.home.settings.gateway.listen.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=REQUEST_TIMEOUT_S)
    headers = {"authorization": f"Bearer {deployment.secret}", "content-type": "application/json"}
    try:
        content = None if body is None else msgspec.json.encode(body)
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        answer = response.read().decode(errors="replace")
        return response.status, response.getheader("x-sovereign-record", ""), answer
    except OSError as error:
        raise EngineUnhealthy(
            "the gateway does not answer",
            found=type(error).__name__,
            next_step=f"read {deployment.home.logs}/gateway.*.log",
        ) from error
    finally:
        connection.close()


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
