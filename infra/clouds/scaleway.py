"""A site at Scaleway: machines with GPUs on a private network, closed but for what is named.

    VPC → private network ─┐
    security group ────────┼→ machine (GPU) ← address, data volume, network card
    ssh key ───────────────┘
    bucket for encrypted backups, in the same region

Every resource says its zone or region itself; nothing is left to a default. What holds data
is protected: a change of plan cannot delete it. Volumes are encrypted on the machine by the
playbooks' role `disks`, so that the key stays ours; the bucket by the site before it uploads.
"""

import pulumi
import pulumiverse_scaleway as scaleway

from infra.shapes import Host, Outputs, Site

IMAGE = "debian_bookworm"
ROOT_DISK_GB = 40
IOPS = 15_000
SUBNET = "10.42.0.0/24"
SSH = 22
OUTBOUND = (("TCP", 443), ("TCP", 80), ("UDP", 53), ("TCP", 53), ("UDP", 123))
"""What a machine may ask the outside for; the role `egress` narrows it to named addresses."""


def outputs(site: Site) -> Outputs:
    """Declare the site's resources with the engine, and say how to reach the machines."""
    assert site.offer is not None, "a stack of this cloud always has a machine type"
    provider = scaleway.Provider("scaleway", region=site.region, zone=site.zone)
    made = pulumi.ResourceOptions(provider=provider)
    kept = pulumi.ResourceOptions(provider=provider, protect=True)
    tags = _tags(site)
    vpc = scaleway.network.Vpc("network", region=site.region, tags=tags, opts=made)
    private = scaleway.network.PrivateNetwork(
        "private",
        vpc_id=vpc.id,
        region=site.region,
        ipv4_subnet={"subnet": SUBNET},
        tags=tags,
        opts=made,
    )
    closed = _security_group(site, tags, made)
    scaleway.iam.SshKey("admin", public_key=site.admin_key, opts=made)
    hosts = tuple(
        _machine(site, f"node-{number}", closed, private, tags, made, kept)
        for number in range(1, site.nodes + 1)
    )
    return Outputs(hosts, backups=_backups(site, tags, kept))


def _tags(site: Site) -> list[str]:
    """For the bill and for whoever looks at the console."""
    return [f"sovereign-site:{site.stack}", "data:personal", f"cost:{site.stack}"]


def _security_group(
    site: Site, tags: list[str], opts: pulumi.ResourceOptions
) -> scaleway.instance.SecurityGroup:
    inbound = [
        scaleway.instance.SecurityGroupInboundRuleArgs(
            action="accept", protocol="TCP", port=port, ip_range=network
        )
        for network in site.allow_from
        for port in (SSH, site.gateway_port)
    ]
    outbound = [
        scaleway.instance.SecurityGroupOutboundRuleArgs(
            action="accept", protocol=protocol, port=port
        )
        for protocol, port in OUTBOUND
    ]
    return scaleway.instance.SecurityGroup(
        "closed",
        zone=site.zone,
        inbound_default_policy="drop",
        outbound_default_policy="drop",
        inbound_rules=inbound,
        outbound_rules=outbound,
        stateful=True,
        tags=tags,
        opts=opts,
    )


def _machine(
    site: Site,
    name: str,
    closed: scaleway.instance.SecurityGroup,
    private: scaleway.network.PrivateNetwork,
    tags: list[str],
    made: pulumi.ResourceOptions,
    kept: pulumi.ResourceOptions,
) -> Host:
    assert site.offer is not None
    address = scaleway.instance.Ip(name, zone=site.zone, type="routed_ipv4", tags=tags, opts=made)
    data = scaleway.block.Volume(
        name, zone=site.zone, iops=IOPS, size_in_gb=site.disk_gb, tags=tags, opts=kept
    )
    server = scaleway.instance.Server(
        name,
        zone=site.zone,
        type=site.offer.id,
        image=IMAGE,
        root_volume={"volume_type": "sbs_volume", "size_in_gb": ROOT_DISK_GB},
        additional_volume_ids=[data.id],
        ip_ids=[address.id],
        security_group_id=closed.id,
        tags=tags,
        opts=made,
    )
    scaleway.instance.PrivateNic(
        name,
        zone=site.zone,
        server_id=server.id,
        private_network_id=private.id,
        tags=tags,
        opts=made,
    )
    return Host(name, address.address, "root", SSH, site.place)


def _backups(site: Site, tags: list[str], opts: pulumi.ResourceOptions) -> pulumi.Output[str] | str:
    """No versions are kept of an object, since an old version would outlive `kept_days`."""
    if site.backups is None:
        return ""
    bucket = scaleway.object.Bucket(
        "backups",
        name=site.backups.bucket,
        region=site.region,
        lifecycle_rules=[{"enabled": True, "expiration": {"days": site.backups.kept_days}}],
        tags=dict(tag.split(":", 1) for tag in tags),
        opts=opts,
    )
    return bucket.endpoint
