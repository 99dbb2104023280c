"""Read `infra/stacks/NAME.yaml`: what an operator asks for, checked at the border.

What a file says is here; what it means (which machine, what price, in which place) is worked
out in `resolve.py`. `docs/formats/stacks.md` describes every field, and a test compares the two.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sovereign.errors import PolicyUnreadable, StackUnreadable, UnknownName
from sovereign.policy.yamlfile import read_as

FOLDER = Path(__file__).with_name("stacks")
FILE_BACKEND = "file"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

Word = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]*$")]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen value that refuses fields it does not know."""


class Backups(Part, frozen=True):
    """Where encrypted backups rest: in the stack's own region, for so many days."""

    bucket: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{2,62}$", description="Its name.")]
    kept_days: Annotated[int, Meta(ge=1, le=3650, description="Days until an object expires.")]


class Machine(Part, frozen=True):
    """A machine that exists already. Only for the cloud `static`."""

    name: Annotated[Word, Meta(description="Its name in the inventory.")]
    address: Annotated[str, Meta(min_length=1, description="Where ssh reaches it.")]
    place: Annotated[str, Meta(min_length=1, description="Code of the place it stands at.")]
    user: Annotated[Word, Meta(description="Who logs in.")] = "root"
    port: Annotated[int, Meta(ge=1, le=65_535, description="Port of ssh.")] = 22
    gpu_memory_gb: Annotated[
        int, Meta(ge=0, le=100_000, description="Memory of all its GPUs; 0: it has none.")
    ] = 0


class Stack(Part, frozen=True):
    """One file: a cloud, a place, a model, and who may reach it."""

    cloud: Annotated[
        Literal["hetzner", "scaleway", "static", "local"],
        Meta(description="Who gives the machines; one file each in infra/clouds/."),
    ]
    model: Annotated[str, Meta(min_length=1, description="Id or alias in facts/models.yaml.")]
    engine: Annotated[
        Literal["vllm", "ollama", "llamacpp"], Meta(description="What serves the model.")
    ]
    zone: Annotated[str, Meta(description="The cloud's own code of the zone.")] = ""
    shape: Annotated[
        str, Meta(description="Machine type; empty: the smallest that fits the model.")
    ] = ""
    precision: Annotated[
        str, Meta(description="Precision of the weights; empty: the model has one only.")
    ] = ""
    nodes: Annotated[int, Meta(ge=1, le=64, description="How many machines.")] = 1
    allow_from: Annotated[
        tuple[str, ...], Meta(description="Networks (CIDR) that may reach ssh and the gateway.")
    ] = ()
    gateway_port: Annotated[
        int, Meta(ge=1024, le=65_535, description="Port of the gateway, open to allow_from.")
    ] = 8080
    disk_gb: Annotated[
        int, Meta(ge=10, le=10_000, description="Size of the data volume of each machine.")
    ] = 200
    admin_key: Annotated[str, Meta(description="Public ssh key of who configures.")] = ""
    backups: Annotated[Backups | None, Meta(description="Bucket for encrypted backups.")] = None
    state_backend: Annotated[
        str,
        Meta(description="Where Pulumi keeps its state: file, or s3://… at a known place."),
    ] = FILE_BACKEND
    profile: Annotated[Word, Meta(description="Residency profile of the policy.")] = "eea"
    environment: Annotated[
        Literal["production", "non-production"],
        Meta(description="What it is for; licences allow less in production."),
    ] = "production"
    machines: Annotated[
        tuple[Machine, ...], Meta(description="The machines you have; cloud static only.")
    ] = ()


def load(name: str, folder: Path = FOLDER) -> Stack:
    """Return the stack called `name`.

    Raises:
        UnknownName: no file has that name. Nothing was read.
        StackUnreadable: the file says something we do not accept, with its line.
    """
    path = folder / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise UnknownName(f"there is no stack {name!r} in {folder}", accepted=known)
    try:
        stack = read_as(path, Stack)
    except PolicyUnreadable as error:
        raise StackUnreadable(
            error.message, found=error.found, accepted=error.accepted or "docs/formats/stacks.md"
        ) from error
    _check(path, stack)
    return stack


def _check(path: Path, stack: Stack) -> None:
    """What no single field can show."""
    wrong = [*_wrong_networks(stack), *_wrong_shape(stack), *_wrong_machines(stack)]
    if wrong:
        raise StackUnreadable(f"{path}: {'; '.join(wrong)}", accepted="docs/formats/stacks.md")


def _wrong_networks(stack: Stack) -> list[str]:
    wrong = []
    for network in stack.allow_from:
        try:
            if ipaddress.ip_network(network).prefixlen == 0:
                wrong.append(f"allow_from: {network} is the whole internet")
        except ValueError as error:
            wrong.append(f"allow_from: {error}")
    return wrong


def _wrong_shape(stack: Stack) -> list[str]:
    if stack.cloud in ("hetzner", "scaleway"):
        needed = {"zone": stack.zone, "allow_from": stack.allow_from, "admin_key": stack.admin_key}
        wrong = [f"{name} is needed for a cloud" for name, value in needed.items() if not value]
        if stack.cloud == "hetzner" and stack.backups:
            wrong.append("backups: hetzner has no bucket that a program can make")
        return wrong
    given = {"zone": stack.zone, "shape": stack.shape, "backups": stack.backups}
    return [f"{name} means nothing for {stack.cloud}" for name, value in given.items() if value]


def _wrong_machines(stack: Stack) -> list[str]:
    if stack.cloud != "static":
        return ["machines belong to cloud static"] if stack.machines else []
    if not stack.machines:
        return ["cloud static needs machines"]
    names = [machine.name for machine in stack.machines]
    doubled = sorted({name for name in names if names.count(name) > 1})
    return [f"machines: {name} stands twice" for name in doubled]
