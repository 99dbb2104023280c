"""`sovereign controller plan`: the next round on paper, with the same plan and nothing done."""

from pathlib import Path

import msgspec

from sovereign.audit.trail import Trail
from sovereign.controller import lease
from sovereign.controller.loop import run_round
from sovereign.controller.observe import knocking, looking
from sovereign.registry import Registry, utcnow
from sovereign.settings import load
from tests.cli.conftest import Run, home, run
from tests.controller.seen import POLICY
from tests.controller.test_loop import evidence, home_at
from tests.engines.running import free_port

__all__ = ["home", "run"]


def test_a_dry_run_prints_what_the_next_round_does_and_does_nothing(run: Run, home: Path) -> None:
    """Whoever is about to start a controller sees first whom it would shut."""
    address = f"127.0.0.1:{free_port()}"
    where = home_at(home, address)
    where.file.write_text(f'version: 1\nengine: {{listen: "{address}"}}\n')
    before = len(evidence(where))
    done = run("controller", "plan", "--json")
    shown = msgspec.json.decode(done.out)
    assert done.code == 1, "an endpoint would be shut"
    assert [(s["verb"], s["code"]) for s in shown["steps"]] == [("quarantine", "engine-unhealthy")]
    assert (shown["number"], shown["lease"]) == (1, None)
    assert not where.registry.exists()
    assert not lease.path_of(where.registry).exists()
    assert len(evidence(where)) == before
    registry = Registry(where.registry, writable=True)
    with Trail.open(where.audit, where.keys, "controller", "local", utcnow) as trail:
        run_round(load(home), POLICY, registry, trail, knocking(5), looking())
    assert registry.snapshot().generation == shown["number"]
    again = run("controller", "plan")
    assert "plan 2 under policy" in again.out
    assert "0 steps" in again.out
    assert again.code == 1, "it stays shut"
