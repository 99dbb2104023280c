"""`sovereign models …`: Mistral's line-up, what its licences say, and which to take."""

import textwrap
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sovereign import catalogue
from sovereign.catalogue import Entry, Wanted
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    folded,
    give,
    home_of,
    policy_of,
    say,
    say_folded,
    table,
    write_file,
)
from sovereign.errors import BadInput
from sovereign.licence import PRODUCTION, serves
from sovereign.policy import Policy
from sovereign.policy.shapes import ApiPrice, Figure, Model
from sovereign.registry import utcnow
from sovereign.sizing import GIB, picture
from sovereign.sizing.cards import card_of
from sovereign.sizing.formats import weight_format
from sovereign.sizing.memory import Load, kv_bytes_a_token
from sovereign.sizing.moe import picture as steps_of
from sovereign.sizing.parameters import active, total
from sovereign.sizing.recommend import Choice, LeftOut
from sovereign.sizing.recommend import recommend as choices

app = typer.Typer(help="List, compare and choose models.", no_args_is_help=True)
UNVERIFIED = " (not verified)"
_SHORT = {"non-production": "non-prod."}
_ASKED = {"acknowledge": "ack."}
"""So that a row fits 80 columns; `models licence` says it in full."""
_WIDTH = 79
NameArgument = Annotated[str, typer.Argument(help="Id, alias or short name of a model.")]
CanOption = Annotated[
    list[str] | None,
    typer.Option(
        "--can", help="chat, tools, fim, vision, reasoning, json, embeddings, moderation."
    ),
]


@app.command("list")
def list_(
    family: Annotated[str, typer.Option(help="mistral-large, codestral, mixtral-8x7b …")] = "",
    can: CanOption = None,
    licence: Annotated[
        str, typer.Option(help="open, modified, research, non-production or none.")
    ] = "",
    state: Annotated[
        str, typer.Option(help="current, preview, deprecated, retired or fixture.")
    ] = "",
    weights: Annotated[
        bool | None, typer.Option("--weights/--no-weights", help="Only with, or without weights.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Every model of Mistral's line-up that the facts know, narrowed as you ask."""
    policy, today = policy_of(home_of(home)), utcnow().date()
    wanted = Wanted(family, tuple(can or ()), licence, state, weights)
    found = catalogue.select(policy, wanted, today)
    if as_json:
        give({"models": [_as_facts(policy, entry) for entry in found]})
        return
    table(
        ("model", "10^9", "ctx", "licence", "state"),
        [
            (
                entry.id,
                _size(entry),
                _tokens(entry.context) + _mark(entry, "context"),
                _SHORT.get(catalogue.terms(entry), catalogue.terms(entry)),
                catalogue.state(entry, today),
            )
            for entry in found
        ],
    )
    say(f"{len(found)} models; 10^9: parameters in all/used by a token; ?: not verified")
    say("next: sovereign models show MODEL, sovereign size MODEL")


@app.command()
def aliases(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """The names that this site gives to models, and which of them are about to move."""
    from sovereign.gateway.aliases import names  # needed here alone

    where, now = home_of(home), utcnow()
    known = names(policy_of(where).models, where.settings.aliases).known
    told = []
    for name in sorted(alias.name for alias in where.settings.aliases):
        alias = known[name]
        moves = alias.is_to_move(now)
        then, day = (alias.then, alias.day) if moves else ("", "")
        told.append({"name": name, "model": alias.at(now), "next": then, "from": day})
    if as_json:
        give({"aliases": told})
        return
    table(("name", "model", "next", "from"), [tuple(each.values()) for each in told])
    say(f"{len(told)} names of this site; `models show NAME` tells what Mistral's own mean")


@app.command()
def show(name: NameArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """One model: every figure with how sure it is, where it is from, and what is known instead."""
    policy = policy_of(home_of(home))
    entry = catalogue.find(policy, name)
    if as_json:
        give(_as_facts(policy, entry))
        return
    say(f"{entry.name} ({entry.id})")
    folded(_described(policy, entry))
    for figure, mark in sorted(entry.figures.items()):
        if mark.note:
            say_folded(f"{figure} [{mark.confidence}]: {mark.note}", "  ")
    if entry.note:
        say_folded(f"note: {entry.note}", "  ")
    said = f"source: {entry.source}, looked at on {entry.checked_on} [{entry.confidence}]"
    say_folded(said, "  ")


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Two or three models.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Models side by side."""
    if not 2 <= len(names) <= 3:
        raise BadInput(f"{len(names)} models to compare", accepted="two or three")
    policy = policy_of(home_of(home))
    found = [catalogue.find(policy, name) for name in names]
    if as_json:
        give({"models": [_as_facts(policy, entry) for entry in found]})
        return
    rows = [_described(policy, entry) for entry in found]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    _side_by_side([entry.id for entry in found], rows, keys)


def _side_by_side(names: list[str], rows: list[dict[str, str]], keys: list[str]) -> None:
    """Columns of equal width, each folded by itself, so that three models fit a terminal."""
    first = max(len(key) for key in keys) + 1
    width = (_WIDTH - first) // len(rows) - 1
    head = dict(zip(range(len(names)), names, strict=True))
    for key in ("", *keys):
        cells = [head[i] if not key else row.get(key, "-") for i, row in enumerate(rows)]
        folded = [textwrap.wrap(cell, width, break_on_hyphens=False) or [""] for cell in cells]
        for line in range(max(len(cell) for cell in folded)):
            parts = [cell[line] if line < len(cell) else "" for cell in folded]
            said = " ".join(part.ljust(width) for part in parts)
            say(f"{key if line == 0 else '':<{first}}{said}".rstrip())


@app.command()
def licence(name: NameArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What a model's licence permits, forbids and asks, and what our own rule makes of it."""
    policy = policy_of(home_of(home))
    model = catalogue.with_weights(policy, name)
    text = catalogue.licence(policy, model)
    rule = policy.licences.get(model.licence_terms)
    serve = rule.serve if rule else "no"
    because = rule.because if rule else "nobody has said whether these terms may serve"
    if as_json:
        said = {"model": model.id, "licence": text, "serve": serve, "because": because}
        said |= {"production": serves(rule, PRODUCTION)}
        give({**said, "acknowledgement": serve == "acknowledge"})
        raise typer.Exit(1 if serve == "no" else 0)
    say(f"{model.id}: {text.name} ({text.terms})")
    folded({"permits": text.permits})
    for what, lines in (("forbids", text.forbids), ("requires", text.requires)):
        for line in lines:
            folded({what: " ".join(line.split())})
    folded(
        {
            "source": f"{text.source}, {text.checked_on} [{text.confidence}]",
            **({"note": text.note} if text.note else {}),
            "our rule": f"serve: {serve} (policies/rules/licences.yaml)",
            "production": serves(rule, PRODUCTION),
            "because": because,
        }
    )
    if serve == "acknowledge":
        say("A role must acknowledge these terms: sovereign licence acknowledge.")
    say("Self-assessment, not legal advice.")
    raise typer.Exit(1 if serve == "no" else 0)


@app.command()
def recommend(
    gpu: Annotated[str, typer.Option(help="A GPU of facts/gpus.yaml, as in l40s or h100-sxm.")],
    gpus: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 1,
    can: CanOption = None,
    context: Annotated[int, typer.Option(min=1, help="Tokens of one conversation.")] = 8192,
    concurrency: Annotated[int, typer.Option(min=1, help="Conversations at once.")] = 8,
    licence: Annotated[str, typer.Option(help="Only these terms, as in list.")] = "",
    most: Annotated[int, typer.Option(min=1, max=100, help="How many to show.")] = 8,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Which models fit your GPUs and can what you need, the best first; 1 when none does."""
    policy, today = policy_of(home_of(home)), utcnow().date()
    catalogue.select(policy, Wanted(able=tuple(can or ()), terms=licence), today)
    card = card_of(policy.gpus, gpu)
    found, left = choices(policy, can or ["chat"], card, gpus, Load(context, concurrency), today)
    other = [c for c in found if licence not in ("", c.model.licence_terms)]
    found = tuple(c for c in found if c not in other)
    left = (*(LeftOut(c.model, f"its licence is {c.model.licence_terms}") for c in other), *left)
    if as_json:
        give({"models": [_choice(c) for c in found], "left_out": _left(left)})
        raise typer.Exit(0 if found else 1)
    table(
        ("model", "as", "GiB", "users", "tok/s", "state", "serve"),
        [
            (
                c.model.id,
                c.fmt.id,
                f"{c.fit.sum.likely / GIB:.0f}",
                str(c.fit.concurrency_max),
                f"{c.speed.each_tokens_s.slow:.0f}-{c.speed.each_tokens_s.fast:.0f}",
                c.state,
                _ASKED.get(c.serve, c.serve),
            )
            for c in found[:most]
        ],
    )
    say("GiB: of each GPU; users: at once, at most; tok/s: expected for each of them;")
    say("ack.: a role acknowledges its terms first (sovereign models licence)")
    say(f"{len(found)} fit {gpus} x {card.name} at {context} tokens x {concurrency}; others:")
    for each in left[:most]:
        say(f"  {each.model.id}: {each.why}")
    if len(left) > most:
        say(f"  … and {len(left) - most} more (--most, --json)")
    raise typer.Exit(0 if found else 1)


@app.command()
def moe(
    name: NameArgument,
    dtype: Annotated[str, typer.Option(help="Number format of the weights.")] = "bf16",
    svg: Annotated[Path | None, typer.Option(help="Write the picture here as SVG.")] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The routing of a mixture of experts: what a batch touches, and what that costs."""
    policy = policy_of(home_of(home))
    model = catalogue.with_weights(policy, name)
    a, fmt = policy.catalogue.architectures[model.architecture], weight_format(dtype)
    if svg is not None:
        write_file(svg, picture.routing_svg(model.name, a, fmt).encode())
    if as_json:
        steps = [
            {"batch": s.batch, "experts_touched": round(s.experts, 3), "bytes_read": s.bytes_step}
            for s in steps_of(a, fmt)
        ]
        about = {"experts": a.experts, "experts_per_token": a.experts_per_token}
        counted = {"parameters": total(a), "parameters_active": active(a)}
        give({"model": model.id, "dtype": fmt.id, **about, **counted, "batches": steps})
        return
    for line in picture.routing_text(model.name, a, fmt):
        say(line)
    if a.confidence == "low":
        say_folded(f"The measures of {a.id} are not verified: {a.source}.")
    if svg is not None:
        say(f"written {svg}")


def _described(policy: Policy, entry: Entry) -> dict[str, str]:
    """The figures a person reads, each with its mark where it is not verified."""
    today = utcnow().date()
    rows = {
        "family": entry.family,
        "state": catalogue.state(entry, today) + _dates(policy, entry),
        "params 10^9": _size(entry),
        "context": _tokens(entry.context) + _unsure(entry, "context"),
        "able to": ", ".join(sorted(catalogue.abilities(entry))) or "complete text",
        "API price": _price(entry.price),
        "API names": ", ".join(entry.aliases) or "-",
    }
    if not isinstance(entry, Model):
        return {**rows, "weights": "never published"}
    return {
        **rows,
        "licence": f"{entry.licence} ({entry.licence_terms})",
        **_structure(policy, entry),
        "repository": entry.sources.repository or "-",
        "formats": f"{', '.join(entry.formats) or '-'}; published in {entry.published_as}",
        "Ollama": (entry.sources.ollama or "-") + _unsure(entry, "ollama"),
        "vLLM": f"{entry.vllm_min} or newer" if entry.vllm_min else "not stated",
        "GPU memory": _memory(entry),
        "short names": ", ".join(entry.short) or "-",
    }


def _structure(policy: Policy, model: Model) -> dict[str, str]:
    a = policy.catalogue.architectures[model.architecture]
    doubt = UNVERIFIED if "low" in (a.confidence, catalogue.sureness(model, "architecture")) else ""
    experts = f"{a.experts_per_token} of {a.experts}" if a.experts else "none, dense"
    if a.shared_experts:
        experts += f" and {a.shared_experts} shared"
    if a.state_size:
        cache = "a fixed state, no cache (Mamba 2)"
    elif a.kv_lora_rank:
        cache = f"latent, {a.kv_lora_rank} + {a.qk_rope_dim}"
    else:
        cache = f"{a.kv_heads} heads x {a.head_dim}"
    if a.sliding_window:
        cache += f", window {a.sliding_window}"
    each = kv_bytes_a_token(a, "bf16") / 1024
    return {
        "layers": f"{a.layers} x {a.hidden}, {a.heads} heads{doubt}",
        "experts": experts,
        "KV cache": f"{cache}; {each:.1f} KiB a token in bf16",
        "added up": f"{total(a):,} parameters, {active(a):,} used",
    }


def _dates(policy: Policy, entry: Entry) -> str:
    life, instead = entry.lifecycle, catalogue.replacement(policy, entry)
    said = "".join(
        f", {what} {day}"
        for what, day in (("deprecated", life.deprecated_on), ("retired", life.retired_on))
        if day
    )
    return said + (f", instead: {instead.id}" if instead else "")


def _price(price: ApiPrice | None) -> str:
    if price is None:
        return "-"
    said = [
        f"{price.input_eur or '?'}/{price.output_eur or '?'} EUR",
        f"{price.input_usd or '?'}/{price.output_usd or '?'} USD",
    ]
    return f"{' or '.join(said)} a million in/out, {price.read_on} [{price.confidence}]"


def _memory(model: Model) -> str:
    full = ", ".join(f"{gb} GB {fmt}" for fmt, gb in model.min_gpu_memory_gb.items())
    recipe = ", ".join(f"{gb} GB {fmt}" for fmt, gb in model.recipe_memory_gb.items())
    said = f"{full} at full context, says Mistral" if full else "-"
    return said + (f"; {recipe} at least, says vLLM's recipe" if recipe else "")


def _size(entry: Entry) -> str:
    if not isinstance(entry, Model):
        return "?"
    whole, used = entry.parameters_total_b, entry.parameters_active_b
    said = whole if whole == used else f"{whole}/{used}"
    sure = {
        catalogue.sureness(entry, figure)
        for figure in ("parameters_total_b", "parameters_active_b")
    }
    return said + ("?" if "low" in sure else "")


def _tokens(count: int) -> str:
    if not count:
        return "?"
    return f"{count // 1024}k" if count % 1024 == 0 else f"{count}"


def _mark(entry: Entry, figure: str) -> str:
    return "?" if catalogue.sureness(entry, figure) == "low" else ""


def _unsure(entry: Entry, figure: str) -> str:
    return UNVERIFIED if catalogue.sureness(entry, figure) == "low" else ""


def _as_facts(policy: Policy, entry: Entry) -> dict[str, Any]:
    """An entry word for word, with what follows from it."""
    plain: dict[str, Any] = msgspec.to_builtins(entry)
    followed: dict[str, Any] = {
        "state": catalogue.state(entry, utcnow().date()),
        "weights": isinstance(entry, Model),
    }
    if isinstance(entry, Model):
        a = policy.catalogue.architectures[entry.architecture]
        rule = policy.licences.get(entry.licence_terms)
        followed |= {
            "architecture_figures": a,
            "parameters": total(a),
            "parameters_active": active(a),
            "serve": rule.serve if rule else "no",
        }
    return {**plain, **followed, "not_verified": _low(entry)}


def _low(entry: Entry) -> list[str]:
    marks: dict[str, Figure] = entry.figures
    low = sorted(name for name, mark in marks.items() if mark.confidence == "low")
    return ["everything"] if entry.confidence == "low" else low


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "model": choice.model.id,
        "dtype": choice.fmt.id,
        "gib_per_gpu": round(choice.fit.sum.likely / GIB, 2),
        "layout": str(choice.fit.layout),
        "concurrency_max": choice.fit.concurrency_max,
        "context_max": choice.fit.context_max,
        "tokens_s_each": [
            round(choice.speed.each_tokens_s.slow, 1),
            round(choice.speed.each_tokens_s.fast, 1),
        ],
        "state": choice.state,
        "serve": choice.serve,
    }


def _left(left: tuple[LeftOut, ...]) -> list[dict[str, str]]:
    return [{"model": each.model.id, "why": each.why} for each in left]
