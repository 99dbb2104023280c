"""What access rules may speak of: who asks, and what is asked of, as values and as Cedar has them.

`policies/access/schema.cedarschema` says the same to whoever writes rules; the loader compares the
two with a sample, so that a rule can only depend on what is really stated here.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

ACTIONS = ("chat", "fim", "completion", "embed", "list")
"""What can be done with a model; `list` is to be shown that it is there."""
BASES = (
    "consent",
    "contract",
    "legal-obligation",
    "vital-interests",
    "public-task",
    "legitimate-interests",
)
"""GDPR Art. 6(1)(a) to (f); the keystore's list, which a test compares with this one."""
UNKNOWN = "unknown"
"""The country, and the law, of a host that nobody declared."""
COUNTRY = re.compile(r"[A-Z]{2}|unknown")
Entity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `models` are those it is bound to, empty for none in particular."""

    id: str
    tenant: str
    purpose: str
    basis: str
    data: str
    models: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    kind: Literal["Key", "Token"] = "Key"

    def entity(self) -> Entity:
        """As Cedar has it, with the tenant and the roles it is in."""
        return {
            "uid": _uid(self.kind, self.id),
            "attrs": {
                "tenant": _ref("Tenant", self.tenant),
                "purpose": self.purpose,
                "basis": _ref("Basis", self.basis),
                "data": _ref("Data", self.data),
                "models": [_ref("Model", each) for each in self.models],
            },
            "parents": [
                _uid("Tenant", self.tenant),
                *(_uid("Role", each) for each in self.roles),
            ],
        }


@dataclass(frozen=True, slots=True)
class Served:
    """A model as one endpoint serves it. `serve` is what the policy says of its terms."""

    model: str
    endpoint: str
    engine: str
    terms: str
    serve: str
    place: str
    capabilities: tuple[str, ...] = field(default=())
    country: str = UNKNOWN
    under: str = UNKNOWN

    @property
    def id(self) -> str:
        """`ENDPOINT/MODEL`."""
        return f"{self.endpoint}/{self.model}"

    def entity(self) -> Entity:
        """As Cedar has it, with the model, the endpoint and the place it belongs to."""
        return {
            "uid": _uid("Served", self.id),
            "attrs": {
                "model": _ref("Model", self.model),
                "terms": _ref("Terms", self.terms),
                "serve": _ref("Serve", self.serve),
                "capabilities": [_ref("Capability", each) for each in self.capabilities],
                "endpoint": _ref("Endpoint", self.endpoint),
                "engine": self.engine,
                "place": _ref("Place", self.place),
                "country": _ref("Country", self.country),
                "under": _ref("Country", self.under),
            },
            "parents": [
                _uid("Model", self.model),
                _uid("Endpoint", self.endpoint),
                _uid("Place", self.place),
            ],
        }


def request(principal: Principal, action: str, served: Served) -> Entity:
    """A question as Cedar has it."""
    return {
        "principal": _uid(principal.kind, principal.id),
        "action": _uid("Action", action),
        "resource": _uid("Served", served.id),
        "context": {},
    }


def document(*entities: Entity) -> str:
    """Entities as the JSON that Cedar reads."""
    return msgspec.json.encode(entities).decode()


def _uid(kind: str, name: str) -> Entity:
    return {"type": kind, "id": name}


def _ref(kind: str, name: str) -> Entity:
    return {"__entity": {"type": kind, "id": name}}
