"""Show a result: a table for a person, JSON for a program, the same facts in both."""

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sovereign import policy as policies
from sovereign import settings
from sovereign.errors import BadInput, SovereignError, StateUnreadable
from sovereign.policy import Policy
from sovereign.settings import Home

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="SOVEREIGN_HOME", help="State folder of this site."),
]


UNDETERMINED, BROKEN = 3, 70
LAST_COLUMN_MIN = 20
WIDTH = 80
"""Columns of a terminal that everybody has."""
_NAME = 14
"""Columns before the value of a fact."""


def home_of(root: Path | None) -> Home:
    """The home a command works on."""
    return settings.load(root)


def policy_of(home: Home, profile: str | None = None, root: Path | None = None) -> Policy:
    """The policy of a home, with the places it declares itself."""
    chosen, profile = root or home.policies, profile or home.settings.profile
    return policies.load(chosen, profile, home.own_places, home.exceptions)


def say(text: str) -> None:
    """One line on standard output."""
    print(text)


def give(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns of which only the last is folded: a name that is cut in two cannot be copied.

    Where the others alone are wider than the terminal, it breaks the lines itself.
    """
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        shown.add_column(column, no_wrap=True)
    shown.add_column(columns[-1], overflow="fold")
    cells = [[str(cell) for cell in row] for row in rows]
    for row in cells:
        shown.add_row(*row)
    longest = (max(map(len, column)) for column in zip(columns, *cells, strict=True))
    needed = sum(width + 1 for width in [*longest][:-1]) + LAST_COLUMN_MIN
    console = Console(
        width=None if sys.stdout.isatty() else 160, highlight=False, markup=False, emoji=False
    )
    console.width = max(console.width, needed)
    console.print(shown)


def write_file(path: Path, content: bytes) -> None:
    """Write what a command was asked to write.

    Raises:
        BadInput: it cannot be written there.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written", found=error.strerror or "", accepted="a file in a folder"
        ) from None


def facts(pairs: Mapping[str, object]) -> None:
    """Name and value, a line each."""
    for name, value in pairs.items():
        print(f"  {name:<12}{value}")


def fail(error: SovereignError, *, as_json: bool) -> int:
    """Print an error where its reader looks, and return its exit code."""
    if as_json:
        named = ("message", "rule", "because", "found", "accepted", "next_step", "record")
        parts = {name: getattr(error, name) for name in named if getattr(error, name)}
        give({"error": {"code": error.code, **parts}})
    else:
        print("\n".join(error.lines()), file=sys.stderr)
    return error.exit_code


def folded(pairs: Mapping[str, object]) -> None:
    """As `facts`, with values of a sentence or more in lines that fit `WIDTH`."""
    for name, value in pairs.items():
        first, *rest = _lines(str(value), WIDTH - _NAME)
        print(f"  {name:<12}{first}")
        for line in rest:
            print(" " * _NAME + line)


def say_folded(text: str, indent: str = "") -> None:
    """A sentence or more, in lines that fit `WIDTH`."""
    for line in _lines(text, WIDTH - len(indent)):
        print(indent + line)


def _lines(text: str, width: int) -> list[str]:
    """Lines of whole words: an address or an id that is cut in two cannot be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def misread(cause: BaseException | None) -> None:
    """Say as JSON, too, what the framework has said to a person: a script reads no boxes."""
    words = getattr(cause, "format_message", None)
    if callable(words):
        give({"error": {"code": BadInput.code, "message": str(words())}})


def give_up(error: Exception, exit_code: int, *, as_json: bool) -> int:
    """Print what stopped a command that had no words of its own for it; return `exit_code`.

    A file or folder that could not be read leaves the answer open (3); anything else is a
    fault of this program (70). Neither may look like a finding.
    """
    code = StateUnreadable.code if exit_code == UNDETERMINED else "broken"
    message = f"{type(error).__name__}: {error}"
    if as_json:
        give({"error": {"code": code, "message": message}})
    else:
        print(f"{code}: {message}\n  more     docs/runbooks/{code}.md", file=sys.stderr)
    return exit_code
