"""What the policy says about a host, as variables of the roles.

Pure. These variables are handed to Ansible as extra variables, which no inventory and no file of a
site can override: a site may say where things are, never what is allowed or how long it is kept.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy
from sovereign.policy.shapes import Dependency
from sovereign.residency import Decision, Question, decide

PROCESS_LOG = "process-log"
TIME_PORTS = (":123", ":4460")
"""Of NTP, and of the agreement on keys for Network Time Security (RFC 5905, RFC 8915)."""


def of_policy(policy: Policy, now: datetime) -> dict[str, object]:
    """Return the variables that follow from the policy alone, by the name of a role's option.

    Raises:
        PolicyUnreadable: the policy bounds the journal's age by nothing.
    """
    return {
        "logging_kept_days": kept_days(policy),
        "egress_dependencies": sorted(allowed_dependencies(policy, now)),
        "clock_dependencies": time_servers(policy, now),
    }


def kept_days(policy: Policy) -> int:
    """Days after which what processes print must be gone."""
    kept = policy.retention.get(PROCESS_LOG)
    if kept is None or not isinstance(kept.max_days, int) or kept.max_days < 1:
        raise PolicyUnreadable(
            f"the journal of a host needs a bound, and the class {PROCESS_LOG} gives none",
            found="no such class" if kept is None else f"max_days: {kept.max_days}",
            accepted="max_days: a whole number of days, 1 or more (rules/retention.yaml)",
        )
    return kept.max_days


def allowed_dependencies(policy: Policy, now: datetime) -> Iterator[str]:
    """The dependencies a host may be opened to: every class and verb of theirs is allowed."""
    for dependency in policy.dependencies.values():
        if all(decision.allowed for decision in _decisions(policy, dependency, now)):
            yield dependency.id


def time_servers(policy: Policy, now: datetime) -> dict[str, list[str]]:
    """Where the allowed dependencies that tell the time are asked for it, by their ids."""
    allowed = set(allowed_dependencies(policy, now))
    asked = {
        each.id: [address for address in each.addresses if address.endswith(TIME_PORTS)]
        for each in policy.dependencies.values()
        if each.id in allowed
    }
    return {name: addresses for name, addresses in sorted(asked.items()) if addresses}


def _decisions(policy: Policy, dependency: Dependency, now: datetime) -> Iterator[Decision]:
    for data in dependency.data:
        for verb in dependency.verbs:
            yield decide(policy, Question(dependency.place, data, verb, now))


def profile_of(inventory: Mapping[str, Mapping[str, object]]) -> str:
    """The one residency profile of all hosts; `eea` where none says any.

    Args:
        inventory: the variables of each host, by its name.

    Raises:
        PolicyUnreadable: two hosts would be configured under different profiles in one run.
    """
    said = {str(told.get("sovereign_profile", "eea")) for told in inventory.values()} or {"eea"}
    if len(said) > 1:
        raise PolicyUnreadable(
            "the hosts of one stack stand under one profile", found=", ".join(sorted(said))
        )
    return said.pop()
