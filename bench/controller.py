"""What a round of the controller costs, beside asking the same engines for their token and no more.

At each size, one process holds so many engines, each on a port of its own, and says what an
observer of their hosts would say. `bare` asks each for one token through the same adapter, as many
together as the controller does; a round does that too, and looks at each process, judges, plans,
records and writes. The two take turns.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from bench.endpoints import ENGINE, MODEL
from bench.figures import CheckFailed, Result, Target, percentile
from bench.processes import ROOT, cores, pinned, said, started
from sovereign import fleet
from sovereign import policy as policies
from sovereign.audit import trail as trails
from sovereign.audit.trail import Trail
from sovereign.controller.loop import run_round
from sovereign.controller.observe import bounds, knock_at, knocking, look_at, looking, wanted
from sovereign.controller.plan import plan
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import (
    ControllerSettings,
    EndpointSettings,
    EngineSettings,
    Home,
    Settings,
)

PLACE = "scaleway:fr-par-2"
SIZES, SIZES_QUICK = (10, 100, 1000), (10, 100)
SITE = "bench"
ROUNDS, ROUNDS_QUICK = 15, 3
TIMEOUT_S = 20.0
OVER_BARE_MAX = 3.0
"""A round may take so many times as long as asking for the tokens alone."""
CPU_MAX_US = 2000.0
"""Processor time of a round, by endpoint: two seconds for a thousand."""


@dataclass(slots=True)
class Times:
    """Seconds of one size, a sample a round; `first` is the round that attests each of them."""

    bare_s: list[float] = field(default_factory=list)
    round_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)
    first_s: float = 0.0

    def figures(self, count: int) -> dict[str, float]:
        """What the JSON holds of it."""
        bare, whole = percentile(self.bare_s, 0.5), percentile(self.round_s, 0.5)
        return {
            "bare_p50_ms": bare * 1000,
            "round_p50_ms": whole * 1000,
            "first_round_ms": self.first_s * 1000,
            "over_bare": whole / bare,
            "cpu_us": percentile(self.cpu_s, 0.5) / count * 1_000_000,
            "plan_us": percentile(self.plan_s, 0.5) / count * 1_000_000,
        }


def run(folder: Path, *, quick: bool) -> Result:
    """Measure every size; `folder` names the disk that the controller's log is written to.

    Raises:
        CheckFailed: an endpoint is not open after a round, or the log does not verify.
    """
    rounds, sizes = (ROUNDS_QUICK, SIZES_QUICK) if quick else (ROUNDS, SIZES)
    figures, checks = {}, {"endpoints_open": 0, "attestations_in_the_log": 0}
    for count in sizes:
        work = Path(tempfile.mkdtemp(prefix="work-controller-", dir=folder))
        try:
            times, attested = _measure(work, count, rounds)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        figures[name_of(count)] = times.figures(count)
        checks["endpoints_open"] += count
        checks["attestations_in_the_log"] += attested
    greatest = name_of(sizes[-1])
    return Result(
        figures=figures,
        ratios={"round_to_bare": {size: each["over_bare"] for size, each in figures.items()}},
        targets=[
            Target(f"{greatest}.over_bare", "at most", OVER_BARE_MAX),
            Target(f"{greatest}.cpu_us", "at most", CPU_MAX_US),
        ],
        checks=checks,
        settings={"rounds": rounds, "apart": float(cores().apart)},
    )


def name_of(count: int) -> str:
    """How a size is called: `1e3` is a thousand."""
    return f"1e{len(str(count)) - 1}"


def _measure(work: Path, count: int, rounds: int) -> tuple[Times, int]:
    where = cores()
    with tempfile.TemporaryDirectory(prefix="bench-") as short:  # a socket's path has 108 bytes
        socket = Path(short) / "observer.sock"
        command = [sys.executable, "-m", "bench.endpoints", str(count), str(socket)]
        with (
            started(command, core=where.others, output=work / "endpoints.log") as process,
            pinned(where.measured),
            (work / "events.log").open("w") as events,
            redirect_stderr(events),
        ):
            ports = [int(port) for port in said(process).split()]
            return _measured(_home(work / "home", ports, str(socket)), count, rounds)


def _measured(home: Home, count: int, rounds: int) -> tuple[Times, int]:
    policy = _lasting(policies.load(ROOT / "policies", "eea"))
    registry = Registry(home.registry, writable=True)
    with Trail.open(home.audit, home.keys, "controller", SITE, utcnow) as trail:
        times = _times(home, policy, registry, trail, rounds)
    return times, _checked(home, registry, count)


def _times(home: Home, policy: Policy, registry: Registry, trail: Trail, rounds: int) -> Times:
    found, asked_for = Times(), wanted(home, policy)
    knock, look, within = knocking(TIMEOUT_S), looking(), bounds(TIMEOUT_S)

    def a_round() -> None:
        run_round(home, policy, registry, trail, knock, look, within=within)

    found.first_s, _ = _timed(a_round)
    for _ in range(rounds):
        took, _ = _timed(lambda: knock_at(asked_for, knock, within))
        found.bare_s.append(took)
        took, cpu = _timed(a_round)
        found.round_s.append(took)
        found.cpu_s.append(cpu)
    snapshot = registry.snapshot()
    seen = look_at(asked_for, knock_at(asked_for, knock, within), look, within)
    for _ in range(rounds):
        _, cpu = _timed(lambda: plan(policy, seen, snapshot, utcnow()))
        found.plan_s.append(cpu)
    return found


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and seconds of processor time of this process."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def _lasting(policy: Policy) -> Policy:
    """With attestations that outlive the run, so that a round with nothing to write is measured
    as often as one chooses; the first round writes them all."""
    audit = msgspec.structs.replace(policy.audit, attestation_valid_s=86_400)
    return replace(policy, audit=audit)


def _home(root: Path, ports: list[int], socket: str) -> Home:
    """A site whose engines are all somebody else's but one."""
    root.mkdir(mode=0o700)
    own, *others = (f"127.0.0.1:{port}" for port in ports)
    chosen = Settings(
        site=SITE,
        place=PLACE,
        engine=EngineSettings(listen=own),
        controller=ControllerSettings(observe_socket=socket),
        endpoints=tuple(
            EndpointSettings(
                id=f"e{n}",
                name=ENGINE,
                model=MODEL,
                address=address,
                place=PLACE,
                observe_socket=socket,
            )
            for n, address in enumerate(others)
        ),
    )
    home = Home(root, chosen)
    trails.create(home.audit, home.keys, home.trust, "controller", SITE)
    return home


def _checked(home: Home, registry: Registry, count: int) -> int:
    """Return how many attestations stand in the log; every endpoint has one and is open."""
    now = utcnow()
    shown = registry.snapshot().endpoints
    is_open = [each for each in shown if not each.quarantine and each.is_fresh(now)]
    if len(is_open) != count:
        raise CheckFailed(f"{count - len(is_open)} of {count} endpoints are not open")
    (member,) = (m for m in fleet.members(home) if m.stream == "evidence")
    kinds = [fields["type"] for _, fields in fleet.records(member, 0, 10 * count)]
    attested = kinds.count("attestation")
    if attested < count:
        raise CheckFailed(f"{attested} attestations of {count} endpoints are in the log")
    if any(result.findings for result in fleet.verify(home)):
        raise CheckFailed("the controller's log does not verify")
    return attested
