"""What of a client's chat body reaches an engine, and as what."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines import ENGINES, ChatContext
from sovereign.engines.translate import SAFE_PROMPT, WITHHELD

CTX = ChatContext(served_name="as-served", dialect="mistral", tenant_salt="salt")
HELLO = {"role": "user", "content": "hello"}
every_engine = pytest.mark.parametrize("name", sorted(ENGINES))

words = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["messages", "stream", "tool_choice", "tools", "random_seed", "safe_prompt", "user", "stop"]
)
bodies = st.dictionaries(field_names | words, values, max_size=8)


def sent(name: str, **body: Any) -> dict[str, Any]:
    return ENGINES[name].chat({"messages": [HELLO], **body}, CTX).body


@every_engine
@given(body=bodies)
def test_no_body_is_ever_changed_or_shared_with_the_engines(
    name: str, body: dict[str, Any]
) -> None:
    """The gateway still meters and refuses by the client's own body afterwards."""
    before = deepcopy(body)
    upstream = ENGINES[name].chat(body, CTX)
    for value in upstream.body.values():
        if isinstance(value, list):
            value.append("changed later")
    assert body == before


@every_engine
@given(body=bodies)
def test_only_listed_fields_pass_and_the_model_is_ours(name: str, body: dict[str, Any]) -> None:
    """A field nobody thought of must not become a way round: no salt, template or priority."""
    upstream = ENGINES[name].chat(body, CTX)
    ours = {"model", "stream_options", "cache_salt", "seed", "max_tokens", "messages"}
    ours |= {"add_generation_prompt", "continue_final_message", "echo"}
    ours |= {"return_tokens_as_token_ids"}
    assert upstream.body["model"] == "as-served"
    assert set(upstream.body) <= ours | set(body)
    assert not set(upstream.body) & (WITHHELD | set(upstream.dropped))
    assert None not in upstream.body.values()


@every_engine
@pytest.mark.parametrize("body", [{"safe_prompt": True}, {"messages": [{"prefix": True}]}])
def test_a_body_that_lacks_what_it_needs_is_the_engines_to_refuse(
    name: str, body: dict[str, Any]
) -> None:
    """The gateway refuses it before; an engine must not be sent a null in its place."""
    assert None not in ENGINES[name].chat(body, CTX).body.values()


@every_engine
@pytest.mark.parametrize("field", sorted(WITHHELD))
def test_who_asks_never_reaches_an_engine(name: str, field: str) -> None:
    """The subject is the gateway's to know; it is withheld quietly, being heard there."""
    upstream = ENGINES[name].chat({"messages": [HELLO], field: "alice@example.org"}, CTX)
    assert "alice" not in str(upstream)
    assert upstream.dropped == ()


@every_engine
def test_both_dialects_name_the_same_seed_and_length(name: str) -> None:
    """`random_seed` is Mistral's, `seed` and `max_completion_tokens` are OpenAI's."""
    assert sent(name, random_seed=7, max_completion_tokens=5) == sent(name, seed=7, max_tokens=5)
    assert sent(name, seed=7)["seed"] == 7


@every_engine
@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": False}}])
def test_a_stream_always_brings_its_usage(name: str, asked: dict[str, Any]) -> None:
    """Metering depends on it, whatever the client said."""
    assert sent(name, stream=True, **asked)["stream_options"] == {"include_usage": True}


@every_engine
@pytest.mark.parametrize("stream", [False, None])
def test_without_a_stream_there_are_no_stream_options(name: str, stream: bool | None) -> None:
    """vLLM refuses them there."""
    assert "stream_options" not in sent(name, stream=stream, stream_options={"x": 1})


@pytest.mark.parametrize("name", ["llamacpp", "vllm"])
@pytest.mark.parametrize(("asked", "given"), [("any", "required"), ("auto", "auto")])
def test_any_tool_is_called_required(name: str, asked: str, given: str) -> None:
    """Mistral says `any` where the others say `required`."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert sent(name, tools=tools, tool_choice=asked)["tool_choice"] == given


def test_an_engine_that_cannot_choose_is_shown_no_tools_when_none_are_wanted() -> None:
    """Ollama ignores `tool_choice`; with no tools it can call none."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert "tools" not in sent("ollama", tools=tools, tool_choice="none")
    upstream = ENGINES["ollama"].chat({"tools": tools, "tool_choice": "any"}, CTX)
    assert upstream.body["tools"] == tools
    assert upstream.dropped == ("tool_choice",)


@every_engine
def test_a_safe_prompt_stands_first_and_keeps_the_clients_own(name: str) -> None:
    """A request for safety must not vanish because the engine has no field for it."""
    system = {"role": "system", "content": "Be brief."}
    joined, hello = sent(name, safe_prompt=True, messages=[system, HELLO])["messages"]
    assert joined == {"role": "system", "content": f"{SAFE_PROMPT}\n\nBe brief."}
    assert hello == HELLO
    alone = sent(name, safe_prompt=True)["messages"]
    assert alone == [{"role": "system", "content": SAFE_PROMPT}, HELLO]
    assert sent(name, safe_prompt=False)["messages"] == [HELLO]


@every_engine
def test_what_has_no_effect_is_named(name: str) -> None:
    """The gateway can say so; silence would let a client believe in its guardrails."""
    body = {"messages": [HELLO], "guardrails": [{}], "prediction": {}, "service_tier": "auto"}
    assert ENGINES[name].chat(body, CTX).dropped == ("guardrails", "prediction", "service_tier")


def test_only_a_prefix_is_gone_on_with() -> None:
    """In OpenAI's dialect an answer at the end begins a new turn."""
    begun = {"role": "assistant", "content": "The sea"}
    assert "continue_final_message" not in sent("vllm", messages=[HELLO, begun])
    gone_on = sent("vllm", messages=[HELLO, {**begun, "prefix": True}])
    assert gone_on["continue_final_message"] is True
    assert gone_on["add_generation_prompt"] is False
