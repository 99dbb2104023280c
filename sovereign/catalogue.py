"""Find a model among those the policy knows, and say how things stand with it on a day.

Two kinds of entries answer to names: models whose weights can be had (`Model`) and those that
only Mistral serves (`Hosted`). Pure: the policy and a date go in. What may serve here is decided
elsewhere (rules/licences.yaml, the gateway); this module finds, filters and says how sure a
figure is.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sovereign.errors import UnknownName
from sovereign.policy import Policy
from sovereign.policy.shapes import Confidence, Hosted, LicenceText, Model

Entry = Model | Hosted
State = Literal["current", "preview", "deprecated", "retired", "fixture"]
STATES: tuple[State, ...] = ("current", "preview", "deprecated", "retired", "fixture")
TERMS = ("open", "modified", "research", "non-production", "none")
"""Licence terms one can ask for; `none`: there are no weights to license."""
_PREFIX = "mistralai/"
_SUGGESTED = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to. Empty fields narrow nothing; all others must hold."""

    family: str = ""
    able: tuple[str, ...] = ()
    terms: str = ""
    state: str = ""
    weights: bool | None = None


def entries(policy: Policy) -> tuple[Entry, ...]:
    """Every model, those with weights first, each kind in the order of the file."""
    return (*policy.models.values(), *policy.catalogue.hosted.values())


def find(policy: Policy, name: str) -> Entry:
    """Return the entry called `name`: id, alias, short name, repository or Ollama tag.

    Case does not count, nor does `mistralai/` in front.

    Raises:
        UnknownName: none is called so; the message names the nearest.
    """
    wanted = name.strip().lower()
    known: dict[str, Entry] = {}
    for entry in entries(policy):
        for said in _names(entry):
            known.setdefault(said.lower(), entry)
    found = known.get(wanted) or known.get(wanted.removeprefix(_PREFIX))
    if found is None:
        near = difflib.get_close_matches(wanted, known, _SUGGESTED, cutoff=0.5)
        raise UnknownName(
            f"no model is called {name[:80]!r}",
            found=f"perhaps {', '.join(near)}" if near else "",
            accepted="an id, alias or short name of the catalogue",
            next_step="sovereign models list",
        )
    return found


def with_weights(policy: Policy, name: str) -> Model:
    """As `find`, for what needs weights.

    Raises:
        UnknownName: no such model, or one whose weights nobody published.
    """
    entry = find(policy, name)
    if isinstance(entry, Model):
        return entry
    kin = [model.id for model in policy.models.values() if model.family == entry.family]
    raise UnknownName(
        f"the weights of {entry.id} were never published",
        found="served by Mistral's own interface only",
        accepted=", ".join(kin) or "a model with weights",
        next_step="sovereign models list --weights",
    )


def select(policy: Policy, wanted: Wanted, today: date) -> tuple[Entry, ...]:
    """Return the entries that `wanted` narrows to.

    Raises:
        UnknownName: a family, ability, licence or state that no entry could have.
    """
    every = entries(policy)
    _refuse_unknown("family", wanted.family, {e.family for e in every})
    for ability in wanted.able:
        _refuse_unknown("ability", ability, {a for e in every for a in abilities(e)})
    _refuse_unknown("licence", wanted.terms, TERMS)
    _refuse_unknown("state", wanted.state, STATES)
    return tuple(entry for entry in every if _is(entry, wanted, today))


def abilities(entry: Entry) -> frozenset[str]:
    """What it can do: what the gateway relies on, and what its maker says beyond that."""
    relied = entry.capabilities if isinstance(entry, Model) else ()
    return frozenset((*relied, *entry.advertised))


def terms(entry: Entry) -> str:
    """The kind of its licence; `none` where there are no weights."""
    return entry.licence_terms if isinstance(entry, Model) else "none"


def state(entry: Entry, today: date) -> State:
    """How its maker stands to it on a day: by its dates, and by its status where it has none."""
    life = entry.lifecycle
    if entry.status == "fixture":
        return "fixture"
    if life.retired_on is not None:
        if life.retired_on <= today:
            return "retired"
        announced = life.deprecated_on is None or life.deprecated_on <= today
        return "deprecated" if announced else "current"
    if entry.status == "retired-upstream":
        return "retired"
    return "preview" if entry.status == "preview" else "current"


def sureness(entry: Entry, figure: str) -> Confidence:
    """How sure one figure is: its own mark, or that of the entry."""
    own = entry.figures.get(figure)
    return own.confidence if own else entry.confidence


def doubt(entry: Entry, figure: str) -> str:
    """What stands in the way of being sure of a figure; "" when nothing is written."""
    own = entry.figures.get(figure)
    return own.note if own else ""


def licence(policy: Policy, model: Model) -> LicenceText:
    """What its licence says. The loader has made sure that the text is there."""
    return policy.catalogue.licences[model.licence]


def replacement(policy: Policy, entry: Entry) -> Entry | None:
    """What its maker names instead; None where it names nothing."""
    return find(policy, entry.lifecycle.replacement) if entry.lifecycle.replacement else None


def _names(entry: Entry) -> Iterable[str]:
    """Ids first: where two entries share a tag elsewhere, the later one does not hide the first."""
    yield from (entry.id, *entry.aliases)
    if isinstance(entry, Model):
        yield from entry.short
        yield from (name for name in (entry.sources.repository, entry.sources.ollama) if name)


def _is(entry: Entry, wanted: Wanted, today: date) -> bool:
    return (
        wanted.family in ("", entry.family)
        and set(wanted.able) <= abilities(entry)
        and wanted.terms in ("", terms(entry))
        and wanted.state in ("", state(entry, today))
        and wanted.weights in (None, isinstance(entry, Model))
    )


def _refuse_unknown(what: str, given: str, known: Iterable[str]) -> None:
    if given and given not in known:
        raise UnknownName(f"{given[:80]!r} is no {what}", accepted=", ".join(sorted(known)))
