"""Run our own command against hosts of the lab, and read what Ansible says it did."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra import resolve, shapes
from infra import stack as stacks
from infra.clouds import static
from sovereign import policy as policies
from sovereign.policy import Policy
from tests.tools.lab import GATE, NET, PROXY_PORT, Host

CHECKOUT = Path(__file__).resolve().parents[2]
PLAY_TAKES_AT_MOST_S = 1200
GATEWAY_PORT = 8080
SITE_NAME = "lab"
SITE: dict[str, Any] = {
    "sovereign_listen": f"{{{{ ansible_host }}}}:{GATEWAY_PORT}",
    "sovereign_own_places": [
        {
            "id": "own",
            "entity": "Lab Example GmbH",
            "seat": "DE",
            "under": "DE",
            "source": "declared by the operator of this site",
            "checked_on": "2026-11-01",
            "confidence": "medium",
            "zones": [{"zone": "lab", "region": "lab", "country": "DE"}],
        }
    ],
    "gateway_clients": [f"{NET}.0/24"],
    "egress_allowed": [
        {"dependency": "debian-packages", "address": f"{GATE}/32", "port": PROXY_PORT},
        {"dependency": "time-netnod", "address": f"{GATE}/32", "port": 123, "protocol": "udp"},
        {
            "dependency": "time-netnod",
            "address": f"{GATE}/32",
            "port": 123,
            "protocol": "udp",
            "unit": "controller",
        },
    ],
    "clock_servers": [{"dependency": "time-netnod", "address": GATE}],
    "sovereign_dependencies": [
        {"id": "names", "kind": "dns", "place": "none"},
        {"id": "time-netnod", "kind": "time"},
        {"id": "copies", "kind": "backup", "place": "none"},
        {"id": "custody", "kind": "key-custody", "place": "none"},
    ],
    "sovereign_aliases": [{"name": "small-latest", "model": "smollm2-135m-instruct"}],
    "gateway_settings": {"body_max_bytes": 65_536, "queue_max": 16},
    "gateway_issuers": [
        {
            "id": "corp",
            "issuer": "https://id.lab",
            "audience": "sovereign",
            "keys": "http://127.0.0.1:9/jwks",
            "place": "own:lab",
            "bindings": [{"id": "all", "tenant": "lab", "purpose": "testing"}],
        }
    ],
    "controller_settings": {"probe_timeout_s": 30},
    "controller_bind_host_key": True,
}
"""What a site says beside its stack: where it listens, where it stands, where its mirror is."""

_RECAP = re.compile(r"^(\S+) +: +(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Played:
    """One run. `recap` holds Ansible's counts for each host: ok, changed, failed and so on."""

    exit_code: int
    output: str
    recap: dict[str, dict[str, int]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Site:
    """Files that say everything about some hosts. One folder each."""

    folder: Path
    policies: Path
    release: Path
    engine: str = "llamacpp"
    model: str = "smollm2-135m-instruct"

    def play(self, verb: str, host: Host, *more: str, **variables: object) -> Played:
        """Run `python -m playbooks VERB` on one host; `more` goes to Ansible."""
        inventory = self.folder / f"{host.name}.json"
        policy = policies.load(self.policies, "eea")
        inventory.write_text(json.dumps(_inventory(self, host, policy)))
        said = self.folder / "said.yaml"
        said.write_text(yaml.safe_dump(SITE | variables))
        started = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "playbooks", verb),
                *("--inventory", str(inventory), "--site", str(said)),
                *("--policies", str(self.policies), "--release", str(self.release)),
                *("--", *more),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=PLAY_TAKES_AT_MOST_S,
            env={**os.environ, "ANSIBLE_SSH_ARGS": f"-F {host.lab.ssh_config}"},
        )
        output = done.stdout + done.stderr
        return Played(done.returncode, output, _recap(output), time.monotonic() - started)


def _inventory(asked: Site, host: Host, policy: Policy) -> dict[str, object]:
    """What `python -m infra inventory` prints for a static stack of this one machine."""
    stack = {
        "cloud": "static",
        "model": asked.model,
        "engine": asked.engine,
        "machines": [{"name": host.name, "address": host.address, "place": "own:lab"}],
    }
    (asked.folder / f"{SITE_NAME}.yaml").write_text(yaml.safe_dump(stack))
    site = resolve.site(SITE_NAME, stacks.load(SITE_NAME, asked.folder), policy, None)
    return shapes.inventory(site, static.outputs(site).hosts)


def _recap(output: str) -> dict[str, dict[str, int]]:
    _, _, recap = output.partition("PLAY RECAP")
    return {
        name: {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", counts)}
        for name, counts in _RECAP.findall(recap)
        if "ok=" in counts
    }
