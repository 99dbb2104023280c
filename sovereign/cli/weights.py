"""`sovereign weights …`: what the weights on this machine are."""

import re
from pathlib import Path
from typing import Annotated

import typer

from sovereign.cli.output import JsonFlag, give, say
from sovereign.engines.digest import model_digest
from sovereign.errors import BadInput, WeightsDiffer

SHA256 = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
app = typer.Typer(help="What the weights on this machine are.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def digest(
    path: Annotated[Path, typer.Argument(help="A GGUF file, or a folder of safetensors.")],
    must_be: Annotated[
        str, typer.Option(help="The digest they must have: exit 1 when they differ.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """The digest that `engine.weights_digest` pins: of a file, or of a folder's manifest."""
    if not path.exists():
        raise BadInput(f"there are no weights at {path}", accepted="a file or a folder")
    wanted = must_be.lower() if must_be.lower().startswith(SHA256) else f"{SHA256}{must_be.lower()}"
    if must_be and not _DIGEST.fullmatch(wanted):
        raise BadInput(f"{must_be!r} is no digest", accepted=f"{SHA256} and 64 hexadecimal digits")
    found = model_digest(path)
    if must_be and found != wanted:
        raise WeightsDiffer(f"the weights at {path} differ", found=found, accepted=wanted)
    if as_json:
        give({"path": str(path), "digest": found})
    else:
        say(found)
