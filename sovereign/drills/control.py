"""The drill's own control: a canary in a file in every spelling, which the search must find.

A search that is broken finds nothing, and so does one of a clean site. Only what was planted
tells the two apart. The files lie in a folder that is searched like all others, and go at the end.
"""

import gzip
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

from sovereign.drills.places import Finding, Looked
from sovereign.drills.words import Canaries, spellings

FIELD, OUTCOME = "control", "planted"
WRITTEN = "what the model wrote"
"""The field of a find that a model's own words led to."""
FOLDER = "control"
PADDING_BYTES = 3000


def plant(folder: Path, canaries: Canaries) -> set[str]:
    """Plant a canary in each spelling, packed, in a database's free page and in a name; return
    the spellings in which it must be found."""
    word = canaries.word(FIELD)
    canaries.go(OUTCOME)
    padding = b"\0" * PADDING_BYTES
    for number, data in enumerate(spellings(word).values()):
        (folder / f"spelled-{number}").write_bytes(padding + data + padding)
    raw = padding + word.encode() + padding
    (folder / "packed.gz").write_bytes(padding + gzip.compress(raw))
    (folder / "packed.z").write_bytes(padding + zlib.compress(raw))
    (folder / f"named-{word}").touch()
    _plant_in_a_free_page(folder / "planted.sqlite", word)
    return {*spellings(word), "packed, text"}


def _plant_in_a_free_page(path: Path, word: str) -> None:
    """A row that was deleted: its bytes stay until something else needs the page."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE kept (word TEXT)")
        db.execute("INSERT INTO kept VALUES (?)", (word,))
        db.commit()
        db.execute("DELETE FROM kept")
        db.commit()


def judge(looked: list[Looked], folder: Path, wanted: set[str], home: Path) -> list[str]:
    """Take the control out of the findings; return what of it was not found."""
    inside = str(folder.relative_to(home) if folder.is_relative_to(home) else folder)
    found: set[str] = set()
    places: set[str] = set()
    for sink in looked:
        mine = {each for each in sink.findings if _is_control(each, inside)}
        found |= {each.find.spelling for each in mine}
        places |= {each.where.removeprefix(f"{inside}/") for each in mine}
        sink.findings -= mine
    lost = [f"the control was not found as {name}" for name in sorted(wanted - found)]
    kinds = {"packed.gz", "packed.z", "planted.sqlite", "the name of a file"}
    return lost + [f"the control was not found in {each}" for each in sorted(kinds - places)]


def _is_control(each: Finding, inside: str) -> bool:
    """In its own folder, and its own canary; one of both alone is a finding."""
    here = each.where.startswith(f"{inside}/") or each.where == "the name of a file"
    mine = each.find.field == FIELD and each.find.outcome == OUTCOME
    piece = each.find.field in ("a piece of one", WRITTEN)  # a model may repeat how canaries begin
    return here and (mine or (piece and each.where != "the name of a file"))
