"""What acting leaves in the registry and the log, on a good disk and on one that says no."""

from collections.abc import Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign.audit import trail as trails
from sovereign.audit.trail import Recorded, Trail
from sovereign.controller.act import act
from sovereign.controller.observe import Seen
from sovereign.controller.plan import plan
from sovereign.errors import LogUnwritable
from sovereign.fleet import members, records
from sovereign.registry import Registry
from sovereign.settings import Home, Settings
from tests.controller.seen import NOW, POLICY, SILENT, attested, sight

LATER = NOW + timedelta(hours=1)


class Lab:
    """A registry and a controller's trail on the real disk; `refuse` makes the trail say no."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root, Settings())
        home = self.home
        trails.create(home.audit, home.keys, home.trust, "controller", "local")
        self.trail = Trail.open(home.audit, home.keys, "controller", "local", lambda: NOW)
        self.registry = Registry(home.registry, writable=True)

    def round(self, seen: Seen, at: Any = NOW, trail: Any = None) -> bool:
        made = plan(POLICY, (seen,), self.registry.snapshot(), at)
        return act(made, self.registry, trail or self.trail)

    def shown(self) -> Any:
        (endpoint,) = self.registry.snapshot().endpoints
        return endpoint

    def recorded(self) -> list[str]:
        """Types of what the controller wrote, as they stand in its published log."""
        self.trail.close()
        (member,) = [m for m in members(self.home) if m.stream == "evidence"]
        own = ("log-created", "log-reopened")
        return [f["type"] for _, f in records(member, 0, 10_000) if f["type"] not in own]


class Refusing:
    """A trail whose disk says no to some kinds of records."""

    def __init__(self, trail: Trail, *kinds: str) -> None:
        self._trail = trail
        self._kinds = kinds

    def record(self, kind: str, **fields: str | int) -> Future[Recorded]:
        if kind in self._kinds:
            raise LogUnwritable("the disk is full")
        return self._trail.record(kind, **fields)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    it = Lab(tmp_path)
    yield it
    it.trail.close()


def test_an_attestation_stands_in_the_registry_and_in_the_log(lab: Lab) -> None:
    """What a gateway acts on and what an auditor reads are the same thing."""
    assert lab.round(sight())
    assert lab.shown() == attested(NOW)
    assert lab.recorded() == ["attestation"]


def test_a_fault_and_its_end_stand_in_both(lab: Lab) -> None:
    """Shut within the round that saw it, and opened again by a record of its own."""
    lab.round(sight())
    lab.round(sight(SILENT))
    assert lab.shown().quarantine == "engine-unhealthy"
    lab.round(sight())
    assert lab.shown().quarantine == ""
    assert lab.recorded() == ["attestation", "quarantine", "attestation", "release"]


def test_an_attestation_that_cannot_be_recorded_is_not_given(lab: Lab) -> None:
    """Otherwise a call would be answered on the word of nobody."""
    lab.round(sight(), trail=Refusing(lab.trail, "attestation"))
    assert lab.registry.snapshot().endpoints == ()


@pytest.mark.parametrize("refused", ["attestation", "release"])
def test_a_release_counts_only_with_both_of_its_records(lab: Lab, refused: str) -> None:
    """Half of them on the disk would open an endpoint that the log still shows as shut."""
    lab.round(sight(SILENT))
    lab.round(sight(), trail=Refusing(lab.trail, refused))
    assert lab.shown().quarantine == "engine-unhealthy"
    lab.round(sight())
    assert lab.shown().quarantine == ""


def test_a_quarantine_is_taken_all_the_same_and_recorded_later(lab: Lab) -> None:
    """Refusing is the safe side; that it was not recorded at once is made up for."""
    lab.round(sight())
    lab.round(sight(SILENT), trail=Refusing(lab.trail, "quarantine"))
    assert (lab.shown().quarantine, lab.shown().recorded) == ("engine-unhealthy", False)
    lab.round(sight(SILENT))
    assert lab.shown().recorded
    generation = lab.registry.snapshot().generation
    lab.round(sight(SILENT))
    assert lab.registry.snapshot().generation == generation
    assert lab.recorded() == ["attestation", "quarantine"]


def test_a_stale_plan_is_refused_whole(lab: Lab) -> None:
    """An older plan must not undo a newer one."""
    old = plan(POLICY, (sight(),), lab.registry.snapshot(), NOW)
    lab.round(sight(SILENT))
    before = lab.registry.snapshot()
    assert act(old, lab.registry, lab.trail) is False
    assert lab.registry.snapshot() == before


def test_a_plan_without_steps_writes_nothing(lab: Lab) -> None:
    """A quiet night leaves no trace but the renewals."""
    lab.round(sight())
    generation = lab.registry.snapshot().generation
    assert lab.round(sight())
    assert lab.registry.snapshot().generation == generation


def test_an_endpoint_expires_by_itself_when_nobody_renews_it(lab: Lab) -> None:
    """Stopping the controller is seen by a gateway without being told."""
    lab.round(sight())
    assert lab.shown().is_fresh(NOW)
    assert not lab.shown().is_fresh(LATER)


def test_endpoints_the_settings_no_longer_name_are_forgotten(lab: Lab) -> None:
    """After a change of engine the old one must not be chosen for its last thirty seconds."""
    lab.round(sight())
    lab.registry.remove_all_but(["another"])
    assert lab.registry.snapshot().endpoints == ()
