"""A mixture of experts: how many of them a batch touches, and what that does to memory and speed.

Each token is sent to k of E experts. Over b tokens, when all experts are equally likely, the
number of different experts touched is on average E x (1 - (1 - k/E)^b): k for one token, nearly
all of them for some tens. So memory must hold every expert, always, while the bytes read for a
step grow with the batch from those of the small model to those of the big one.

Real routers are not even: some experts are asked for more often, so a batch touches fewer than
this. The formula is the upper end.
"""

from dataclasses import dataclass

from sovereign.policy.shapes import Architecture
from sovereign.sizing.formats import Format
from sovereign.sizing.memory import Layout, share
from sovereign.sizing.parameters import Kind, Part, parts

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def touched(a: Architecture, tokens: int) -> float:
    """Different routed experts of one layer that `tokens` tokens use, on average; 0 if none."""
    if not a.experts:
        return 0.0
    if a.experts_per_token >= a.experts:
        return float(a.experts)
    missed = (1 - a.experts_per_token / a.experts) ** tokens
    return a.experts * (1 - missed)


def bytes_read(a: Architecture, fmt: Format, tokens: int, layout: Layout | None = None) -> float:
    """Bytes of weights one GPU of each group reads for a step over `tokens` tokens, all layers.

    Of the embedding only the rows of the tokens are read, of experts those touched, and of a
    vision tower nothing: the step is one of text.
    """
    return sum(_read(a, fmt, part, tokens, layout or Layout()) for part in parts(a))


def _read(a: Architecture, fmt: Format, part: Part, tokens: int, layout: Layout) -> float:
    if part.kind is Kind.VISION:
        return 0.0
    size = part.total * fmt.bits_of(a, part.kind) / 8 * share(a, part, layout)
    if part.kind is Kind.EMBEDDING and not a.tied_embeddings:
        return size * min(1.0, tokens / a.vocabulary)
    if part.name == "routed experts":
        return size * touched(a, tokens) / a.experts
    return size


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the picture: a batch, what it touches and what is read for it."""

    batch: int
    experts: float
    bytes_step: float

    @property
    def bytes_token(self) -> float:
        return self.bytes_step / self.batch


def picture(a: Architecture, fmt: Format) -> tuple[Step, ...]:
    """Return a row for each of `BATCHES`."""
    return tuple(Step(b, touched(a, b), bytes_read(a, fmt, b)) for b in BATCHES)
