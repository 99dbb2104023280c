"""Find a GPU by the name people use for it."""

from collections.abc import Mapping
from types import MappingProxyType

from sovereign.errors import UnknownName
from sovereign.policy.shapes import Gpu, GpusFile


def cards(file: GpusFile) -> Mapping[str, Gpu]:
    """Every card by its id."""
    return MappingProxyType({card.id: card for card in file.gpus})


def card_of(file: GpusFile, name: str) -> Gpu:
    """Return the card called `name`: id, alias or full name, in any case.

    Raises:
        UnknownName: no such card; the message lists the ids.
    """
    wanted = name.strip().lower()
    for card in file.gpus:
        if wanted in (card.id, *card.aliases, card.name.lower()):
            return card
    raise UnknownName(
        f"no GPU is called {name[:80]!r}",
        accepted=", ".join(card.id for card in file.gpus),
    )
