"""Hetzner Cloud: what the guard refuses of it, and the real engine on its example."""

import json
import re
from datetime import UTC, datetime
from inspect import getsource

import msgspec
import pytest
from pulumi_policy.proxy import unknown_checking_proxy

from infra import offers, resolve, stack
from infra.clouds import hetzner
from infra.engine import Rehearsal
from infra.guard import hetzner as refused
from infra.guard import pack, rules
from infra.guard.rules import UNKNOWN, Resource, judge
from infra.guard.types import PLACED, PROVIDER
from infra.simulator import hetzner as catalogue
from infra.simulator.account import Account, CloudRefused
from infra.simulator.hetzner import (
    FIREWALL,
    NETWORK,
    SERVER,
    SSH_KEY,
    SUBNET,
    TYPES,
    VOLUME,
    VOLUME_ATTACHMENT,
)
from infra.simulator.shapes import Kind
from sovereign.errors import StackUnreadable
from tests.infra import sdk

EXAMPLE = "hetzner-example"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LABELS = {"data": "personal", "cost": "somebody"}
MACHINE = {
    "location": "fsn1",
    "serverType": "ccx13",
    "image": "debian-12",
    "sshKeys": ["1"],
    "firewallIds": [2.0],
    "labels": LABELS,
}
DISK = {"location": "fsn1", "size": 50.0, "labels": LABELS}
OPEN = {"direction": "in", "protocol": "tcp", "port": "22", "sourceIps": ["192.0.2.0/24"]}
EEA_RULE = "personal-data-stays-in-eea"


def refusing(policy, kind, inputs, *, protected=True):
    asked = Resource(kind, "urn::it", inputs, {}, protected)
    return {answer.rule for answer in judge(policy, asked, NOW) if not answer.allowed}


@pytest.mark.parametrize(
    ("location", "rules_that_refuse"),
    [
        ("fsn1", set()),
        ("nbg1", set()),
        ("hel1", set()),
        ("ash", {EEA_RULE}),  # Virginia: the same firm, the same interface, one word
        ("hil", {EEA_RULE}),
        ("sin", {EEA_RULE}),
        ("fsn1-dc14", {"place-is-known"}),
        ("FSN1", {"place-is-known"}),
        ("eu-central-1", {"place-is-known"}),
        ("fr-par-2", {"place-is-known"}),
        (None, {rules.PLACE_STATED}),
        (UNKNOWN, {rules.PLACE_STATED}),
    ],
)
@pytest.mark.parametrize(("kind", "inputs"), [(SERVER, MACHINE), (VOLUME, DISK)])
def test_a_machine_and_its_data_stand_in_the_eea_or_nowhere(
    eea, kind, inputs, location, rules_that_refuse
):
    """Three of this cloud's six locations are outside, under short names that say nothing."""
    assert refusing(eea, kind, {**inputs, "location": location}) == rules_that_refuse


@pytest.mark.parametrize(
    ("zone", "rules_that_refuse"),
    [("eu-central", set()), ("us-east", {EEA_RULE}), ("eu-west", {"place-is-known"})],
)
def test_a_network_is_placed_by_the_zone_of_its_subnet(eea, zone, rules_that_refuse):
    """A subnet reaches every location of its zone, so all of them are asked about."""
    assert refusing(eea, SUBNET, {"networkZone": zone}) == rules_that_refuse


@pytest.mark.parametrize(
    ("kind", "changed", "rule"),
    [
        (SERVER, {"sshKeys": []}, refused.KEYS_ONLY),
        (SERVER, {"sshKeys": None}, refused.KEYS_ONLY),
        (SERVER, {"firewallIds": []}, refused.DOOR_CLOSED),
        (SERVER, {"backups": True}, refused.COPIES_STAY),
        (SERVER, {"backups": UNKNOWN}, refused.COPIES_STAY),
        (SERVER, {"labels": {"data": "personal"}}, refused.DATA_TAGGED),
        (SERVER, {"datacenter": "ash-dc1"}, "place-is-known"),
        (VOLUME, {"labels": UNKNOWN}, refused.DATA_TAGGED),
        (FIREWALL, {"rules": UNKNOWN}, refused.DOOR_CLOSED),
        (FIREWALL, {"rules": [UNKNOWN]}, refused.DOOR_CLOSED),
        (FIREWALL, {"rules": [{**OPEN, "direction": UNKNOWN}]}, refused.DOOR_CLOSED),
        *(
            (FIREWALL, {"rules": [{**OPEN, "sourceIps": sources}]}, refused.DOOR_CLOSED)
            for sources in (["0.0.0.0/0"], ["192.0.2.0/24", "::/0"], [], UNKNOWN, [UNKNOWN])
        ),
    ],
)
def test_what_opens_a_machine_or_lets_copies_leave_is_refused_by_rule(eea, kind, changed, rule):
    """Each is one line in a program, and none of them names a place."""
    good = {SERVER: MACHINE, VOLUME: DISK, FIREWALL: {"rules": [OPEN]}}[kind]
    assert not refusing(eea, kind, {**good, "backups": False} if kind == SERVER else good)
    assert refusing(eea, kind, {**good, **changed}) == {rule}


def test_an_outbound_rule_may_name_everywhere(eea):
    """What a machine may ask is narrowed on the machine, by the role `egress`."""
    out = {"direction": "out", "protocol": "tcp", "port": "443", "destinationIps": ["0.0.0.0/0"]}
    assert not refusing(eea, FIREWALL, {"rules": [out]})


def test_data_without_protection_is_refused(eea):
    """One edited line must not delete a volume."""
    assert refusing(eea, VOLUME, DISK, protected=False) == {rules.DATA_PROTECTED}


@pytest.mark.parametrize("word", ["snapshot", "uploadedCertificate", "managedCertificate"])
def test_what_would_rest_where_the_cloud_does_not_say_is_refused(eea, word):
    """A snapshot is the whole disk once more."""
    kind = f"hcloud:index/{word}:{word[0].upper()}{word[1:]}"
    assert refusing(eea, kind, {}) == {rules.PLACE_STATED}


def test_a_storage_box_needs_a_password_and_is_refused_for_it(eea):
    """A bucket by another name, whose door is a password."""
    box = {"location": "fsn1", "password": "guessed", "labels": LABELS}  # pragma: allowlist secret
    assert refusing(eea, "hcloud:index/storageBox:StorageBox", box) == {refused.KEYS_ONLY}


@pytest.mark.parametrize("name", ["endpoint", "endpointHetzner"])
def test_a_provider_that_calls_elsewhere_is_refused_though_it_has_no_place(eea, name):
    """With another address behind it, a location is only a word."""
    assert not refusing(eea, PROVIDER + "hcloud", {})
    asked = {name: "https://elsewhere.example"}
    assert refusing(eea, PROVIDER + "hcloud", asked) == {rules.PROVIDER_DIRECT}


def test_a_type_that_this_cloud_adds_tomorrow_is_refused(eea):
    """Nobody has said where it keeps data."""
    assert refusing(eea, "hcloud:index/brain:Brain", MACHINE) == {rules.TYPE_KNOWN}


def test_a_list_as_the_engine_hands_it_over_is_read_to_its_end(eea):
    """It is no list of Python's own; passed over, it would hide a place or an open door."""
    shown = pack._plain(unknown_checking_proxy({"replicas": [{"region": "us-east"}]}))
    assert shown == {"replicas": [{"region": "us-east"}]}
    assert "place-is-known" in refusing(eea, "scaleway:network/vpc:Vpc", shown)


@pytest.mark.parametrize("kind", TYPES)
def test_the_simulator_knows_no_property_that_the_real_type_does_not_have(kind):
    """A simulator that accepts more than the cloud gives plans that fail on the day."""
    real, known = sdk.inputs(kind), TYPES[kind].properties
    assert set(known) <= set(real)
    assert {name for name, must in real.items() if must} == {
        name for name, field in known.items() if field.required
    }
    nested = {"rules": "FirewallRuleArgs", "publicNets": "ServerPublicNetArgs"}
    for name, field in known.items():
        if field.kind is Kind.PARTS:
            assert set(field.fields) <= set(sdk.nested("hcloud", "index", nested[name]))


def test_every_type_the_program_uses_is_known_and_no_other():
    """A type that nothing uses is a type that nothing tests."""
    used = set(re.findall(r"hcloud\.([A-Z]\w+)\(", getsource(hetzner)))
    assert used - {"Provider", "FirewallRuleArgs"} == {kind.rpartition(":")[2] for kind in TYPES}
    assert hetzner.IMAGE in catalogue.IMAGES


def test_the_shops_locations_are_exactly_those_of_the_policys_table(eea):
    """Two lists of one thing: the cloud's own, and the one that says whose law they are under."""
    rows = {p.zone: p.region for p in eea.places.values() if p.provider == "hetzner"}
    assert rows == dict(offers.shop("hetzner").region_of)


@pytest.fixture
def account(tmp_path):
    return Account(tmp_path / "books.json", offers.shop("hetzner"))


@pytest.mark.parametrize(
    ("kind", "inputs", "failing"),
    [
        (SERVER, MACHINE, []),
        (SERVER, {**MACHINE, "location": "fsn2"}, ["location"]),
        (SERVER, {**MACHINE, "location": "fr-par-2"}, ["location"]),
        (SERVER, {**MACHINE, "serverType": "H100-1-80G"}, ["serverType"]),
        (SERVER, {**MACHINE, "image": "debian_bookworm"}, ["image"]),
        (SERVER, {**MACHINE, "firewallIds": ["two"]}, ["firewallIds"]),
        (SERVER, {**MACHINE, "zone": "fsn1"}, ["zone"]),
        (VOLUME, DISK, []),
        (VOLUME, {**DISK, "size": 9.0}, ["size"]),
        (VOLUME, {"location": "fsn1"}, ["size"]),
        (NETWORK, {"ipRange": "10.0.0.0/16"}, []),
        (NETWORK, {"ipRange": "203.0.114.0/24"}, ["ipRange"]),
        (SUBNET, {"networkId": 1.0, "ipRange": "10.0.0.0/24", "type": "vswitch"}, None),
        (FIREWALL, {"rules": [OPEN]}, []),
        (FIREWALL, {"rules": [{**OPEN, "port": "0"}]}, ["rules[0].port"]),
        (FIREWALL, {"rules": [{**OPEN, "port": "90-80"}]}, ["rules[0].port"]),
        (FIREWALL, {"rules": [{**OPEN, "direction": "out"}]}, ["rules[0]", "rules[0]"]),
        (FIREWALL, {"rules": [{**OPEN, "protocol": "TCP"}]}, ["rules[0].protocol"]),
        ("hcloud:index/snapshot:Snapshot", {"serverId": 1.0}, [""]),
    ],
)
def test_the_simulated_cloud_refuses_what_the_real_one_would(account, kind, inputs, failing):
    """A simulator that says yes to everything proves nothing."""
    found = [failure.property for failure in account.check(kind, inputs)]
    assert found[:1] == failing[:1] if failing is not None else found


def test_a_setting_of_another_clouds_provider_is_refused(account):
    """Region and zone mean nothing here, and must not look as if they did."""
    failures = account.check_config({"token": "t", "region": "fsn1"})
    assert [failure.property for failure in failures] == ["region"]


def test_a_volume_is_not_attached_across_locations(account):
    """Falkenstein and Helsinki are one network zone, and two places for a disk."""
    key, _ = account.create(SSH_KEY, "urn:key", {"publicKey": "ssh-ed25519 AAAA"})
    wall, _ = account.create(FIREWALL, "urn:wall", {"rules": [OPEN]})
    inputs = {**MACHINE, "sshKeys": [key], "firewallIds": [float(wall)]}
    machine, given = account.create(SERVER, "urn:machine", inputs)
    assert given["ipv4Address"].startswith("203.0.113.")
    near, _ = account.create(VOLUME, "urn:near", DISK)
    far, _ = account.create(VOLUME, "urn:far", {**DISK, "location": "hel1"})
    wish = {"serverId": float(machine), "volumeId": float(far)}
    with pytest.raises(CloudRefused, match="is in hel1, not in fsn1"):
        account.create(VOLUME_ATTACHMENT, "urn:joined", wish)
    account.create(VOLUME_ATTACHMENT, "urn:joined", {**wish, "volumeId": float(near)})
    with pytest.raises(CloudRefused, match="still used"):
        account.delete(near)


@pytest.fixture(scope="session")
def hetzner_site(eea):
    return resolve.site(EXAMPLE, stack.load(EXAMPLE), eea, offers.shop("hetzner"))


def test_a_stack_that_wants_a_bucket_here_is_refused_by_name(stacks):
    """Better than a site whose backups go nowhere."""
    path = stacks / f"{EXAMPLE}.yaml"
    path.write_text(path.read_text() + "\nbackups: {bucket: some-bucket, kept_days: 7}\n")
    with pytest.raises(StackUnreadable, match="no bucket"):
        stack.load(EXAMPLE, stacks)


@pytest.mark.pulumi
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_example_is_made_on_the_real_engine_and_leaves_nothing(tmp_path, cli, hetzner_site):
    """Real engine, real SDK, real guard; set equality of types, ports and networks."""
    rehearsal = Rehearsal(tmp_path / "home", cli, hetzner_site)
    made = rehearsal.up()
    assert made.finished, made.said
    assert {step.urn for step in made.announced} == {answer.resource for answer in made.judged}
    assert {answer.place for answer in made.judged if answer.kind == SERVER} == {"hetzner:fsn1"}
    standing = json.loads(rehearsal.books.read_text()).values()
    assert sorted(entry["kind"] for entry in standing) == sorted(TYPES)
    (wall,) = [entry["inputs"] for entry in standing if entry["kind"] == FIREWALL]
    opened = {(r["port"], *r["sourceIps"]) for r in wall["rules"] if r["direction"] == "in"}
    assert opened == {("22", "192.0.2.0/24"), ("8080", "192.0.2.0/24")}
    assert not rehearsal.destroy().finished
    assert VOLUME in {e["kind"] for e in json.loads(rehearsal.books.read_text()).values()}
    rehearsal.unprotect()
    assert rehearsal.destroy().finished
    assert json.loads(rehearsal.books.read_text()) == {}


@pytest.mark.pulumi
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_example_moved_to_virginia_is_refused_and_nothing_with_a_place_is_made(
    tmp_path, cli, eea
):
    """`ash` for `fsn1`: sold there, too. Asked without a plan before it, the engine makes what has
    no place (a key, rules, a range of addresses) before it comes to what is refused."""
    moved = msgspec.structs.replace(stack.load(EXAMPLE), zone="ash")
    site = resolve.site(EXAMPLE, moved, eea, offers.shop("hetzner"))
    rehearsal = Rehearsal(tmp_path / "home", cli, site)
    shown = rehearsal.up()
    assert not shown.finished
    assert {answer.rule for answer in shown.judged if not answer.allowed} == {EEA_RULE}
    standing = json.loads(rehearsal.books.read_text()) if rehearsal.books.exists() else {}
    assert not {entry["kind"] for entry in standing.values()} & set(PLACED)
