"""What is opened and what is not, without a kernel."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.egress import declared, flows, pins, ruleset, shapes
from sovereign.egress.firewall import Try
from sovereign.egress.pins import Pin, Pins
from sovereign.egress.plan import Plan, plan
from sovereign.egress.shapes import File, Said
from sovereign.errors import SettingsUnreadable
from sovereign.settings import Home, Settings
from tests.attestation.site import anchored

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
POLICY = policies.load(None, "eea")
HOME = Home(Path("nowhere"), Settings())
USERS: ruleset.Users = {"engine": "64001", "gateway": "64002", "controller": "64003"}
MIRROR = Said("debian-packages", "192.0.2.1/32", 3128)
NAMED = Said("time-ptb", "time.example.org", 123, "udp")
RESOLVER = Said("public-resolver", "8.8.8.8", 53, "udp")


def planned(*said: Said, pinned: Pins | None = None) -> Plan:
    found = declared.of_site(HOME, POLICY, File(destinations=said), NOW)
    return plan(found, pinned or Pins())


def text_of(it: Plan) -> str:
    return ruleset.text(it, USERS, 30)


def test_the_same_declarations_in_any_order_give_the_same_text() -> None:
    """A ruleset that changes by itself is one whose changes nobody reads."""
    pinned = Pins(pins=(Pin("time.example.org", ("192.0.2.7",), NOW),))
    there = planned(MIRROR, NAMED, RESOLVER, pinned=pinned)
    back = planned(RESOLVER, NAMED, MIRROR, pinned=pinned)
    assert text_of(there) == text_of(back)


def test_what_the_policy_refuses_gets_no_rule_whoever_declares_it() -> None:
    """A site says where a dependency is, never that it is allowed."""
    it = planned(MIRROR, RESOLVER, Said("nobody-knows", "192.0.2.9", 443))
    assert [each.dependency for each in it.openings] == ["debian-packages"]
    assert {(gap.dependency, gap.why) for gap in it.gaps} == {
        ("public-resolver", "refused"),
        ("nobody-knows", "refused"),
    }
    assert "8.8.8.8" not in text_of(it)
    assert "192.0.2.9" not in text_of(it)


def test_a_name_is_opened_at_what_was_pinned_and_never_at_what_it_leads_to() -> None:
    """Whoever runs a name could otherwise open the way out to themselves."""
    assert [gap.why for gap in planned(NAMED).gaps] == ["not-pinned"]
    pinned = Pins(pins=(Pin("time.example.org", ("192.0.2.7", "2001:db8::7"), NOW),))
    it = planned(NAMED, pinned=pinned)
    assert [each.to for each in it.openings] == ["192.0.2.7:123/udp", "[2001:db8::7]:123/udp"]
    moved = {"time.example.org": ("192.0.2.7", "203.0.113.9")}
    (change,) = pins.changes(pinned, moved)
    assert (change.added, change.gone) == (("203.0.113.9",), ("2001:db8::7",))
    assert pins.changes(pinned, {"time.example.org": ("2001:db8::7", "192.0.2.7")}) == ()
    assert pins.changes(pinned, {"time.example.org": ()}) == ()
    assert pins.renewed(pinned, ["time.example.org"], {}, NOW) == pinned


def test_names_are_asked_for_of_what_is_allowed_only() -> None:
    """Asking for a name already tells somebody."""
    refused = Said("ollama-cloud", "ollama.com", 443)
    found = declared.of_site(HOME, POLICY, File(destinations=(NAMED, refused)), NOW)
    assert declared.names(found) == ("time.example.org",)


def test_a_service_gets_its_own_openings_and_none_of_the_hosts() -> None:
    """An engine that could use the package mirror could be told to."""
    mine = Said("debian-packages", "2001:db8::1", 3128, unit="gateway")
    lines = text_of(planned(MIRROR, mine)).splitlines()
    at = {name: lines.index(f"  chain {name} {{") for name in ("engine", "gateway", "controller")}
    assert "2001:db8::1" in lines[at["gateway"] + 1]
    assert lines[at["engine"] + 1].strip() == lines[at["controller"] + 1].strip() == "goto refuse"
    assert ruleset.drop_ins(planned(MIRROR, mine), USERS).keys() == {
        "sovereign-gateway.service.d/30-egress.conf"
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "destinations: [{dependency: a, address: 192.0.2.5/24, port: 1}]",
        "destinations: [{dependency: a, address: '192.0.2.1; accept', port: 1}]",
        "destinations: [{dependency: 'a\"', address: 192.0.2.1, port: 1}]",
        "destinations: [{dependency: a, address: 192.0.2.1, port: 0}]",
        "users: {host: root}",
        "users: {engine: 'x\" accept'}",
        "allow: everything",
    ],
)
def test_what_could_mean_something_else_to_the_firewall_is_refused(wrong: str) -> None:
    """These words end up in a file that root loads."""
    with pytest.raises(SettingsUnreadable):
        shapes.read_given(Path("egress.yaml"), f"version: 1\n{wrong}\n".encode())


def test_a_try_that_no_opening_of_its_unit_covers_is_a_finding() -> None:
    """The map of data flows is what was tried, or it is a drawing."""
    units = {64001: "engine"}
    opened = [Try(0, "192.0.2.1", "tcp", 3128, 2), Try(64001, "192.0.2.1", "tcp", 3128, 1)]
    denied = [Try(64001, "8.8.8.8", "udp", 53, 4), Try(64001, "", "icmp", 0, 1)]
    found = flows.compare(planned(MIRROR, RESOLVER), opened, denied, units, {"8.8.8.8": "x"})
    assert [(f.verdict, f.unit, f.to, f.outcome) for f in found] == [
        ("seen-and-undeclared", "engine", "192.0.2.1:3128/tcp", "let out"),
        ("seen-and-undeclared", "engine", "8.8.8.8:53/udp", "dropped"),
        ("seen-and-undeclared", "engine", "any/icmp", "dropped"),
        ("declared-and-seen", "host", "192.0.2.1:3128/tcp", ""),
    ]
    (unused,) = flows.compare(planned(MIRROR), [], [], units, {})
    assert unused.verdict == "declared-not-seen"


def test_an_anchor_of_the_policy_is_let_out_to_over_udp_by_the_controller_alone() -> None:
    """It measures how far a host is; a firewall in between would make every host unproven."""
    found = declared.of_site(HOME, anchored(POLICY, "frankfurt"), File(), NOW)
    (opening,) = plan(found, Pins()).openings
    assert (opening.dependency, opening.unit) == ("anchor-frankfurt", "controller")
    assert opening.to == "192.0.2.1:7411/udp"
