"""Judge whether a signed exception is one that this policy allows. Pure.

An exception lets one place have some data for some days although named rules refuse it. It can
stand in for a rule about where a place is or how old a fact is; never for the one that a place
must be known, nor for what keeps data on this host.
"""

from collections.abc import Iterable

from sovereign.policy.model import Rule
from sovereign.policy.shapes import Changes, SiteException

KINDS = ("fresh", "place", "adequacy", "chain")
"""Kinds of rules that an exception can stand in for."""


def fault(each: SiteException, rules: Iterable[Rule], data: Iterable[str], changes: Changes) -> str:
    """Why an exception does not count under a policy, "" when it does."""
    known = tuple(rules)
    can = {rule.id for rule in known if rule.kind in KINDS}
    days = (each.until - each.from_).days
    if each.approver not in changes.approvers:
        return f"{each.approver} approves nothing here: {', '.join(changes.approvers)} do"
    if not 0 < days <= changes.exception_max_days:
        return f"it lasts {days} days; 1 to {changes.exception_max_days} are accepted"
    strange = [name for name in each.rules if name not in can]
    if strange:
        return f"no exception can be made from {strange[0]}: {', '.join(sorted(can))}"
    if each.id in {rule.id for rule in known}:
        return f"{each.id} is the id of a rule"
    unknown = sorted(set(each.data) - set(data))
    return f"{unknown[0]} is no class of data" if unknown else ""
