"""Holds on a real site: placed, listed, released, erased, and tampered with."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign import fleet, holds
from sovereign.audit import holds as held
from sovereign.audit import proof, record
from sovereign.audit.disk import RealDisk
from sovereign.audit.holds import Facts
from sovereign.audit.trail import Recorded
from sovereign.controller import erasing
from sovereign.errors import BadInput, UnknownName
from sovereign.evidence.checks import Site as Looked
from sovereign.evidence.checks import answer
from sovereign.evidence.verdict import State
from sovereign.holds import Scope, Terms
from tests.retention.site import DAY, DECISION, Site

EVENT = "local/gateway/event"
RECEIPTS = "local/controller/evidence"
PLACER = "local/operator/evidence"
ENDED: dict[str, Any] = {
    "outcome": "answered",
    "status": 200,
    "tokens_in": 1,
    "tokens_out": 1,
    "latency_us": 1,
    "finish": "stop",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def decide(site: Site, tenant: str, count: int = 1) -> list[int]:
    """Decisions of a tenant, each with its completion; the indexes of both."""
    found: list[int] = []
    for _ in range(count):
        decision = site.gateway.record("decision", **{**DECISION, "tenant": tenant}).result(10)
        end = site.gateway.record("completion", decision=decision.index, **ENDED).result(10)
        found += [decision.index, end.index]
    return found


def terms(site: Site, days: float = 600) -> Terms:
    return Terms("gdpr-17-3-e", "legal-counsel", site.clock.now + timedelta(days=days))


def place(site: Site, scope: Scope, days: float = 600) -> Facts:
    """Hold what is in the scope now."""
    site.settle()
    rules = holds.refuse(site.policy, terms(site, days), site.clock.now)
    chosen = holds.choose(site.home, scope, rules.records_max)
    with site.open("operator") as trail:
        facts, _ = holds.place(
            site.home, site.policy, scope, chosen, terms(site, days), trail, site.clock.now
        )
    return facts


def release(site: Site, hold: str, approver: str = "legal-counsel") -> Recorded:
    with site.open("operator") as trail:
        return holds.release(site.home, site.policy, hold, approver, trail, site.clock.now)


def found(site: Site) -> set[str]:
    """Codes of everything verification finds: logs and holds."""
    site.settle()
    results = (*fleet.verify(site.home), *holds.verify(site.home, site.clock.now))
    return {f.code for result in results for f in result.findings}


def copies(site: Site, hold: str) -> set[int]:
    """Which records of the event log are held."""
    folder = holds.root(site.home) / hold / held.RECORDS / EVENT
    return {int(path.stem) for path in folder.glob("*.proof")}


def a_year(site: Site) -> None:
    """Everything that is there now becomes due."""
    site.pass_days(2)
    site.seal()
    site.pass_days(362)
    site.seal()


# --- what is held ---------------------------------------------------------------------------------


def test_a_hold_copies_the_records_of_its_scope_and_lets_their_neighbours_go(site: Site) -> None:
    """255 strangers must not be kept for one case."""
    mine, others = decide(site, "acme", 3), decide(site, "beta", 200)
    facts = place(site, Scope(tenant="acme"))
    assert copies(site, facts.hold) == set(mine)
    a_year(site)
    erased = site.run()
    assert {e.item.id for e in erased if e.item.sink == EVENT} >= {"tile/entries/000"}
    left = {index for index, _ in site.records(EVENT)}
    assert not left & {*mine, *others[:200]}
    assert copies(site, facts.hold) == set(mine)
    assert found(site) == set()


def test_each_copy_proves_its_record_to_a_stranger_with_the_logs_key_alone(site: Site) -> None:
    """In court the log may be gone; what is left must still be evidence."""
    first, *_ = decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    vkey = site.member(EVENT).vkey
    assert vkey is not None
    path = holds.root(site.home) / facts.hold / held.path_of(EVENT, first)
    shown = proof.check(path.read_bytes(), vkey)
    assert shown is not None
    assert record.parse(shown.entry)["tenant"] == "acme"


def test_the_evidence_says_that_and_why_something_is_held_and_never_what(site: Site) -> None:
    """Evidence is kept without end: a tenant or a subject in it would be too."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    (said,) = [r for _, r in site.records(PLACER) if r["type"] == "hold-placed"]
    assert (said["hold"], said["basis"], said["approver"], said["records"], said["logs"]) == (
        facts.hold,
        "gdpr-17-3-e",
        "legal-counsel",
        2,
        1,
    )
    assert "acme" not in str(said)
    listed = (holds.root(site.home) / facts.hold / held.MANIFEST).read_bytes()
    assert said["manifest"] == held.digest(listed)


def test_a_scope_is_narrowed_by_log_time_and_subject(site: Site) -> None:
    """Whoever asks for less must not be given more."""
    early = decide(site, "acme")
    site.pass_days(3)
    now = site.clock.now
    late = decide(site, "acme")
    person = site.gateway.record("decision", **{**DECISION, "subject": "ab" * 32}).result(10)
    site.settle()

    def chosen(scope: Scope) -> set[int]:
        one = holds.choose(site.home, scope, 1000)
        return {index for indexes in one.logs.values() for index in indexes}

    assert chosen(Scope(tenant="acme", since=now)) == {*late, person.index}
    assert chosen(Scope(tenant="acme", until=now)) == set(early)
    assert chosen(Scope(subject="ab" * 32)) == {person.index}
    assert chosen(Scope(logs=(EVENT,))) > {*early, *late, person.index}
    kinds = {dict(site.records(EVENT))[i]["type"] for i in chosen(Scope(logs=(EVENT,)))}
    assert "filler" not in kinds


@pytest.mark.parametrize("spare", [0, 1])
def test_a_scope_with_more_records_than_a_hold_may_have_is_refused(site: Site, spare: int) -> None:
    """A hold is for a case; a hold over everything is an archive."""
    decide(site, "acme", 2)
    site.settle()
    if spare == 0:
        with pytest.raises(BadInput, match="more records"):
            holds.choose(site.home, Scope(tenant="acme"), 3)
    assert holds.choose(site.home, Scope(tenant="acme"), 3 + 1).count == 4


def test_a_scope_without_records_and_a_log_that_is_none_are_refused(site: Site) -> None:
    """A hold over nothing would look like one over something."""
    site.settle()
    with pytest.raises(BadInput, match="no record"):
        holds.choose(site.home, Scope(tenant="nobody"), 10)
    with pytest.raises(UnknownName):
        holds.choose(site.home, Scope(logs=("local/gateway/nothing",)), 10)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"basis": "because"}, UnknownName),
        ({"approver": "anybody"}, UnknownName),
        ({"days": 0}, BadInput),
        ({"days": 1097}, BadInput),
        ({"days": 1096}, None),
    ],
)
def test_terms_that_the_policy_does_not_admit_are_refused(
    site: Site, change: dict[str, Any], error: type[Exception] | None
) -> None:
    """Ground, role and length are the policy's, not the caller's."""
    days = change.pop("days", 10)
    asked = replace(terms(site, days), **change)
    if error is None:
        holds.refuse(site.policy, asked, site.clock.now)
        return
    with pytest.raises(error):
        holds.refuse(site.policy, asked, site.clock.now)


def test_a_policy_without_rules_for_holds_allows_none(site: Site) -> None:
    """Silence means no."""
    silent = replace(site.policy, holds=None)
    with pytest.raises(BadInput, match="no rules"):
        holds.refuse(silent, terms(site), site.clock.now)


# --- how it ends --------------------------------------------------------------------------------


def held_receipts(site: Site) -> list[tuple[str, str]]:
    site.settle()
    return [
        (r["item"], r["rule"])
        for _, r in site.records(RECEIPTS)
        if r["type"] == "erasure" and r["log"] == "hold"
    ]


def test_at_its_expiry_the_copies_go_with_a_receipt(site: Site) -> None:
    """The date is part of the approval."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"), days=30)
    site.clock.now = facts.expires_at - timedelta(seconds=1)
    site.run()
    assert copies(site, facts.hold)
    site.clock.now = facts.expires_at
    site.run()
    assert not (holds.root(site.home) / facts.hold).exists()
    assert held_receipts(site) == [(facts.hold, "hold-expired")]
    assert found(site) == set()


def test_once_released_the_copies_go_at_the_next_run(site: Site) -> None:
    """When the case is closed the ground is gone."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    site.pass_days(1)
    release(site, facts.hold)
    assert copies(site, facts.hold), "the run erases, not the command"
    site.run()
    assert not (holds.root(site.home) / facts.hold).exists()
    assert held_receipts(site) == [(facts.hold, "hold-released")]
    site.pass_days(1)
    assert site.run() == ()
    assert held_receipts(site) == [(facts.hold, "hold-released")]
    assert found(site) == set()


def test_a_hold_is_released_once_by_a_role_that_may(site: Site) -> None:
    """Whoever may not place one may not end one."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    with pytest.raises(UnknownName):
        release(site, facts.hold, "anybody")
    with pytest.raises(UnknownName):
        release(site, "hold_ffffffffffff")
    release(site, facts.hold)
    with pytest.raises(BadInput, match="not in force"):
        release(site, facts.hold)


def test_the_states_are_listed_with_their_end(site: Site) -> None:
    """What a data protection officer looks at once a month."""
    decide(site, "acme")
    one, two = place(site, Scope(tenant="acme")), place(site, Scope(tenant="acme"), days=1)
    release(site, one.hold)
    site.pass_days(1)
    now = site.clock.now
    states = {s.facts.hold: s.state(now) for s in holds.standing(site.home)}
    assert states == {one.hold: "released", two.hold: "expired"}


def test_copies_that_outlive_their_hold_fail_the_control(site: Site) -> None:
    """The control asks for everything that is older than it may be, wherever it lies."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"), days=10)

    def state(after: timedelta) -> State:
        return answer(
            Looked(site.home, site.policy, facts.expires_at + after), "retention_met"
        ).state

    assert state(DAY) is State.PASS
    assert state(DAY + timedelta(seconds=1)) is State.FAIL
    shutil.rmtree(holds.root(site.home) / facts.hold)
    assert state(DAY + timedelta(seconds=1)) is State.PASS
    assert state(-DAY) is State.FAIL, "gone while it was in force"


# --- what is found --------------------------------------------------------------------------------


def test_copies_deleted_while_the_hold_is_in_force_are_missed(site: Site) -> None:
    """Whoever is about to be sued has a reason to delete them."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    assert found(site) == set()
    shutil.rmtree(holds.root(site.home) / facts.hold)
    assert found(site) == {"erased-under-hold"}


def test_a_release_that_nobody_recorded_makes_the_run_erase_and_verification_find_it(
    site: Site,
) -> None:
    """A file anybody can write ends the hold on this machine, and never in the evidence."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    forged = f"{PLACER}#1 {record.written(site.clock.now)}\n"
    (holds.root(site.home) / facts.hold / held.RELEASED).write_text(forged)
    site.run()
    assert held_receipts(site) == [(facts.hold, "hold-released")]
    assert found(site) == {"erased-under-hold"}


def test_copies_that_were_changed_or_added_to_are_found(site: Site) -> None:
    """A copy is only worth what its hash says."""
    first, second = decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    folder = holds.root(site.home) / facts.hold
    one, two = (folder / held.path_of(EVENT, index) for index in (first, second))
    good = one.read_bytes()
    one.write_bytes(two.read_bytes())
    assert found(site) == {"hold-differs"}
    one.write_bytes(good)
    assert found(site) == set()
    (folder / "more").write_text("kept without approval")
    assert found(site) == {"hold-differs"}


def test_a_hold_prolonged_by_hand_is_found(site: Site) -> None:
    """The end that was approved is in the evidence."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"), days=1)
    path = holds.root(site.home) / facts.hold / held.FACTS
    path.write_bytes(replace(facts, expires_at=facts.expires_at + 900 * DAY).encode())
    site.pass_days(3)
    site.run()
    assert copies(site, facts.hold)
    assert found(site) == {"hold-differs", "hold-overdue"}


def test_a_folder_that_is_no_hold_does_not_stop_a_run_and_is_found(site: Site) -> None:
    """One broken file must not keep everything else past its time."""
    decide(site, "acme", 130)
    folder = holds.root(site.home) / "hold_ffffffffffff"
    folder.mkdir(parents=True)
    (folder / held.FACTS).write_bytes(b"{}")
    a_year(site)
    assert site.run()
    assert found(site) == {"hold-differs"}


# --- crashes --------------------------------------------------------------------------------------


class Stop(Exception):
    """The machine stopped here."""


class StoppingDisk(RealDisk):
    """A disk on which nothing becomes durable any more."""

    def sync(self, path: str) -> None:
        raise Stop


@pytest.mark.parametrize("step", ["copy", "sync", "manifest", "rename", "record", "note"])
def test_a_crash_at_any_step_of_placing_leaves_a_hold_or_something_that_is_swept(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Half a hold kept for ever would be an archive that nobody approved."""
    decide(site, "acme", 3)

    def stopped(*_: Any, **__: Any) -> Any:
        raise Stop

    with monkeypatch.context() as patch:
        if step == "copy":
            patch.setattr(holds.proof, "prove", stopped)
        if step == "sync":
            patch.setattr(holds, "RealDisk", StoppingDisk)
        if step == "manifest":
            patch.setattr(holds.holds, "manifest", stopped)
        if step == "rename":
            patch.setattr(Path, "rename", stopped)
        if step == "record":
            patch.setattr("sovereign.audit.trail.Trail.record", stopped)
        if step == "note":
            patch.setattr(holds, "_note", stopped)
        patch.setattr(holds.shutil, "rmtree", lambda *_, **__: None)  # nothing tidies up in a crash
        with pytest.raises(Stop):
            place(site, Scope(tenant="acme"))
    site.pass_days(1)
    site.run()
    left = [each.recorded.partition("#")[0] for each in holds.standing(site.home)]
    assert left == ([PLACER] if step == "note" else []), "what is in the evidence is a hold"
    assert not list(holds.root(site.home).glob(".*"))
    assert found(site) == set()
    facts = place(site, Scope(tenant="acme"))
    assert len(copies(site, facts.hold)) == 6


def test_a_crash_between_receipt_and_deletion_of_copies_is_mended_by_the_next_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order as for a log: first the receipt, then the deletion."""
    decide(site, "acme")
    facts = place(site, Scope(tenant="acme"), days=1)
    site.pass_days(1)

    def stopped(*_: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(erasing.holds, "erase", stopped)
        with pytest.raises(Stop):
            site.run()
    assert copies(site, facts.hold)
    site.run()
    assert not (holds.root(site.home) / facts.hold).exists()
    assert found(site) == set()


def test_erasing_copies_twice_is_fine_and_nothing_of_them_is_left(site: Site) -> None:
    """A run that was interrupted does it again."""
    first, _ = decide(site, "acme")
    facts = place(site, Scope(tenant="acme"))
    salt = dict(site.records(EVENT))[first]["salt"]
    holds.erase(site.home, facts.hold)
    holds.erase(site.home, facts.hold)
    assert list(holds.root(site.home).iterdir()) == []
    assert not [name for name in site.files_with(salt.encode()) if name.startswith("holds")]
