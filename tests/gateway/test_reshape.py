"""Whole answers in each dialect: what is said in another way, and what is left as it was."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines.callids import CallIds, is_short
from sovereign.gateway.kinds import reshape
from sovereign.gateway.kinds.kind import NONSENSE
from sovereign.gateway.kinds.relay import Relay

CALL = {
    "id": "chatcmpl-tool-9f3a",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
}


def choice(finish: object = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "Paris.", **message}
    return {"index": 0, "message": said, "finish_reason": finish}


def shaped(said: dict[str, Any], dialect: str = "mistral") -> tuple[dict[str, Any], bool]:
    said = deepcopy(said)
    changed = reshape.whole(said, dialect, CallIds())
    return said, changed


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls"])
def test_an_answer_that_is_right_already_is_not_touched(dialect: str, finish: str) -> None:
    """So that it can leave as the engine's own bytes."""
    plain = choice(finish, prefix=False, tool_calls=None)
    assert shaped(plain, dialect) == (plain, False)


def test_a_call_reaches_mistrals_clients_in_the_form_they_send_back() -> None:
    """Nine letters and digits; the text beside it is a text; the end says what happened."""
    said, changed = shaped(choice("stop", content=None, tool_calls=[CALL]))
    assert changed
    (call,) = said["message"]["tool_calls"]
    assert is_short(call["id"])
    assert call["function"] == CALL["function"]
    assert said["message"]["content"] == ""
    assert said["finish_reason"] == "tool_calls"
    again, changed = shaped(said)
    assert (again, changed) == (said, False)


def test_openais_clients_get_calls_as_the_engine_made_them() -> None:
    """Their ids may be of any form; after a named function they are told `stop`, as by OpenAI."""
    asked = choice("stop", content=None, tool_calls=[CALL], refusal=None)
    assert shaped(asked, "openai") == (asked, False)


def test_several_calls_are_counted_and_have_an_id_each() -> None:
    """Also where an engine named two of them alike, or not at all."""
    calls = [CALL, {**CALL}, {"function": CALL["function"]}]
    said, _ = shaped(choice("tool_calls", tool_calls=calls))
    made = said["message"]["tool_calls"]
    assert [call["index"] for call in made] == [0, 1, 2]
    assert len({call["id"] for call in made}) == 3


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_a_part_for_mistrals_clients_and_a_field_for_openais(field: str) -> None:
    """Each where its client looks for them; never mixed into the text."""
    asked = choice("stop", **{field: "hm"})
    said, _ = shaped(asked)
    assert said["message"] == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "Paris."},
        ],
    }
    other, _ = shaped(asked, "openai")
    assert other["message"]["reasoning_content"] == "hm"
    assert "reasoning" not in other["message"]
    assert other["message"]["content"] == "Paris."


@pytest.mark.parametrize("empty", [None, ""])
def test_no_thoughts_are_no_part(empty: object) -> None:
    """vLLM sends the field whatever the model is."""
    said, _ = shaped(choice("stop", reasoning=empty))
    assert said["message"] == {"role": "assistant", "content": "Paris."}
    other, _ = shaped(choice("stop", reasoning=empty), "openai")
    assert other["message"] == {"role": "assistant", "content": "Paris."}


def test_a_message_can_be_sent_back_to_mistrals_dialect_as_it_came() -> None:
    """It is strict: a field of an engine's own would be refused when it comes back."""
    from sovereign.gateway.kinds import messages

    extras = {"refusal": None, "annotations": None, "audio": None, "function_call": None}
    said, _ = shaped(choice("stop", **extras, reasoning="hm"))
    user = {"role": "user", "content": "x"}
    messages.check([user, said["message"], user], "mistral")


@pytest.mark.parametrize(
    ("ended", "mistral", "openai"),
    [
        ("stop", "stop", "stop"),
        ("length", "length", "length"),
        ("tool_calls", "tool_calls", "tool_calls"),
        ("model_length", "model_length", "length"),
        ("error", "error", "error"),
        ("abort", "error", "abort"),
        ("content_filter", "stop", "content_filter"),
        ("function_call", "tool_calls", "function_call"),
        ("something new", "error", "something new"),
        (None, "error", None),
        ({"odd": 1}, "error", {"odd": 1}),
    ],
)
def test_how_it_ended_is_said_in_the_clients_words(
    ended: object, mistral: str, openai: object
) -> None:
    """Mistral's has five; what none of them means is an error, never a whole answer."""
    assert shaped(choice(ended))[0]["finish_reason"] == mistral
    assert shaped(choice(ended), "openai")[0]["finish_reason"] == openai


def test_tokens_get_their_ids_and_their_texts_back() -> None:
    """vLLM is asked to write the id where the text would be; the bytes beside it are the text."""
    top = {"token": "token_id:7", "logprob": -1.0, "bytes": [226, 130, 172]}
    token = {"token": "token_id:12", "logprob": -0.5, "bytes": [80], "top_logprobs": [top]}
    said, changed = shaped({**choice(), "logprobs": {"content": [token]}})
    assert changed
    (found,) = said["logprobs"]["content"]
    assert (found["token"], found["token_id"]) == ("P", 12)
    assert (found["top_logprobs"][0]["token"], found["top_logprobs"][0]["token_id"]) == ("€", 7)


def test_tokens_that_have_an_id_keep_their_text() -> None:
    """llama.cpp names both."""
    token = {"id": 12, "token": "P", "logprob": -0.5, "bytes": [80], "top_logprobs": []}
    said, _ = shaped({**choice(), "logprobs": {"content": [token]}})
    assert (said["logprobs"]["content"][0]["token_id"]) == 12
    assert said["logprobs"]["content"][0]["token"] == "P"


@pytest.mark.parametrize("empty", [None, {"content": None}, {"content": []}])
def test_no_probabilities_change_nothing(empty: object) -> None:
    """They are null in almost every answer."""
    assert shaped({**choice(), "logprobs": empty})[1] is False


_ASKED = ("choices", "message", "delta", "index", "content", "finish_reason", "usage")
_CALLED = ("tool_calls", "function", "id", "arguments", "reasoning")
_COUNTED = ("logprobs", "token", "bytes", "top_logprobs")
words = st.sampled_from((*_ASKED, *_CALLED, *_COUNTED))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)


@given(values, values, st.sampled_from(["mistral", "openai"]))
def test_an_engine_gone_mad_ends_in_one_kind_of_exception(
    first: object, second: object, dialect: str
) -> None:
    """Whatever it says is the engine's failure, told as one; never a crash of ours."""
    said = {"index": 0, "message": first, "delta": first, "finish_reason": second}
    said |= second if isinstance(second, dict) else {}
    chunk = b"data: " + msgspec.json.encode({"choices": [said]}) + b"\n\n"
    with suppress(*NONSENSE):
        reshape.whole(deepcopy(said), dialect, CallIds())
    with suppress(*NONSENSE):
        Relay(dialect, wants_usage=True, begun="x").feed(chunk)
