"""What the simulator knows of Scaleway: types, their properties, and which of them name a place.

Written by hand for the types that `infra/clouds/scaleway.py` uses, and for nothing else: what
is not here is refused. A test compares every property with the cloud's real SDK.
"""

from collections.abc import Mapping

from infra.simulator.shapes import FLAG, NUMBER, PLACE, TEXT, Field, Kind, Type

TAGS = Field(Kind.TEXTS)
VERDICT = Field(Kind.TEXT, one_of=("accept", "drop"))

VPC = "scaleway:network/vpc:Vpc"
PRIVATE_NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
SECURITY_GROUP = "scaleway:instance/securityGroup:SecurityGroup"
SSH_KEY = "scaleway:iam/sshKey:SshKey"
IP = "scaleway:instance/ip:Ip"
VOLUME = "scaleway:block/volume:Volume"
SERVER = "scaleway:instance/server:Server"
PRIVATE_NIC = "scaleway:instance/privateNic:PrivateNic"
BUCKET = "scaleway:object/bucket:Bucket"

_RULES = Field(
    Kind.PARTS,
    fields={
        "action": Field(Kind.TEXT, required=True, one_of=("accept", "drop")),
        "protocol": Field(Kind.TEXT, one_of=("TCP", "UDP", "ICMP", "ANY")),
        "port": NUMBER,
        "ipRange": TEXT,
    },
)

TYPES: Mapping[str, Type] = {
    VPC: Type("region", {"name": TEXT, "region": PLACE, "tags": TAGS}),
    PRIVATE_NETWORK: Type(
        "region",
        {
            "name": TEXT,
            "region": PLACE,
            "tags": TAGS,
            "vpcId": Field(Kind.TEXT, replaces=True, refers=VPC),
            "ipv4Subnet": Field(Kind.PART, replaces=True, fields={"subnet": TEXT}),
        },
    ),
    SECURITY_GROUP: Type(
        "zone",
        {
            "name": TEXT,
            "description": TEXT,
            "zone": PLACE,
            "tags": TAGS,
            "stateful": FLAG,
            "inboundDefaultPolicy": VERDICT,
            "outboundDefaultPolicy": VERDICT,
            "inboundRules": _RULES,
            "outboundRules": _RULES,
        },
    ),
    SSH_KEY: Type(
        "",
        {"name": TEXT, "publicKey": Field(Kind.TEXT, required=True, replaces=True)},
    ),
    IP: Type(
        "zone",
        {
            "zone": PLACE,
            "tags": TAGS,
            "type": Field(Kind.TEXT, replaces=True, one_of=("routed_ipv4", "routed_ipv6")),
        },
    ),
    VOLUME: Type(
        "zone",
        {
            "name": TEXT,
            "zone": PLACE,
            "tags": TAGS,
            "iops": Field(Kind.NUMBER, required=True),
            "sizeInGb": NUMBER,
        },
    ),
    SERVER: Type(
        "zone",
        {
            "name": TEXT,
            "zone": PLACE,
            "tags": TAGS,
            "type": Field(Kind.TEXT, required=True, replaces=True),
            "image": Field(Kind.TEXT, replaces=True),
            "rootVolume": Field(
                Kind.PART,
                fields={
                    "volumeType": Field(Kind.TEXT, one_of=("sbs_volume", "l_ssd")),
                    "sizeInGb": NUMBER,
                },
            ),
            "additionalVolumeIds": Field(Kind.TEXTS, refers=VOLUME),
            "ipIds": Field(Kind.TEXTS, refers=IP),
            "securityGroupId": Field(Kind.TEXT, refers=SECURITY_GROUP),
        },
    ),
    PRIVATE_NIC: Type(
        "zone",
        {
            "zone": PLACE,
            "tags": TAGS,
            "serverId": Field(Kind.TEXT, required=True, replaces=True, refers=SERVER),
            "privateNetworkId": Field(
                Kind.TEXT, required=True, replaces=True, refers=PRIVATE_NETWORK
            ),
        },
    ),
    BUCKET: Type(
        "region",
        {
            "name": Field(Kind.TEXT, replaces=True),
            "region": PLACE,
            "tags": Field(Kind.LABELS),
            "lifecycleRules": Field(
                Kind.PARTS,
                fields={
                    "enabled": Field(Kind.FLAG, required=True),
                    "expiration": Field(Kind.PART, fields={"days": NUMBER}),
                },
            ),
        },
    ),
}

CONFIG = frozenset({"region", "zone", "projectId", "organizationId", "accessKey", "secretKey"})
"""What the provider itself may be given; `apiUrl` and `endpoints` lead elsewhere."""

IMAGES = ("debian_bookworm", "ubuntu_jammy_gpu_os_12")
VOLUME_IOPS = (5_000, 15_000)
VOLUME_MIN_GB, VOLUME_MAX_GB = 5, 10_000
QUOTA_GPUS = 8
