"""What a name means: a model's id, or an alias of the site's settings or of the facts.

The facts give an alias of Mistral's interface to the weights it means there. A site may say what
one means here (`aliases` in `sovereign.yaml`), and announce that it will mean something else from a
moment on: until then answers carry it in a header and the model's card shows it. An alias never
hides the id of a model, so an id means the same everywhere. A name without a meaning stays what it
is; that nothing serves it is decided elsewhere.

Pure: every name is put into one table at the start, and judged at the time of the request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from sovereign.errors import SettingsUnreadable
from sovereign.policy.shapes import Model
from sovereign.settings import FILE_NAME, AliasSettings


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a model. With `moves_at`, it is a name for `then` from that moment on."""

    name: str
    model: str
    then: str = ""
    moves_at: datetime | None = None

    def at(self, now: datetime) -> str:
        """The id of the model it stands for at `now`."""
        return self.model if self.moves_at is None or now < self.moves_at else self.then

    def is_to_move(self, now: datetime) -> bool:
        """Whether it will stand for another model than it does at `now`."""
        return self.moves_at is not None and now < self.moves_at

    @property
    def day(self) -> str:
        """When it moves, in UTC; "" when it does not."""
        return "" if self.moves_at is None else _written(self.moves_at)


@dataclass(frozen=True, slots=True)
class Names:
    """Every alias there is, by its name."""

    known: Mapping[str, Alias]

    def meant(self, name: str, now: datetime) -> str:
        """The id that a name stands for; a name that is no alias is returned as it is."""
        alias = self.known.get(name)
        return name if alias is None else alias.at(now)

    def announced(self, name: str, now: datetime) -> str:
        """The move to come of the alias that was asked for, for a header; "" when there is none."""
        alias = self.known.get(name)
        if alias is None or not alias.is_to_move(now):
            return ""
        return f"{alias.name}={alias.then} at {alias.day}"

    def of(self, model: str, now: datetime) -> list[Alias]:
        """The aliases that stand for this model at `now`, by name."""
        found = [alias for alias in self.known.values() if alias.at(now) == model]
        return sorted(found, key=lambda alias: alias.name)


def names(models: Mapping[str, Model], own: Iterable[AliasSettings]) -> Names:
    """Put the site's own aliases before those of the facts.

    Raises:
        SettingsUnreadable: an alias is for a model that no fact describes, stands there twice, or
            is the id of a model.
    """
    known = {name: Alias(name, model.id) for model in models.values() for name in model.aliases}
    seen: set[str] = set()
    for alias in own:
        _refuse(alias, models, seen)
        seen.add(alias.name)
        known[alias.name] = Alias(alias.name, alias.model, alias.next, alias.from_)
    return Names(MappingProxyType(known))


def _refuse(alias: AliasSettings, models: Mapping[str, Model], seen: set[str]) -> None:
    what = f"{FILE_NAME}: the alias {alias.name!r}"
    if alias.name in models:
        raise SettingsUnreadable(
            f"{what} would hide a model", found="the id of a model", accepted="another name"
        )
    if alias.name in seen:
        raise SettingsUnreadable(f"{what} stands twice", accepted="one entry each")
    for target in (alias.model, alias.next):
        if target and target not in models:
            raise SettingsUnreadable(
                f"{what} stands for what is no model",
                found=repr(target),
                accepted="an id of facts/models.yaml",
                next_step="sovereign models list",
            )


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
