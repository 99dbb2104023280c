"""Recorded questions are asked again of two policies, as they were asked; what differs is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign import fleet
from sovereign import policy as policies
from sovereign.audit import record, tiles
from sovereign.audit import trail as trails
from sovereign.audit.trail import Trail
from sovereign.evidence import replay as replaying
from sovereign.evidence.replay import Replay, Replayed, replay
from sovereign.policy import Policy
from sovereign.policy.spoken import Principal
from sovereign.settings import Home, Settings
from tests.access.rules import MODEL, with_rules
from tests.policy.conftest import SHIPPED

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NO_TESTS = 'forbid (principal, action, resource) when { principal.purpose == "tests" };'
NO_FIM = 'forbid (principal, action == Action::"fim", resource);'
NO_TESTERS = 'forbid (principal in Role::"tester", action, resource);'


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return policies.load(SHIPPED)


def asked(at: datetime = NOW, **more: Any) -> dict[str, Any]:
    """The fields of a decision record."""
    fields: dict[str, Any] = {
        "request": 1,
        "tenant": "acme",
        "key": "key_1",
        "purpose": "work",
        "basis": "contract",
        "data": "personal",
        "verb": "process",
        "model": MODEL,
        "endpoint": "local-vllm",
        "engine": "vllm",
        "place": "ovh:GRA11",
        "listener": "10.0.0.1:1",
        "asked_at": record.written(at),
        "verdict": "allow",
        "rule": "personal-data-stays-in-eea",
        "policy": "0" * 64,
    }
    return fields | more


def verdicts(it: Replay, **more: Any) -> tuple[str, str]:
    before, after = it.ask(asked(**more))
    return str(before), str(after)


ALLOWED = "allow by personal-data-stays-in-eea"


def test_what_a_record_holds_is_what_is_asked(tmp_path: Path, shipped: Policy) -> None:
    """Purpose, kind of call and place come from the record, not from how things are today."""
    it = Replay(shipped, with_rules(tmp_path, NO_TESTS, NO_FIM), {})
    assert verdicts(it) == (ALLOWED, ALLOWED)
    assert verdicts(it, purpose="tests") == (ALLOWED, "refuse by own-0")
    assert verdicts(it, call="fim") == (ALLOWED, "refuse by own-1")
    refused = "refuse by personal-data-stays-in-eea"
    assert verdicts(it, place="aws:us-east-1", purpose="tests") == (refused, refused)


def test_freshness_is_judged_at_the_time_that_was_recorded(tmp_path: Path, shipped: Policy) -> None:
    """A question of last month is judged by what was fresh last month."""
    strict = replace(
        shipped,
        residency=tuple(
            replace(rule, max_age_days=1) if rule.kind == "fresh" else rule
            for rule in shipped.residency
        ),
    )
    it = Replay(shipped, strict, {})
    checked = shipped.places["ovh:GRA11"].checked_on
    then = datetime(checked.year, checked.month, checked.day, 9, tzinfo=UTC)
    assert verdicts(it, at=then) == (ALLOWED, ALLOWED)
    assert verdicts(it, at=then + timedelta(days=2))[1] == "refuse by place-facts-are-fresh"


def test_a_key_of_the_site_is_asked_about_with_its_roles(tmp_path: Path, shipped: Policy) -> None:
    """Records do not hold roles; a key that is still there does."""
    key = Principal("key_1", "acme", "work", "contract", "personal", roles=("tester",))
    new = with_rules(tmp_path, NO_TESTERS)
    assert verdicts(Replay(shipped, new, {"key_1": key}))[1] == "refuse by own-0"
    assert verdicts(Replay(shipped, new, {}))[1] == ALLOWED


def home_with(root: Path, count: int, **more: Any) -> Home:
    """A site whose gateway decided about so many calls an hour ago, and one of before."""
    home = Home(root, Settings())
    now = [NOW - timedelta(days=40)]
    trails.create(home.audit, home.keys, home.trust, "gateway", "local")
    opened = (home.audit, home.keys, "gateway", "local", lambda: now[0])
    with Trail.open(*opened, trust=home.trust) as log:
        log.record("decision", **asked()).result(60)
        now[0] = NOW - timedelta(hours=1)
        for each in [log.record("decision", **asked(**more)) for _ in range(count)]:
            each.result(60)
    return home


def sources(home: Home) -> list[Any]:
    return [fleet.source(m) for m in fleet.members(home) if m.stream == "event"]


def test_only_the_last_days_are_asked_again_and_alike_ones_are_counted(
    tmp_path: Path, shipped: Policy
) -> None:
    """Whoever decides wants numbers, and one record of each kind to look at."""
    home = home_with(tmp_path / "home", 700, purpose="tests")
    new = with_rules(tmp_path, NO_TESTS)
    done = replay(sources(home), NOW - timedelta(days=30), shipped, new, {})
    assert (done.asked, done.changed, done.gone) == (700, 700, 0)
    ((kind, count),) = done.counts.items()
    assert (count, kind.place, str(kind.after)) == (700, "ovh:GRA11", "refuse by own-0")
    assert done.example[kind].startswith("local/gateway/event#")
    assert replay(sources(home), NOW, shipped, new, {}).asked == 0
    assert replay(sources(home), NOW - timedelta(days=50), shipped, new, {}).asked == 701


def test_what_cannot_be_read_is_counted_and_not_passed_over(
    tmp_path: Path, shipped: Policy
) -> None:
    """`nothing changes` must not mean that half of the records were gone."""
    home = home_with(tmp_path / "home", 700, purpose="tests")
    (home.audit / "gateway/event" / tiles.bundle_path(1, 256)).unlink()
    done = replay(sources(home), NOW - timedelta(days=30), shipped, with_rules(tmp_path), {})
    assert done.gone == 256


def test_kinds_are_bounded_and_the_rest_is_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log can hold a thousand models at a thousand places; memory must not grow with it."""
    monkeypatch.setattr(replaying, "KINDS_MAX", 2)
    done = Replayed()
    allow, refuse = replaying.Answer(True, "a"), replaying.Answer(False, "b")
    for number in range(5):
        kind = replaying.Kind(allow, refuse, f"place-{number}", "personal", "process", "m")
        done.note(kind, "r")
        done.note(kind, "r")
    assert (len(done.counts), done.changed, done.others) == (2, 10, 6)


def test_nothing_of_a_person_is_in_what_comes_out(tmp_path: Path, shipped: Policy) -> None:
    """The diff is shown around in meetings; it names places and models, never whom."""
    home = home_with(tmp_path / "home", 3, purpose="tests", subject="f00d" * 16, tenant="smith")
    done = replay(
        sources(home), NOW - timedelta(days=30), shipped, with_rules(tmp_path, NO_TESTS), {}
    )
    shown = msgspec.json.encode([msgspec.to_builtins(kind) for kind in done.counts]).decode()
    assert "f00d" not in shown
    assert "smith" not in shown
