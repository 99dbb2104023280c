"""The official clients, unchanged: what an application developer does on the first day."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.journeys.deployed import MODEL, Site
from tests.tools import clients

PROGRAM = Path(__file__).with_name("mistral_program.py")
PROGRAM_TAKES_AT_MOST_S = 120


def interpreter(line: str) -> str:
    return sys.executable if line == "3.x" else str(clients.python(line))


@pytest.fixture(scope="module", params=["3.x", "2.x", "1.x"])
def seen(request: pytest.FixtureRequest, deployed: Site) -> dict[str, Any]:
    """What Mistral's client saw in one run of the program."""
    words = [interpreter(request.param), str(PROGRAM), deployed.url, deployed.key, MODEL]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PROGRAM_TAKES_AT_MOST_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_mistrals_client_completes_and_streams_the_same_answer(seen: dict[str, Any]) -> None:
    """With usage where the client looks for it: on the last chunk, once."""
    assert "Paris" in seen["complete"]
    assert seen["stream"] == seen["complete"]
    assert seen["usage"] > 0
    assert seen["stream_usage"] == [seen["usage"]]
    assert seen["finish"] in ("stop", "length")


def test_mistrals_client_passes_tools_and_lists_models(seen: dict[str, Any]) -> None:
    """The model may or may not call; the request must get through in the client's own shape."""
    assert seen["tools"] in ("stop", "length", "tool_calls")
    assert seen["models"] == [MODEL]


def test_mistrals_client_may_stop_early_and_the_record_says_so(
    seen: dict[str, Any], deployed: Site
) -> None:
    """Nobody computes for a user who has gone, and nobody bills it as answered."""
    ending = deployed.ending(seen["early"])
    assert (ending["outcome"], ending["status"]) == ("client-gone", 499)


def test_mistrals_client_raises_its_own_errors_with_our_reason(
    seen: dict[str, Any], deployed: Site
) -> None:
    """An application reads code and record from the exception it knows."""
    errors = seen["errors"]
    assert errors["bad value"] == {
        "class": "HTTPValidationError",
        "loc": ["body", "n"],
        "type": "value_error",
    }
    found = {name: (e["status"], e["code"]) for name, e in errors.items() if "code" in e}
    assert found == {
        "unknown model": (404, "model-unknown"),
        "remote image": (403, "remote-content-refused"),
        "bad key": (401, "key-missing-or-unknown"),
        "streamed": (404, "model-unknown"),
    }
    refused = deployed.record(errors["unknown model"]["record"])
    assert (refused["verdict"], refused["model"]) == ("refuse", "unknown")


def test_no_client_repeats_a_refusal(seen: dict[str, Any], deployed: Site) -> None:
    """Their retries were on. From the first recorded refusal to the last, each is there once."""
    names = [
        seen["errors"][name]["record"] for name in ("unknown model", "remote image", "streamed")
    ]
    deployed.record(names[-1])
    first, _, last = (int(name.partition("#")[2]) for name in names)
    origin = seen["early"].partition("#")[0]
    between = [
        r
        for r in deployed.records(origin)
        if r["type"] == "decision" and first <= int(r["record"].partition("#")[2]) <= last
    ]
    assert sorted(r["record"] for r in between) == sorted(names)
    assert {r["verdict"] for r in between} == {"refuse"}


@pytest.fixture(scope="module")
def client(deployed: Site) -> openai.OpenAI:
    return openai.OpenAI(api_key=deployed.key, base_url=f"{deployed.url}/v1", max_retries=3)


QUESTION: list[Any] = [{"role": "user", "content": "Answer in one word. Capital of France?"}]


def test_openais_client_completes_and_streams(client: openai.OpenAI) -> None:
    """The other client in the world, with its own names for the same things."""
    whole = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=8, seed=1, user="ann"
    )
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.usage is not None
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            temperature=0,
            max_completion_tokens=8,
            seed=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_openais_client_gets_no_usage_chunk_that_it_did_not_ask_for(client: openai.OpenAI) -> None:
    """A chunk without choices breaks applications that index the first one."""
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_completion_tokens=4, stream=True
        )
    )
    assert all(chunk.choices for chunk in chunks)


def test_openais_client_passes_tools_and_lists_models(client: openai.OpenAI) -> None:
    """In OpenAI's shape."""
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=4, tools=[tool], tool_choice="auto"
    )
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
    assert [model.id for model in client.models.list()] == [MODEL]


def test_openais_client_may_stop_early(client: openai.OpenAI, deployed: Site) -> None:
    """As Mistral's."""
    count: list[Any] = [{"role": "user", "content": "Count from 1 to 1000, one a line."}]
    stream = client.chat.completions.create(
        model=MODEL, messages=count, max_completion_tokens=1500, stream=True
    )
    next(iter(stream))
    record = stream.response.headers["x-sovereign-record"]
    stream.close()
    assert deployed.ending(record)["outcome"] == "client-gone"


def test_openais_client_raises_its_own_errors_and_repeats_none(
    client: openai.OpenAI, deployed: Site
) -> None:
    """Each class once; the record is in the exception's body."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert unknown.value.code == "model-unknown"
    with pytest.raises(openai.UnprocessableEntityError) as invalid:
        client.chat.completions.create(model=MODEL, messages=QUESTION, n=99)
    assert invalid.value.code == "field-invalid"
    image: list[Any] = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "http://192.0.2.1/x"}}],
        }
    ]
    with pytest.raises(openai.PermissionDeniedError) as remote:
        client.chat.completions.create(model=MODEL, messages=image)
    assert remote.value.code == "remote-content-refused"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key=deployed.key + "x").models.list()
    bodies: list[Any] = [unknown.value.body, remote.value.body]
    names = [body["record"] for body in bodies]
    origin, _, index = names[0].partition("#")
    deployed.record(names[-1])
    later = [
        r
        for r in deployed.records(origin)
        if r["type"] == "decision" and int(r["record"].partition("#")[2]) >= int(index)
    ]
    assert sorted(r["record"] for r in later) == sorted(names)
    assert {r["verdict"] for r in later} == {"refuse"}
