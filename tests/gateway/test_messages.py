"""The messages of a chat: their fields, and the order that Mistral's interface wants."""

from typing import Any

import msgspec
import pytest

from sovereign.gateway.kinds import messages
from sovereign.gateway.refusal import Denied, envelope

USER = {"role": "user", "content": "12 or 13?"}
ANSWER = {"role": "assistant", "content": "12"}
BEGUN = {"role": "assistant", "content": "It is", "prefix": True}
DIALECTS = pytest.mark.parametrize("dialect", ["mistral", "openai"])


def call(id_: object = "D681PevKs", **function: object) -> dict[str, Any]:
    return {"id": id_, "function": {"name": "f", "arguments": "{}", **function}}


def asks(*names: str) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [call(name) for name in names]}


def result(name: object = "D681PevKs", **more: object) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": "12", **more}


def refusal(said: object, dialect: str = "mistral") -> Denied:
    with pytest.raises(Denied) as caught:
        messages.check(said, dialect)
    assert (caught.value.param or "").partition(".")[0] == "messages"
    return caught.value


@DIALECTS
@pytest.mark.parametrize(
    "said",
    [
        [USER],
        [{"role": "system", "content": "Be brief."}],
        [{"role": "system", "content": "Be brief."}, USER, ANSWER, USER],
        [USER, USER],
        [USER, ANSWER, ANSWER, USER],
        [USER, asks("a"), result("a")],
        [USER, asks("a", "b"), result("b"), result("a"), ANSWER, USER],
        [USER, asks("a"), result("a"), USER],  # refused once, let pass since
        [USER, asks("a"), result("a"), asks("b"), result("b")],
        [USER, BEGUN],
        [{"role": "user", "content": None}],
        [USER, {"role": "assistant", "content": "", "tool_calls": None, "prefix": False}, USER],
    ],
)
def test_what_mistrals_interface_lets_pass_passes(said: object, dialect: str) -> None:
    """A gateway that knows better than the interface it speaks breaks programs that work."""
    messages.check(said, dialect)


@DIALECTS
@pytest.mark.parametrize(
    "said",
    [
        [USER, result()],
        [result()],
        [USER, asks("a"), result("a"), result("b")],
        [USER, asks("a", "b"), result("a")],
        [USER, asks("a"), USER, ANSWER, USER],
        [USER, asks("a"), ANSWER, USER],
        [USER, asks("a")],
        [USER, {"role": "assistant", "content": None}, USER],
        [USER, {"role": "assistant"}, USER],
    ],
)
def test_a_call_without_its_result_or_the_other_way_round_is_refused(
    said: object, dialect: str
) -> None:
    """Both interfaces say no; an engine says 500, or makes something up."""
    denied = refusal(said, dialect)
    assert (denied.status, denied.code) == (422, "field-invalid")


@pytest.mark.parametrize("said", [[USER, ANSWER], [USER, BEGUN, USER], [BEGUN, BEGUN]])
def test_an_answer_stands_at_the_end_only_to_be_gone_on_with(said: object) -> None:
    """In Mistral's dialect; in OpenAI's, what follows is a new answer."""
    assert "prefix" in refusal(said).message
    messages.check(said, "openai")


@pytest.mark.parametrize(
    "message",
    [
        {**USER, "name": "ann"},
        {**ANSWER, "reasoning_content": "hm"},
        {**ANSWER, "refusal": None},
        result(is_error=True),
        {"role": "system", "content": "x", "prefix": True},
    ],
)
def test_mistrals_dialect_knows_every_field_of_a_message(message: dict[str, Any]) -> None:
    """Its interface says 422 `extra_forbidden`; a client finds out here, not in production."""
    denied = refusal([USER, message, USER])
    assert (denied.status, denied.code) == (422, "field-unknown")
    assert denied.message.startswith("extra_forbidden")
    assert (denied.param or "").startswith("messages.1.")
    detail = msgspec.json.decode(envelope(denied, "mistral"))["detail"][0]
    assert detail["type"] == "extra_forbidden"
    assert detail["loc"][:3] == ["body", "messages", 1]
    assert detail["loc"][3] in message


def test_openais_clients_send_back_what_they_were_sent() -> None:
    """Thoughts included, under the name the interfaces of that kind have for them."""
    answered: dict[str, Any] = {
        **ANSWER,
        "reasoning_content": "hm",
        "refusal": None,
        "annotations": [],
    }
    messages.check([{"role": "developer", "content": "x"}, USER, answered, USER], "openai")
    messages.check([USER, {"role": "assistant", "reasoning_content": "hm"}, USER], "openai")


@pytest.mark.parametrize(
    ("message", "dialect"),
    [
        ({"role": "developer", "content": "x"}, "mistral"),
        ({"role": "function", "content": "x"}, "openai"),
        ({"role": "User", "content": "x"}, "mistral"),
        ({"role": ""}, "mistral"),
        (result(None), "mistral"),
        (result(""), "openai"),
        (result(7), "mistral"),
        (result("x" * 257), "mistral"),
        (result("null"), "mistral"),
        ({"role": "assistant", "tool_calls": 7}, "mistral"),
        ({"role": "assistant", "tool_calls": [7]}, "mistral"),
        ({"role": "assistant", "tool_calls": [{"id": "D681PevKs"}]}, "openai"),
        ({"role": "assistant", "tool_calls": [call(None)]}, "mistral"),
        ({"role": "assistant", "tool_calls": [call("null")]}, "mistral"),
        ({"role": "assistant", "tool_calls": [call(name=7)]}, "mistral"),
        ({"role": "assistant", "tool_calls": [call(arguments=None)]}, "mistral"),
        ({"role": "assistant", "tool_calls": [call(str(n)) for n in range(129)]}, "mistral"),
        ({"role": "assistant", "content": "x", "prefix": "yes"}, "mistral"),
        ({"role": "user", "content": [{"type": "text"}]}, "mistral"),
        ({"role": "user", "content": [{"type": "text", "text": 7}]}, "mistral"),
    ],
)
def test_what_an_engine_would_stumble_over_is_refused_here(message: object, dialect: str) -> None:
    """Each would be a 500 of one engine or another."""
    assert refusal([USER, message], dialect).code == "field-invalid"


def test_calls_may_be_as_many_as_the_bound_and_their_names_as_long() -> None:
    """The edges that let pass."""
    names = [str(n) for n in range(messages.CALLS_MAX)]
    messages.check([USER, asks(*names), *[result(name) for name in names]], "mistral")
    longest = "x" * messages.ID_MAX_CHARS
    messages.check([USER, asks(longest), result(longest)], "mistral")


def test_arguments_may_be_an_object_or_its_text() -> None:
    """Mistral's clients may send either."""
    asked = {"role": "assistant", "tool_calls": [call("a", arguments={"x": 1}), call("b")]}
    messages.check([USER, asked, result("a"), result("b")], "mistral")


def test_no_refusal_repeats_a_name_or_a_text_of_the_client() -> None:
    """An error text ends up in logs of other people's making."""
    word = "CANARY-in-content"
    for said in (
        [USER, result(word)],
        [{"role": word}],
        [USER, {"role": "assistant", "tool_calls": [call(word, name=7)]}],
        [{"role": "user", "content": [{"type": word}]}],
    ):
        assert word not in refusal(said).message


@pytest.mark.parametrize("name", ["9" * 64, "a.b", ".", "\u0663", "", "x" * 9999])
def test_a_field_may_be_called_anything_and_is_still_refused(name: str) -> None:
    """Its name is the client's: it must not break what says no to it."""
    denied = refusal([{**USER, name: 1}])
    assert msgspec.json.decode(envelope(denied, "mistral"))["detail"][0]["loc"][0] == "body"
