"""Every code that can name a runbook, read out of the program and never written down twice."""

import ast
import re
from collections.abc import Iterator

from sovereign import errors
from sovereign.audit.verify import FINDINGS
from sovereign.gateway.refusal import STATUS
from sovereign.registry import Endpoint
from tests.docs.reading import ROOT

SHARED_BY_FINDINGS = "audit-finding"
"""The runbook of findings that have no error of the same name."""


def classes(kind: type[errors.SovereignError]) -> Iterator[type[errors.SovereignError]]:
    """A class of the error tree and all below it."""
    yield kind
    for child in kind.__subclasses__():
        yield from classes(child)


def of_errors() -> set[str]:
    """Leaves of the error tree, and branches that are raised as they are."""
    tree = {kind.__name__: kind for kind in classes(errors.SovereignError)}
    leaves = {kind.code for kind in tree.values() if not kind.__subclasses__()}
    return leaves | {tree[name].code for name in _raised() if name in tree}


def _raised() -> Iterator[str]:
    """The names of everything that is called in the package: errors are made by calling them."""
    for path in (ROOT / "sovereign").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id


def of_quarantine() -> set[str]:
    """Why the controller shuts an endpoint: each `Fault(…)` of its plan, and the first state."""
    tree = ast.parse((ROOT / "sovereign/controller/plan.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    faults = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Fault"]
    codes = {a.value for c in faults for a in c.args[:1] if isinstance(a, ast.Constant)}
    assert len(codes) >= 3, "the plan no longer names its faults with constants"
    return codes | {Endpoint("", "", "", (), "").quarantine}


def of_gateway() -> set[str]:
    """Every code the gateway answers with."""
    return set(STATUS)


def of_findings() -> set[str]:
    """What `sovereign audit verify` can find."""
    return set(FINDINGS)


def of_alerts() -> set[str]:
    """What Prometheus can ring for; an alert is named after its runbook."""
    return set(re.findall(r"- alert: (\S+)", (ROOT / "docs/monitoring/alerts.yml").read_text()))


def with_a_runbook() -> set[str]:
    """The whole set: one file each under docs/runbooks/."""
    return of_errors() | of_gateway() | of_quarantine() | of_alerts() | {SHARED_BY_FINDINGS}
