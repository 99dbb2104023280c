"""The policy pack as the engine starts it: `pulumi preview --policy-pack infra/guard`.

Nothing but the constructor, which never returns: it serves the engine until it is ended.
"""

from pulumi_policy import PolicyPack

from infra.guard import pack

PolicyPack(pack.NAME, policies=[pack.residency()])
