"""What the roles make of what a site says: a file of settings, and what a host reads in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign import settings
from sovereign.settings import Settings
from tests.hosts.playing import CHECKOUT

ROLES = CHECKOUT / "playbooks/roles"
NEEDED = {
    "inventory_hostname": "gw1",
    "ansible_managed": "a test",
    "sovereign_site": "lab",
    "sovereign_place": "hetzner:fsn1",
    "sovereign_release": "release.tar",
    "sovereign_policies": "policies.tar",
}
SAID: dict[str, Any] = {
    "endpoints": [
        {
            "id": "gpu2",
            "name": "vllm",
            "model": "mixtral-8x7b-instruct-v0.1",
            "address": "10.0.0.7:8081",
            "place": "hetzner:fsn1",
            "host": "gpu2",
        }
    ],
    "aliases": [
        {
            "name": "small-latest",
            "model": "smollm2-135m-instruct",
            "next": "mixtral-8x7b-instruct-v0.1",
            "from": "2026-12-01T00:00:00Z",
        }
    ],
    "dependencies": [{"id": "names", "kind": "dns", "place": "hetzner:fsn1"}],
    "organisation": {"name": 'Example {GmbH}: "NO"', "contact": "dpo@example.org"},
    "processing": [{"tenant": "hr", "role": "processor", "subjects": ["applicants"]}],
    "sinks": [{"id": "proxy", "kind": "files", "path": "/srv/proxy", "kept": "process-log"}],
    "balance": {"load_percent": 150},
    "tracing": {"endpoint": "http://127.0.0.1:4318/v1/traces", "sampled_percent": 10},
    "standby": {"url": "https://10.0.0.9:8443", "token_file": "/etc/sovereign/files/token"},
    "attestation": {"host": "gw1", "latitude": "50.1", "longitude": "8.6"},
}
"""One value at least for every section that a site may write as docs/settings.md has it."""

OF_THE_STACK = {"version", "site", "profile", "place", "environment", "policies", "engine", "paths"}
"""What the inventory and the layout of a host say."""


def written(folder: Path, **said: object) -> tuple[str, Settings]:
    """The file as Ansible writes it, and what reads it there makes of it."""
    told = folder / "said.json"
    told.write_text(json.dumps(NEEDED | said))
    file = folder / "sovereign.yaml"
    files = [ROLES / role / "defaults/main.yml" for role in ("sovereign", "gateway", "controller")]
    extra = [*files, ROLES / "sovereign/vars/main.yml", told]
    template = ROLES / "sovereign/templates/etc/sovereign/sovereign.yaml.j2"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible"), "localhost", "--connection", "local"),
            *("-m", "ansible.builtin.template", "-a", f"src={template} dest={file}"),
            *(word for path in extra for word in ("--extra-vars", f"@{path}")),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_LOCAL_TEMP": str(folder)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return file.read_text(), settings.load(folder, file).settings


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    said = {f"sovereign_{section}": value for section, value in SAID.items()}
    bounds = {"body_max_bytes": 65_536, "limits_database": "postgresql://s@10.0.0.5/limits"}
    folder = tmp_path_factory.mktemp("everything")
    _, found = written(
        folder,
        **said,
        gateway_settings=bounds,
        gateway_issuers=[{"id": "corp"}],
        gateway_tls_certificate="c.pem",
        gateway_tls_key="k.pem",
        gateway_tls_clients_ca="ca.pem",
        controller_settings={"interval_s": 7},
    )
    return found


@pytest.mark.parametrize("section", SAID)
def test_what_a_site_says_in_a_section_is_what_its_host_reads(
    everything: Settings, section: str
) -> None:
    """A setting that exists on one machine and not on a host is a promise nobody can keep there."""
    default = Settings()
    said = getattr(msgspec.convert({section: SAID[section]}, Settings), section)
    assert getattr(everything, section) == said != getattr(default, section)


def test_every_section_of_the_settings_can_be_said_to_a_role() -> None:
    """A new section needs its way to the hosts on the day it is made."""
    ours = {"gateway", "controller"}
    assert OF_THE_STACK | ours | SAID.keys() == set(Settings.__struct_fields__)


def test_bounds_and_files_of_the_gateway_arrive(everything: Settings) -> None:
    """A bound that stays at its default is found by the first client that needed the other."""
    gateway = everything.gateway
    assert gateway.body_max_bytes == 65_536
    assert gateway.limits_database.endswith("/limits")
    assert gateway.issuers == "/etc/sovereign/issuers.yaml"
    assert gateway.tls_clients_ca == "/etc/sovereign/tls/clients-ca.pem"
    assert everything.controller.interval_s == 7
    assert everything.controller.observe_socket == "/run/sovereign/observe.sock"


def test_a_site_that_says_nothing_gets_the_defaults(tmp_path: Path) -> None:
    """Silence is the shipped choice, not a section of empty values."""
    text, found = written(tmp_path)
    default = Settings()
    assert {name: getattr(found, name) for name in SAID} == {n: getattr(default, n) for n in SAID}
    assert not [name for name in SAID if f"\n{name}:" in text]
