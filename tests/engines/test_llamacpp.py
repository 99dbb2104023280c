"""The default engine, for real: SmolLM2 out of its package, served by llama.cpp."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovereign.engines import ENGINES, LaunchSpec, model_digest
from sovereign.engines.llamacpp import packaged_model
from sovereign.errors import BadInput, EngineMissing
from tests.engines.running import CANARY, Running, free_port, question, running

ENGINE = ENGINES["llamacpp"]


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    spec = LaunchSpec(
        found=ENGINE.find(),
        model=packaged_model(),
        served_name="smollm2-135m",
        host="127.0.0.1",
        port=free_port(),
        context=1024,
        state_dir=tmp_path_factory.mktemp("llamacpp"),
    )
    with running(ENGINE, spec, ready_within_s=60) as it:
        yield it


def test_it_completes_a_chat_and_counts_its_tokens(smol: Running) -> None:
    """The semantic check: a model served with a wrong template would not know this."""
    status, answer = smol.chat(question("The capital of France is", max_tokens=24))
    assert status == 200
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "smollm2-135m"
    assert answer["usage"]["completion_tokens"] > 0


def test_a_stream_ends_with_its_usage(smol: Running) -> None:
    """Metering reads the last chunk; a client need not have asked for it."""
    chunks = smol.stream(question("Count to five.", max_tokens=12))
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_it_hangs_up_after_a_stream(smol: Running) -> None:
    """Though its headers say that it stays. Once it does not, its connections can be kept."""
    assert smol.engine.ends_with_a_stream
    assert smol.hangs_up_after_a_stream(question("Count to five.", max_tokens=8))


def test_the_same_seed_gives_the_same_answer(smol: Running) -> None:
    """`random_seed` of a Mistral client must arrive, under the engine's own name for it."""
    asked = question("Invent a name for a boat.", max_tokens=12) | {"temperature": 1.2}
    first, second = (smol.chat(asked)[1]["choices"][0]["message"]["content"] for _ in range(2))
    assert first == second


def test_asking_twice_does_not_show_that_it_was_asked_before(smol: Running) -> None:
    """llama.cpp knows no tenants: a shared prefix cache would tell one what another asked."""
    asked = question("A long enough sentence to be kept somewhere, word for word.", max_tokens=1)
    for _ in range(2):
        usage = smol.chat(asked)[1]["usage"]
        assert usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) == 0


def test_an_answer_begun_is_gone_on_with_and_given_back_whole(smol: Running) -> None:
    """Mistral's `prefix`: the beginning stands in the answer, once, streamed or not."""
    asked = question("Write a line about the sea.", max_tokens=6)
    asked["messages"].append({"role": "assistant", "content": "The sea is", "prefix": True})
    status, answer = smol.chat(asked)
    assert status == 200
    text = answer["choices"][0]["message"]["content"]
    assert text.startswith("The sea is")
    assert len(text) > len("The sea is")
    deltas: list[Any] = [c["choices"][0]["delta"] for c in smol.stream(asked) if c["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == text


def test_an_answer_has_the_form_that_was_asked_for(smol: Running) -> None:
    """A grammar enforces it, however small the model."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    _, answer = smol.chat(question("Is it ok?", max_tokens=60, response_format=form))
    assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"ok"}


def test_it_names_every_token_by_its_id(smol: Running) -> None:
    """Mistral's clients read no log probability without."""
    _, answer = smol.chat(question("Hi", max_tokens=2, logprobs=True, top_logprobs=2))
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert all(type(each["id"]) is int for each in (*tokens, *tokens[0]["top_logprobs"]))


def test_a_model_without_tools_in_its_template_does_not_hear_of_them(smol: Running) -> None:
    """Why the gateway leaves them out for a model that the facts do not call able, and says so."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    alone = smol.chat(question("Weather?", max_tokens=2))[1]["usage"]["prompt_tokens"]
    asked = question("Weather?", max_tokens=2, tools=[tool], tool_choice="any")
    assert smol.chat(asked)[1]["usage"]["prompt_tokens"] == alone


def test_the_running_process_has_the_environment_we_require(smol: Running) -> None:
    """Read back from /proc, because what was asked for is not what is."""
    assert smol.unmet() == ()
    assert set(smol.environ()) == set(ENGINE.environment(smol.spec))


def test_nothing_asked_is_ever_printed_even_when_it_is_refused(smol: Running) -> None:
    """At llama.cpp's default level a rejected schema stands in the output, with its words."""
    smol.chat(question(f"{CANARY} hello", max_tokens=4))
    smol.stream(question(f"{CANARY} hello", max_tokens=4))
    smol.provoke()
    assert CANARY not in smol.printed()
    assert "listening on http://127.0.0.1" in smol.printed()


@pytest.mark.parametrize("path", ["/slots", "/", "/index.html", "/props"])
def test_what_would_show_conversations_or_pages_is_off(smol: Running, path: str) -> None:
    """The gateway allows one route only; the engine should not offer prompts to a local user."""
    status, raw = _get(smol, path)
    assert status in {404, 501} or (path == "/props" and status == 200), (status, raw[:200])
    assert CANARY.encode() not in raw


def test_no_web_page_may_read_an_answer(smol: Running) -> None:
    """With CORS open any page in a browser on this machine could use the engine."""
    with socket.create_connection((smol.spec.host, smol.spec.port), timeout=10) as raw:
        raw.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n"
            b"Connection: close\r\n\r\n"
        )
        head = b"".join(iter(lambda: raw.recv(4096), b"")).split(b"\r\n\r\n")[0].lower()
    allowed = [
        line.split(b":", 1)[1].strip()
        for line in head.split(b"\r\n")
        if line.startswith(b"access-control-allow-origin:")
    ]
    assert b"*" not in allowed
    assert b"http://evil.example" not in allowed


def test_it_stops_within_five_seconds_while_someone_still_reads(smol: Running) -> None:
    """Runs last: it ends the engine. A deployment must not hang on a client that stays."""
    body = json.dumps(
        {"messages": [{"role": "user", "content": "Tell a story."}], "stream": True}
    ).encode()
    with socket.create_connection((smol.spec.host, smol.spec.port), timeout=10) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert raw.recv(64)
        assert smol.stop() < 5


def test_importing_the_engines_imports_none() -> None:
    """The gateway's environment holds no engine; its import must not need one."""
    import subprocess

    code = "import sys, sovereign.engines; print([m for m in sys.modules if 'llamacpp' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "xllamacpp" not in done.stdout


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing a new operator may meet."""
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EngineMissing) as missing:
        ENGINE.find()
    assert missing.value.next_step == "make setup"
    with pytest.raises(EngineMissing):
        packaged_model()


def test_weights_of_another_kind_are_refused_before_a_start(tmp_path: Path) -> None:
    """llama.cpp would say so too, but in a log and after the start."""
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    spec = LaunchSpec(
        found=ENGINE.find(),
        model=other,
        served_name="m",
        host="127.0.0.1",
        port=1,
        context=1,
        state_dir=tmp_path / "state",
    )
    with pytest.raises(BadInput, match="GGUF"):
        ENGINE.prepare(spec)


def test_the_packaged_model_is_the_one_we_tested() -> None:
    """The digest a policy pins is what sha256sum prints."""
    assert model_digest(packaged_model()) == (
        "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    )


def _get(it: Running, path: str) -> tuple[int, bytes]:
    from http.client import HTTPConnection

    connection = HTTPConnection(it.spec.host, it.spec.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
