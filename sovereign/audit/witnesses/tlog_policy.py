"""Say whom we trust in a form that other people's verifiers read (C2SP tlog-policy).

The quorum of `rules/audit.yaml` counts organisations, so each organisation is a group of which
any witness will do, and the quorum a group of those groups. Our own witnesses are listed and
stand in no group: they never count. Freshness cannot be said in that format; it is in a comment.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sovereign.audit.note import VerifierKey

if TYPE_CHECKING:
    from sovereign.policy.shapes import Witness, Witnesses

QUORUM = "quorum-of-organisations"


def render(rules: "Witnesses", logs: Iterable[VerifierKey]) -> str:
    """Return the file; the same rules and logs give the same bytes."""
    lines = [f"log {key}" for key in sorted(logs, key=str)]
    by_organisation: dict[str, list[Witness]] = {}
    for each in sorted(rules.known, key=lambda witness: witness.id):
        lines.append(f"witness {each.id} {each.key} {each.url}")
        if not each.own:
            by_organisation.setdefault(each.organisation, []).append(each)
    if rules.quorum == 0:
        return "\n".join([*lines, "quorum none", ""])
    groups = []
    for number, name in enumerate(sorted(by_organisation), 1):
        groups.append(f"organisation-{number}")
        members = " ".join(each.id for each in by_organisation[name])
        lines += [f"# {_commented(name)}", f"group organisation-{number} any {members}"]
    lines.append(f"# each within {rules.max_age_s} s, which this format cannot say")
    lines.append(f"group {QUORUM} {rules.quorum} {' '.join(groups)}")
    return "\n".join([*lines, f"quorum {QUORUM}", ""])


def _commented(text: str) -> str:
    """A name as one line of a comment."""
    return "".join(each if each.isprintable() else " " for each in text)
