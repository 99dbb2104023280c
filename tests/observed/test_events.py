"""The page of events lists what the processes really write."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from docs.events import EVENTS, FIELDS
from sovereign.audit.witnesses import witnessed
from sovereign.controller import cosign
from tests.docs.reading import DOCS, ROOT, table

PACKAGE = ROOT / "sovereign"
PAGE = DOCS / "formats/events.md"
SAID_BY_VARIABLE = {
    ("controller/act.py", "step.verb"): {"attest", "quarantine", "release"},
    ("controller/cosign.py", "code", 1): set(witnessed.FINDINGS),
    ("controller/cosign.py", "code", 3): {
        *cosign.CONFLICTS,
        *("witness-silent", "authority-silent", "authority-refused"),
        *("residency-refused", "tile-missing"),
    },
    ("cli/audit_standby.py", "code"): {
        *("history-split", "standby-unreachable", "tile-missing", "state-unreadable")
    },
    ("cli/audit_standby.py", "name"): {"standby-behind", "standby-caught-up"},
}
"""Where a name is not written at the call: what it can be, by file, expression and, where one
expression is said twice, the number of its fields."""


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Every event that the package writes: where, its name, the fields it gives."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        tree = ast.parse(path.read_text())
        constants = _constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_emit(node, path):
                fields = {each.arg for each in node.keywords if each.arg}
                if any(each.arg is None for each in node.keywords):
                    fields |= {"due", "erased"}  # the counts of a retention run
                for name in _names(node.args[0], constants, file, len(fields)):
                    yield file, name, fields


def _constants(tree: ast.Module) -> dict[str, str]:
    """The names that stand for one text in a module."""
    return {
        each.targets[0].id: str(each.value.value)
        for each in tree.body
        if isinstance(each, ast.Assign)
        and isinstance(each.targets[0], ast.Name)
        and isinstance(each.value, ast.Constant)
    }


def _is_emit(node: ast.Call, path: Path) -> bool:
    said = ast.unparse(node.func)
    return said == "eventlog.emit" or (said == "emit" and path.name == "eventlog.py")


def _names(said: ast.expr, constants: dict[str, str], file: str, fields: int) -> set[str]:
    if isinstance(said, ast.Constant):
        return {str(said.value)}
    if isinstance(said, ast.Name) and said.id in constants:
        return {constants[said.id]}
    key = (file, ast.unparse(said))
    found = SAID_BY_VARIABLE.get(key) or SAID_BY_VARIABLE.get((*key, fields))
    assert found, f"{file} says {ast.unparse(said)}: write down what that can be"
    return found


def test_every_event_is_in_the_table_and_the_table_holds_no_other() -> None:
    """Whoever searches the journal for a word finds what it means, or it is no word of ours."""
    assert {name for _, name, _ in calls()} == set(EVENTS)


def test_every_event_gives_the_fields_that_the_table_says() -> None:
    """A field that is not in the table is one that nobody weighed."""
    given: dict[str, set[str]] = defaultdict(set)
    for _, name, fields in calls():
        given[name] |= fields
    assert {name: set(event.fields) for name, event in EVENTS.items()} == given


def test_every_field_is_explained_and_none_could_hold_what_a_client_wrote() -> None:
    """The names are the whole list; a header, a body, a subject or a tenant is not among them."""
    assert {field for event in EVENTS.values() for field in event.fields} == set(FIELDS)
    assert not set(FIELDS) & {"body", "header", "message", "path", "prompt", "subject", "tenant"}


def test_the_page_shows_the_table() -> None:
    """The page is generated; this notices one that was forgotten."""
    assert {row[0] for row in table(PAGE, "# Events")} == set(EVENTS)
    assert {row[0] for row in table(PAGE, "## Fields")} == set(FIELDS)
