"""A site at Hetzner Cloud: machines without GPUs on a private network, closed but for a few ports.

    network → subnet ───────┐
    firewall, ssh key ──────┼→ machine ← data volume
                            └  public IPv4 address, no IPv6

Every resource with a place states its location itself: the cloud's provider has no region.
What this cloud does not have, and what is done about it:

  * no encryption of volumes: the playbooks' role `disks` encrypts them on the machine (LUKS)
  * no bucket in its interface for programs: a stack with `backups` is refused
  * no GPU in this interface: dedicated servers are ordered by hand, for the cloud `static`

No cloud-init is given, so none can hold a secret. A firewall stands before its machines do.
"""

import pulumi
import pulumi_hcloud as hcloud

from infra.shapes import Host, Outputs, Site

IMAGE = "debian-12"
NETWORK, SUBNET = "10.42.0.0/16", "10.42.0.0/24"
SSH = 22
EVERYWHERE = ("0.0.0.0/0", "::/0")
OUTBOUND = (("tcp", 443), ("tcp", 80), ("udp", 53), ("tcp", 53), ("udp", 123))
"""What a machine may ask the outside for; the role `egress` narrows it to named addresses."""


def outputs(site: Site) -> Outputs:
    """Declare the site's resources with the engine, and say how to reach the machines."""
    assert site.offer is not None, "a stack of this cloud always has a machine type"
    provider = hcloud.Provider("hetzner")
    made = pulumi.ResourceOptions(provider=provider)
    kept = pulumi.ResourceOptions(provider=provider, protect=True)
    labels = {"sovereign-site": site.stack, "data": "personal", "cost": site.stack}
    network = hcloud.Network("private", ip_range=NETWORK, labels=labels, opts=made)
    subnet = hcloud.NetworkSubnet(
        "private",
        network_id=network.id.apply(int),
        ip_range=SUBNET,
        network_zone=site.region,
        type="cloud",
        opts=made,
    )
    closed = _firewall(site, labels, made)
    key = hcloud.SshKey("admin", public_key=site.admin_key, labels=labels, opts=made)
    return Outputs(
        tuple(
            _machine(site, f"node-{number}", closed, key, subnet, labels, made, kept)
            for number in range(1, site.nodes + 1)
        )
    )


def _firewall(site: Site, labels: dict[str, str], opts: pulumi.ResourceOptions) -> hcloud.Firewall:
    """With one rule a direction, all else is dropped in that direction."""
    inbound = [
        hcloud.FirewallRuleArgs(
            direction="in", protocol="tcp", port=str(port), source_ips=list(site.allow_from)
        )
        for port in (SSH, site.gateway_port)
    ]
    outbound = [
        hcloud.FirewallRuleArgs(
            direction="out", protocol=protocol, port=str(port), destination_ips=list(EVERYWHERE)
        )
        for protocol, port in OUTBOUND
    ]
    return hcloud.Firewall("closed", rules=[*inbound, *outbound], labels=labels, opts=opts)


def _machine(
    site: Site,
    name: str,
    closed: hcloud.Firewall,
    key: hcloud.SshKey,
    subnet: hcloud.NetworkSubnet,
    labels: dict[str, str],
    made: pulumi.ResourceOptions,
    kept: pulumi.ResourceOptions,
) -> Host:
    assert site.offer is not None
    data = hcloud.Volume(name, size=site.disk_gb, location=site.zone, labels=labels, opts=kept)
    server = hcloud.Server(
        name,
        server_type=site.offer.id,
        image=IMAGE,
        location=site.zone,
        backups=False,
        firewall_ids=[closed.id.apply(int)],
        ssh_keys=[key.id],
        public_nets=[{"ipv4_enabled": True, "ipv6_enabled": False}],
        labels=labels,
        opts=made,
    )
    number = server.id.apply(int)
    hcloud.ServerNetwork(name, server_id=number, subnet_id=subnet.id, opts=made)
    hcloud.VolumeAttachment(
        name, server_id=number, volume_id=data.id.apply(int), automount=False, opts=made
    )
    return Host(name, server.ipv4_address, "root", SSH, site.place)
