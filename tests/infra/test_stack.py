"""Stack files: what is accepted, what is refused and with which words."""

import re
from pathlib import Path

import msgspec
import pytest

from infra import stack
from sovereign.errors import StackUnreadable, UnknownName

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "stacks.md"
SCALEWAY, STATIC = "scaleway-example", "static-example"


@pytest.mark.parametrize("name", [path.stem for path in stack.FOLDER.glob("*.yaml")])
def test_every_shipped_stack_can_be_read(name):
    """They are what people copy."""
    assert stack.load(name)


@pytest.mark.parametrize("name", ["nowhere", "../stacks/scaleway-example", "", "Scaleway"])
def test_a_stack_that_is_not_there_is_refused_and_those_there_are_named(name):
    """A name is a name, never a path."""
    with pytest.raises(UnknownName) as refused:
        stack.load(name)
    assert SCALEWAY in refused.value.accepted


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        (SCALEWAY, "cloud: scaleway", "cloud: aws", "cloud"),
        (SCALEWAY, "nodes: 1", "nodes: 0", "nodes"),
        (SCALEWAY, "nodes: 1", "nodes: 1\nnode: 2", "node"),
        (SCALEWAY, "engine: vllm", "engine: guess", "engine"),
        (SCALEWAY, "zone: fr-par-2\n", "", "zone is needed"),
        (SCALEWAY, "[192.0.2.0/24]", "[]", "allow_from is needed"),
        (SCALEWAY, "[192.0.2.0/24]", "[0.0.0.0/0]", "whole internet"),
        (SCALEWAY, "[192.0.2.0/24]", '["::/0"]', "whole internet"),
        (SCALEWAY, "[192.0.2.0/24]", "[192.0.2.1/24]", "host bits"),
        (SCALEWAY, "kept_days: 30", "kept_days: 0", "kept_days"),
        (STATIC, "cloud: static", "cloud: static\nzone: fsn1", "zone means nothing"),
        (STATIC, "name: node-2", "name: node-1", "stands twice"),
        (STATIC, "cloud: static", "cloud: local", "machines belong to cloud static"),
        (STATIC, "place: hetzner:hel1", "user: root", "stands here a second time"),
    ],
)
def test_what_does_not_make_sense_is_refused_by_name(stacks, name, before, after, said):
    """The message is all that somebody who mistyped will read."""
    path = stacks / f"{name}.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(StackUnreadable) as refused:
        stack.load(name, stacks)
    assert said in str(refused.value)
    assert path.name in str(refused.value)


def test_machines_are_needed_where_machines_are_all_there_is(stacks):
    """A static stack without machines would plan nothing, and call it allowed."""
    path = stacks / "static-example.yaml"
    path.write_text(path.read_text().split("machines:")[0])
    with pytest.raises(StackUnreadable, match="needs machines"):
        stack.load(STATIC, stacks)


@pytest.mark.parametrize("kind", [stack.Stack, stack.Machine, stack.Backups])
def test_the_page_lists_exactly_the_fields_with_their_meaning(kind):
    """A field without a line is a field nobody finds; a line without a field is a lie."""
    page = PAGE.read_text()
    section = page.split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
    listed = {name: meaning for name, _, meaning in rows}
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    described = {
        name: field.get("description")
        or next(part["description"] for part in field["anyOf"] if "description" in part)
        for name, field in schema.items()
    }
    assert listed == described
    needed = {field.name for field in msgspec.structs.fields(kind) if field.required}
    assert {name for name, default, _ in rows if default == "required"} == needed
