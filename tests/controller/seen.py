"""Values as the controller sees them: an endpoint that is well, and each way it can be unwell."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sovereign import policy as policies
from sovereign.controller.observe import Bounds, Knock, Look, Seen, Wanted, knock_at, look_at
from sovereign.engines import ENGINES, Probe
from sovereign.host import EngineProcess
from sovereign.registry import Endpoint, Snapshot

POLICY = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VALID = timedelta(seconds=POLICY.audit.attestation_valid_s)
ADDRESS = "127.0.0.1:8081"
MODEL = "smollm2-135m-instruct"
ENVIRONMENT = {
    rule.name: rule.must_be
    for rule in ENGINES["llamacpp"].required_environment()
    if rule.must_be is not None
}
WELL = EngineProcess(77, ENVIRONMENT, (ADDRESS,))
ANSWERS = Probe(True, 12, "", MODEL)
SILENT = Probe(False, 12, "unreachable", "")


def wanted(
    place: str = "this-host", name: str = "local-llamacpp", address: str = ADDRESS
) -> Wanted:
    return Wanted(name, "llamacpp", address, MODEL, place, "sha256:ab")


def sight(
    probe: Probe = ANSWERS, process: EngineProcess = WELL, asked_for: Wanted | None = None
) -> Seen:
    return Seen(asked_for or wanted(), probe, process)


def observe(
    endpoints: tuple[Wanted, ...], knock: Knock, look: Look, within: Bounds | None = None
) -> tuple[Seen, ...]:
    """Knock at all and look at all, as a round does."""
    within = within or Bounds()
    return look_at(endpoints, knock_at(endpoints, knock, within), look, within)


def attested(at: datetime, **more: object) -> Endpoint:
    """The endpoint as a round at `at` would have left it in the registry."""
    said = {
        "id": "local-llamacpp",
        "engine": "llamacpp",
        "address": ADDRESS,
        "models": (MODEL,),
        "place": "this-host",
        "model_digest": "sha256:ab",
        "attested_at": at,
        "expires_at": at + VALID,
        "quarantine": "",
        "reason": "",
    }
    return Endpoint(**(said | more))  # type: ignore[arg-type]  # a test's shorthand


def showing(*endpoints: Endpoint, generation: int = 4) -> Snapshot:
    return Snapshot(generation, endpoints)
