"""Ask the table of cases in `policies/access/cases.yaml`, and say which answer differs."""

from collections.abc import Iterator
from dataclasses import dataclass

from sovereign.access.decide import Access, Decision
from sovereign.policy import Policy
from sovereign.policy.shapes import AccessCase
from sovereign.policy.spoken import Principal, Served


@dataclass(frozen=True, slots=True)
class Differing:
    """A case that is not answered as it says, for one of its actions."""

    case: AccessCase
    action: str
    found: Decision


def differing(policy: Policy) -> Iterator[Differing]:
    """Ask every case of `access/cases.yaml`; those that are answered otherwise than they say."""
    access = Access(policy)
    for case in policy.access.cases:
        for action in case.actions:
            found = access.decide(_who(case), action, _what(policy, case))
            if (found.verdict, found.rule) != (case.expect, case.rule):
                yield Differing(case, action, found)


def _who(case: AccessCase) -> Principal:
    said = case.principal
    return Principal(
        id="case",
        tenant=said.tenant,
        purpose=said.purpose,
        basis=said.basis,
        data=said.data,
        models=said.models,
        roles=said.roles,
        kind=said.kind,
    )


def _what(policy: Policy, case: AccessCase) -> Served:
    said, facts = case.resource, policy.models.get(case.resource.model)
    terms = said.terms or (facts.licence_terms if facts else "open")
    licence = policy.licences.get(terms)
    return Served(
        model=said.model,
        endpoint=said.endpoint,
        engine=said.engine,
        terms=terms,
        serve=said.serve or (licence.serve if licence else "no"),
        place=said.place,
        capabilities=facts.capabilities if facts else (),
        country=said.country,
        under=said.under,
    )
