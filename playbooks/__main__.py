"""`python -m playbooks`: configure, look at, update and retire the hosts of a stack.

    python -m playbooks configure STACK     make each host one that serves
    python -m playbooks verify STACK        look at each, change nothing
    python -m playbooks update STACK        change the release they run by, one after another
    python -m playbooks retire STACK        keep its logs, erase its keys and weights

Words after `--` go to ansible-playbook as they are, such as `-- --check --diff`. It says what it
does, one line a step, with the seconds it took. Exit codes are those of `sovereign`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from playbooks import release, variables, vllm
from sovereign import policy as policies
from sovereign.errors import BadInput, SovereignError, Unavailable

HERE = Path(__file__).resolve().parent
PLAYS = {
    "configure": "site.yml",
    "verify": "verify.yml",
    "update": "update.yml",
    "retire": "retire.yml",
}
PLAY_TAKES_AT_MOST_S = 3600
INVENTORY_TAKES_AT_MOST_S = 600


def main(words: list[str]) -> int:
    """Run one verb; return its exit code."""
    asked, rest = _parsed(words)
    try:
        with tempfile.TemporaryDirectory() as workshop:
            return _run(asked, rest, Path(workshop))
    except SovereignError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code


def _parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    own, mark, rest = _split(words)
    parser = argparse.ArgumentParser(prog="python -m playbooks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("verb", choices=sorted(PLAYS))
    parser.add_argument("stack", nargs="?", help="a file of infra/stacks/, without its ending")
    parser.add_argument("--inventory", type=Path, help="an Ansible inventory instead of a stack")
    parser.add_argument("--site", type=Path, help="variables of this site; else sites/STACK.yaml")
    parser.add_argument("--policies", type=Path, help="another policy folder")
    parser.add_argument("--release", type=Path, help="a release built before, such as one tried")
    asked = parser.parse_args(own)
    if (asked.stack is None) == (asked.inventory is None):
        parser.error("say one of: a stack, or --inventory FILE")
    return asked, rest if mark else []


def _split(words: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


def _run(asked: argparse.Namespace, rest: list[str], workshop: Path) -> int:
    with _step("inventory"):
        inventory = asked.inventory or _from_stack(asked.stack, workshop / "inventory.json")
        hosts = _hosts(inventory)
        print(f"  {len(hosts)} host(s): {', '.join(sorted(hosts))}")
    command = ["ansible-playbook", "--inventory", str(inventory.absolute()), PLAYS[asked.verb]]
    site = asked.site or _site_of(asked.stack)
    if site is not None:
        print(f"  with what {site} says of this site")
        command += ["--extra-vars", f"@{site.absolute()}"]
    command += rest
    if asked.verb in ("configure", "update"):
        told = workshop / "told.json"
        told.write_text(json.dumps(_said(asked, hosts, site, workshop)))
        command += ["--extra-vars", f"@{told}"]  # last, so that nothing said before outweighs it
    with _step(PLAYS[asked.verb]):
        return _play(command)


def _from_stack(stack: str, path: Path) -> Path:
    """Ask `infra` for the hosts of a stack."""
    done = subprocess.run(
        [sys.executable, "-m", "infra", "inventory", stack],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
        timeout=INVENTORY_TAKES_AT_MOST_S,
    )
    if done.returncode != 0:
        raise Unavailable(f"there is no inventory of {stack}", next_step=f"make plan STACK={stack}")
    path.write_text(done.stdout)
    return path


def _site_of(stack: str | None) -> Path | None:
    """What the operator wrote down for this stack beside it, if anything."""
    path = HERE / "sites" / f"{stack}.yaml"
    return path if stack and path.is_file() else None


def _hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    """The variables of each host, as Ansible itself reads the inventory."""
    done = subprocess.run(
        [_beside("ansible-inventory"), "--inventory", str(inventory.absolute()), "--list"],
        check=False,
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=INVENTORY_TAKES_AT_MOST_S,
    )
    if done.returncode != 0:
        raise BadInput(f"{inventory} is no inventory", found=done.stderr.strip()[-300:])
    listed = json.loads(done.stdout)
    members = listed.get("inference", {}).get("hosts", [])
    if not members:
        raise BadInput(f"{inventory} has no host in the group inference", accepted="one or more")
    known = listed["_meta"]["hostvars"]
    return {name: known.get(name, {}) for name in members}


def _said(
    asked: argparse.Namespace, hosts: dict[str, dict[str, Any]], site: Path | None, workshop: Path
) -> dict[str, object]:
    """What a play is handed in. An update changes the release and nothing that the policy says."""
    if asked.verb == "update":
        return {"sovereign_release": str(_release(asked))}
    return _told(asked, hosts, site, workshop)


def _release(asked: argparse.Namespace) -> Path:
    with _step("release"):
        archive: Path = (asked.release or release.build()).absolute()
        print(f"  {archive.stem}, {archive.stat().st_size / 1e6:.0f} MB")
    return archive


def _told(
    asked: argparse.Namespace, hosts: dict[str, dict[str, Any]], site: Path | None, workshop: Path
) -> dict[str, object]:
    """What no inventory may override: the policy's word, and the release to install."""
    with _step("policy"):
        root = asked.policies or policies.default_root()
        policy = policies.load(root, variables.profile_of(hosts))
        said = variables.of_policy(policy, datetime.now(UTC))
        print(f"  profile {policy.profile}, digest {policy.digest[:16]}…: {json.dumps(said)}")
    return {
        **said,
        **_engines(hosts, site),
        "sovereign_policies": str(release.pack_policies(root, workshop)),
        "sovereign_release": str(_release(asked)),
    }


def _engines(hosts: dict[str, dict[str, Any]], site: Path | None) -> dict[str, object]:
    """The archive of vLLM, when a host is to serve with it."""
    if not any(told.get("sovereign_engine") == "vllm" for told in hosts.values()):
        return {}
    said = yaml.safe_load(site.read_text()) if site is not None else None
    build = (said or {}).get("engine_vllm_build", "cuda")
    if build not in vllm.BUILDS:
        raise BadInput(f"engine_vllm_build is {build!r}", accepted=", ".join(vllm.BUILDS))
    with _step("vLLM"):
        archive = vllm.archive(build)
        print(f"  {archive.stem}, {archive.stat().st_size / 1e6:.0f} MB")
    return {"engine_vllm_release": str(archive)}


def _play(command: list[str]) -> int:
    program = [_beside(command[0]), *command[1:]]
    done = subprocess.run(program, check=False, cwd=HERE, timeout=PLAY_TAKES_AT_MOST_S)
    return 0 if done.returncode == 0 else 1


def _beside(program: str) -> str:
    """Ansible as installed beside this Python, whatever is on PATH."""
    return str(Path(sys.executable).with_name(program))


@contextmanager
def _step(name: str) -> Iterator[None]:
    print(f"{name} …", flush=True)
    started = time.monotonic()
    yield
    print(f"{name}: done in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("ANSIBLE_CONFIG", str(HERE / "ansible.cfg"))
    sys.exit(main(sys.argv[1:]))
