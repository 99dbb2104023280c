"""What `sovereign size --json` prints: the same facts as its text, under names that stay."""

from typing import Any

from sovereign.sizing import GIB
from sovereign.sizing.answer import Answer
from sovereign.sizing.fit import Fit
from sovereign.sizing.machines import Machine
from sovereign.sizing.memory import Term, kv, kv_bytes_a_token, weights
from sovereign.sizing.memory import total as sum_of
from sovereign.sizing.parameters import active, total
from sovereign.sizing.speed import Range, Speed


def as_json(answer: Answer, *, explain: bool) -> dict[str, Any]:
    """`total_gib` is over all GPUs, `beside_gib` what it has beyond weights and one cache."""
    a, asked, load = answer.asked.architecture, answer.asked, answer.asked.load
    chosen = answer.fit
    whole = sum_of(chosen.terms) if chosen else sum_of(answer.alone)
    gpus = chosen.layout.gpus if chosen else 1
    held, cache = weights(a, asked.fmt).likely, kv(a, load, asked.kv_id).likely
    said: dict[str, Any] = {
        "model": answer.subject.name,
        "dtype": asked.fmt.id,
        "kv_dtype": asked.kv_id,
        "context": load.context,
        "concurrency": load.concurrency,
        "parameters": total(a),
        "parameters_active": active(a),
        "kv_bytes_per_token": kv_bytes_a_token(a, asked.kv_id),
        "weights_gib": _gib(held),
        "kv_gib": _gib(cache),
        "beside_gib": _gib(whole.likely * gpus - held - cache),
        "total_gib": _gib(whole.likely * gpus),
        "total_range_gib": [_gib(whole.low * gpus), _gib(whole.high * gpus)],
        "fits": chosen.fits if chosen else None,
        "sure": chosen.sure if chosen else None,
        "gpu": _gpu_json(chosen) if chosen else None,
        "layouts": [_layout_json(each) for each in answer.others],
        "speed": _speed_json(answer.speed) if answer.speed else None,
        "smallest": [
            {"gpu": each.card.id, "gpus": each.layout.gpus, "layout": str(each.layout)}
            for each in answer.smallest
        ],
        "machines": [_machine_json(m) for m in answer.machines],
        "disagreements": [
            {"figure": d.figure, "table": d.table, "file": d.file} for d in answer.subject.differ
        ],
        "warnings": list(answer.warnings),
    }
    if explain:
        said["terms"] = [_term_json(t) for t in (chosen.terms if chosen else answer.alone)]
    return said


def _gib(value: float) -> float:
    return round(value / GIB, 6)


def _gpu_json(chosen: Fit) -> dict[str, Any]:
    return {
        "id": chosen.card.id,
        "gpus": chosen.layout.gpus,
        "usable_gib": _gib(chosen.budget),
        "context_max": chosen.context_max,
        "concurrency_max": chosen.concurrency_max,
        **_layout_json(chosen),
    }


def _layout_json(each: Fit) -> dict[str, Any]:
    return {
        "tensor_parallel": each.layout.tp,
        "pipeline_parallel": each.layout.pp,
        "expert_parallel": each.layout.expert_parallel,
        "gib_per_gpu": _gib(each.sum.likely),
        "gib_per_gpu_range": [_gib(each.sum.low), _gib(each.sum.high)],
        "fits": each.fits,
    }


def _speed_json(fast: Speed) -> dict[str, Any]:
    def ends(each: Range) -> dict[str, float]:
        return {"bound": each.bound, "expected_fast": each.fast, "expected_slow": each.slow}

    return {
        "decode_tokens_s_each": ends(fast.each_tokens_s),
        "decode_tokens_s_all": ends(fast.all_tokens_s),
        "first_token_s": ends(fast.first_token_s),
        "first_token_s_last": ends(fast.last_first_token_s),
        "prefill_tokens_s": ends(fast.prefill_tokens_s),
        "limit": fast.limit,
        "experts_touched": fast.experts_touched,
        "assumptions": list(fast.assumptions),
    }


def _machine_json(machine: Machine) -> dict[str, Any]:
    price = machine.shape.price
    return {
        "place": f"{machine.shape.provider}:{machine.zone}",
        "shape": machine.shape.id,
        "gpu": machine.shape.gpu,
        "gpus": machine.shape.gpus,
        "eur_hour": round(machine.eur_hour, 4) if machine.eur_hour is not None else None,
        "price": price,
    }


def _term_json(term: Term) -> dict[str, Any]:
    return {
        "name": term.name,
        "gib": [_gib(term.low), _gib(term.likely), _gib(term.high)],
        "exact": term.exact,
        "formula": term.formula,
    }
