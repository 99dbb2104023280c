"""What the simulator knows, compared with the cloud's own SDK and with the policy's places."""

import re

import pytest

from infra.clouds import scaleway
from infra.simulator import catalogue
from infra.simulator.catalogue import TYPES
from infra.simulator.shapes import Kind
from sovereign.policy import Policy
from tests.infra import sdk

NESTED = {
    ("network", "ipv4Subnet"): "PrivateNetworkIpv4SubnetArgs",
    ("instance", "inboundRules"): "SecurityGroupInboundRuleArgs",
    ("instance", "outboundRules"): "SecurityGroupOutboundRuleArgs",
    ("instance", "rootVolume"): "ServerRootVolumeArgs",
    ("object", "lifecycleRules"): "BucketLifecycleRuleArgs",
    ("object", "expiration"): "BucketLifecycleRuleExpirationArgs",
}


def parts(kind, fields):
    """Module, name and fields of every nested mapping of a type."""
    for name, field in fields.items():
        if field.kind in (Kind.PART, Kind.PARTS):
            yield kind.split(":")[1].split("/")[0], name, field.fields
            yield from parts(kind, field.fields)


@pytest.mark.parametrize("kind", TYPES)
def test_the_simulator_knows_no_property_that_the_real_type_does_not_have(kind):
    """A simulator that accepts more than the cloud gives plans that fail on the day."""
    real = sdk.inputs(kind)
    known = TYPES[kind].properties
    assert set(known) <= set(real)
    assert {name for name, must in real.items() if must} <= set(known)
    for name, field in known.items():
        assert field.required or not real[name], f"{name} is required in the real type"


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_holds_inside_nested_properties(kind):
    """A rule of a security group has fields of its own, and they matter most."""
    for module, name, fields in parts(kind, TYPES[kind].properties):
        real = sdk.nested("scaleway", module, NESTED[(module, name)])
        assert set(fields) <= set(real)
        assert {each for each, must in real.items() if must} <= {
            each for each, field in fields.items() if field.required
        }


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_is_placed_by_the_input_that_the_real_type_has(kind):
    """Whoever mixes up zone and region plans a machine that cannot be."""
    real = sdk.inputs(kind)
    place = TYPES[kind].place
    assert place in real if place else not {"zone", "region"} & set(real)


def test_every_type_the_cloud_program_uses_is_known_and_no_other():
    """A type that nothing uses is a type that nothing tests."""
    source = (scaleway.__file__ and open(scaleway.__file__).read()) or ""  # noqa: SIM115,PTH123
    used = set(re.findall(r"scaleway\.(\w+)\.([A-Z]\w+)\(", source))
    used = {(module, name) for module, name in used if not name.endswith("Args")}
    assert used == {(kind.split(":")[1].split("/")[0], kind.rpartition(":")[2]) for kind in TYPES}


def test_the_shops_zones_are_exactly_those_of_the_policys_table(eea: Policy, shop):
    """Two lists of one thing: the cloud's own, and the one that says whose law they are under."""
    rows = {
        place.zone: place.region for place in eea.places.values() if place.provider == "scaleway"
    }
    regions = set(shop.region_of.values())
    assert {z: r for z, r in rows.items() if z not in regions} == dict(shop.region_of)
    assert {zone for zone in rows if zone in regions} == regions


def test_machines_with_gpus_are_sold_where_the_table_says_there_are_gpus(eea: Policy, shop):
    """A price in a zone without the machine is a plan for nothing."""
    sold = {zone for zone, offers in shop.offers.items() if offers}
    assert sold == {p.zone for p in eea.places.values() if p.provider == "scaleway" and p.gpus}


def test_the_image_the_program_asks_for_is_one_the_simulator_has():
    """A name written twice is compared."""
    assert scaleway.IMAGE in catalogue.IMAGES
    assert scaleway.IOPS in catalogue.VOLUME_IOPS
