"""`sovereign weights …`: bring weights in under a pinned digest, list them, verify them."""

import re
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign import catalogue
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.engines.digest import manifest, model_digest
from sovereign.errors import BadInput, Refused, WeightsDiffer
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail
from sovereign.weights import fetch as fetching
from sovereign.weights import prune as pruning
from sovereign.weights import store
from sovereign.weights.bringing import AT_ONCE, Pace
from sovereign.weights.choosing import source_of
from sovereign.weights.manifest import Manifest

SHA256 = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
app = typer.Typer(help="Bring weights in, list them, verify them.", no_args_is_help=True)
PROGRESS_EVERY_S = 2.0
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; do nothing.")]


@app.command()
def digest(
    path: Annotated[Path, typer.Argument(help="A GGUF file, or a folder of safetensors.")],
    must_be: Annotated[
        str, typer.Option(help="The digest they must have: exit 1 when they differ.")
    ] = "",
    as_manifest: Annotated[
        bool, typer.Option("--manifest", help="The manifest of a folder itself, as sha256sum says.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """The digest that `engine.weights_digest` pins: of a file, or of a folder's manifest."""
    if not path.exists():
        raise BadInput(f"there are no weights at {path}", accepted="a file or a folder")
    wanted = pin_of(must_be) if must_be else ""
    if as_manifest:
        sys.stdout.write(manifest(path))
        return
    found = model_digest(path)
    if must_be and found != wanted:
        raise WeightsDiffer(f"the weights at {path} differ", found=found, accepted=wanted)
    if as_json:
        give({"path": str(path), "digest": found})
    else:
        say(found)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Id, alias or short name of a model.")],
    source: Annotated[
        str,
        typer.Option("--from", help="Folder, bundle, URL of a mirror, bucket, hub or registry."),
    ],
    pin: Annotated[
        str, typer.Option("--digest", help="The digest of the set, from who compared it.")
    ],
    at_once: Annotated[
        int, typer.Option("--parallel", help="So many files at once.", min=1, max=32)
    ] = AT_ONCE,
    limit: Annotated[
        float, typer.Option("--limit-mb", help="At most so many MB a second; 0: no limit.", min=0)
    ] = 0,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring in a set of weights: every file as pinned, nothing that runs; recorded.

    What was interrupted goes on where it was. A mirror is declared in the settings (`dependencies`,
    kind `mirror`, with `listener` and `place`), and so is each address it redirects to:
    https://mirror.example/FOLDER, s3+https://mirror.example/BUCKET/PREFIX (both with their
    manifest beside them, as FOLDER.sha256), hub+https://mirror.example/OWNER/NAME@COMMIT,
    oci+https://mirror.example/NAME:TAG.
    """
    where, now = deployed(home), utcnow()
    policy = policy_of(where)
    model = catalogue.with_weights(policy, name)
    wish = fetching.Wish(model, source_of(where, policy, source, now), pin_of(pin))
    named = fetching.read(where, policy, wish, now)
    if dry_run:
        size = fetching.size(wish.source, named)
        _tell(
            {**_said(model.id, named), "bytes": size, "record": None, "path": ""}, as_json=as_json
        )
        return
    opening = partial(operator_trail, where, ("evidence",))
    pace, told = Pace(at_once, limit * 1e6), Progress()
    done = fetching.fetch(where, policy, wish, named, opening=opening, told=told, pace=pace)
    weights = done.path / named.only_gguf.name if named.only_gguf else done.path
    said = {
        **_said(model.id, named),
        "record": done.record.name if done.record else None,
        "path": str(weights),
        "weights_digest": f"{SHA256}{named.only_gguf.sha256}" if named.only_gguf else named.digest,
    }
    _tell(said, as_json=as_json)


@app.command()
def verify(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Hash every set that was brought in again: exit 1 when one is not what it was."""
    rows = [_verified(each) for each in store.stored(home_of(home))]
    if as_json:
        give({"sets": rows})
    else:
        table(("model", "digest", "says"), [[r["model"], r["digest"], r["says"]] for r in rows])
    raise typer.Exit(0 if all(row["verdict"] == "pass" for row in rows) else 1)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every set that was brought in, and which of them the engine is told to serve."""
    where = home_of(home)
    rows = [_listed(where, each) for each in store.stored(where)]
    if as_json:
        give({"sets": rows})
        return
    table(
        ("model", "serves", "GB", "path"),
        [[r["model"], r["serves"], r["gb"], r["path"]] for r in rows],
    )


@app.command()
def prune(
    kept_days: Annotated[int, typer.Option(help="Keep what came in since.", min=0)] = 30,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove the sets that no setting names and no process has open; each is recorded first."""
    where = deployed(home)
    policy = policy_of(where)
    found = pruning.unused(where, timedelta(days=kept_days), utcnow())
    rows: list[dict[str, Any]]
    if not dry_run:
        pruning.clear(where)
    if dry_run or not found:
        rows = [{**_named(each), "bytes": each.bytes, "record": None} for each in found]
    else:
        rows = [_removed(where, policy, each) for each in found]
    if as_json:
        give({"dry_run": dry_run, "sets": rows})
        return
    taken = sum(row["bytes"] for row in rows)
    say(f"{'would remove' if dry_run else 'removed'} {len(rows)} sets, {taken / 1e9:.1f} GB")
    for row in rows:
        say(f"  {row['path']}  {row['record'] or ''}".rstrip())


class Progress:
    """A line on standard error, now and then; what is quick says nothing. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, tuple[int, int | None]] = {}
        self._at, self._had = time.monotonic(), 0

    def __call__(self, name: str, here: int, size: int | None) -> None:
        with self._lock:
            self._files[name] = (here, size)
            took = time.monotonic() - self._at
            if took < PROGRESS_EVERY_S:
                return
            have = sum(each for each, _ in self._files.values())
            sizes = [each for _, each in self._files.values() if each is not None]
            of = f" of {sum(sizes) / 1e6:.0f}" if len(sizes) == len(self._files) else ""
            pace = max(0, have - self._had) / took / 1e6
            self._at, self._had = time.monotonic(), have
        files = f"{len(self._files)} files begun" if len(self._files) > 1 else name
        print(f"{files}  {have / 1e6:.0f}{of} MB  {pace:.1f} MB/s", file=sys.stderr)


def pin_of(given: str) -> str:
    wanted = given.lower() if given.lower().startswith(SHA256) else f"{SHA256}{given.lower()}"
    if not _DIGEST.fullmatch(wanted):
        raise BadInput(
            f"{given[:80]!r} is no digest", accepted=f"{SHA256} and 64 hexadecimal digits"
        )
    return wanted


def _said(model: str, named: Manifest) -> dict[str, Any]:
    return {"model": model, "digest": named.digest, "files": len(named.entries)}


def _tell(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        give({**said, "dry_run": not said["path"]})
        return
    shown = {key: value for key, value in said.items() if value not in (None, "")}
    facts({**shown, "record": said["record"] or "none"})
    if said["path"]:
        say(f"next: make deploy MODEL={said['model']} WEIGHTS={said['path']}")


def _removed(home: Home, policy: Policy, each: store.Stored) -> dict[str, Any]:
    size = each.bytes
    name = pruning.remove(home, policy, each, partial(operator_trail, home, ("evidence",)))
    return {**_named(each), "bytes": size, "record": name}


def _verified(each: store.Stored) -> dict[str, str]:
    try:
        store.verify(each)
    except Refused as error:
        return {**_named(each), "verdict": error.code, "says": str(error)}
    return {**_named(each), "verdict": "pass", "says": "as it was published"}


def _listed(home: Home, each: store.Stored) -> dict[str, Any]:
    chosen = home.settings.engine.weights
    serves = bool(chosen) and Path(chosen).is_relative_to(each.path)
    size = each.bytes
    return {**_named(each), "serves": serves, "bytes": size, "gb": round(size / 1e9, 1)}


def _named(each: store.Stored) -> dict[str, str]:
    return {"model": each.model, "digest": each.digest, "path": str(each.path)}
