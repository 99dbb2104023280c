"""Ask the access rules on the path of a request: each question once, then from memory.

An answer depends on the policy and on nothing else that changes by itself, so it is kept under
what was asked. A key whose binding changes is another question. Where the chosen endpoint may not
be used, the others are asked about before the call is refused.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from sovereign.access import Access, Decision, served
from sovereign.gateway.choose import Choice, Group
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.policy.spoken import Principal
from sovereign.registry import Endpoint

KEPT_MAX = 100_000
REFUSED = "access-refused"
LIST = "list"
OIDC = "oidc:"
"""What the id of a binding begins with that was made of a token."""
Asked = tuple[str | tuple[str, ...], ...]


class Entitling:
    """The answers of one policy. Another policy gets another of these."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._access = Access(policy)
        self._kept: dict[Asked, Decision] = {}

    def ask(self, key: Key, action: str, model: str, endpoint: Endpoint) -> Decision:
        """Whether the rules let this key do `action` with `model` at `endpoint`."""
        asked: Asked = (
            *(action, model, endpoint.id, endpoint.engine, endpoint.place),
            *(key.id, key.tenant, key.purpose, key.basis, key.data, key.models, key.roles),
        )
        answer = self._kept.get(asked)
        if answer is None:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            what = served(self._policy, model, endpoint.id, endpoint.engine, endpoint.place)
            answer = self._kept[asked] = self._access.decide(principal(key), action, what)
        return answer

    def narrow(self, key: Key, action: str, group: Group) -> Group:
        """Those of the endpoints that may answer which the rules let this key use; or the refusal.

        A group that refuses already, and one that nothing is taken from, is given back as it is.
        """
        if not group.may_answer:
            return group
        refused = [c for c in group.choices if not self._lets(key, action, c)]
        if not refused:
            return group
        left = tuple(choice for choice in group.choices if choice not in refused)
        return replace(group, choices=left or (self._refusal(key, action, refused),))

    def lists(self, key: Key, model: str, endpoints: Iterable[Endpoint]) -> bool:
        """Whether this key is shown a model that these endpoints serve."""
        return any(self.ask(key, LIST, model, endpoint).allowed for endpoint in endpoints)

    def _lets(self, key: Key, action: str, choice: Choice) -> bool:
        endpoint = choice.endpoint
        return endpoint is not None and self.ask(key, action, choice.model, endpoint).allowed

    def _refusal(self, key: Key, action: str, refused: list[Choice]) -> Choice:
        """The one that is told of several: of the first endpoint, as they are registered."""
        first = refused[0]
        assert first.endpoint is not None, "an endpoint that may answer is there"
        answer = self.ask(key, action, first.model, first.endpoint)
        return replace(first, code=REFUSED, rule=answer.rule, because=answer.because)


def principal(key: Key) -> Principal:
    """Who a key is to the access rules."""
    kind: Literal["Key", "Token"] = "Token" if key.id.startswith(OIDC) else "Key"
    return Principal(
        id=key.id,
        tenant=key.tenant,
        purpose=key.purpose,
        basis=key.basis,
        data=key.data,
        models=key.models,
        roles=key.roles,
        kind=kind,
    )
