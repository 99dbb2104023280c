"""What the controller sees opens a suspected incident: once a cause, also when it is killed."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sovereign import fleet
from sovereign.audit.trail import Trail
from sovereign.controller.plan import REFUSED
from sovereign.incidents import verbs
from sovereign.incidents.ledger import Ledger
from sovereign.incidents.opening import CAUSES, Finding, Opening, looked_at, wishes
from sovereign.registry import Endpoint, Registry
from sovereign.settings import Home
from tests.docs.codes import of_quarantine
from tests.incidents.making import DPO, HOUR, NOW, POLICY, home_at, writing
from tests.incidents.test_ledger import SHUT


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path)


def endpoint(quarantine: str) -> Endpoint:
    return Endpoint("e1", "llamacpp", "127.0.0.1:1", ("m",), "this-host", quarantine=quarantine)


def shut(home: Home, trail: Trail, code: str) -> str:
    """What a round of the controller leaves: a record, whose name this is, and the registry."""
    kind = "quarantine" if code else "release"
    recorded = trail.record(kind, **SHUT, code=code or "released").result(30)
    registry = Registry(home.registry, writable=True)
    registry.write([endpoint(code)], planned_on=registry.snapshot().generation)
    return recorded.name


def known(home: Home) -> list[tuple[str, str, str, str]]:
    found = Ledger(home).look().incidents.values()
    return [(each.state, each.cause, each.about, each.by) for each in found]


def settled(trail: Trail, home: Home) -> Trail:
    """The trail closed and opened again, so that everything is published."""
    trail.close()
    return writing(home, "controller")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("residency-refused", "residency-drift"),
        ("dependency-refused", "residency-drift"),
        ("telemetry-on", "telemetry"),
        ("attestation-disagrees", "residency-drift"),
        ("place-unproven", ""),
        ("engine-unhealthy", ""),
        ("environment-unknown", ""),
    ],
)
def test_a_quarantine_that_the_policy_lists_opens_one_and_another_does_not(
    home: Home, code: str, cause: str
) -> None:
    """An engine that is down has shown nobody anything."""
    trail = writing(home, "controller")
    shut(home, trail, code)
    trail = settled(trail, home)
    Opening(home, POLICY, trail).look(NOW)
    settled(trail, home).close()
    wanted = [("suspected", cause, "e1", "controller")] if cause else []
    assert known(home) == wanted


def test_a_cause_opens_one_incident_however_often_it_is_looked_at_and_whoever_is_killed(
    home: Home,
) -> None:
    """A controller of its own for each look knows nothing but the log."""
    trail = writing(home, "controller")
    trigger = shut(home, trail, "telemetry-on")
    for _ in range(3):
        trail = settled(trail, home)
        opening = Opening(home, POLICY, trail)
        opening.look(NOW)
        opening.look(NOW)
    trail = settled(trail, home)
    (it,) = Ledger(home).look().incidents.values()
    assert it.trigger == trigger
    trail.close()
    with writing(home, "operator") as ours:
        closing = verbs.closed(POLICY, it, "no-incident", DPO, NOW)
        ours.record(closing.type, **closing.fields).result(30)
    trail = writing(home, "controller")
    Opening(home, POLICY, trail).look(NOW)
    trail = settled(trail, home)
    assert len(known(home)) == 1, "it was closed, and its cause is the same"
    shut(home, trail, "")
    shut(home, trail, "telemetry-on")
    trail = settled(trail, home)
    Opening(home, POLICY, trail).look(NOW)
    settled(trail, home).close()
    assert len(known(home)) == 2, "it came back, which is another cause"


def test_the_clock_runs_from_what_the_controller_saw_and_not_from_when_somebody_looked(
    home: Home,
) -> None:
    """Looking late gains no time."""
    trail = writing(home, "controller")
    shut(home, trail, "telemetry-on")
    trail = settled(trail, home)
    Opening(home, POLICY, trail).look(NOW + 5 * HOUR)
    settled(trail, home).close()
    (it,) = Ledger(home).look().incidents.values()
    assert it.noticed_at == NOW


def test_a_log_that_is_shorter_than_it_was_seen_opens_one_after_a_second_look(home: Home) -> None:
    """A log that is being restored is none; one that stays cut is."""
    with writing(home, "gateway") as trail:
        trail.record("policy-loaded", policy="p", profile="eea").result(30)
    fleet.verify(home)
    assert list(looked_at(home)) == []
    (member,) = [m for m in fleet.members(home) if m.origin == "local/gateway/evidence"]
    checkpoint = member.folder / "checkpoint"
    whole = checkpoint.read_bytes()
    checkpoint.unlink()
    (found,) = looked_at(home)
    assert (found.origin, found.code) == ("local/gateway/evidence", "checkpoint-missing")
    trail = writing(home, "controller")
    opening = Opening(home, POLICY, trail)
    opening.look(NOW)
    opening.look(NOW + HOUR / 120)
    trail = settled(trail, home)
    assert known(home) == []
    opening = Opening(home, POLICY, trail)
    opening.look(NOW)
    opening.look(NOW + HOUR)
    opening.look(NOW + 2 * HOUR)
    trail = settled(trail, home)
    assert known(home) == [("suspected", "log-finding", "local/gateway/evidence", "controller")]
    checkpoint.write_bytes(whole)
    assert list(looked_at(home)) == []
    trail.close()


def test_a_log_whose_folder_was_put_back_from_an_older_copy_is_found(home: Home) -> None:
    """It is whole, signed and consistent; only what was kept of it tells."""
    (member,) = [m for m in fleet.members(home) if m.origin == "local/gateway/evidence"]
    before = (member.folder / "checkpoint").read_bytes()
    with writing(home, "gateway") as trail:
        last = trail.record("policy-loaded", policy="p", profile="eea").result(30)
    (member.folder / "checkpoint").write_bytes(before)
    (found,) = looked_at(home)
    assert (found.code, found.size) == ("cut-short", last.index + 1)


def test_what_cannot_be_read_is_said_and_ends_nobody(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The controller has more to do than to look for incidents."""
    home.registry.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    trail = writing(home, "controller")
    Opening(home, POLICY, trail).look(NOW)
    trail.close()
    assert '"event":"incidents-unreadable"' in capsys.readouterr().err


def test_a_policy_that_lists_no_causes_opens_nothing_and_stops_nobody(home: Home) -> None:
    """An older policy that is put back in force must not end the controller."""
    rules = msgspec.structs.replace(POLICY.audit, incidents=type(POLICY.audit.incidents)())
    policy = replace(POLICY, audit=rules)
    finding = Finding("s/gateway/event", "cut-short", 5)
    assert wishes(policy, Ledger(home).look(), [endpoint("telemetry-on")], [finding], NOW) == {}
    assert wishes(POLICY, Ledger(home).look(), [], [finding], NOW)


def test_every_quarantine_that_the_policy_lists_has_a_cause_that_it_lists_too() -> None:
    """A code without a cause would never open anything, and nobody would notice."""
    rules = POLICY.audit.incidents
    assert set(rules.opened_for) == set(CAUSES)
    assert set(CAUSES) <= of_quarantine() | {REFUSED}
    assert set(CAUSES.values()) <= {each.id for each in rules.causes}
