"""Tools and the form of an answer: what is refused before an engine sees it."""

from typing import Any

import pytest

from sovereign.gateway.kinds import tools
from sovereign.gateway.refusal import Denied

DIALECTS = pytest.mark.parametrize("dialect", ["mistral", "openai"])
CHOICES = ("auto", "none", "any", "required")


def tool(name: object = "weather", **function: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}, **function}}


def named(name: object = "weather") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def refusal(dialect: str = "mistral", **body: Any) -> Denied:
    with pytest.raises(Denied) as caught:
        tools.check(body, dialect)
    assert (caught.value.status, caught.value.code) == (422, "field-invalid")
    return caught.value


@DIALECTS
@pytest.mark.parametrize("choice", [*CHOICES, named(), {"function": {"name": "weather"}}, None])
def test_every_choice_of_mistrals_interface_passes(choice: object, dialect: str) -> None:
    """Words and the name of one function."""
    tools.check({"tools": [tool(), tool("time")], "tool_choice": choice}, dialect)


@DIALECTS
@pytest.mark.parametrize(
    "choice", ["", "Any", "weather", {}, {"type": "function"}, named("time"), named(7), {"type": 7}]
)
def test_a_choice_of_what_is_not_there_is_refused(choice: object, dialect: str) -> None:
    """An engine would answer 500, or choose by itself."""
    assert refusal(dialect, tools=[tool()], tool_choice=choice).param == "tool_choice"


@pytest.mark.parametrize("choice", ["any", "required", named()])
@pytest.mark.parametrize("none", [None, []])
def test_who_asks_for_a_tool_must_bring_one(choice: object, none: object) -> None:
    """`auto` and `none` ask for none, so they pass without."""
    assert refusal(tools=none, tool_choice=choice).param == "tool_choice"
    tools.check({"tools": none, "tool_choice": "auto"}, "mistral")
    tools.check({"tools": none, "tool_choice": "none"}, "mistral")


@DIALECTS
@pytest.mark.parametrize(
    "bad",
    [
        7,
        {},
        {"type": "web_search"},
        {"type": "code_interpreter"},
        {"type": "connector", "connector_id": "x"},
        {"type": "function"},
        tool(""),
        tool("x" * 65),
        tool("wet\u00e4r"),
        tool("a b"),
        tool(7),
        tool(parameters=[]),
        tool(parameters="{}"),
        tool(description=7),
    ],
)
def test_a_tool_that_no_engine_understands_is_refused(bad: object, dialect: str) -> None:
    """A platform's own tools too: they would run somewhere else."""
    assert refusal(dialect, tools=[tool("good"), bad]).param == "tools"


def test_names_may_be_as_long_as_the_pattern_and_stand_once() -> None:
    """A call by a name that two functions have could be of either."""
    tools.check({"tools": [tool("x" * 64), tool("a-b_C9")]}, "mistral")
    assert refusal(tools=[tool("a"), tool("a")]).param == "tools"


def test_only_openais_clients_may_leave_parameters_out() -> None:
    """Mistral's interface wants them."""
    bare = {"type": "function", "function": {"name": "now"}}
    tools.check({"tools": [bare]}, "openai")
    assert refusal("mistral", tools=[bare]).param == "tools"


def test_tools_are_bounded_in_number_and_in_size() -> None:
    """An engine compiles a grammar out of each: that must end."""
    many = [tool(f"f{n}") for n in range(tools.TOOLS_MAX)]
    tools.check({"tools": many}, "mistral")
    assert refusal(tools=[*many, tool("one_more")]).param == "tools"
    for extra, fits in ((-200, True), (0, False)):
        large = [tool(description="x" * (tools.TOOLS_MAX_BYTES + extra))]
        if fits:
            tools.check({"tools": large}, "mistral")
        else:
            assert refusal(tools=large).param == "tools"


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "text"},
        {"type": "json_object"},
        {},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    ],
)
def test_every_form_of_an_answer_passes(wanted: object) -> None:
    """As both interfaces name them."""
    tools.check({"response_format": wanted}, "mistral")


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": []},
        {"type": "json_schema", "json_schema": {"name": "x"}},
        {"type": "json_schema", "json_schema": {"schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": []}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": 1}},
    ],
)
def test_a_form_that_is_none_is_refused(wanted: object) -> None:
    """An answer in another form than was asked for would be taken for the right one."""
    assert refusal(response_format=wanted).param == "response_format"


def test_stops_are_bounded() -> None:
    """Each is looked for after every token."""
    most = ["x" * tools.STOP_MAX_CHARS] * tools.STOPS_MAX
    tools.check({"stop": most}, "mistral")
    assert refusal(stop=[*most, "x"]).param == "stop"
    assert refusal(stop=["x" * (tools.STOP_MAX_CHARS + 1)]).param == "stop"
    assert refusal(stop="x" * (tools.STOP_MAX_CHARS + 1)).param == "stop"
