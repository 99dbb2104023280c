"""What the controller shows of incidents, and that the alarms ring when the policy says."""

import re
from pathlib import Path

import yaml

from sovereign.controller import exposed
from sovereign.incidents.ledger import Known, Ledger
from tests.incidents.making import DAY, HOUR, INC, NOW, POLICY, done, home_at, incident, opening
from tests.observed.prometheus import ALERTS


def shown(known: Known) -> dict[tuple[str, tuple[str, ...]], float]:
    found = exposed.of_incidents(known, POLICY, NOW)
    return {(gauge.name, labels): value for gauge, labels, value in found}


def test_the_time_left_of_each_duty_and_how_many_are_open_are_shown() -> None:
    """One series a duty of the law: whoever opens a thousand incidents makes no thousand series."""
    it = done(incident(NOW - 60 * HOUR), "gdpr-34-1", NOW)
    many = {f"inc_{n}": it for n in range(1000)}
    assert shown(Known(many, {})) == {
        ("sovereign_incidents_open", ("suspected",)): 1000,
        ("sovereign_incidents_open", ("confirmed",)): 0,
        ("sovereign_incident_due_seconds", ("gdpr-33-1",)): 12 * 3600,
        ("sovereign_incident_due_seconds", ("gdpr-33-2",)): -36 * 3600,
    }


def test_without_an_incident_there_is_nothing_due(tmp_path: Path) -> None:
    """A zero would be an alarm."""
    known = Ledger(home_at(tmp_path)).look()
    assert shown(known) == {
        ("sovereign_incidents_open", ("suspected",)): 0,
        ("sovereign_incidents_open", ("confirmed",)): 0,
    }


def test_the_alarms_ring_at_the_hours_that_the_policy_names() -> None:
    """The hours stand in two files; this is what keeps them one."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if rule["alert"] == "incident-due"]
    upper = {int(re.findall(r"<= (\d+)", rule["expr"])[0]) // 3600 for rule in rules}
    lower = {int(re.findall(r">=? (\d+)", rule["expr"])[0]) // 3600 for rule in rules}
    assert upper == set(POLICY.audit.incidents.warn_hours)
    assert lower == (upper - {max(upper)}) | {0}
    assert {rule["labels"]["about"] for rule in rules} == {f"{hours}h" for hours in upper}


def test_a_suspected_incident_that_nobody_looks_at_rings_before_each_clock_runs_out() -> None:
    """It is opened with its clocks running; that is what the first alarm is about."""
    assert opening(NOW).fields["incident"] == INC
    late = shown(Known({INC: incident(NOW - 4 * DAY)}, {}))
    assert late["sovereign_incident_due_seconds", ("gdpr-33-1",)] == -24 * 3600
