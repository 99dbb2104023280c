"""vLLM: what it is told at its start, and the real CPU build serving a tiny Mixtral."""

import json
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sovereign.engines import ENGINES, ChatContext, Found, LaunchSpec
from sovereign.errors import BadInput, EngineMissing
from tests.engines.running import CANARY, Running, free_port, question, running
from tests.needs import need
from tests.tools import vllm_cpu

ENGINE = ENGINES["vllm"]
GPU = Found(Path("/opt/vllm/bin/vllm"), "0.33.0")
CPU = Found(Path("/opt/vllm/bin/vllm"), "0.32.0+cpu")


def spec_of(folder: Path, found: Found = GPU, **more: object) -> LaunchSpec:
    values = {
        "found": found,
        "model": folder / "model",
        "served_name": "tiny-mixtral",
        "host": "127.0.0.1",
        "port": 8081,
        "context": 1024,
        "state_dir": folder / "state",
    }
    return LaunchSpec(**{**values, **more})  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture(scope="module")
def program() -> Path:
    lacking = vllm_cpu.missing()
    need(
        not lacking,
        f"vLLM's CPU build needs {', '.join(lacking)}",
        "apt install libnuma1; make setup-all; free disk",
    )
    return vllm_cpu.program()


@pytest.fixture(scope="module")
def models(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mixtral that works, and one with heads of 16, which vLLM starts and cannot run."""
    folder = tmp_path_factory.mktemp("models")
    for name, hidden in (("works", 128), ("broken", 64)):
        _make(program, folder / name, hidden)
    return folder


@pytest.fixture(scope="module")
def tiny(
    models: Path, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOVEREIGN_VLLM", str(program))
        found = ENGINE.find()
    state = tmp_path_factory.mktemp("vllm")
    spec = spec_of(state, found, model=models / "works", port=free_port())
    with running(ENGINE, spec, ready_within_s=180) as it:
        yield it


@pytest.mark.engine
def test_the_real_program_is_found_with_its_version(tiny: Running) -> None:
    """The version decides the switches: this one must be seen to be a CPU build."""
    assert tiny.spec.found.version == "0.32.0+cpu"


@pytest.mark.engine
def test_it_completes_a_chat_and_counts_its_tokens(tiny: Running) -> None:
    """Random weights: the text is noise, the envelope is what a client parses."""
    status, answer = tiny.chat(question("Hello", max_tokens=8))
    assert status == 200
    assert answer["model"] == "tiny-mixtral"
    assert answer["usage"]["completion_tokens"] == 8


@pytest.mark.engine
def test_a_stream_ends_with_its_usage(tiny: Running) -> None:
    """vLLM sends usage only if asked; the adapter asks whatever the client said."""
    chunks = tiny.stream(question("Hello", max_tokens=8, stream_options={"include_usage": False}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 8


@pytest.mark.engine
def test_its_connection_stays_after_a_stream(tiny: Running) -> None:
    """The next call goes over it: it must not be one that is about to be closed."""
    assert not tiny.engine.ends_with_a_stream
    assert not tiny.hangs_up_after_a_stream(question("Count to five.", max_tokens=8))


@pytest.mark.engine
def test_any_tool_means_a_tool_is_called(tiny: Running) -> None:
    """Mistral's `tool_choice: any` is `required` to vLLM, which enforces it by grammar."""
    tool = {
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
    status, answer = tiny.chat(
        question("Weather?", max_tokens=200, tools=[tool], tool_choice="any")
    )
    assert status == 200
    (call,) = answer["choices"][0]["message"]["tool_calls"][:1]
    assert call["function"]["name"] == "weather"
    assert set(json.loads(call["function"]["arguments"])) == {"celsius"}


@pytest.mark.engine
def test_an_answer_begun_by_the_client_is_gone_on_with(tiny: Running) -> None:
    """Mistral's `prefix` is accepted, rather than refused as an unknown field."""
    asked = question("Write a line.", max_tokens=4)
    asked["messages"].append({"role": "assistant", "content": "The sea", "prefix": True})
    assert tiny.chat(asked)[0] == 200


@pytest.mark.engine
def test_the_running_process_and_its_workers_have_the_environment_we_require(
    tiny: Running,
) -> None:
    """vLLM renames its workers over their environment; the switch that prevents it must work."""
    assert tiny.unmet() == ()
    names = [child.read_text() for child in _children(tiny.process.pid, "cmdline")]
    assert any("EngineCore" in name for name in names), names
    for environ in _children(tiny.process.pid, "environ"):
        assert b"VLLM_NO_USAGE_STATS=1" in environ.read_bytes().split(b"\0")


@pytest.mark.engine
def test_nothing_asked_is_ever_printed_even_when_it_is_refused(tiny: Running) -> None:
    """Warnings about a bad tool or schema would carry the client's own words."""
    tiny.chat(question(f"{CANARY} hello", max_tokens=4, stop=[CANARY]))
    tiny.stream(question(f"{CANARY} hello", max_tokens=4))
    tiny.provoke()
    printed = tiny.printed()
    assert CANARY not in printed
    assert "127.0.0.1" not in "\n".join(line for line in printed.splitlines() if "POST" in line)


@pytest.mark.engine
def test_a_model_that_starts_but_cannot_run_is_found_by_the_probe_and_keeps_its_secrets(
    models: Path, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its /health says 200, and its crash dump would print the request that killed it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOVEREIGN_VLLM", str(program))
        found = ENGINE.find()
    folder = tmp_path_factory.mktemp("broken")  # short, so that its sockets lie in it
    spec = spec_of(folder, found, model=models / "broken", port=free_port())
    ENGINE.prepare(spec)
    output = folder / "output.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            ENGINE.command(spec), env=ENGINE.environment(spec), stdout=log, stderr=log
        )
    it = Running(ENGINE, spec, process, output)
    try:
        _wait_for_health(it)
        status, _ = it.post(question(f"{CANARY} hello", max_tokens=4, stop=[CANARY]))
        assert status >= 500
        assert not ENGINE.probe(spec.base_url, spec.served_name, 10).ok
        process.wait(timeout=30)
        assert CANARY not in it.printed()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.engine
def test_it_stops_within_twenty_seconds(tiny: Running) -> None:
    """Runs after the others that use it: it ends the engine."""
    assert tiny.stop() < 20


def test_it_is_told_where_to_listen_and_to_log_no_requests(tmp_path: Path) -> None:
    """vLLM binds every interface, and uvicorn logs every call, unless told otherwise."""
    words = ENGINE.command(spec_of(tmp_path))
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "--disable-uvicorn-access-log" in words
    assert "--no-enable-log-requests" in words


@pytest.mark.parametrize(("found", "told"), [(CPU, True), (GPU, False)])
def test_switches_for_a_cpu_are_given_to_a_cpu_build_only(
    tmp_path: Path, found: Found, told: bool
) -> None:
    """On a GPU they would make it slow: eager mode, and a cache sized by hand."""
    spec = spec_of(tmp_path, found)
    assert ("--enforce-eager" in ENGINE.command(spec)) is told
    assert ("--kv-cache-memory-bytes" in ENGINE.command(spec)) is told
    assert ("TORCHDYNAMO_DISABLE" in ENGINE.environment(spec)) is told


@pytest.mark.parametrize(
    ("files", "switches"),
    [
        (["config.json", "tokenizer.json", "model.safetensors"], []),
        (["config.json", "tekken.json", "model.safetensors"], ["--tokenizer-mode"]),
        (["config.json", "tokenizer.model.v3", "model.safetensors"], ["--tokenizer-mode"]),
        (
            ["params.json", "tekken.json", "consolidated.safetensors"],
            ["--tokenizer-mode", "--config-format", "--load-format"],
        ),
        (["params.json", "tekken.json", "model.safetensors"], ["--tokenizer-mode"]),
    ],
)
def test_mistral_formats_are_used_exactly_where_their_files_lie(
    tmp_path: Path, files: list[str], switches: list[str]
) -> None:
    """`--load-format mistral` on a folder without consolidated weights does not start."""
    model = tmp_path / "model"
    model.mkdir()
    for name in files:
        (model / name).touch()
    words = ENGINE.command(spec_of(tmp_path))
    given = [w for w in words if w in {"--tokenizer-mode", "--config-format", "--load-format"}]
    assert given == switches


@pytest.mark.parametrize(
    ("tokenizer", "thinks", "told"),
    [("tekken.json", True, True), ("tekken.json", False, False), ("tokenizer.json", True, False)],
)
def test_thoughts_are_told_apart_for_a_model_that_has_some(
    tmp_path: Path, tokenizer: str, thinks: bool, told: bool
) -> None:
    """Without the switch they stand in the answer's text; with it, and no thoughts, vLLM would
    never come to the grammar that enforces a tool or a form."""
    model = tmp_path / "model"
    model.mkdir()
    (model / tokenizer).touch()
    words = ENGINE.command(spec_of(tmp_path, thinks=thinks))
    assert ("--reasoning-parser" in words) is told


@pytest.mark.parametrize(("gpus", "words"), [(1, []), (2, ["2"]), (4, ["4"])])
def test_a_model_is_split_over_as_many_gpus_as_it_is_given(
    tmp_path: Path, gpus: int, words: list[str]
) -> None:
    """Mixtral fits no single card; on one there is nothing to split."""
    said = ENGINE.command(spec_of(tmp_path, gpus=gpus))
    assert [after for word, after in pairwise(said) if word == "--tensor-parallel-size"] == words


def test_every_call_carries_its_tenants_salt_and_no_other(tmp_path: Path) -> None:
    """Two tenants with one salt could learn from timing what the other asked."""
    ctx = ChatContext(served_name="m", dialect="openai", tenant_salt="ours")
    sent = ENGINE.chat(question("x", cache_salt="another-tenants"), ctx)
    assert sent.body["cache_salt"] == "ours"
    with pytest.raises(BadInput):
        ENGINE.chat(question("x"), ChatContext(served_name="m", dialect="openai", tenant_salt=""))


@pytest.mark.parametrize(("length", "own"), [(40, True), (66, True), (67, False), (200, False)])
def test_its_sockets_fit_into_a_path_however_deep_the_home_lies(
    tmp_path: Path, length: int, own: bool
) -> None:
    """A kernel takes 107 characters; beyond them vLLM would not start, and say so in its log."""
    state = Path("/" + "h" * (length - 1))
    folder = Path(ENGINE.environment(spec_of(tmp_path, state_dir=state))["VLLM_RPC_BASE_PATH"])
    assert (folder == state / "tmp") is own
    assert len(f"{folder}/ccacf95f-0438-4873-a85d-b78ba52d4534") <= 107
    other = spec_of(tmp_path, state_dir=Path("/i" + "h" * 200))
    assert str(folder) != ENGINE.environment(other)["VLLM_RPC_BASE_PATH"]


def test_a_socket_folder_that_others_can_use_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whoever owns the folder can sit between vLLM's processes and read what is asked."""
    tmp_path = tmp_path_factory.mktemp("s")
    spec = spec_of(tmp_path)
    spec.model.mkdir()
    (spec.model / "model.safetensors").touch()
    ENGINE.prepare(spec)
    folder = Path(ENGINE.environment(spec)["VLLM_RPC_BASE_PATH"])
    for mode in (0o770, 0o701, 0o777):
        folder.chmod(mode)
        with pytest.raises(BadInput, match="not this user's alone"):
            ENGINE.prepare(spec)
    folder.chmod(0o750)  # looked into by its group, and no more
    ENGINE.prepare(spec)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(BadInput, match="not this user's alone"):
        ENGINE.prepare(spec)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """Reading a pickle runs code out of it."""
    spec = spec_of(tmp_path)
    spec.model.mkdir()
    (spec.model / "pytorch_model.bin").touch()
    with pytest.raises(BadInput, match="safetensors"):
        ENGINE.prepare(spec)


def test_what_is_started_satisfies_what_is_required(tmp_path: Path) -> None:
    """The rules and the environment are written apart; they must not drift apart."""
    from sovereign.engines.environment import unmet

    for engine in ENGINES.values():
        assert unmet(engine.required_environment(), engine.environment(spec_of(tmp_path))) == ()


def test_a_named_program_that_is_not_there_is_missing_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator who names one does not want another."""
    monkeypatch.setenv("SOVEREIGN_VLLM", "/nowhere/vllm")
    with pytest.raises(EngineMissing) as missing:
        ENGINE.find()
    assert "engine-missing" in missing.value.next_step


def _make(program: Path, out: Path, hidden: int) -> None:
    python = program.with_name("python")
    script = Path(__file__).parents[1] / "tools" / "tiny_mixtral.py"
    subprocess.run(
        [str(python), "-I", str(script), str(out), "--hidden", str(hidden)],
        check=True,
        capture_output=True,
        timeout=180,
    )


def _children(pid: int, name: str) -> list[Path]:
    """The file `name` in /proc of every child that has an environment of the engine's."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [Path(f"/proc/{child}/{name}") for task in tasks for child in task.read_text().split()]


def _wait_for_health(it: Running) -> None:
    import time
    import urllib.error
    import urllib.request

    until = time.monotonic() + 180
    while time.monotonic() < until:
        assert it.process.poll() is None, it.printed()[-3000:]
        try:
            with urllib.request.urlopen(f"{it.spec.base_url}/health", timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail("vLLM did not come up")
