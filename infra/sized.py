"""How a model lies on the GPUs of a machine, as `sovereign.sizing` computes it, on one line.

Pure. What a plan may buy is decided by the memory that is published (`resolve.fits`); this says
what the engine will do with it, and refuses nothing.
"""

from dataclasses import dataclass

from infra.shapes import Site
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import Policy
from sovereign.sizing import GIB
from sovereign.sizing.answer import Wish, asked_of, subject_of
from sovereign.sizing.cards import card_of
from sovereign.sizing.fit import best

_FORMATS = {"fp4": "nvfp4"}
"""Precisions of a stack whose format is called otherwise."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A layout on one machine. Memory is that of the fullest GPU, in GiB, likely and usable.

    `context` is in tokens, for one conversation.
    """

    layout: str
    needed_gib: float
    usable_gib: float
    fits: bool
    context: int
    context_max: int

    def __str__(self) -> str:
        word = "fits" if self.fits else "does not fit"
        return (
            f"{self.layout}: {self.needed_gib:.0f} of {self.usable_gib:.0f} GiB a GPU at "
            f"{self.context} tokens, which {word}; at most {self.context_max} tokens"
        )


def sized(policy: Policy, site: Site, precision: str) -> Sized | None:
    """Lay the site's model over one of its machines; None when sizing cannot tell.

    It cannot for a machine whose cards are in no table, for a model without an architecture, or
    for an engine that chooses its own format.
    """
    if site.offer is None or site.engine != "vllm":
        return None
    try:
        card = card_of(policy.gpus, site.offer.gpu)
        subject = subject_of(policy, policy.models[site.model], None, site.model)
        asked = asked_of(subject, Wish(dtype=_FORMATS.get(precision, precision)))
    except (UnknownName, BadInput, KeyError):
        return None
    found = best(asked, card, site.offer.gpus)
    if found is None:
        return None
    return Sized(
        layout=str(found.layout),
        needed_gib=found.sum.likely / GIB,
        usable_gib=found.budget / GIB,
        fits=found.fits,
        context=asked.load.context,
        context_max=found.context_max,
    )
