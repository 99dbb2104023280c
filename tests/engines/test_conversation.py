"""Messages of both dialects, and what of them an engine is told."""

from typing import Any

import pytest

from sovereign.engines import ENGINES, ChatContext
from sovereign.engines.callids import CallIds
from sovereign.engines.conversation import ids_in, is_begun, read

THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
HELLO = {"role": "user", "content": "hello"}
every_engine = pytest.mark.parametrize("name", sorted(ENGINES))


def told(*messages: Any, thoughts_as: str = "reasoning") -> list[Any]:
    return read(list(messages), thoughts_as).messages


def sent(name: str, *messages: Any, thinks: bool = False, **body: Any) -> Any:
    ctx = ChatContext(served_name="m", dialect="mistral", tenant_salt="salt", thinks=thinks)
    return ENGINES[name].chat({"messages": list(messages), **body}, ctx)


def call(name: str, arguments: object = "{}") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}


def asked_and_told(name: str) -> list[Any]:
    return [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call(name)]},
        {"role": "tool", "tool_call_id": name, "content": "12", "name": "f"},
    ]


@every_engine
@pytest.mark.parametrize("name_", ["call_Nx81", "chatcmpl-tool-9f3", "D681PevKs", "\u00e9"])
def test_a_call_and_its_result_reach_the_engine_under_one_short_id(name: str, name_: str) -> None:
    """vLLM cuts longer ones and writes them into its log; Mistral's tokenizers refuse them."""
    _, asked, result = sent(name, *asked_and_told(name_)).body["messages"]
    assert asked["tool_calls"][0]["id"] == result["tool_call_id"] == CallIds().of(name_)
    assert asked["content"] == ""
    assert result == {
        "role": "tool",
        "content": "12",
        "name": "f",
        "tool_call_id": CallIds().of(name_),
    }


def test_two_calls_keep_two_ids_even_if_one_is_made_of_the_other() -> None:
    """A conversation that moved from one client to another holds both forms."""
    made = CallIds().of("call_1")
    both = {"role": "assistant", "tool_calls": [call("call_1"), call(made)], "content": ""}
    first = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    second = {"role": "tool", "tool_call_id": made, "content": "2"}
    asked, one, two = told(both, first, second)
    ids = [each["id"] for each in asked["tool_calls"]]
    assert ids == [one["tool_call_id"], two["tool_call_id"]]
    assert ids[1] == made != ids[0]


def test_an_answers_new_id_is_none_that_the_conversation_holds() -> None:
    """The model may give an id that was used ten turns ago."""
    taken = CallIds().of("call_1")
    messages = [{"role": "tool", "tool_call_id": taken, "content": "1"}]
    assert ids_in(messages).fresh("call_1") != taken
    assert ids_in(messages).fresh(taken) != taken
    assert ids_in(None).fresh("call_1") == taken
    counting = ids_in(None)
    assert len({counting.fresh("call_0") for _ in range(3)}) == 3


def test_arguments_as_an_object_become_their_text() -> None:
    """Mistral's clients may send either; engines take the text alone."""
    (message,) = told({"role": "assistant", "tool_calls": [call("D681PevKs", {"a": [1]})]})
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a":[1]}'


def test_a_developer_is_the_system() -> None:
    """OpenAI's newer word; templates know the older one."""
    assert told({"role": "developer", "content": "Be brief."}) == [
        {"role": "system", "content": "Be brief."}
    ]


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"content": [THINKING, {"type": "text", "text": "Paris"}]}, "hm"),
        ({"content": "Paris", "reasoning_content": "hm"}, "hm"),
        ({"content": "Paris", "reasoning": "hm"}, "hm"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "Paris"},
                ]
            },
            "hm",
        ),
        ({"content": "Paris"}, None),
        (
            {"content": [{"type": "text", "text": "Pa"}, {"type": "refusal", "refusal": "ris"}]},
            None,
        ),
        (
            {
                "content": [
                    {"type": "reference", "reference_ids": [1]},
                    {"type": "text", "text": "Paris"},
                ]
            },
            None,
        ),
    ],
)
def test_thoughts_reach_the_field_the_engine_reads_them_from(
    message: dict[str, Any], reasoning: str | None
) -> None:
    """However a client had them, the engine is told them once, beside the text and not in it."""
    (said,) = told({"role": "assistant", **message})
    assert said["content"] == "Paris"
    assert said.get("reasoning") == reasoning


@pytest.mark.parametrize(
    ("name", "field"),
    [("vllm", "reasoning"), ("ollama", "reasoning"), ("llamacpp", "reasoning_content")],
)
def test_only_a_model_that_thinks_is_told_its_thoughts_and_how_much_to_think(
    name: str, field: str
) -> None:
    """Another's tokenizer refuses them; what is left out is named."""
    before = {"role": "assistant", "content": [THINKING, {"type": "text", "text": "Paris"}]}
    thinker = sent(name, HELLO, before, HELLO, thinks=True, reasoning_effort="high")
    assert thinker.body["messages"][1][field] == "hm"
    assert thinker.body["reasoning_effort"] == "high"
    assert thinker.dropped == ()
    other = sent(name, HELLO, before, HELLO, reasoning_effort="high")
    assert other.body["messages"][1] == {"role": "assistant", "content": "Paris"}
    assert "reasoning_effort" not in other.body
    assert other.dropped == ("reasoning_effort", "thinking")


def test_what_a_message_says_besides_is_not_passed_on() -> None:
    """A `name` may be a person's; other fields could mean something to an engine."""
    (said,) = told({"role": "user", "content": "hello", "name": "alice", "cache": 1})
    assert said == HELLO


def test_a_tools_parts_are_one_text_and_a_users_stay_parts() -> None:
    """Templates want a text from a tool; a picture is in a user's parts."""
    parts = [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]
    tool, user = told(
        {"role": "tool", "tool_call_id": "D681PevKs", "content": parts},
        {"role": "user", "content": parts},
    )
    assert tool["content"] == "12"
    assert user["content"] == parts


def test_what_is_no_message_is_the_engines_to_refuse() -> None:
    """The gateway refuses it before; here nothing may break."""
    odd: list[Any] = [7, {"role": "assistant", "tool_calls": 7}, {"tool_calls": [7, {"id": 7}]}, {}]
    assert len(told(*odd)) == 4
    assert told({"role": "assistant", "tool_calls": [7, {"function": 7}]})


def test_only_an_assistants_last_message_can_be_begun() -> None:
    """Mistral's `prefix`."""
    begun = {"role": "assistant", "content": "The sea", "prefix": True}
    assert is_begun([HELLO, begun])
    for messages in ([begun, HELLO], [{**begun, "prefix": None}], [{**begun, "role": "user"}], []):
        assert not is_begun(messages)


@pytest.mark.parametrize(
    ("name", "echo", "begun"), [("vllm", None, "The sea"), ("llamacpp", True, "")]
)
def test_an_answer_begun_is_gone_on_with_and_given_back_with_its_beginning(
    name: str, echo: object, begun: str
) -> None:
    """Mistral's interface answers with the prefix and what follows it: the engine repeats it, or
    the gateway does."""
    message = {"role": "assistant", "content": "The sea", "prefix": True}
    upstream = sent(name, HELLO, message)
    assert upstream.body["continue_final_message"] is True
    assert upstream.body["add_generation_prompt"] is False
    assert "prefix" not in upstream.body["messages"][-1]
    assert (upstream.body.get("echo"), upstream.begun) == (echo, begun)
    plain = sent(name, HELLO)
    assert ("echo" in plain.body, plain.begun) == (False, "")


def test_an_engine_that_cannot_go_on_says_so() -> None:
    """Ollama begins a new answer; a client must be able to see it."""
    begun = {"role": "assistant", "content": "The sea", "prefix": True}
    assert sent("ollama", HELLO, begun).dropped == ("prefix",)


TOOLS = [{"type": "function", "function": {"name": n, "parameters": {}}} for n in ("f", "g")]
NAMED = {"type": "function", "function": {"name": "g"}}


def test_one_named_tool_is_chosen_as_well_as_the_engine_can() -> None:
    """vLLM takes the name; llama.cpp is shown that tool alone; Ollama cannot be told to call it."""
    assert sent("vllm", HELLO, tools=TOOLS, tool_choice=NAMED).body["tool_choice"] == NAMED
    shown = sent("llamacpp", HELLO, tools=TOOLS, tool_choice=NAMED)
    assert (shown.body["tool_choice"], shown.body["tools"]) == ("required", TOOLS[1:])
    assert sent("ollama", HELLO, tools=TOOLS, tool_choice=NAMED).dropped == ("tool_choice",)


def test_a_model_that_cannot_call_is_not_taken_for_one_that_would_not() -> None:
    """llama.cpp leaves the tools out of such a model's prompt without a word; we say so."""
    ctx = ChatContext(served_name="m", dialect="mistral", tenant_salt="salt", calls=False)
    body = {"messages": [HELLO], "tools": TOOLS, "tool_choice": "any"}
    deaf = ENGINES["llamacpp"].chat(body, ctx)
    assert not {"tools", "tool_choice"} & set(deaf.body)
    assert deaf.dropped == ("tools",)
    forced = ENGINES["vllm"].chat(body, ctx)  # by grammar, whatever the model was taught
    assert (forced.body["tools"], forced.dropped) == (TOOLS, ())


@every_engine
@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_tools_a_choice_of_tools_means_nothing(name: str, choice: str) -> None:
    """vLLM refuses it, although the client asked for nothing that is not there."""
    upstream = sent(name, HELLO, tool_choice=choice, parallel_tool_calls=True)
    assert not {"tool_choice", "parallel_tool_calls"} & set(upstream.body)
    assert upstream.dropped == ()


@every_engine
def test_an_empty_stop_is_left_out(name: str) -> None:
    """It stops nothing; vLLM refuses it."""
    assert "stop" not in sent(name, HELLO, stop="").body
    assert sent(name, HELLO, stop=["", "END"]).body["stop"] == ["END"]


def test_log_probabilities_are_asked_for_with_token_ids_where_the_client_needs_them() -> None:
    """Mistral's clients read no token without its id; Ollama knows none, and says so."""
    assert sent("vllm", HELLO, logprobs=True).body["return_tokens_as_token_ids"] is True
    assert "return_tokens_as_token_ids" not in sent("vllm", HELLO).body
    assert sent("ollama", HELLO, logprobs=True).dropped == ("logprobs",)


def test_a_prompts_probabilities_in_mistrals_words_are_named_as_not_given() -> None:
    """vLLM's form of them is another; a number is vLLM's own word and passes."""
    assert sent("vllm", HELLO, prompt_logprobs=True).dropped == ("prompt_logprobs",)
    off = sent("vllm", HELLO, prompt_logprobs=False)
    assert (off.dropped, "prompt_logprobs" in off.body) == ((), False)
    assert sent("vllm", HELLO, prompt_logprobs=1).body["prompt_logprobs"] == 1
