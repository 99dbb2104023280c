"""What is overdue of a class whose rule says so shuts every endpoint, until it is gone."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.controller import retain
from sovereign.controller.plan import plan
from sovereign.controller.retain import Retaining
from sovereign.policy import Policy
from sovereign.registry import Snapshot
from sovereign.sinks import files
from tests.controller.seen import NOW, POLICY, sight
from tests.retention.site import DAY, Site

EVENT = "local/gateway/event"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def shutting(policy: Policy, *classes: str) -> Policy:
    """The policy with the rule set for these classes alone."""
    from msgspec.structs import replace as changed

    return replace(
        policy,
        retention={
            name: changed(kept, before_serving=name in classes)
            for name, kept in policy.retention.items()
        },
    )


def core(site: Site, hours: float) -> Path:
    """A core file of the site, so many hours old."""
    path = site.home.root / "core.7"
    path.write_text("x")
    when = (site.clock.now - timedelta(hours=hours)).timestamp()
    os.utime(path, (when, when))
    return path


def refusing(*_: object) -> str:
    return "the file system is read-only"


def started(site: Site, policy: Policy | None = None) -> Retaining:
    site.settle()
    return Retaining(site.home, policy or site.policy, site.controller, site.clock.ticks)


def test_a_shut_site_is_quarantined_with_the_classes_and_released_when_they_are_gone() -> None:
    """The reason is the runbook's name, and says no more than classes."""
    (step,) = plan(POLICY, (sight(),), Snapshot(1, ()), NOW, overdue=("content",)).steps
    assert (step.verb, step.endpoint.quarantine) == ("quarantine", "retention-overdue")
    assert step.endpoint.reason == "past its time and still there: content"
    shut = Snapshot(2, (step.endpoint,))
    assert [s.verb for s in plan(POLICY, (sight(),), shut, NOW).steps] == ["attest", "release"]


@pytest.mark.parametrize(("hours", "classes"), [(23.9, ()), (24.1, ("content",))])
def test_content_that_cannot_be_erased_shuts_the_site_after_one_interval(
    site: Site, monkeypatch: pytest.MonkeyPatch, hours: float, classes: tuple[str, ...]
) -> None:
    """The shipped rule: prompts in a core file are the worst that can lie about."""
    core(site, hours)
    monkeypatch.setattr(files.Files, "refusal", refusing)
    retaining = started(site)
    retaining.run_when_due(site.clock.now)
    assert retaining.shutting == classes


def test_the_site_opens_again_a_minute_after_it_could_be_erased(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the next run in half a day."""
    path = core(site, 30)
    retaining = started(site)
    with monkeypatch.context() as patch:
        patch.setattr(files.Files, "refusal", refusing)
        retaining.run_when_due(site.clock.now)
    assert retaining.shutting
    site.clock.now += retain.AGAIN_AFTER
    retaining.run_when_due(site.clock.now)
    assert (path.exists(), retaining.shutting) == (False, ())


def test_what_a_backup_brought_back_is_gone_before_the_first_round(site: Site) -> None:
    """Logs and files both; nothing was vouched for in between."""
    path = core(site, 30)
    site.decide(256)
    site.pass_days(366)
    retaining = started(site)
    retaining.before_serving(site.clock, lambda: False)
    assert not path.exists()
    assert not (site.member(EVENT).folder / "tile/entries/000").exists()
    assert retaining.shutting == ()


def test_a_doubted_clock_erases_nothing_and_shuts_what_would_be_overdue_by_it(site: Site) -> None:
    """Either the clock is wrong, or data are there that should not be: nobody knows, so no."""
    site.decide(256)
    started(site).run_when_due(site.clock.now)
    site.pass_days(400)
    for policy, classes in ((site.policy, ()), (shutting(site.policy, "event"), ("event",))):
        retaining = started(site, policy)
        retaining.before_serving(site.clock, lambda: False)
        assert retaining.doubt
        assert retaining.shutting == classes
    assert (site.member(EVENT).folder / "tile/entries/000").exists()


def test_a_first_run_that_takes_long_does_not_keep_the_rounds_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attestations end after half a minute; a large site must not be shut by a restart."""
    monkeypatch.setattr(retain, "BEFORE_SERVING_S", 0.0)
    monkeypatch.setattr(retain, "ERASES_A_ROUND_S", 0.0)
    site.pass_days(int(DAY.days))
    retaining = started(site)
    retaining.before_serving(site.clock, lambda: False)
    assert retaining.ran_at is None
    for _ in range(40):
        retaining.run_when_due(site.clock.now)
    assert retaining.ran_at is not None
