"""What the controller does with what is said about a host's place."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sovereign.attestation import kept, running
from sovereign.attestation.judge import HostPlace
from sovereign.attestation.papers import Attestation
from sovereign.attestation.standing import of_site
from sovereign.audit.trail import Trail
from sovereign.controller.act import act
from sovereign.controller.attesting import Attesting
from sovereign.controller.plan import plan
from sovereign.errors import LogUnwritable
from sovereign.incidents.ledger import Ledger
from sovereign.incidents.opening import Opening
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import EndpointSettings, Home
from tests.attestation.site import (
    EEA,
    IMMUNE,
    NEAR_MS,
    PLACE,
    anchored,
    made,
    measuring,
    saying,
    signed_now,
)
from tests.controller.seen import NOW, POLICY, SILENT, attested, showing, sight, wanted

HERE = sight(asked_for=wanted(PLACE))
VOUCHED = HostPlace("vouched", "vouched for by operator, provider", NOW + timedelta(hours=5))
DISAGREES = HostPlace("disagrees", "metadata: the provider says hetzner:ash")
UNPROVEN = HostPlace("unproven", "statement: nobody signed a statement")


def steps(place: HostPlace | None, *stands: object) -> list[tuple[str, str, str]]:
    places = {} if place is None else {"local-llamacpp": place}
    made_ = plan(POLICY, (HERE,), showing(*stands), NOW, places=places)
    return [(step.verb, step.endpoint.quarantine, step.signal) for step in made_.steps]


def test_a_vouched_host_is_attested_by_more_than_its_operators_word() -> None:
    """And the record says which it was."""
    assert steps(VOUCHED) == [("attest", "", "place-attestation")]
    assert steps(None) == [("attest", "", "operator-statement")]


@pytest.mark.parametrize(
    ("place", "code"), [(DISAGREES, "attestation-disagrees"), (UNPROVEN, "place-unproven")]
)
def test_a_host_that_is_not_vouched_for_is_shut_within_the_round(
    place: HostPlace, code: str
) -> None:
    """With the reason, and once: a second round repeats nothing."""
    (step,) = plan(
        POLICY, (HERE,), showing(attested(NOW, place=PLACE)), NOW, places={HERE.wanted.id: place}
    ).steps
    assert (step.verb, step.endpoint.quarantine) == ("quarantine", code)
    assert step.endpoint.reason == place.reason
    again = plan(POLICY, (HERE,), showing(step.endpoint), NOW, places={HERE.wanted.id: place})
    assert again.steps == ()


def test_an_endpoint_is_vouched_for_no_longer_than_its_host() -> None:
    """Half a minute more than a day would be more than a day."""
    soon = HostPlace("vouched", "", NOW + timedelta(seconds=7))
    (step,) = plan(POLICY, (HERE,), showing(), NOW, places={HERE.wanted.id: soon}).steps
    assert step.endpoint.expires_at == NOW + timedelta(seconds=7)


def test_what_is_wrong_with_an_endpoint_itself_comes_first() -> None:
    """One reason a time, the nearest first."""
    seen = sight(SILENT, asked_for=wanted(PLACE))
    (step,) = plan(POLICY, (seen,), showing(), NOW, places={HERE.wanted.id: DISAGREES}).steps
    assert step.endpoint.quarantine == "engine-unhealthy"


def test_every_endpoint_of_a_host_shares_what_stands_about_it(tmp_path: Path) -> None:
    """And one of another host does not."""
    two = (
        EndpointSettings("second", "vllm", "m", "127.0.0.1:9001", PLACE, host="local"),
        EndpointSettings("third", "vllm", "m", "127.0.0.1:9002", PLACE),
    )
    home = made(tmp_path, endpoints=two)
    outcome = running.run_here(home, EEA, utcnow, fetch=saying("ash"), ask=measuring({}))
    kept.keep(home, outcome, kept.signed(outcome, running.signing_key(home)))
    found = of_site(home, EEA, utcnow())
    assert {name: each.verdict for name, each in found.items()} == {
        "local-llamacpp": "disagrees",
        "second": "disagrees",
    }


class Running:
    """Runs of a host whose metadata service a test chooses; they are counted."""

    def __init__(self, zone: str = "fsn1") -> None:
        self.zone, self.count = zone, 0

    def __call__(self, home: Home, policy: Policy, clock: object) -> Attestation:
        self.count += 1
        reached = {"fetch": saying(self.zone), "ask": measuring(NEAR_MS)}
        return running.run_here(home, policy, utcnow, **reached)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    it = made(tmp_path)
    signed_now(it)
    return it


def opened(home: Home) -> Trail:
    return Trail.open(home.audit, home.keys, "controller", "local", utcnow, trust=home.trust)


@pytest.fixture
def trail(home: Home) -> Iterator[Trail]:
    with opened(home) as it:
        yield it


def vouching(home: Home, trail: Trail, run: Running, policy: Policy = EEA) -> Attesting:
    return Attesting(home, anchored(policy), trail, utcnow, run)


def test_a_run_is_recorded_and_kept(home: Home, trail: Trail) -> None:
    """First the record, then what it is about."""
    before = trail.record("policy-loaded", policy="p", profile="eea").result(10).index
    vouching(home, trail, Running()).run()
    outcome = kept.newest(home, "local")
    assert outcome is not None
    assert outcome.verdict == "proves"
    after = trail.record("policy-loaded", policy="p", profile="eea").result(10).index
    assert after == before + 2


def test_what_cannot_be_recorded_vouches_for_nobody_and_what_disagrees_is_kept_all_the_same(
    home: Home, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusing is the safe side; vouching without a record is not."""

    def full(*_: object, **__: object) -> None:
        raise LogUnwritable("the disk is full")

    monkeypatch.setattr(trail, "record", full)
    vouching(home, trail, Running()).run()
    assert kept.newest(home, "local") is None
    vouching(home, trail, Running("ash")).run()
    stands = kept.newest(home, "local")
    assert stands is not None
    assert stands.verdict == "contradicts"


def test_a_contradiction_is_an_event(
    home: Home, trail: Trail, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever watches the log of events hears of it, in a word that is a runbook."""
    vouching(home, trail, Running("ash")).run()
    out = "".join(capfd.readouterr())
    assert '"event":"attestation-disagrees"' in out
    assert '"host":"local"' in out


@pytest.mark.parametrize(
    ("after", "due"),
    [(timedelta(hours=5), False), (timedelta(hours=7), True), (timedelta(hours=-1), True)],
)
def test_a_run_is_due_in_the_second_half_of_what_stands(
    home: Home, trail: Trail, after: timedelta, due: bool
) -> None:
    """Renewed in time, and not each round: a run asks others."""
    attesting = vouching(home, trail, Running())
    assert attesting.is_due(utcnow())
    attesting.run()
    assert attesting.is_due(utcnow() + after) is due


def test_a_run_that_did_not_suffice_is_tried_again_after_a_minute(home: Home, trail: Trail) -> None:
    """Neither each five seconds nor never."""
    run = Running("ash")
    attesting, now = vouching(home, trail, run), utcnow()
    assert _started(attesting, now)
    assert not attesting.is_due(now + timedelta(seconds=59))
    assert attesting.is_due(now + timedelta(seconds=60))
    assert run.count == 1


def test_another_policy_is_a_reason_to_run_at_once(home: Home, trail: Trail) -> None:
    """Under other rules the same papers may say something else."""
    vouching(home, trail, Running()).run()
    assert not vouching(home, trail, Running()).is_due(utcnow())
    assert vouching(home, trail, Running(), IMMUNE).is_due(utcnow())


@pytest.mark.parametrize(
    "chosen", [{"place": "this-host"}, {"bound": False}], ids=["this-host", "no-key"]
)
def test_a_site_that_has_nothing_to_attest_is_left_alone(
    tmp_path: Path, chosen: dict[str, object]
) -> None:
    """The laptop of the first deployment asks nobody anything."""
    it = made(tmp_path / "other", **chosen)
    opened = (it.audit, it.keys, "controller", "local", utcnow)
    with Trail.open(*opened, trust=it.trust) as log:
        assert not Attesting(it, EEA, log, utcnow, Running()).is_due(utcnow())
    assert of_site(it, EEA, utcnow()) == {}


def _started(attesting: Attesting, now: datetime) -> bool:
    attesting.start_when_due(now)
    thread = attesting._thread
    if thread is not None:
        thread.join(20)
    return thread is not None


def test_a_host_that_is_found_elsewhere_is_shut_and_an_incident_is_suspected(home: Home) -> None:
    """From the provider's word to the clock of GDPR Art. 33, with real log and registry."""
    registry, now = Registry(home.registry, writable=True), utcnow()
    with opened(home) as trail:
        vouching(home, trail, Running("ash")).run()
        stands = of_site(home, EEA, now)
        assert act(plan(EEA, (HERE,), registry.snapshot(), now, places=stands), registry, trail)
    (shut,) = registry.snapshot().endpoints
    assert shut.quarantine == "attestation-disagrees"
    with opened(home) as trail:  # what is closed is published, and that is what is read
        Opening(home, EEA, trail).look(utcnow())
    (case,) = Ledger(home).look().incidents.values()
    assert (case.cause, case.about, case.state) == ("residency-drift", shut.id, "suspected")
