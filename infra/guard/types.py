"""Every resource type of every cloud: where it says its place, or why it has none.

The guard knows exactly this table, and refuses a type that is not in it. A test walks the
clouds' own SDKs and fails for each type that is in none of the three lists.

  PLACED        the inputs that name its place. All of them are judged, and one that the
                program leaves out is taken from the resource's provider, never guessed.
  PLACELESS     it holds no data of its own; the reason is for the reader of a plan.
  UNPLACEABLE   it would put data where no one place can be named: always refused.

Old spellings of a type (Scaleway's `index/…`) are left out on purpose: unknown, so refused.
"""

from collections.abc import Mapping

from infra.guard import hetzner

ENGINE_STACK = "pulumi:pulumi:Stack"
PROVIDER = "pulumi:providers:"

PLACE_INPUTS = frozenset(
    {
        *("zone", "zones", "region", "regions", "monoAzZone", "bucketRegion", "secretRegion"),
        *("location", "homeLocation", "networkZone", "datacenter"),
    }
)
"""Names of inputs, at any depth, that name a place. DNS zones are names, not places."""

STAYS_INPUTS = frozenset({"sameRegion", "backupSameRegion"})
"""Inputs that, set to false, let copies rest in a place that nothing names."""

REDIRECTS = frozenset({"apiUrl", "endpoint", "endpointHetzner", "endpoints"})
"""Inputs of a provider that send its calls, and so its data, somewhere else than its name."""

CLOUDS: Mapping[str, str] = {hetzner.PACKAGE: hetzner.CLOUD}
"""Packages that are not called as the policy's table of places calls the cloud."""

KEPT = frozenset(
    {
        *hetzner.KEPT,
        "scaleway:block/volume:Volume",
        "scaleway:object/bucket:Bucket",
    }
)
"""Types that hold what cannot be made again: they must be protected from deletion."""


def _scaleway(words: str) -> frozenset[str]:
    """`instance/server` is short for `scaleway:instance/server:Server`."""
    return frozenset(f"scaleway:{word}:{_class(word)}" for word in words.split())


def _class(word: str) -> str:
    name = word.rpartition("/")[2]
    return name[0].upper() + name[1:]


_SCALEWAY_ZONE = _scaleway("""
    applesilicon/runner applesilicon/server autoscaling/group autoscaling/instanceGroup
    autoscaling/instancePolicy autoscaling/instanceTemplate block/snapshot block/volume
    elasticmetal/ip elasticmetal/ipMacAddress elasticmetal/server instance/image instance/ip
    instance/ipReverseDns instance/placementGroup instance/privateNic instance/securityGroup
    instance/server instance/snapshot instance/template instance/userData instance/volume
    loadbalancers/ip loadbalancers/loadBalancer loadbalancers/privateNetwork
    network/gatewayNetwork network/publicGateway network/publicGatewayDhcp
    network/publicGatewayDhcpReservation network/publicGatewayIp
    network/publicGatewayIpReverseDns network/publicGatewayPatRule redis/cluster
""")
_SCALEWAY_REGION = _scaleway("""
    containers/container containers/cron containers/domain containers/namespace
    containers/token containers/trigger databases/acl databases/database
    databases/databaseBackup databases/instance databases/privilege databases/readReplica
    databases/serverlessDatabase databases/snapshot databases/user datalab/datalab
    datawarehouse/database datawarehouse/deployment datawarehouse/user functions/cron
    functions/domain functions/function functions/namespace functions/token
    functions/trigger hosting/hosting inference/deployment inference/model interlink/link
    interlink/routingPolicy iot/device iot/hub iot/network iot/route ipam/ip
    ipam/ipReverseDns job/definition kafka/cluster keymanager/key keymanager/keyMaterial
    kubernetes/acl kubernetes/cluster messageq/deployment messageq/user mnq/natsAccount
    mnq/natsCredentials mnq/sns mnq/snsCredentials mnq/snsTopic mnq/snsTopicSubscription
    mnq/sqs mnq/sqsCredentials mnq/sqsQueue mongodb/instance mongodb/snapshot mongodb/user
    network/acl network/connector network/ingressRule network/privateNetwork network/route
    network/vpc object/bucket object/bucketAcl object/bucketLockConfiguration
    object/bucketPolicy object/bucketServerSideEncryptionConfiguration
    object/bucketWebsiteConfiguration object/item observability/alertManager
    observability/exporter observability/source observability/token opensearch/deployment
    opensearch/user registry/namespace s2svpn/connection s2svpn/customerGateway
    s2svpn/routingPolicy secrets/secret secrets/version tem/blockedList tem/domain
    tem/domainValidation tem/webhook
""")
_SCALEWAY_BOTH = _scaleway("kubernetes/pool s2svpn/gateway")

PLACED: Mapping[str, tuple[str, ...]] = {
    PROVIDER + "scaleway": ("region", "zone"),
    **dict.fromkeys(_SCALEWAY_ZONE, ("zone",)),
    **dict.fromkeys(_SCALEWAY_REGION, ("region",)),
    **dict.fromkeys(_SCALEWAY_BOTH, ("region", "zone")),
    **hetzner.PLACED,
}

PLACELESS: Mapping[str, str] = {
    ENGINE_STACK: "groups the others and exists only in the engine's state",
    **hetzner.PLACELESS,
    PROVIDER + "pulumi": "the engine's own provider; it reaches no cloud",
    **dict.fromkeys(
        _scaleway("account/sshKey iam/sshKey"),
        "the public half of a key, in the account's directory",
    ),
    **dict.fromkeys(
        _scaleway("account/project billing/budget billing/budgetAlert"),
        "a name and numbers in the account's directory",
    ),
    **dict.fromkeys(
        _scaleway("annotations/binding annotations/key annotations/value"),
        "a label in the account's directory",
    ),
    **dict.fromkeys(
        _scaleway("iam/apiKey iam/application iam/group iam/policy"),
        "says which program may do what, in the account's directory",
    ),
    **dict.fromkeys(_scaleway("domain/record domain/zone"), "a public name; its content is public"),
    **dict.fromkeys(
        _scaleway("instance/securityGroupRules"),
        "part of a security group, which has a place of its own",
    ),
    **dict.fromkeys(
        _scaleway("""loadbalancers/acl loadbalancers/backend loadbalancers/certificate
            loadbalancers/frontend loadbalancers/route"""),
        "part of a load balancer, which has a place of its own",
    ),
}

UNPLACEABLE: Mapping[str, str] = {
    **hetzner.UNPLACEABLE,
    **dict.fromkeys(
        _scaleway("""edgeservices/backendStage edgeservices/cacheStage edgeservices/dnsStage
            edgeservices/headStage edgeservices/pipeline edgeservices/plan
            edgeservices/routeStage edgeservices/tlsStage edgeservices/wafStage"""),
        "content would be read and kept at edge sites that nothing names",
    ),
    **dict.fromkeys(
        _scaleway("""iam/groupMembership iam/saml iam/samlCertificate iam/scim
            iam/scimToken iam/user billing/budgetAlertNotification partner/organization"""),
        "people's names and addresses would be kept in a directory whose place is not stated",
    ),
    **dict.fromkeys(
        _scaleway("mailbox/alias mailbox/domain mailbox/mailbox domain/registration"),
        "people's mail or names would be kept at a place that is not stated",
    ),
}
