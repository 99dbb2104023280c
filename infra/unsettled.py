"""What a cloud was asked to make and nobody knows whether it did: found, or known to be absent.

A run that is cut off leaves its open wishes in the engine's state (`pending_operations`). A run
whose cloud answered with an error leaves none, and yet the thing may stand: the answer was lost
on the way. Both are kept here until somebody has looked into the account. Nothing else is made
before, since a wish that is simply repeated makes a second machine that costs money and that no
state knows.

Who looks: in the simulated account we read its books. In a real one the operator does, by the
tag `sovereign-site:STACK`, and tells (`--found URN=ID`, `--absent URN`): not every cloud can be
asked for everything with a tag, and what we cannot see is not absent.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.engine import Announced
from infra.guard.types import PROVIDER

KEPT = "unsettled.json"
CREATING = "creating"


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that was asked for, with all that the state needs to take it in."""

    urn: str
    type: str
    inputs: Mapping[str, Any]
    parent: str = ""
    provider: str = ""
    protect: bool = False
    id: str = ""

    def standing(self, own: str) -> dict[str, Any]:
        """As the engine writes what stands under the id `own`; a refresh completes it."""
        known = {name: value for name, value in asdict(self).items() if value}
        return {**known, "custom": True, "id": own, "outputs": dict(self.inputs)}


@dataclass(frozen=True, slots=True)
class Answers:
    """The ids of what was found, by URN, and the wishes that nobody could look for."""

    found: Mapping[str, str]
    open: tuple[Wish, ...]


Look = Callable[[Wish], "str | bool | None"]
"""The id of what stands, None when there is nothing, False when it could not be looked at."""


def wishes(state: Mapping[str, Any], kept: Iterable[Wish]) -> tuple[Wish, ...]:
    """Return every wish that is open, by URN; what stands in the state is not one."""
    standing = {each["urn"] for each in state.get("resources") or () if each.get("id")}
    pending = [
        _of_state(each["resource"])
        for each in state.get("pending_operations") or ()
        if each.get("type") == CREATING and not each["resource"]["type"].startswith(PROVIDER)
    ]
    known = {wish.urn: wish for wish in (*kept, *pending) if wish.urn not in standing}
    return tuple(known[urn] for urn in sorted(known))


def answered(open_: Iterable[Wish], look: Look) -> Answers:
    """Look for each."""
    found: dict[str, str] = {}
    unseen = []
    for wish in open_:
        own = wish.id or look(wish)
        if isinstance(own, str):
            found[wish.urn] = own
        elif own is False:
            unseen.append(wish)
    return Answers(found, tuple(unseen))


def with_found(
    state: Mapping[str, Any], open_: Iterable[Wish], found: Mapping[str, str]
) -> dict[str, Any]:
    """The state with what was found, last: what needs it cannot have been made yet."""
    added = [wish.standing(found[wish.urn]) for wish in open_ if wish.urn in found]
    return {**state, "resources": [*(state.get("resources") or ()), *added]}


def of_failed(failed: Iterable[Announced]) -> tuple[Wish, ...]:
    """The creations that gave an error: each may have been made all the same."""
    return tuple(
        Wish(step.urn, step.kind, step.inputs, step.parent, step.provider, step.protected)
        for step in failed
        if step.operation in ("create", "create-replacement")
    )


def keep(folder: Path, open_: Iterable[Wish]) -> None:
    """Remember wishes for the next run; none removes the file."""
    path, written = folder / KEPT, [asdict(wish) for wish in open_]
    if not written:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(written))
    fresh.replace(path)


def kept(folder: Path) -> tuple[Wish, ...]:
    """What an earlier run remembered."""
    path = folder / KEPT
    return tuple(Wish(**each) for each in json.loads(path.read_text())) if path.exists() else ()


def in_books(books: Path) -> Look:
    """Look into the simulated account, where everything is on the books."""

    def look(wish: Wish) -> str | None:
        standing = json.loads(books.read_text()) if books.exists() else {}
        return next((own for own, entry in standing.items() if entry["urn"] == wish.urn), None)

    return look


def as_told(found: Mapping[str, str], absent: Iterable[str]) -> Look:
    """What the operator says after looking into the account."""
    gone = set(absent)

    def look(wish: Wish) -> str | bool | None:
        if wish.urn in found:
            return found[wish.urn]
        return None if wish.urn in gone else False

    return look


def _of_state(resource: Mapping[str, Any]) -> Wish:
    return Wish(
        urn=resource["urn"],
        type=resource["type"],
        inputs=resource.get("inputs") or {},
        parent=resource.get("parent", ""),
        provider=resource.get("provider", ""),
        protect=bool(resource.get("protect")),
        id=resource.get("id", ""),
    )
