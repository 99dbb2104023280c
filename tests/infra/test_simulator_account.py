"""What the simulated cloud refuses. A simulator that says yes to everything proves nothing."""

import pytest

from infra.simulator import catalogue
from infra.simulator.account import UNKNOWN, Account, CloudRefused, changed, replaced_by
from infra.simulator.catalogue import (
    BUCKET,
    IP,
    PRIVATE_NETWORK,
    PRIVATE_NIC,
    SECURITY_GROUP,
    SERVER,
    SSH_KEY,
    VOLUME,
    VPC,
)

MACHINE = {"type": "H100-1-80G", "image": "debian_bookworm", "zone": "fr-par-2"}
DISK = {"iops": 5000.0, "sizeInGb": 50.0, "zone": "fr-par-2"}
RULE = {"action": "accept", "protocol": "TCP", "port": 22.0, "ipRange": "192.0.2.0/24"}


@pytest.fixture
def account(tmp_path, shop):
    return Account(tmp_path / "books.json", shop)


def failing(account, kind, inputs):
    return [failure.property for failure in account.check(kind, inputs)]


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (VPC, {"region": "fr-par", "tags": ["a"]}),
        (PRIVATE_NETWORK, {"region": "fr-par", "ipv4Subnet": {"subnet": "10.0.0.0/24"}}),
        (SECURITY_GROUP, {"zone": "fr-par-2", "inboundRules": [RULE]}),
        (SSH_KEY, {"publicKey": "ssh-ed25519 AAAA"}),
        (IP, {"zone": "fr-par-2", "type": "routed_ipv4"}),
        (VOLUME, DISK),
        (SERVER, MACHINE),
        (PRIVATE_NIC, {"zone": "fr-par-2", "serverId": UNKNOWN, "privateNetworkId": UNKNOWN}),
        (BUCKET, {"region": "fr-par", "name": "b", "tags": {"cost": "x"}}),
    ],
)
def test_what_is_right_is_accepted(account, kind, inputs):
    """Else every refusal below would prove nothing."""
    assert not account.check(kind, inputs)


def test_every_type_is_tried(request):
    """A type nobody tries is a type nobody knows to work."""
    accepted = {
        mark.args[1][i][0]
        for mark in test_what_is_right_is_accepted.pytestmark
        if mark.name == "parametrize"
        for i in range(len(mark.args[1]))
    }
    assert accepted == set(catalogue.TYPES)


@pytest.mark.parametrize(
    "kind", ["scaleway:rdb/instance:Instance", "aws:ec2/instance:Instance", ""]
)
def test_a_type_it_does_not_know_is_refused(account, kind):
    """We do not pretend to be a service that nobody modelled."""
    (failure,) = account.check(kind, {})
    assert kind in failure.reason


@pytest.mark.parametrize(
    ("kind", "inputs", "where"),
    [
        (SERVER, {**MACHINE, "gpu": "two"}, "gpu"),
        (SERVER, {**MACHINE, "rootVolume": {"sizeInGB": 40}}, "rootVolume.sizeInGB"),
        (
            SECURITY_GROUP,
            {"zone": "fr-par-2", "inboundRules": [{**RULE, "to": 1}]},
            "inboundRules[0].to",
        ),
    ],
)
def test_a_property_it_does_not_know_is_refused_at_any_depth(account, kind, inputs, where):
    """A misspelt property is silently ignored by nobody's cloud but a bad simulator's."""
    assert failing(account, kind, inputs) == [where]


@pytest.mark.parametrize("zone", ["eu-west-2", "fr-par", "fr-par-4", "FR-PAR-2", 2.0])
def test_a_zone_it_does_not_have_is_refused(account, zone):
    """The look-alike is London at another cloud; here it is nothing at all."""
    assert "zone" in failing(account, IP, {"zone": zone})


def test_without_a_zone_the_providers_is_taken_and_without_that_it_is_refused(account):
    """As the real provider does; and it never looks at the environment."""
    assert failing(account, IP, {}) == ["zone"]
    account.configure({"zone": "nl-ams-1", "region": "nl-ams"})
    assert not failing(account, IP, {})


@pytest.mark.parametrize(
    "config",
    [{"zone": "eu-west-2"}, {"region": "eu-west"}, {"zone": "nl-ams-1", "region": "fr-par"}],
)
def test_a_provider_set_up_for_a_place_that_is_not_there_is_refused(account, config):
    """Its defaults would be the place of everything that states none."""
    with pytest.raises(CloudRefused):
        account.configure(config)


def test_a_provider_setting_it_does_not_know_is_refused(account):
    """`apiUrl` would make the simulator stand for somebody else."""
    assert [f.property for f in account.check_config({"apiUrl": "https://x"})] == ["apiUrl"]
    assert not account.check_config({"zone": "fr-par-2", "version": "1.60.0"})


@pytest.mark.parametrize(
    ("kind", "inputs", "where"),
    [
        (SERVER, {**MACHINE, "type": "H100-3-80G"}, "type"),
        (SERVER, {**MACHINE, "zone": "fr-par-1"}, "type"),  # no GPUs are sold there
        (SERVER, {**MACHINE, "image": "windows"}, "image"),
        (SERVER, {"zone": "fr-par-2"}, "type"),
        (VOLUME, {**DISK, "iops": 4000.0}, "iops"),
        (VOLUME, {**DISK, "iops": 5000.5}, "iops"),
        (VOLUME, {**DISK, "sizeInGb": 1.0}, "sizeInGb"),
        (SECURITY_GROUP, {"zone": "fr-par-2", "inboundDefaultPolicy": "maybe"},
         "inboundDefaultPolicy"),
        (SECURITY_GROUP, {"zone": "fr-par-2", "inboundRules": [{**RULE, "port": 70000.0}]},
         "inboundRules[0].port"),
        (SECURITY_GROUP, {"zone": "fr-par-2", "inboundRules": [{**RULE, "ipRange": "x"}]},
         "inboundRules[0].ipRange"),
        (PRIVATE_NETWORK, {"region": "fr-par", "ipv4Subnet": {"subnet": "8.8.8.0/24"}},
         "ipv4Subnet"),
        (SERVER, {**MACHINE, "tags": "one"}, "tags"),
        (BUCKET, {"region": "fr-par", "tags": ["a"]}, "tags"),
    ],
)  # fmt: skip
def test_a_value_the_cloud_would_not_take_is_refused(account, kind, inputs, where):
    """Each of these fails at the real cloud, after an hour of waiting."""
    assert failing(account, kind, inputs) == [where]


def test_something_that_is_not_there_cannot_be_referred_to(account):
    """An id out of another account is the usual way."""
    nic = {"zone": "fr-par-2", "serverId": "fr-par-2/none", "privateNetworkId": "fr-par/none"}
    with pytest.raises(CloudRefused, match="there is no"):
        account.create(PRIVATE_NIC, "urn", nic)
    assert not account.standing()


def test_something_of_another_kind_cannot_be_referred_to(account):
    """An address is no security group."""
    address, _ = account.create(IP, "urn", {"zone": "fr-par-2"})
    with pytest.raises(CloudRefused, match="securityGroup"):
        account.create(SERVER, "urn", {**MACHINE, "securityGroupId": address})


def test_a_volume_of_another_region_cannot_be_attached(account):
    """Disks do not travel."""
    far, _ = account.create(VOLUME, "urn", {**DISK, "zone": "pl-waw-2"})
    with pytest.raises(CloudRefused, match="pl-waw-2"):
        account.create(SERVER, "urn", {**MACHINE, "additionalVolumeIds": [far]})


def test_more_gpus_than_the_quota_are_refused(account):
    """A new account has a small one; a plan of twenty machines fails on the ninth GPU."""
    for _ in range(catalogue.QUOTA_GPUS):
        account.create(SERVER, "urn", MACHINE)
    with pytest.raises(CloudRefused, match="quota"):
        account.create(SERVER, "urn", MACHINE)


def test_a_bucket_name_can_be_taken_once(account):
    """Names of buckets are the cloud's, not ours."""
    wish = {"region": "fr-par", "name": "backups"}
    _, outputs = account.create(BUCKET, "urn", wish)
    assert outputs["endpoint"] == "https://backups.s3.fr-par.scw.cloud"
    with pytest.raises(CloudRefused, match="exists"):
        account.create(BUCKET, "urn", wish)


def test_every_address_is_given_once_and_is_a_documentation_address(account):
    """Two machines with one address would both be configured as the first."""
    given = [account.create(IP, "urn", {"zone": "fr-par-2"})[1]["address"] for _ in range(5)]
    assert len(set(given)) == 5
    assert all(address.startswith("203.0.113.") for address in given)


def test_what_is_still_used_cannot_be_deleted(account):
    """As at the cloud; the engine deletes in the right order, people do not."""
    disk, _ = account.create(VOLUME, "urn", DISK)
    server, _ = account.create(SERVER, "urn", {**MACHINE, "additionalVolumeIds": [disk]})
    with pytest.raises(CloudRefused, match="still used"):
        account.delete(disk)
    account.delete(server)
    account.delete(disk)
    account.delete(disk)  # gone already: silent
    assert not account.standing()


def test_an_update_is_kept_and_read_back(account):
    """Read must say what is, not what was asked first."""
    disk, _ = account.create(VOLUME, "urn", DISK)
    account.update(disk, {**DISK, "sizeInGb": 60.0})
    found = account.read(disk)
    assert found is not None
    assert found[1]["sizeInGb"] == 60.0
    assert account.read("fr-par-2/none") is None
    with pytest.raises(CloudRefused):
        account.update("fr-par-2/none", DISK)


def test_moving_a_volume_needs_a_new_one_and_growing_it_does_not():
    """Whether data would be lost is what people read a plan for."""
    assert replaced_by(VOLUME, DISK, {**DISK, "zone": "pl-waw-2"}) == ["zone"]
    assert replaced_by(VOLUME, DISK, {**DISK, "sizeInGb": 60.0}) == []
    assert changed(DISK, {**DISK, "sizeInGb": 60.0}) == ["sizeInGb"]
    assert changed(DISK, dict(DISK)) == []
