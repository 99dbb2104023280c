"""One whole answer about a model: what it takes, on which GPUs, how fast, on which machines.

It joins the parts of this room for `sovereign size`. Pure: what files say was read before, the
places that the policy allows and the day are handed in.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from sovereign import catalogue
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture, Gpu, Model
from sovereign.sizing.cards import cards
from sovereign.sizing.fit import UTILISATION, Asked, Fit, best, fit, layouts, smallest
from sovereign.sizing.formats import Format, kv_format, weight_format
from sovereign.sizing.found import Disagreement, Found, believed, disagreements, own_format
from sovereign.sizing.machines import Machine, allowed_shapes, machines
from sovereign.sizing.memory import Layout, Load, Term, on_fullest_gpu
from sovereign.sizing.speed import Speed, speed

CONTEXT_DEFAULT = 8192
CONTEXT_UNKNOWN = 1_048_576
"""Taken where neither table nor files state how long a context may be."""
PROMPT_DEFAULT = 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """What is sized, and where it is known from. `model` is None for weights no table knows."""

    name: str
    architecture: Architecture
    context: int
    model: Model | None
    found: Found | None
    differ: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the asker fixed; None and empty leave the choice to us."""

    dtype: str = ""
    kv_dtype: str = "auto"
    context: int | None = None
    concurrency: int = 1
    batch_tokens: int = 8192
    utilisation: float = UTILISATION
    prompt_tokens: int | None = None
    tensor_parallel: int | None = None
    expert_parallel: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything one question gives; `fit` and `speed` are None when no GPU was named."""

    subject: Subject
    asked: Asked
    prompt_tokens: int
    alone: tuple[Term, ...]
    fit: Fit | None
    others: tuple[Fit, ...]
    speed: Speed | None
    smallest: tuple[Fit, ...]
    machines: tuple[Machine, ...]
    warnings: tuple[str, ...]


def subject_of(policy: Policy, model: Model | None, found: Found | None, name: str) -> Subject:
    """The table's row, the files' word, or both; where they disagree the files are believed.

    Raises:
        BadInput: the files state too little, or what no network can be.
    """
    table = policy.catalogue.architectures[model.architecture] if model else None
    published = model.context if model else 0
    architecture = believed(found, table) if found else table
    assert architecture is not None, "a model has an architecture, and weights were read"
    differ = disagreements(table or architecture, found, published) if found else ()
    known = [n for n in (published, found.context if found else None) if n]
    context = min(known) if known else CONTEXT_UNKNOWN
    return Subject(model.id if model else name, architecture, context, model, found, differ)


def asked_of(subject: Subject, wish: Wish) -> Asked:
    """The question in full, with what was left open filled in.

    Raises:
        BadInput: a context longer than the model's.
        UnknownName: a number format that is none.
    """
    if wish.context is not None and wish.context > subject.context:
        raise BadInput(
            f"{wish.context} tokens are more than {subject.name} was made for",
            accepted=f"--context 1 to {subject.context}",
        )
    fmt = _format(subject, wish.dtype)
    context = wish.context or min(CONTEXT_DEFAULT, subject.context)
    return Asked(
        subject.architecture,
        fmt,
        kv_format(wish.kv_dtype, fmt),
        Load(context, wish.concurrency, wish.batch_tokens),
        subject.context,
        wish.utilisation,
    )


def _format(subject: Subject, dtype: str) -> Format:
    if dtype:
        return weight_format(dtype)
    own = own_format(subject.found, subject.architecture) if subject.found else None
    if own is not None:
        return own
    return weight_format(subject.model.published_as if subject.model else "bf16")


def answer_of(
    policy: Policy,
    subject: Subject,
    wish: Wish,
    card: Gpu | None,
    gpus: int,
    places: Collection[str],
    today: date,
) -> Answer:
    """Return the answer for `gpus` x `card`, or without a card the fewest of each that hold it.

    Args:
        places: codes of the places where a machine may stand.

    Raises:
        BadInput: no engine accepts such a layout, or as in `asked_of`.
    """
    asked = asked_of(subject, wish)
    chosen = _chosen(asked, card, gpus, wish) if card else None
    tokens = min(wish.prompt_tokens or PROMPT_DEFAULT, subject.context)
    every = layouts(asked.architecture, asked.fmt, gpus) if card else ()
    usable = [each for each in policy.gpus.gpus if each.generation != "volta"]
    shapes = allowed_shapes(policy.gpus.shapes, places)
    return Answer(
        subject=subject,
        asked=asked,
        prompt_tokens=tokens,
        alone=on_fullest_gpu(asked.architecture, asked.fmt, asked.load, asked.kv_id, Layout()),
        fit=chosen,
        others=tuple(fit(asked, card, each) for each in every) if card else (),
        speed=speed(asked, card, chosen.layout, tokens) if card and chosen else None,
        smallest=() if card else smallest(asked, usable),
        machines=machines(asked, shapes, cards(policy.gpus), policy.gpus.exchange),
        warnings=_warnings(policy, subject, today),
    )


def _chosen(asked: Asked, card: Gpu, gpus: int, wish: Wish) -> Fit:
    accepted = layouts(asked.architecture, asked.fmt, gpus)
    if wish.tensor_parallel is None and not wish.expert_parallel:
        found = best(asked, card, gpus)
        if found is not None:
            return found
    fitting = [
        each
        for each in accepted
        if wish.tensor_parallel in (None, each.tp) and each.expert_parallel == wish.expert_parallel
    ]
    if not fitting:
        heads = f"{asked.architecture.heads} heads, {asked.architecture.kv_heads} of keys"
        raise BadInput(
            f"no engine lays this model over {gpus} GPUs that way",
            found=f"{heads}, {asked.architecture.experts} experts",
            accepted=", ".join(str(each) for each in accepted) or "another number of GPUs",
        )
    return fit(asked, card, fitting[0])


def _warnings(policy: Policy, subject: Subject, today: date) -> tuple[str, ...]:
    expected = "the table says" if subject.model else "the config adds up to"
    said = [
        f"{each.figure}: {expected} {each.table}, the files {each.file}; the files are believed"
        for each in subject.differ
    ]
    model, a = subject.model, subject.architecture
    if model is None:
        return tuple(said)
    rule = policy.licences.get(model.licence_terms)
    if catalogue.state(model, today) == "retired":
        instead = catalogue.replacement(policy, model)
        named = f"; Mistral names {instead.id} instead" if instead else ""
        said.append(f"retired at Mistral, which takes nothing from its licence{named}")
    if rule is None or rule.serve != "yes":
        said.append(
            f"{model.licence}: serve {rule.serve if rule else 'no'}; "
            f"sovereign models licence {model.id}"
        )
    if subject.found is None and a.confidence == "low":
        said.append(f"the measures of {a.id} are not verified; give --weights to read them")
    doubts = [name for name, mark in a.figures.items() if mark.confidence == "low"]
    if subject.found is None and doubts and a.confidence != "low":
        said.append(f"not verified: {', '.join(sorted(doubts))} of {a.id}")
    return tuple(said)
