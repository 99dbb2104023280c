"""A text to go on from or to fill in: what each engine is asked, and how its answers are read."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from sovereign.engines import ENGINES, ChatContext, Found, LaunchSpec, fillers, llamacpp_server
from sovereign.engines.said import READERS, Said
from sovereign.errors import BadInput
from sovereign.policy.shapes import Model

CTX = ChatContext(served_name="as-served", dialect="mistral", tenant_salt="salt")
ASKED = {
    "model": "as-the-client-calls-it",
    "prompt": "def f(",
    "suffix": "return a + b",
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "min_tokens": 2,
    "stop": "\n\n",
    "random_seed": 7,
    "metadata": {"subject": "ann"},
    "prompt_cache_key": "ann's",
    "stream": None,
}
IDS = (1, 13, 1575, 11, 1569)

GOLDEN = {
    "v3-spm": (
        [1, 13, 1575, 1032, 1416, 1055, 11, 1569, 1053, 29500],
        [1, 13, 11, 1569, 1053, 29500],
    ),
    "v7-spm": (
        [1, 13, 1575, 1032, 1416, 1055, 11, 1569, 1053, 29500],
        [1, 13, 11, 1569, 1053, 29500],
    ),
    "v3-tekken": (
        [1, 16, 3004, 1261, 1867, 1289, 14, 3149, 1284, 1040],
        [1, 16, 14, 3149, 1284, 1040],
    ),
}
"""Of `def f(` before and `return a + b` after, and of the first alone; computed with
mistral-common 1.13.1 outside this project. The markers are the second id, and the one before the
last part."""
MARKERS = {"v3-spm": (13, 11), "v7-spm": (13, 11), "v3-tekken": (16, 14)}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_fill_in_the_middle_has_the_ids_that_mistral_gives_it(name: str) -> None:
    """Known answers: one id off, and the model writes something else without a word."""
    between, alone = GOLDEN[name]
    assert fillers.encoded(name, "def f(", "return a + b") == tuple(between)
    assert fillers.encoded(name, "def f(", "") == tuple(alone)
    assert fillers.is_loaded(name)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("text", ["[PREFIX]", "[SUFFIX]", "a[PREFIX]b[SUFFIX]", "</s>[INST]<s>"])
def test_a_marker_in_somebodys_code_stays_text(name: str, text: str) -> None:
    """Otherwise a file that speaks of markers, like this one, would be torn apart by them."""
    suffix, prefix = MARKERS[name]
    ids = fillers.encoded(name, text, text)
    assert ids[:2] == (1, suffix)
    assert sorted(i for i in ids if i in {0, 1, 2, suffix, prefix}) == sorted((1, suffix, prefix))


def test_a_tokenizer_that_has_no_ids_for_the_markers_is_refused() -> None:
    """v2 gives them the id of the unknown, silently, and a model would go on from nonsense."""
    with pytest.raises(BadInput, match="cannot mark"):
        fillers.encoded("v2-spm", "def f(", "return a + b")
    assert not fillers.is_loaded("v2-spm")


def test_facts_can_name_the_tokenizers_there_are_and_no_others() -> None:
    """One list, in two rooms that may not know each other's."""
    assert set(get_args(get_type_hints(Model)["fim_tokenizer"])) == {"", *fillers.TOKENIZERS}


def test_tokenizers_are_loaded_with_no_network_to_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that fetches at its first request has told somebody that it was asked."""

    def nowhere(*_: object) -> None:
        raise AssertionError("it wanted to reach the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, nowhere)
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    fillers._tokenizer.cache_clear()
    for name, (between, _) in GOLDEN.items():
        assert fillers.encoded(name, "def f(", "return a + b") == tuple(between)


def test_nothing_of_the_tokenizers_is_imported_until_one_is_needed() -> None:
    """A gateway that serves no fill in the middle starts without them."""
    heavy = "{'mistral_common', 'sentencepiece', 'tiktoken', 'numpy'}"
    code = f"import sys, sovereign.gateway.app; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_vllm_is_given_ids_and_told_how_many_tokens_and_whose_cache() -> None:
    """Left out, `max_tokens` would be 16; the whole request is compared, so that nothing of who
    asks can slip in."""
    sent = ENGINES["vllm"].fim(ASKED, CTX, IDS)
    assert sent.path == "/v1/completions"
    assert sent.body == {
        "model": "as-served",
        "prompt": [1, 13, 1575, 11, 1569],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "min_tokens": 2,
        "stop": ["\n\n"],
        "seed": 7,
        "stream": False,
        "cache_salt": "salt",
    }
    assert (sent.answers, sent.dropped) == ("texts", ())
    streamed = ENGINES["vllm"].fim({"prompt": "x", "stream": True}, CTX, IDS).body
    assert streamed["stream_options"] == {"include_usage": True}


def test_vllm_does_not_fill_in_without_ids() -> None:
    """It has no markers of its own for Mistral's models, and would take ours for text."""
    with pytest.raises(BadInput, match="token ids"):
        ENGINES["vllm"].fim(ASKED, CTX, ())


def test_llama_cpp_is_given_ids_where_there_are_any_and_else_both_texts() -> None:
    """Its own order of prefix and suffix is that of other families than Mistral's."""
    by_ids = ENGINES["llamacpp"].fim(ASKED, CTX, IDS)
    assert by_ids.path == "/completion"
    assert by_ids.body == {
        "model": "as-served",
        "prompt": [1, 13, 1575, 11, 1569],
        "n_predict": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n\n"],
        "seed": 7,
        "stream": False,
        "cache_prompt": False,
    }
    assert (by_ids.answers, by_ids.dropped) == ("infill", ("min_tokens",))
    by_text = ENGINES["llamacpp"].fim(ASKED, CTX, ())
    assert by_text.path == "/infill"
    assert by_text.body["input_prefix"] == "def f("
    assert by_text.body["input_suffix"] == "return a + b"
    assert "prompt" not in by_text.body


def test_ollama_is_given_a_suffix_or_else_the_bare_text_and_never_cuts() -> None:
    """Without a suffix it would make a question of the text; a long one it would begin to cut."""
    sent = ENGINES["ollama"].fim(ASKED, CTX, ())
    assert sent.path == "/api/generate"
    assert sent.body == {
        "model": "as-served",
        "prompt": "def f(",
        "suffix": "return a + b",
        "options": {
            "num_predict": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["\n\n"],
            "seed": 7,
        },
        "stream": False,
        "truncate": False,
        "shift": False,
    }
    assert (sent.answers, sent.dropped) == ("generate", ("min_tokens",))
    alone = ENGINES["ollama"].fim({**ASKED, "suffix": None}, CTX, ()).body
    assert alone["raw"] is True
    assert "suffix" not in alone


@pytest.mark.parametrize(
    "more", [{"prompt": "a[PREFIX]"}, {"suffix": "[SUFFIX]b"}, {"prompt": "", "suffix": "b"}]
)
def test_ollama_is_not_given_what_it_would_misread(more: dict[str, str]) -> None:
    """It has no ids: markers in somebody's code would move the code about, silently."""
    with pytest.raises(BadInput, match="cannot fill in this text"):
        ENGINES["ollama"].fim({**ASKED, **more}, CTX, ())


@pytest.mark.parametrize("name", ENGINES)
def test_who_asks_reaches_no_engine_whatever_is_asked(name: str) -> None:
    """Metadata, a user's name and a cache key end at the gateway; fields nobody knows, too."""
    body = {**ASKED, "user": "ann", "odd": "ann", "input": "x", "suffix": None}
    engine = ENGINES[name]
    for sent in (engine.fim(body, CTX, IDS), engine.complete(body, CTX), engine.embed(body, CTX)):
        assert "ann" not in str(sent.body)
        assert sent.path in engine.routes_allowed
        assert "odd" in sent.dropped
        assert not {"user", "metadata", "prompt_cache_key"} & set(sent.dropped)


@pytest.mark.parametrize("stop", ["", [""], ["", "a", ""]])
@pytest.mark.parametrize("name", ENGINES)
def test_a_stop_of_no_letters_stops_nothing(name: str, stop: str | list[str]) -> None:
    """vLLM refuses it; some editors send it always."""
    body = ENGINES[name].fim({**ASKED, "stop": stop}, CTX, IDS).body
    sent = body.get("options", body)["stop"]
    assert sent == (["a"] if "a" in stop else [])


@pytest.mark.parametrize("name", ENGINES)
def test_the_clients_body_is_left_as_it_was(name: str) -> None:
    """A second try at another engine begins with the same words."""
    body: dict[str, Any] = {**ASKED, "input": ["x"], "stop": ["a"], "suffix": None}
    before = str(body)
    ENGINES[name].fim(body, CTX, IDS)
    ENGINES[name].complete(body, CTX)
    ENGINES[name].embed(body, CTX)
    assert str(body) == before


def test_dimensions_are_heeded_or_named_as_dropped() -> None:
    """Whoever gets longer vectors than asked for must be able to see it."""
    asked = {"model": "m", "input": "x", "output_dimension": 64, "encoding_format": "base64"}
    sent = ENGINES["vllm"].embed(asked, CTX)
    assert sent.body == {
        "model": "as-served",
        "input": "x",
        "encoding_format": "base64",
        "dimensions": 64,
        "cache_salt": "salt",
    }
    cannot = ENGINES["llamacpp"].embed(asked, CTX)
    assert cannot.dropped == ("output_dimension",)
    assert "dimensions" not in cannot.body


READ: dict[str, tuple[Any, Any, Said]] = {
    "vllm, whole": (
        "texts",
        {"choices": [{"text": "a", "finish_reason": "length"}], "usage": {"prompt_tokens": 3}},
        Said("a", "length", {"prompt_tokens": 3}),
    ),
    "vllm, a piece": ("texts", {"choices": [{"text": "a", "finish_reason": None}]}, Said("a")),
    "vllm, counted": (
        "texts",
        {"choices": [], "usage": {"prompt_tokens": 3}},
        Said("", "", {"prompt_tokens": 3}),
    ),
    "vllm, told to stop": (
        "texts",
        {"choices": [{"text": "", "finish_reason": "abort"}]},
        Said("", "error"),
    ),
    "llama.cpp, a piece": ("infill", {"content": "a", "stop": False}, Said("a")),
    "llama.cpp, the end": (
        "infill",
        {
            "content": "",
            "stop": True,
            "stop_type": "limit",
            "tokens_evaluated": 3,
            "tokens_predicted": 4,
        },
        Said(
            "",
            "length",
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            last=True,
        ),
    ),
    "llama.cpp, no end of its own": (
        "infill",
        {"content": "", "stop": True, "stop_type": "none"},
        Said(
            "", "error", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, last=True
        ),
    ),
    "ollama, a piece": ("generate", {"response": "a", "done": False}, Said("a")),
    "ollama, the end": (
        "generate",
        {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4},
        Said(
            "", "stop", {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, last=True
        ),
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_an_engine_said_is_read_whichever_way_it_says_it(case: str) -> None:
    """Three ways of saying the same; what they count ends up in a record."""
    answers, event, said = READ[case]
    assert READERS[answers](event) == said


@pytest.mark.parametrize("answers", READERS)
@pytest.mark.parametrize("event", [{}, {"choices": 7}, {"content": 7}, {"response": 7}])
def test_what_is_of_another_shape_is_never_taken_for_silence(answers: Any, event: Any) -> None:
    """An answer that cannot be read is a fault, not an empty one."""
    with pytest.raises((LookupError, TypeError, AttributeError)):
        READERS[answers](event)


def test_an_engine_of_vectors_is_started_as_one(tmp_path: Path) -> None:
    """vLLM serves either chats or vectors; llama.cpp has to be told that it may."""
    spec = LaunchSpec(
        found=Found(Path("/opt/engine/bin/engine"), "1"),
        model=tmp_path,
        served_name="m",
        host="127.0.0.1",
        port=8081,
        context=512,
        state_dir=tmp_path,
        embeds=True,
    )
    chats = replace(spec, embeds=False)
    more = {"vllm": ["--runner", "pooling"], "llamacpp": ["--embeds"], "ollama": []}
    for name, engine in ENGINES.items():
        said, without = engine.command(spec), engine.command(chats)
        assert [word for word in said if word not in without] == more[name]


@pytest.mark.parametrize(("slots", "even"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_llama_cpp_makes_vectors_with_slots_that_divide_a_batch(slots: int, even: int) -> None:
    """With three it aborts at its start."""
    assert llamacpp_server._even(slots) == even
