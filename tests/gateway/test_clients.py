"""The official clients, unchanged, through the gateway to a real vLLM: what only it can do.

Tools by forced choice, forms of an answer that a grammar enforces, an answer that is gone on with.
The model's weights are random: its text is noise, its envelope is not.
"""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from sovereign.engines.callids import is_short
from sovereign.settings import AliasSettings
from tests.engines.running import Running
from tests.gateway.web import Web, web
from tests.tools import clients

PROGRAM = Path(__file__).with_name("mistral_tools.py")
MODEL = "tiny-mixtral"
NAMES = ("mistral-large-latest", "codestral-latest", "open-mixtral-8x7b")
PROGRAM_TAKES_AT_MOST_S = 120
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def vllm(long_vllm: Running) -> Running:
    return long_vllm


@pytest.fixture(scope="module")
def gateway(vllm: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """With names of its own for the model, as a site would have that moved from Mistral's API."""
    address = f"127.0.0.1:{vllm.spec.port}"
    aliases = tuple(AliasSettings(name, MODEL) for name in NAMES)
    root = tmp_path_factory.mktemp("site")
    with web(root, address, aliases=aliases, engine="vllm", models=(MODEL,)) as it:
        yield it


@pytest.fixture(scope="module", params=["3.x", "2.x", "1.x"])
def seen(request: pytest.FixtureRequest, gateway: Web) -> dict[str, Any]:
    """What Mistral's client saw in one run of the program."""
    line = request.param
    interpreter = sys.executable if line == "3.x" else str(clients.python(line))
    done = subprocess.run(
        [interpreter, str(PROGRAM), gateway.url, gateway.key, "codestral-latest"],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TAKES_AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def arguments(made: dict[str, Any]) -> set[str]:
    return set(json.loads(made["arguments"]))


@pytest.mark.parametrize(("asked", "name"), [("any", None), ("named", "forecast"), ("one", None)])
def test_a_forced_choice_is_a_call_and_the_conversation_goes_on(
    seen: dict[str, Any], asked: str, name: str | None
) -> None:
    """Call, result, answer: the whole way of an application with tools, with the client's own
    objects sent back as they came."""
    said = seen[asked]
    assert said["finish"] == "tool_calls"
    assert said["model"] == MODEL
    assert said["then"] in ("stop", "length")
    assert all(is_short(call["id"]) for call in said["calls"])
    assert all(arguments(call) == {"celsius"} for call in said["calls"])
    assert len({call["id"] for call in said["calls"]}) == len(said["calls"]) > 0
    if name:
        assert [call["name"] for call in said["calls"]] == [name]
    if asked == "one":
        assert len(said["calls"]) == 1


def test_streamed_calls_are_whole_and_can_be_sent_back(seen: dict[str, Any]) -> None:
    """A program that adds up what comes must not get a call in pieces it cannot read."""
    said = seen["streamed"]
    assert said["finish"] == "tool_calls"
    assert [(c["name"], c["arguments"]) for c in said["calls"]]
    assert all(is_short(call["id"]) for call in said["calls"])
    assert all(arguments(call) == {"celsius"} for call in said["calls"])
    assert said["usage"] > 0
    assert said["then"] in ("stop", "length")


def test_whoever_asks_for_no_tool_gets_a_text(seen: dict[str, Any]) -> None:
    """And may leave it to the model."""
    assert seen["none"]["finish"] in ("stop", "length")
    assert isinstance(seen["none"]["text"], str)
    assert seen["auto"]["finish"] in ("stop", "length", "tool_calls")


def test_an_answer_has_the_form_that_was_asked_for(seen: dict[str, Any]) -> None:
    """A class of the application's own comes back as an object of it; an object begins as one."""
    assert set(seen["parsed"]) == {"warm"}
    assert isinstance(seen["parsed"]["warm"], bool)
    assert seen["object"]["text"].startswith("{")


def test_an_answer_that_was_begun_is_gone_on_with(seen: dict[str, Any]) -> None:
    """Whole or streamed it is the same, beginning included, as Mistral's interface gives it."""
    whole, streamed = seen["prefix"]
    assert whole == streamed
    assert whole.startswith("It is")
    assert len(whole) > len("It is")


def test_the_card_of_an_alias_is_the_models(seen: dict[str, Any]) -> None:
    """What serves it, and what else it is called."""
    card = seen["card"]
    assert card["id"] == MODEL
    assert card["aliases"] == sorted(NAMES)
    assert card["calls"] is True
    assert card["context"] > 0


@pytest.fixture(scope="module")
def client(gateway: Web) -> openai.OpenAI:
    return openai.OpenAI(api_key=gateway.key, base_url=f"{gateway.url}/v1", max_retries=0)


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"celsius": {"type": "boolean"}},
            "required": ["celsius"],
            "additionalProperties": False,
        },
    },
}
ASKED: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "What is the weather in Paris?"},
]


def test_openais_client_calls_streams_and_goes_on(client: openai.OpenAI) -> None:
    """In its own shape: pieces of arguments, its own words, and the message as it came."""
    more: Any = {"model": MODEL, "temperature": 0, "max_completion_tokens": 200, "seed": 1}
    named: Any = {"type": "function", "function": {"name": "weather"}}
    once: Any = {"tools": [TOOL], "tool_choice": named}
    whole = client.chat.completions.create(**more, **once, messages=ASKED)
    message = whole.choices[0].message
    assert whole.choices[0].finish_reason == "stop"  # as OpenAI says it of a function by its name
    assert message.tool_calls
    chunks = client.chat.completions.create(**more, **once, messages=ASKED, stream=True)
    text: dict[int, str] = {}
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            text[call.index] = text.get(call.index, "") + (call.function.arguments or "")
    assert [set(json.loads(text[at])) for at in text] == [{"celsius"}]
    results = [{"role": "tool", "tool_call_id": c.id, "content": "12"} for c in message.tool_calls]
    replayed: list[Any] = [*ASKED, message.to_dict(), *results]
    more["max_completion_tokens"] = 4
    then = client.chat.completions.create(**more, messages=replayed, tools=[TOOL])
    assert then.choices[0].finish_reason in ("stop", "length")


def test_ids_of_openais_making_are_understood(client: openai.OpenAI, vllm: Running) -> None:
    """A conversation that began elsewhere. vLLM would cut such an id, and write it into its log."""
    name = "call_zirkonfalter7731"
    function = {"name": "weather", "arguments": '{"celsius":true}'}
    replayed: list[Any] = [
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": name, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": name, "content": "12"},
    ]
    said = client.chat.completions.create(
        model=MODEL, messages=replayed, tools=[TOOL], max_completion_tokens=4
    )
    assert said.choices[0].finish_reason in ("stop", "length")
    assert "zirkonfalter" not in vllm.printed()
    assert "Truncating" not in vllm.printed()


def test_mistrals_client_reads_the_probability_of_every_token(gateway: Web) -> None:
    """With the id of each, which it insists on, and its text."""
    from mistralai.client import Mistral

    client = Mistral(api_key=gateway.key, server_url=gateway.url)
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    more: Any = {"max_tokens": 3, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    said = client.chat.complete(**asked, **more).choices[0]
    assert said.message is not None
    tokens: Any = said.logprobs
    pieces = "".join(token.token for token in tokens.content)
    assert pieces.replace("\u2581", " ") == said.message.content  # as the tokenizer writes it
    assert all(token.token_id > 0 and token.logprob < 0 for token in tokens.content)
    assert all(len(token.top_logprobs) == 2 for token in tokens.content)
    streamed: list[Any] = []
    for event in client.chat.stream(**asked, **more):
        found: Any = event.data.choices[0].logprobs
        streamed += found.content if found else []
    assert [t.token_id for t in streamed] == [t.token_id for t in tokens.content]


GUIDE = Path(__file__).resolve().parents[2] / "docs/guide/chat.md"


def test_every_example_of_the_guide_runs_as_it_stands(
    gateway: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One after the other, as a reader would paste them."""
    monkeypatch.setenv("SOVEREIGN_URL", gateway.url)
    monkeypatch.setenv("SOVEREIGN_KEY", gateway.key)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    space: dict[str, Any] = {}
    for block in blocks:
        (tmp_path / "block.py").write_text(block)
        space |= runpy.run_path(str(tmp_path / "block.py"), init_globals=space)
        assert capsys.readouterr().out.strip(), block
