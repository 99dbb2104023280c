"""Ollama: what it is told at its start, and the upstream server answering with SmolLM2."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sovereign.engines import ENGINES, ChatContext, Found, LaunchSpec
from sovereign.engines.cores import to_spin_on
from sovereign.engines.environment import parse
from sovereign.engines.gguf import chat_template
from sovereign.engines.llamacpp import packaged_model
from sovereign.errors import BadInput, EngineMissing, ResidencyRefused
from tests.engines.running import CANARY, Running, free_port, question, running
from tests.needs import need
from tests.tools import ollama

ENGINE = ENGINES["ollama"]


def spec_of(folder: Path, **more: object) -> LaunchSpec:
    values = {
        "found": Found(Path("/opt/ollama/bin/ollama"), "0.24.0"),
        "model": packaged_model(),
        "served_name": "smollm2-135m",
        "host": "127.0.0.1",
        "port": 8081,
        "context": 1024,
        "state_dir": folder / "state",
    }
    return LaunchSpec(**{**values, **more})  # type: ignore[arg-type]  # a test's shorthand


@pytest.fixture(scope="module")
def found() -> Found:
    lacking = ollama.missing()
    need(
        not lacking,
        f"Ollama is built out of Go modules, and {', '.join(lacking)} is missing",
        f"apt install {' '.join(ollama.DEBIAN_PACKAGES)}; make setup (for Go)",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOVEREIGN_OLLAMA", str(ollama.program()))
        return ENGINE.find()


@pytest.fixture(scope="module")
def smol(found: Found, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    spec = spec_of(tmp_path_factory.mktemp("ollama"), found=found, port=free_port())
    with running(ENGINE, spec, ready_within_s=120) as it:
        yield it


@pytest.mark.engine
@pytest.mark.go
def test_the_real_program_is_found_with_its_version(smol: Running) -> None:
    """Asked of the program alone: a server that happens to listen would answer for another."""
    assert smol.spec.found.version == "0.24.0"


@pytest.mark.engine
@pytest.mark.go
def test_it_completes_a_chat_and_counts_its_tokens(smol: Running) -> None:
    """The semantic check: without the template that `prepare` writes, answers wander."""
    status, answer = smol.chat(question("The capital of France is", max_tokens=24))
    assert status == 200
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "smollm2-135m"
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.engine
@pytest.mark.go
def test_it_spins_on_all_cores_but_one(smol: Running) -> None:
    """With a gateway beside it on a small machine, an answer takes several times as long else."""
    status, raw = smol.send("/api/show", json.dumps({"model": smol.spec.served_name}))
    assert status == 200
    threads = to_spin_on(os.sched_getaffinity(0))
    assert ["num_thread", str(threads)] in [
        line.split() for line in json.loads(raw)["parameters"].splitlines()
    ]


@pytest.mark.engine
@pytest.mark.go
def test_a_stream_ends_with_its_usage(smol: Running) -> None:
    """Metering reads the last chunk; a client need not have asked for it."""
    chunks = smol.stream(question("Count to five.", max_tokens=12))
    assert chunks[-1]["usage"]["completion_tokens"] > 0


@pytest.mark.engine
@pytest.mark.go
def test_its_connection_stays_after_a_stream(smol: Running) -> None:
    """The next call goes over it: it must not be one that is about to be closed."""
    assert not smol.engine.ends_with_a_stream
    assert not smol.hangs_up_after_a_stream(question("Count to five.", max_tokens=8))


@pytest.mark.engine
@pytest.mark.go
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


@pytest.mark.engine
@pytest.mark.go
def test_an_answer_begun_is_begun_anew(smol: Running) -> None:
    """Which is why `prefix` is named among what it does not do."""
    asked = question("Write a line about the sea.", max_tokens=6)
    plain = smol.chat(asked)[1]["usage"]["prompt_tokens"]
    asked["messages"].append({"role": "assistant", "content": "The sea is", "prefix": True})
    status, answer = smol.chat(asked)
    assert status == 200
    assert not answer["choices"][0]["message"]["content"].startswith("The sea is")
    assert answer["usage"]["prompt_tokens"] > plain
    ctx = ChatContext(served_name="m", dialect="mistral", tenant_salt="salt")
    assert ENGINE.chat(asked, ctx).dropped == ("prefix",)


@pytest.mark.engine
@pytest.mark.go
def test_the_running_process_and_its_runner_have_the_environment_we_require(
    smol: Running,
) -> None:
    """The server starts a second process that holds the model; it must be as silent."""
    assert smol.unmet() == ()
    tasks = Path(f"/proc/{smol.process.pid}/task").glob("*/children")
    runners = [child for task in tasks for child in task.read_text().split()]
    assert runners
    for runner in runners:
        environ = parse(Path(f"/proc/{runner}/environ").read_bytes())
        assert environ["OLLAMA_NO_CLOUD"] == "1"


@pytest.mark.engine
@pytest.mark.go
def test_it_says_itself_that_its_cloud_is_off_and_names_no_host_of_it(smol: Running) -> None:
    """At every start an Ollama left alone asks ollama.com for two lists."""
    assert "cloud disabled: true" in smol.printed()
    assert "ollama.com" not in smol.printed()


@pytest.mark.engine
@pytest.mark.go
def test_nothing_asked_is_ever_printed_even_when_it_is_refused(smol: Running) -> None:
    """Its access log names paths only; prompts appear at debug, which must be off."""
    smol.chat(question(f"{CANARY} hello", max_tokens=4, stop=[CANARY]))
    smol.stream(question(f"{CANARY} hello", max_tokens=4))
    smol.provoke()
    assert CANARY not in smol.printed()


@pytest.mark.engine
@pytest.mark.go
def test_preparing_twice_does_the_work_once(smol: Running) -> None:
    """The second `make deploy` is quick; it would also fail, as the port is taken."""
    mark = smol.spec.state_dir / "prepared.json"
    before = mark.stat().st_mtime_ns
    ENGINE.prepare(smol.spec)
    assert mark.stat().st_mtime_ns == before


@pytest.mark.engine
@pytest.mark.go
def test_its_models_and_keys_lie_in_its_own_folder(smol: Running) -> None:
    """The Ollama of the person who runs us keeps its models, and we keep out of them."""
    assert any((smol.spec.state_dir / "models" / "blobs").iterdir())
    assert (smol.spec.state_dir / ".ollama" / "id_ed25519").is_file()


@pytest.mark.engine
@pytest.mark.go
def test_it_stops_within_five_seconds(smol: Running) -> None:
    """Runs after the others that use it: it ends the engine, and its runner with it."""
    tasks = Path(f"/proc/{smol.process.pid}/task").glob("*/children")
    runners = [child for task in tasks for child in task.read_text().split()]
    assert smol.stop() < 5
    assert not [runner for runner in runners if Path(f"/proc/{runner}/exe").exists()]


@pytest.mark.parametrize(
    "name", ["gpt-oss:120b-cloud", "glm-4.6:cloud", "mistral-large-3:675b-cloud", "x-CLOUD"]
)
def test_a_cloud_model_is_refused_at_every_door(tmp_path: Path, name: str) -> None:
    """Its prompts would leave the host through the same local API."""
    spec = spec_of(tmp_path, served_name=name)
    ctx = ChatContext(served_name=name, dialect="mistral", tenant_salt="s")
    for door in (
        lambda: ENGINE.prepare(spec),
        lambda: ENGINE.command(spec),
        lambda: ENGINE.chat(question("x"), ctx),
    ):
        with pytest.raises(ResidencyRefused):
            door()
    assert not spec.state_dir.exists()


def test_a_name_that_only_speaks_of_clouds_is_not_refused(tmp_path: Path) -> None:
    """The tag decides, not the word."""
    assert ENGINE.command(spec_of(tmp_path, served_name="cloudy-weather:7b"))


def test_weights_without_a_chat_template_are_refused(tmp_path: Path) -> None:
    """Ollama would serve them, and answer beside the point."""
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(BadInput, match="chat template"):
        ENGINE.prepare(spec_of(tmp_path, model=bare))


def test_the_chat_template_is_read_out_of_the_file() -> None:
    """The marker in it chooses the layout that `prepare` writes."""
    assert "<|im_start|>" in chat_template(packaged_model())


def test_no_ollama_at_all_is_missing_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither named, nor on PATH, nor in the cache."""
    monkeypatch.delenv("SOVEREIGN_OLLAMA", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SOVEREIGN_CACHE", str(tmp_path))
    with pytest.raises(EngineMissing) as missing:
        ENGINE.find()
    assert "engine-missing" in missing.value.next_step


def test_a_program_that_fails_to_import_says_so_and_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    """A wrong architecture is found while preparing, not when the first person asks."""
    broken = tmp_path / "ollama"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    spec = spec_of(tmp_path, found=Found(broken, "0"), port=free_port())
    with pytest.raises(Exception, match="did not come up"):
        ENGINE.prepare(spec)
    assert not (spec.state_dir / "prepared.json").exists()
    assert not any(str(broken).encode() in words for words in _command_lines())


def _command_lines() -> Iterator[bytes]:
    """What every process was started as; a bare Debian has no `ps`."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            yield file.read_bytes()
