"""The logs are the one home: what they hold is what is known, read on or read anew."""

from pathlib import Path
from typing import Any

import pytest

from sovereign import fleet
from sovereign.audit.trail import Trail
from sovereign.errors import UnknownName
from sovereign.incidents import verbs
from sovereign.incidents.ledger import Ledger, id_of, new_id
from sovereign.incidents.verbs import Saying, Wish
from sovereign.settings import Home
from tests.incidents.making import BREACH, DPO, NOW, POLICY, home_at, writing

SHUT: dict[str, Any] = {
    "endpoint": "e1",
    "place": "this-host",
    "asked_at": "2026-11-25T12:00:00.000000Z",
    "reason": "r",
    "policy": "p",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path)


def record(trail: Trail, said: Saying) -> None:
    trail.record(said.type, **said.fields).result(30)


def opened(name: str, **more: Any) -> Saying:
    return verbs.opened(POLICY, name, Wish((BREACH,), NOW, "content-found", **more), NOW)


def filling(trail: Trail, count: int) -> None:
    """Records that are not about incidents, as there are very many of."""
    waiting = [trail.record("retention-run", due=0, erased=0, kept=n) for n in range(count)]
    for each in waiting:
        each.result(30)


def test_a_ledger_that_reads_on_knows_what_one_that_reads_anew_does(home: Home) -> None:
    """Across whole bundles, an unfinished one, and both logs."""
    kept = Ledger(home)
    assert kept.look().incidents == {}
    names = [new_id() for _ in range(3)]
    with writing(home, "controller") as theirs, writing(home, "operator") as ours:
        record(theirs, opened(names[0], by="controller"))
        filling(theirs, 300)
        record(ours, opened(names[1]))
    assert set(kept.look().incidents) == set(names[:2])
    with writing(home, "controller") as theirs, writing(home, "operator") as ours:
        record(theirs, opened(names[2], by="controller"))
        filling(ours, 260)
        for name in names[:2]:
            it = kept.look().named(name)
            record(ours, verbs.confirmed(POLICY, it))
    known = kept.look()
    assert known == Ledger(home).look()
    assert [known.incidents[name].state for name in names] == [
        "confirmed",
        "confirmed",
        "suspected",
    ]
    assert known.gaps == ()


def test_a_record_names_where_it_stands_so_that_it_can_be_proven(home: Home) -> None:
    """`sovereign audit prove` takes that name."""
    name = new_id()
    with writing(home, "operator") as ours:
        record(ours, opened(name))
    (entry,) = Ledger(home).look().named(name).history
    origin, _, index = entry.name.partition("#")
    (member,) = [each for each in fleet.members(home) if each.origin == origin]
    ((_, fields),) = fleet.records(member, int(index), int(index) + 1)
    assert fields["incident"] == name


def test_a_bundle_that_is_gone_is_told_and_never_passed_over(home: Home) -> None:
    """What is known then may not be all."""
    name = new_id()
    with writing(home, "operator") as ours:
        record(ours, opened(name))
        filling(ours, 300)
    (member,) = [m for m in fleet.members(home) if m.origin == "local/operator/evidence"]
    first = member.folder / "tile/entries/000"
    first.rename(first.with_name("away"))
    known = Ledger(home).look()
    assert known.gaps == ("local/operator/evidence#0-255",)
    with pytest.raises(UnknownName) as refused:
        known.named(name)
    assert "local/operator/evidence#0-255" in refused.value.found


def test_what_would_be_recorded_can_be_looked_at_before_it_is(home: Home) -> None:
    """Several things said at once are decided on each other, and recorded together or not."""
    known = Ledger(home).look()
    said = opened("inc_000000000001")
    after = known.after(said.type, said.fields, NOW)
    assert after.named("inc_000000000001").state == "suspected"
    closing = verbs.closed(POLICY, after.named("inc_000000000001"), "no-incident", DPO, NOW)
    assert after.after(closing.type, closing.fields, NOW).named("inc_000000000001").outcome
    assert known.incidents == {}


def test_an_endpoint_is_shut_since_the_first_quarantine_after_its_last_release(home: Home) -> None:
    """A reason that changes is not another incident; one that comes back is."""
    with writing(home, "controller") as theirs:
        names = [
            theirs.record(kind, **SHUT, code=code).result(30).name
            for kind, code in (
                ("quarantine", "telemetry-on"),
                ("quarantine", "telemetry-on"),
                ("release", "released"),
                ("quarantine", "telemetry-on"),
                ("quarantine", "residency-refused"),
            )
        ]
    shut = Ledger(home).look().shut
    assert {key: entry.name for key, entry in shut.items()} == {
        ("e1", "telemetry-on"): names[3],
        ("e1", "residency-refused"): names[4],
    }


def test_one_cause_gives_one_id() -> None:
    """A controller that was killed before it knew that it had recorded opens the same one."""
    assert id_of("s/controller/evidence#5") == id_of("s/controller/evidence#5")
    assert id_of("s/controller/evidence#5") != id_of("s/controller/evidence#6")
    assert len({new_id() for _ in range(50)}) == 50
