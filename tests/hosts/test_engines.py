"""The same host with another engine: Ollama, and vLLM with weights that were carried over.

What holds for every host stands in `test_a_host.py`; here is what the engine changes.
"""

import hashlib
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host as Seen

from playbooks import vllm as vllm_wheels
from sovereign.engines import ENGINES
from sovereign.engines.digest import model_digest
from sovereign.engines.environment import parse, unmet
from tests.gateway.certificates import issued
from tests.hosts.asking import chat, chat_status, new_key, records_of
from tests.hosts.playing import Played, Site
from tests.hosts.spec import EXPOSURE_MAX
from tests.needs import need
from tests.tools import ollama, vllm_cpu
from tests.tools.lab import Host, Lab

TOOLS = Path(__file__).parents[1] / "tools"
WEIGHTS = "/var/lib/sovereign/weights"
RESTARTS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A host that was configured with an engine, and what was said about it."""

    host: Host
    site: Site
    first: Played
    said: dict[str, object]

    @property
    def seen(self) -> Seen:
        """As testinfra sees it."""
        config = str(self.host.lab.ssh_config)
        return testinfra.get_host(f"ssh://{self.host.address}", ssh_config=config)


def serving(host: Host, site: Site, **said: object) -> Serving:
    """Configure it, and keep what was said for the next run."""
    return Serving(host, site, site.play("configure", host, **said), said)


@pytest.fixture(scope="module")
def with_ollama(
    lab: Lab, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    lacking = ollama.missing()
    need(
        not lacking,
        f"Ollama is built out of Go modules, and {', '.join(lacking)} is missing",
        f"apt install {' '.join(ollama.DEBIAN_PACKAGES)}; make setup-all (for Go)",
    )
    archive = tmp_path_factory.mktemp("ollama") / "ollama-linux-amd64.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(ollama.program(), "bin/ollama")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    tls = issued(archive.parent / "tls", "ollama.lab")
    said = {
        "engine_ollama_archive": str(archive),
        "engine_ollama_sha256": digest,
        "gateway_tls_certificate": str(tls.certificate),
        "gateway_tls_key": str(tls.key),
    }
    with lab.host("ollama") as host:
        yield serving(host, replace(site, engine="ollama"), **said)


@pytest.fixture(scope="module")
def with_vllm(lab: Lab, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    lacking = vllm_cpu.missing()
    need(
        not lacking,
        f"vLLM's CPU build needs {', '.join(lacking)}",
        "apt install libnuma1; make setup-all; free disk",
    )
    weights = tmp_path_factory.mktemp("weights") / "tiny-mixtral"
    python = vllm_cpu.program().with_name("python")
    subprocess.run(
        [python, "-I", TOOLS / "tiny_mixtral.py", weights],
        check=True,
        capture_output=True,
        timeout=300,
    )
    said = {
        "engine_vllm_build": "cpu",
        "weights_source": str(weights),
        "weights_digest": model_digest(weights),
    }
    with lab.host("vllm") as host:
        lay_down(host, vllm_wheels.archive("cpu"))
        yield serving(host, replace(site, engine="vllm", model="tiny-mixtral"), **said)


def lay_down(host: Host, archive: Path) -> None:
    """What is on a host already, digest for digest, is not brought again: gigabytes, here."""
    folder = host.root / "opt/sovereign/engines"
    folder.mkdir(parents=True)
    shutil.copyfile(archive, folder / archive.name)


def answers_and_records(lab: Lab, it: Serving) -> None:
    """The story every engine must tell."""
    assert it.first.exit_code == 0, it.first.output[-6000:]
    key = new_key(it.host)
    certificate = str(it.said.get("gateway_tls_certificate", ""))
    answer = chat(lab, it.host, key, it.site.model, certificate)
    assert answer["status"] == 200, answer
    assert answer["headers"]["x-sovereign-place"] == "own:lab"
    assert answer["answer"]["usage"]["completion_tokens"] > 0
    record = answer["headers"]["x-sovereign-record"]
    assert record.startswith(f"{it.host.name}.lab/gateway/event#")
    found = records_of(it.host, record)
    assert found["decision"]["engine"] == it.site.engine
    assert found["completion"]["outcome"] == "answered"
    assert it.host.run("sovereign audit verify").returncode == 0


def keeps_its_promises(it: Serving) -> None:
    """What the engine's own contract asks of its environment, and what the sandbox promises."""
    seen, unit = it.seen, "sovereign-engine"
    pid = seen.check_output(f"systemctl show -p MainPID --value {unit}")
    environ = seen.run(f"cat /proc/{pid}/environ").stdout_bytes
    assert unmet(ENGINES[it.site.engine].required_environment(), parse(environ)) == ()
    seen.check_output(f"systemd-analyze security --threshold={EXPOSURE_MAX} {unit}")
    listening = seen.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    ours = {line.split()[3] for line in listening}
    assert "127.0.0.1:8081" in ours
    assert {at for at in ours if not at.startswith("127.")} <= {
        "0.0.0.0:22",
        "[::]:22",
        f"{it.host.address}:8080",
    }


def changes_nothing_again(it: Serving) -> None:
    """The second run finds everything as it should be."""
    again = it.site.play("configure", it.host, **it.said)
    assert again.exit_code == 0, again.output[-3000:]
    assert again.recap[it.host.name]["changed"] == 0, again.output[-6000:]


@pytest.mark.engine
@pytest.mark.go
def test_a_host_with_ollama_answers_and_records(lab: Lab, with_ollama: Serving) -> None:
    """A stack that says `engine: ollama` is the same promise with another program."""
    answers_and_records(lab, with_ollama)


@pytest.mark.engine
@pytest.mark.go
def test_a_host_with_a_certificate_answers_nobody_in_the_clear(
    lab: Lab, with_ollama: Serving
) -> None:
    """A key that travels in the clear once is a key to be revoked."""
    assert chat_status(lab, with_ollama.host, new_key(with_ollama.host)) == 0
    seen = with_ollama.seen.file("/etc/sovereign/tls/key.pem")
    assert (seen.user, seen.group, seen.mode) == ("root", "sovereign-gateway", 0o640)


@pytest.mark.engine
@pytest.mark.go
def test_ollama_on_a_host_is_silent_and_shut_in(with_ollama: Serving) -> None:
    """Of the three engines it is the one that would call home most."""
    keeps_its_promises(with_ollama)


@pytest.mark.engine
@pytest.mark.go
def test_a_second_run_with_ollama_changes_nothing(with_ollama: Serving) -> None:
    """A playbook that always changes something hides the day when something really changed."""
    changes_nothing_again(with_ollama)


@pytest.mark.engine
@pytest.mark.go
def test_an_ollama_that_is_not_the_one_that_was_checked_is_not_installed(
    with_ollama: Serving,
) -> None:
    """The program that sees every prompt must be the one somebody vouches for."""
    other = {**with_ollama.said, "engine_ollama_sha256": "0" * 64}
    run = with_ollama.site.play("configure", with_ollama.host, "--tags", "engine", **other)
    assert run.exit_code == 1
    assert "engine_ollama_sha256 says" in run.output
    assert with_ollama.host.run("systemctl is-active sovereign-engine").returncode == 0


@pytest.mark.engine
def test_a_host_with_vllm_answers_and_records(lab: Lab, with_vllm: Serving) -> None:
    """A mixture of experts, by the engine that Mistral's own models are served with."""
    answers_and_records(lab, with_vllm)


@pytest.mark.engine
def test_vllm_on_a_host_is_silent_and_shut_in(with_vllm: Serving) -> None:
    """The engine with the largest surface needs its sandbox most."""
    keeps_its_promises(with_vllm)


@pytest.mark.engine
def test_a_second_run_with_vllm_changes_nothing(with_vllm: Serving) -> None:
    """Wheels and weights of gigabytes must not travel twice."""
    changes_nothing_again(with_vllm)


@pytest.mark.engine
def test_the_engine_cannot_change_its_own_weights(with_vllm: Serving) -> None:
    """A model that is taken over must not be able to stay taken over."""
    try_to = f"runuser -u sovereign-engine -- sh -c 'find {WEIGHTS} -writable | grep -q .'"
    assert with_vllm.host.run(f"runuser -u sovereign-engine -- ls {WEIGHTS}/*/*").returncode == 0
    assert with_vllm.host.run(try_to).returncode != 0


@pytest.mark.engine
def test_weights_that_were_changed_are_not_served(lab: Lab, with_vllm: Serving) -> None:
    """Whoever got root once must not answer in the model's name for ever."""
    host = with_vllm.host
    (config,) = host.read(f"ls {WEIGHTS}/*/*/config.json").split()
    key = new_key(host)
    host.read(
        f"cp -p {config} /root/kept && echo >> {config} && systemctl restart sovereign-engine"
    )
    try:
        told = "journalctl -u sovereign-engine -o cat | grep -q weights-differ"
        wait_for(lambda: host.run(told).returncode == 0)
        answered: list[int] = []  # 403 while the last good look runs out before the next is over
        wait_for(lambda: asked_until(answered, 503, lab, host, key, with_vllm.site.model))
        assert set(answered) <= {403, 503}
    finally:
        host.read(f"cp -p /root/kept {config}")


@pytest.mark.engine
def test_weights_nobody_vouches_for_are_not_brought(with_vllm: Serving) -> None:
    """A path alone says nothing about what lies there."""
    unsaid = {**with_vllm.said, "weights_digest": ""}
    run = with_vllm.site.play("configure", with_vllm.host, "--tags", "weights", **unsaid)
    assert run.exit_code == 1
    assert "sovereign weights digest" in run.output


@pytest.mark.engine
def test_a_retired_host_keeps_no_weights(with_vllm: Serving, tmp_path: Path) -> None:
    """What was carried over is taken away as well."""
    said = {**with_vllm.said, "retire_consent": True, "retire_export_to": str(tmp_path)}
    run = with_vllm.site.play("retire", with_vllm.host, **said)
    assert run.exit_code == 0, run.output[-3000:]
    assert with_vllm.host.read("find / -xdev -name '*.safetensors'") == ""
    assert with_vllm.host.run(f"ls {WEIGHTS} /opt/sovereign").returncode != 0


def asked_until(answered: list[int], status: int, *client: Any) -> bool:
    """Ask once more, and keep what came back; true once it is the wanted status."""
    answered.append(chat_status(*client))
    return answered[-1] == status


def wait_for(true: object) -> None:
    """Return once it holds; fail when it does not in time."""
    assert callable(true)
    until = time.monotonic() + RESTARTS_WITHIN_S
    while not true():
        assert time.monotonic() < until
        time.sleep(1)
