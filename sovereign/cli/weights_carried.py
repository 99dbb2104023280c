"""`sovereign weights bundle|manifest`: carry a set away, and see what a source would give."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of
from sovereign.cli.weights import Progress, pin_of
from sovereign.errors import BadInput
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.weights import bundle as bundling
from sovereign.weights import store
from sovereign.weights.bringing import as_unfetched
from sovereign.weights.choosing import source_of
from sovereign.weights.manifest import parse

PinOption = Annotated[
    str, typer.Option("--digest", help="Which set, where there is more than one.")
]


def add_to(app: typer.Typer) -> None:
    """The verbs of this module, below `sovereign weights`."""
    app.command()(bundle)
    app.command()(manifest)


def bundle(
    name: Annotated[str, typer.Argument(help="Id of a model of which there is a set here.")],
    to: Annotated[Path, typer.Option(help="FILE.tar, or a folder that is made.")],
    pin: PinOption = "",
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a set, verified once more, to a stick: one archive, or a folder, with its manifest.

    Take it in elsewhere with `sovereign weights fetch MODEL --from FILE.tar --digest …`, with the
    digest carried on another way than the stick.
    """
    each = the_set(home_of(home), name, pin)
    with as_unfetched():
        bundling.write(each, to, Progress())
    said = {"model": each.model, "digest": each.digest, "path": str(to), "bytes": each.bytes}
    if as_json:
        give(said)
    else:
        facts(said)


def manifest(
    source: Annotated[
        str,
        typer.Option("--from", help="Folder, bundle, URL of a mirror, bucket, hub or registry."),
    ],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The manifest that a source would give, to be compared with the publisher's hashes.

    Its digest is what `fetch --digest` pins; The source's
    place is decided as for `fetch`.
    """
    where = home_of(home)
    found = source_of(where, policy_of(where), source, utcnow())
    with as_unfetched():
        raw = found.manifest()
    named = parse(raw)
    if as_json:
        files = {each.name: each.sha256 for each in named.entries}
        give({"digest": named.digest, "place": found.place, "files": files})
        return
    sys.stdout.write(raw.decode("ascii"))
    print(f"digest {named.digest}", file=sys.stderr)


def the_set(home: Home, name: str, pin: str = "") -> store.Stored:
    """The one set of a model here, or the one with this digest.

    Raises:
        BadInput: there is none, or more than one.
    """
    wanted = pin_of(pin) if pin else ""
    found = [each for each in store.stored(home) if each.model == name]
    found = [each for each in found if wanted in ("", each.digest)]
    if len(found) != 1:
        raise BadInput(
            f"there are {len(found)} such sets of {name[:80]} here",
            accepted="the id of a model with a set, and --digest where there are more",
            next_step="sovereign weights list",
        )
    return found[0]
