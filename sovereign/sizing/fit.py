"""Whether a model fits given GPUs, laid out how, and how much context and load fit beside it.

A machine holds a model when the likely sum on its fullest GPU is within the share of memory an
engine may use. `Fit.sure` asks more: that the high end of the range is. Between the two it may
work, and may end in the engine's out-of-memory error.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sovereign.policy.shapes import Architecture, Gpu
from sovereign.sizing.formats import Format
from sovereign.sizing.memory import Layout, Load, Term, on_fullest_gpu, total

MIB = 1024**2
UTILISATION = 0.9
"""The share of a GPU an engine takes by default (vLLM: --gpu-memory-utilization)."""
GPUS_MAX = 64
CONCURRENCY_MAX = 65_536
COUNTS = (1, 2, 4, 8, 16)
"""Numbers of GPUs that machines come with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: this architecture, in these formats, under this load."""

    architecture: Architecture
    fmt: Format
    kv_id: str
    load: Load
    context_published: int
    utilisation: float = UTILISATION


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer for one card and one layout. Bytes are those of the fullest GPU."""

    asked: Asked
    card: Gpu
    layout: Layout
    terms: tuple[Term, ...]
    sum: Term
    budget: float

    @property
    def fits(self) -> bool:
        return self.sum.likely <= self.budget

    @property
    def sure(self) -> bool:
        return self.sum.high <= self.budget

    @property
    def context_max(self) -> int:
        """The longest context at the load's concurrency; 0 when not even one token fits."""
        load, most = self.asked.load, self.asked.context_published
        return _largest(lambda n: self._holds(replace(load, context=n)), most)

    @property
    def concurrency_max(self) -> int:
        """The most conversations at the load's context; 0 when not even one fits."""
        load = self.asked.load
        return _largest(lambda n: self._holds(replace(load, concurrency=n)), CONCURRENCY_MAX)

    def _holds(self, load: Load) -> bool:
        return total(_terms(self.asked, load, self.layout)).likely <= self.budget


def layouts(a: Architecture, fmt: Format, gpus: int) -> tuple[Layout, ...]:
    """Every way to lay the model over exactly `gpus` GPUs that engines accept, tensor first.

    Tensor parallel must divide the heads, and divide or be a multiple of the key and value heads.
    llama.cpp lays whole layers one GPU after the other.
    """
    if fmt.engine == "llama.cpp":
        return (Layout(1, gpus),) if gpus <= a.layers else ()
    found = []
    for tp in sorted((n for n in range(1, gpus + 1) if gpus % n == 0), reverse=True):
        if _divides(a, tp) and gpus // tp <= a.layers:
            found.append(Layout(tp, gpus // tp))
            if a.experts and tp > 1:
                found.append(Layout(tp, gpus // tp, expert_parallel=True))
    return tuple(found)


def _divides(a: Architecture, tp: int) -> bool:
    if a.heads % tp or a.hidden % tp:
        return False
    if a.kv_lora_rank or not a.kv_heads:
        return True
    return a.kv_heads % tp == 0 or tp % a.kv_heads == 0


def fit(asked: Asked, card: Gpu, layout: Layout) -> Fit:
    """Return what the fullest GPU of `layout` holds."""
    terms = _terms(asked, asked.load, layout)
    budget = card.memory_mib * MIB * asked.utilisation
    return Fit(asked, card, layout, terms, total(terms), budget)


def best(asked: Asked, card: Gpu, gpus: int) -> Fit | None:
    """The layout to take: the first that fits, else the one that comes closest.

    None when no engine accepts any layout over that many GPUs.
    """
    every = [fit(asked, card, layout) for layout in layouts(asked.architecture, asked.fmt, gpus)]
    fitting = [each for each in every if each.fits]
    return fitting[0] if fitting else min(every, key=lambda each: each.sum.likely, default=None)


def smallest(asked: Asked, cards: Iterable[Gpu]) -> tuple[Fit, ...]:
    """For each card the fewest GPUs of `COUNTS` that hold the model; cards that never do, not."""
    found = []
    for card in cards:
        for gpus in COUNTS:
            each = best(asked, card, gpus)
            if each is not None and each.fits:
                found.append(each)
                break
    return tuple(found)


def _terms(asked: Asked, load: Load, layout: Layout) -> tuple[Term, ...]:
    return on_fullest_gpu(asked.architecture, asked.fmt, load, asked.kv_id, layout)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest n up to `most` that holds, 0 when not even 1 does. `holds` falls once."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
