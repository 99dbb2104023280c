"""Decide who may do what with which model. The operator's own question, beside residency.

The gateway asks it about each call once an endpoint is chosen, and about each model it lists. The
rules are Cedar (`policies/access/`), checked when the policy was loaded. It is pure: an answer
depends on the policy and the question alone, so it can be kept, and computed again later.

What always holds:
  * Silence means no: `access-default-deny`. A rule that forbids wins over any that permits.
  * What cannot be evaluated is refused: `access-not-evaluated`. Cedar itself would leave out a
    rule it cannot evaluate, and that might be the one that forbids.
  * Order never matters. Of several rules that give the same answer, the first by id is reported.
"""

from dataclasses import dataclass
from typing import Any

from sovereign.policy import Policy
from sovereign.policy.cedar import AccessRule
from sovereign.policy.spoken import ACTIONS, UNKNOWN, Principal, Served, document, request

DEFAULT_DENY, NOT_EVALUATED = "access-default-deny", "access-not-evaluated"
SERVED_MAX = 10_000
"""So many models at endpoints are kept as Cedar reads them; one more begins anew."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer and the rule that gave it. `rules` are all that gave the same answer, by id."""

    allowed: bool
    rule: str
    because: str
    source: str
    rules: tuple[str, ...]
    policy: str

    @property
    def verdict(self) -> str:
        """`allow` or `refuse`, the words records and tables use."""
        return "allow" if self.allowed else "refuse"


class Access:
    """The access rules of one policy, parsed once."""

    def __init__(self, policy: Policy) -> None:
        import cedarpy  # 16 MB, and only whoever decides about access needs it

        self._policy = policy
        self._cedar = cedarpy
        self._set = cedarpy.PolicySet.from_str(policy.access.text)
        self._served: dict[Served, Any] = {}

    def decide(self, principal: Principal, action: str, served: Served) -> Decision:
        """Answer whether the rules let `principal` do `action` with `served`."""
        if action not in ACTIONS:
            return self._no(NOT_EVALUATED, "The rules do not know what would be done.")
        try:
            entities = self._known(served).with_added_json_str(document(principal.entity()))
            asked = request(principal, action, served)
            answer = self._cedar.is_authorized(asked, self._set, entities)
        except ValueError:  # it is nothing that Cedar can be asked
            return self._no(NOT_EVALUATED, "The question could not be put to the rules.")
        if answer.diagnostics.errors or answer.decision is self._cedar.Decision.NoDecision:
            return self._no(NOT_EVALUATED, "A rule could not be evaluated, so nothing is allowed.")
        rules = self._policy.access.rules
        numbers = (int(each.removeprefix("policy")) for each in answer.diagnostics.reasons)
        gave = sorted((rules[number] for number in numbers), key=lambda rule: rule.id)
        if not gave:
            return self._no(DEFAULT_DENY, f"No rule lets {principal.id} {action} {served.model}.")
        return self._by(gave, allowed=answer.allowed)

    def applying(self, principal: Principal, action: str, served: Served) -> tuple[AccessRule, ...]:
        """Every rule that has something to say about the question, each asked by itself, by id.

        A rule that forbids is among them even if others forbid too, and a rule that permits even
        where one forbids. One that cannot be evaluated is not.
        """
        entities = self._known(served).with_added_json_str(document(principal.entity()))
        asked = request(principal, action, served)
        return tuple(
            rule
            for rule in self._policy.access.rules
            if self._cedar.is_authorized(asked, rule.text, entities).diagnostics.reasons
        )

    def _known(self, served: Served) -> Any:
        found = self._served.get(served)
        if found is None:
            if len(self._served) >= SERVED_MAX:
                self._served.clear()
            found = self._cedar.Entities.from_json_str(document(served.entity()))
            self._served[served] = found
        return found

    def _by(self, gave: list[AccessRule], *, allowed: bool) -> Decision:
        first, digest = gave[0], self._policy.digest
        ids = tuple(rule.id for rule in gave)
        return Decision(allowed, first.id, first.because, first.source, ids, digest)

    def _no(self, rule: str, because: str) -> Decision:
        return Decision(False, rule, because, "policies/access", (), self._policy.digest)


def served(policy: Policy, model: str, endpoint: str, engine: str, place: str) -> Served:
    """What the tables of a policy say of a model at an endpoint."""
    facts, where = policy.models[model], policy.places.get(place)
    licence = policy.licences.get(facts.licence_terms)
    return Served(
        model=model,
        endpoint=endpoint,
        engine=engine,
        terms=facts.licence_terms,
        serve=licence.serve if licence else "no",
        place=place,
        capabilities=facts.capabilities,
        country=where.country if where else UNKNOWN,
        under=where.under if where else UNKNOWN,
    )
