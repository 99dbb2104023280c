"""The plain Pulumi project, for people who know Pulumi.

Running it takes a language host, which only the maker's download has; here the program is run
as that host would start it, with Pulumi's own mocks behind it.
"""

import asyncio
import runpy
import sys
from pathlib import Path

import pulumi
import yaml
from pulumi.runtime.settings import Settings

from infra.guard.types import PROVIDER
from infra.simulator.catalogue import TYPES

INFRA = Path(__file__).parents[2] / "infra"


class Seen(pulumi.runtime.Mocks):
    """Notes every type that the program declares."""

    def __init__(self):
        self.kinds = set()

    def new_resource(self, args):
        self.kinds.add(args.typ)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args):
        return {}


def test_the_plain_program_declares_the_same_types(tmp_path, monkeypatch):
    """Both ways must plan the same; the file only calls what the command calls."""
    monkeypatch.setenv("SOVEREIGN_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    seen = Seen()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(seen, project="sovereign", stack="scaleway-example")

    @pulumi.runtime.test
    def declare():
        runpy.run_path(str(INFRA / "main.py"))

    declare()
    pulumi.runtime.settings.configure(Settings())
    assert seen.kinds - {"pulumi:pulumi:Stack"} == {*TYPES, PROVIDER + "scaleway"}


def test_the_project_and_the_pack_say_where_their_python_is():
    """`pulumi` starts both itself, out of the folder they stand in."""
    project = yaml.safe_load((INFRA / "Pulumi.yaml").read_text())
    pack = yaml.safe_load((INFRA / "guard" / "PulumiPolicy.yaml").read_text())
    assert (project["name"], project["main"]) == ("sovereign", "main.py")
    assert (INFRA / project["runtime"]["options"]["virtualenv"]).resolve().name == ".venv"
    pack_venv = INFRA / "guard" / pack["runtime"]["options"]["virtualenv"]
    assert pack_venv.resolve() == (INFRA / "../.venv").resolve()
    assert "backend" not in project  # stated by the stack, or by the operator's own login
