"""`sovereign size`: how much memory a model takes, how fast it can be, what machine holds it."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sovereign import catalogue
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    give,
    home_of,
    policy_of,
    say,
    say_folded,
    table,
)
from sovereign.cli.size_json import as_json as as_facts
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.residency import Question, decide
from sovereign.sizing import GIB, plan
from sovereign.sizing.answer import Answer, Subject, Wish, answer_of, subject_of
from sovereign.sizing.cards import card_of
from sovereign.sizing.fit import GPUS_MAX, UTILISATION, Fit
from sovereign.sizing.formats import FORMATS
from sovereign.sizing.machines import Machine
from sovereign.sizing.memory import Load, kv, kv_bytes_a_token, weights
from sovereign.sizing.memory import total as sum_of
from sovereign.sizing.parameters import active, total
from sovereign.sizing.reading import read
from sovereign.sizing.speed import Range, Speed

_SHOWN = 6


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(size)


def size(
    model: Annotated[str, typer.Argument(help="Id, alias or short name; or a path of weights.")],
    gpu: Annotated[str, typer.Option(help="A GPU of facts/gpus.yaml: l40s, h100-sxm …")] = "",
    gpus: Annotated[int | None, typer.Option(min=1, max=GPUS_MAX, help="How many.")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one conversation; 8192 by default.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=65_536, help="Conversations at once.")] = 1,
    dtype: Annotated[
        str, typer.Option(help=f"Of the weights: {', '.join(FORMATS)}; as published by default.")
    ] = "",
    kv_dtype: Annotated[
        str, typer.Option("--kv-dtype", help="Of the cache: auto, bf16, fp8; GGUF: q8_0, q4_0.")
    ] = "auto",
    tensor_parallel: Annotated[
        int | None, typer.Option("--tensor-parallel", min=1, help="Fix it; else it is chosen.")
    ] = None,
    expert_parallel: Annotated[
        bool, typer.Option("--expert-parallel", help="Whole experts on each GPU.")
    ] = False,
    prompt: Annotated[
        int | None, typer.Option(min=1, help="Prompt tokens, for the time to the first token.")
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(min=16, max=1_048_576, help="Tokens of one step of prefill.")
    ] = 8192,
    utilisation: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Share of a GPU an engine may take.")
    ] = UTILISATION,
    weights_path: Annotated[
        Path | None, typer.Option("--weights", help="Weights to read headers of: folder or file.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every term's formula.")] = False,
    as_plan: Annotated[
        bool, typer.Option("--plan", help="Show commands and a stack for it.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Memory, speed and machines for a model: 0, or 1 when the GPUs given do not hold it.

    Weights and cache are exact for the architecture; what an engine needs beside them is a likely
    value with a range; speed is a bound that physics sets, and a range to expect.
    """
    if gpus is not None and not gpu:
        raise BadInput("--gpus says how many, and not of which", accepted="--gpu as well")
    policy = policy_of(home_of(home))
    subject = _subject(policy, model, weights_path)
    wish = Wish(
        dtype=dtype,
        kv_dtype=kv_dtype,
        context=context,
        concurrency=concurrency,
        batch_tokens=batch_tokens,
        utilisation=utilisation,
        prompt_tokens=prompt,
        tensor_parallel=tensor_parallel,
        expert_parallel=expert_parallel,
    )
    card = card_of(policy.gpus, gpu) if gpu else None
    places, today = allowed_places(policy), utcnow().date()
    answer = answer_of(policy, subject, wish, card, gpus or 1, places, today)
    if as_json:
        planned = {"plan": _plan(answer)} if as_plan else {}
        give({**as_facts(answer, explain=explain), **planned})
    else:
        _show(answer, explain=explain, as_plan=as_plan)
    raise typer.Exit(1 if answer.fit is not None and not answer.fit.fits else 0)


def _subject(policy: Policy, name: str, path: Path | None) -> Subject:
    """A model of the catalogue, weights at a path, or a model with its weights beside it."""
    try:
        model = catalogue.with_weights(policy, name)
    except UnknownName:
        if "/" in name and not Path(name).exists():
            raise BadInput(f"there is no file or folder {name}", accepted="weights") from None
        if path is not None or not Path(name).exists():
            raise
        return subject_of(policy, None, read(Path(name)), Path(name).name)
    return subject_of(policy, model, read(path) if path else None, model.id)


def allowed_places(policy: Policy) -> frozenset[str]:
    """Codes of the places where personal data may be processed now."""
    now = utcnow()
    return frozenset(
        code
        for code in policy.places
        if decide(policy, Question(code, "personal", "process", now)).allowed
    )


# --- for a person ---


def _show(answer: Answer, *, explain: bool, as_plan: bool) -> None:
    asked, load = answer.asked, answer.asked.load
    say(
        f"{answer.subject.name} in {asked.fmt.id}, cache in {asked.kv_id}: "
        f"{load.context} tokens x {load.concurrency}"
    )
    if answer.subject.found:
        say(f"  read         {', '.join(answer.subject.found.read)}")
    _show_memory(answer)
    if answer.fit is not None and answer.speed is not None:
        _show_fit(answer.fit, load)
        _show_speed(answer.speed, answer.prompt_tokens, load)
    else:
        _show_smallest(answer)
    _show_machines(answer.machines)
    for warning in answer.warnings:
        say_folded(f"! {warning}")
    if explain:
        _show_explained(answer)
    if as_plan:
        _show_plan(answer)


def _show_memory(answer: Answer) -> None:
    a, asked = answer.asked.architecture, answer.asked
    say(f"  parameters   {total(a):,}, {active(a):,} of them used by a token")
    say(f"  weights      {_size(weights(a, asked.fmt).likely)}  exact")
    each = kv_bytes_a_token(a, asked.kv_id) / 1024
    said = f"exact, {each:.1f} KiB a token" if each else "exact, a state a sequence"
    say(f"  cache        {_size(kv(a, asked.load, asked.kv_id).likely)}  {said}")
    if answer.fit is None:
        whole = sum_of(answer.alone)
        say(
            f"  in all       {whole.likely / GIB:9.2f} GiB  on one GPU, "
            f"{whole.low / GIB:.2f} to {whole.high / GIB:.2f}"
        )


def _size(size: float) -> str:
    """In GiB, and what is smaller in MiB: two digits of nothing say nothing."""
    return f"{size / GIB:9.2f} GiB" if size >= GIB else f"{size * 1024 / GIB:9.2f} MiB"


def _show_fit(chosen: Fit, load: Load) -> None:
    verdict = "fits" if chosen.sure else "fits, with nothing to spare" if chosen.fits else "NO FIT"
    say(f"  {chosen.layout.gpus} x {chosen.card.name}, {chosen.layout}: {verdict}")
    say(
        f"  a GPU        {chosen.sum.likely / GIB:9.2f} GiB  of {chosen.budget / GIB:.2f} usable, "
        f"{chosen.sum.low / GIB:.2f} to {chosen.sum.high / GIB:.2f}"
    )
    say(
        f"  at most      {chosen.context_max} tokens x {load.concurrency}, "
        f"or {load.context} tokens x {chosen.concurrency_max}"
    )


def _show_speed(fast: Speed, prompt_tokens: int, load: Load) -> None:
    say(f"  decode       {_rate(fast.each_tokens_s)}, each")
    if load.concurrency > 1:
        say(f"               {_rate(fast.all_tokens_s)}, all together")
    say(f"               what limits it: {fast.limit}")
    say(f"  first token  {_ms(fast.first_token_s)}, for {prompt_tokens} tokens")
    if load.concurrency > 1:
        say(f"               {_ms(fast.last_first_token_s)}, when all come at once")
    if fast.experts_touched:
        say(f"  experts      {fast.experts_touched:.1f} touched a layer in a step")


def _rate(each: Range) -> str:
    return f"expect {each.slow:.0f} to {each.fast:.0f} tokens/s, at most {each.bound:.0f}"


def _ms(each: Range) -> str:
    fast, slow, bound = (seconds * 1e3 for seconds in (each.fast, each.slow, each.bound))
    return f"expect {fast:.0f} to {slow:.0f} ms, at best {bound:.0f}"


def _show_smallest(answer: Answer) -> None:
    if not answer.smallest:
        say("  no card of facts/gpus.yaml holds it, not even 16 of one")
        return
    rows = [
        (
            str(each.layout.gpus),
            each.card.id,
            str(each.layout),
            f"{each.sum.likely / GIB:.1f} of {each.budget / GIB:.1f}",
            str(each.concurrency_max),
        )
        for each in answer.smallest
    ]
    table(("GPUs", "of", "layout", "GiB each", "conversations at most"), rows)


def _show_machines(found: tuple[Machine, ...]) -> None:
    if not found:
        say("no machine of facts/gpus.yaml at an allowed place holds it")
        return
    rows = [
        (
            f"{m.shape.provider}:{m.zone}",
            m.shape.id,
            f"{m.shape.gpus} x {m.shape.gpu}",
            f"{m.eur_hour:.2f}" if m.eur_hour is not None else "?",
            _priced(m),
        )
        for m in found[:_SHOWN]
    ]
    say(f"{len(found)} machines hold it at places the policy allows; cheapest first, unsure last:")
    table(("place", "machine", "GPUs", "EUR/h", "price read"), rows)


def _priced(machine: Machine) -> str:
    price = machine.shape.price
    if price is None:
        return "never"
    said = str(price.read_on) if price.read_on else "2026"
    said += ", from USD" if price.currency == "USD" else ""
    return said + (", not verified" if price.confidence == "low" else "")


def _show_explained(answer: Answer) -> None:
    shown = answer.fit.terms if answer.fit else answer.alone
    say("memory of the fullest GPU, GiB: low, likely, high" if answer.fit else "memory, GiB")
    for term in (*shown, sum_of(shown)):
        low, likely, high = (value / GIB for value in (term.low, term.likely, term.high))
        say(f"  {term.name:<21}{low:9.3f} {likely:9.3f} {high:9.3f}")
        say(f"      = {term.formula}")
    say(f"  format {answer.asked.fmt.id}: {answer.asked.fmt.describes}")
    if answer.speed is None or answer.fit is None:
        return
    for line in _speed_terms(answer.speed, answer.fit):
        say(f"  {line}")
    for line in answer.speed.assumptions:
        say(f"  assumed: {line}")


def _speed_terms(fast: Speed, chosen: Fit) -> tuple[str, ...]:
    card, layout = chosen.card, chosen.layout
    return (
        f"read a step: ({fast.bytes_weights / 1e9:.2f} GB weights + "
        f"{fast.bytes_cache / 1e9:.2f} GB cache) / {card.bandwidth_gb_s} GB/s",
        f"arithmetic: {fast.flops / 1e12:.3f} x 10^12 / ({layout.tp} x "
        f"{fast.peak_flops / 1e12:.0f} x 10^12/s)",
        f"step at best: {fast.step_s.bound * 1e3:.2f} ms, {fast.limit}",
    )


def _show_plan(answer: Answer) -> None:
    planned = _plan(answer)
    if planned is None:
        say("no plan: name a model of the catalogue, and GPUs that hold it")
        return
    for key in ("engine command", "note", "ollama", "stack"):
        for part in planned.get(key, ()):
            say(f"--- {key}")
            say(part)


def _plan(answer: Answer) -> dict[str, list[str]] | None:
    """Commands for the GPUs asked for, or for the cheapest machine; None when nothing holds it."""
    model, asked = answer.subject.model, answer.asked
    chosen = answer.fit or (answer.machines[0].fit if answer.machines else None)
    if model is None or chosen is None:
        return None
    fitting = [
        m
        for m in answer.machines
        if answer.fit is None
        or (m.shape.gpu == chosen.card.id and m.shape.gpus == chosen.layout.gpus)
    ]
    said: dict[str, list[str]] = {"note": list(plan.notes(model, asked, chosen))}
    if asked.fmt.engine == "vllm":
        said["engine command"] = [shlex.join(plan.vllm_command(model, asked, chosen))]
    other = plan.ollama(model, asked, chosen.card, chosen.layout.gpus)
    if other is not None:
        unsure = "" if other.sure else "   # the tag is not verified"
        fits = "fits" if other.fits else "does not fit"
        said["ollama"] = [
            f"{' '.join(other.environment)} ollama serve",
            f"ollama pull {other.tag}{unsure}",
            f"# about {other.gib:.1f} GiB in {plan.OLLAMA_FORMAT}: {fits} the same GPUs",
        ]
    if fitting:
        first = fitting[0]
        refusal = plan.planner_refuses(model, asked, first.shape, chosen.card)
        said["note"] += [refusal] if refusal else []
        said["stack"] = [plan.stack_file(model, asked, first.shape, chosen.card, first.zone)]
    return said
