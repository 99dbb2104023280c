"""The plain Pulumi project, for people who know Pulumi.

Running it takes a language host, which only the maker's download has; here the program is run
as that host would start it, with Pulumi's own mocks behind it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from infra.guard.types import PROVIDER
from infra.simulator.catalogue import TYPES

INFRA = Path(__file__).parents[2] / "infra"

PROGRAM = """
import asyncio, json, runpy, sys
import pulumi

class Seen(pulumi.runtime.Mocks):
    kinds = set()

    def new_resource(self, args):
        self.kinds.add(args.typ)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args):
        return {}

asyncio.set_event_loop(asyncio.new_event_loop())
pulumi.runtime.set_mocks(Seen(), project="sovereign", stack="scaleway-example")
pulumi.runtime.test(lambda: runpy.run_path(sys.argv[1]) and None)()
print(json.dumps(sorted(Seen.kinds)))
"""
"""Runs the file at the path given, as the language host would, and prints the types it declares."""


def test_the_plain_program_declares_the_same_types(tmp_path):
    """Both ways must plan the same; the file only calls what the command calls.

    In a process of its own: Pulumi keeps its mocks, its loop and its stack in globals.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(INFRA / "main.py")],
        cwd=tmp_path,
        env={**os.environ, "SOVEREIGN_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kinds = set(json.loads(done.stdout.splitlines()[-1]))
    assert kinds - {"pulumi:pulumi:Stack"} == {*TYPES, PROVIDER + "scaleway"}


def test_the_project_and_the_pack_say_where_their_python_is():
    """`pulumi` starts both itself, out of the folder they stand in."""
    project = yaml.safe_load((INFRA / "Pulumi.yaml").read_text())
    pack = yaml.safe_load((INFRA / "guard" / "PulumiPolicy.yaml").read_text())
    assert (project["name"], project["main"]) == ("sovereign", "main.py")
    assert (INFRA / project["runtime"]["options"]["virtualenv"]).resolve().name == ".venv"
    pack_venv = INFRA / "guard" / pack["runtime"]["options"]["virtualenv"]
    assert pack_venv.resolve() == (INFRA / "../.venv").resolve()
    assert "backend" not in project  # stated by the stack, or by the operator's own login
