"""Turn a fit into what an operator types: vLLM's command, a stack's file, Ollama's settings.

Words only: nothing is started or written here. The stack that comes out is one that
`infra/stacks/` accepts, a test compares the two; addresses and keys in it are placeholders.
"""

from dataclasses import dataclass

from sovereign.policy.shapes import Gpu, GpuShape, Model
from sovereign.sizing import GIB
from sovereign.sizing.fit import UTILISATION, Asked, Fit, best
from sovereign.sizing.formats import kv_format, weight_format

OLLAMA_FORMAT = "q4_k_m"
"""What Ollama's library serves when no other tag is asked for."""
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_PRECISIONS = {"nvfp4": "fp4"}
"""Formats whose name in a stack differs."""
_TELEMETRY_OFF = ("VLLM_NO_USAGE_STATS=1", "VLLM_DO_NOT_TRACK=1")


@dataclass(frozen=True, slots=True)
class OllamaPlan:
    """The same model by Ollama: its tag, settings, and whether it fits the same GPUs."""

    tag: str
    sure: bool
    environment: tuple[str, ...]
    gib: float
    fits: bool


def vllm_command(model: Model, asked: Asked, fit: Fit, weights: str = "") -> tuple[str, ...]:
    """Return the words of the command, telemetry off in front; loopback, as all our engines."""
    layout, load = fit.layout, asked.load
    return (
        *_TELEMETRY_OFF,
        *("vllm", "serve", weights or model.sources.repository or "PATH-OF-THE-WEIGHTS"),
        *("--host", "127.0.0.1"),
        *("--served-model-name", model.id),
        *_loading(model),
        *_numbers(model, asked),
        *("--tensor-parallel-size", str(layout.tp)),
        *(("--pipeline-parallel-size", str(layout.pp)) if layout.pp > 1 else ()),
        *(("--enable-expert-parallel",) if layout.expert_parallel else ()),
        *("--max-model-len", str(load.context)),
        *("--max-num-seqs", str(load.concurrency)),
        *("--max-num-batched-tokens", str(load.batch_tokens)),
        *("--gpu-memory-utilization", f"{asked.utilisation:.2f}"),
        *_abilities(model),
    )


def _loading(model: Model) -> tuple[str, ...]:
    if "consolidated" not in model.formats:
        return ("--tokenizer-mode", "mistral")
    return (
        *("--tokenizer-mode", "mistral"),
        *("--config-format", "mistral"),
        *("--load-format", "mistral"),
    )


def _numbers(model: Model, asked: Asked) -> tuple[str, ...]:
    """Formats of weights and cache. Formats of 4 bits need weights published that way."""
    said: tuple[str, ...] = ()
    if asked.fmt.id in _DTYPES:
        said = ("--dtype", _DTYPES[asked.fmt.id])
    elif asked.fmt.id == "fp8" and model.published_as != "fp8":
        said = ("--quantization", "fp8")
    return (*said, *(("--kv-cache-dtype", "fp8") if asked.kv_id == "fp8" else ()))


def _abilities(model: Model) -> tuple[str, ...]:
    said: tuple[str, ...] = ()
    if "tools" in model.capabilities:
        said = ("--enable-auto-tool-choice", "--tool-call-parser", "mistral")
    if "reasoning" in model.advertised:
        said = (*said, "--reasoning-parser", "mistral")
    return said


def notes(model: Model, asked: Asked, fit: Fit) -> tuple[str, ...]:
    """What the operator must know before typing it."""
    said = []
    if model.vllm_min:
        said.append(f"vLLM {model.vllm_min} or newer")
    if asked.fmt.id in ("nvfp4", "int4", "int8") and model.published_as != asked.fmt.id:
        said.append(f"needs weights that were made in {asked.fmt.id}; those of bf16 do not do")
    if "consolidated" in model.formats and not model.vllm_min:
        said.append("look that consolidated*.safetensors is there before --load-format mistral")
    if not fit.fits:
        said.append("this does not fit: expect vLLM to stop with out of memory")
    elif not fit.sure:
        said.append("this fits by the likely figures only; the high end does not")
    if fit.card.generation in ("volta", "turing") and asked.fmt.id == "bf16":
        said.append(f"{fit.card.name} has no bf16: --dtype fp16")
    return tuple(said)


def ollama(model: Model, asked: Asked, card: Gpu, gpus: int) -> OllamaPlan | None:
    """The alternative, in Ollama's usual format; None when the library has no tag for it."""
    if not model.sources.ollama:
        return None
    fmt = weight_format(OLLAMA_FORMAT)
    other = Asked(
        asked.architecture,
        fmt,
        kv_format("auto", fmt),
        asked.load,
        asked.context_published,
        asked.utilisation,
    )
    found = best(other, card, gpus)
    size = found.sum.likely * gpus if found else 0.0
    mark = model.figures.get("ollama")
    return OllamaPlan(
        tag=model.sources.ollama,
        sure=mark is None or mark.confidence != "low",
        environment=(
            "OLLAMA_HOST=127.0.0.1:11434",
            "OLLAMA_NO_CLOUD=1",
            f"OLLAMA_CONTEXT_LENGTH={asked.load.context}",
            f"OLLAMA_NUM_PARALLEL={asked.load.concurrency}",
            "OLLAMA_FLASH_ATTENTION=1",
        ),
        gib=size / GIB,
        fits=found is not None and found.fits,
    )


def precision(model: Model, asked: Asked) -> str:
    """The stack's word for the format; "" when the table states no memory for it."""
    name = _PRECISIONS.get(asked.fmt.id, asked.fmt.id)
    return name if name in model.min_gpu_memory_gb else ""


def planner_refuses(model: Model, asked: Asked, shape: GpuShape, card: Gpu) -> str:
    """Why `make plan` would refuse the machine all the same; "" when it would not.

    The planner goes by the memory that is published for the full context, a stack has no shorter
    one. It takes the same share of a card for an engine as we do by default.
    """
    needed = model.min_gpu_memory_gb.get(precision(model, asked), 0)
    sold = shape.gpus * card.memory_gb
    if sold * UTILISATION >= needed:
        return ""
    return (
        f"make plan goes by the {needed} GB published for the full context, "
        f"and refuses the {sold} GB of {shape.id} where a stack states them"
    )


def stack_file(model: Model, asked: Asked, shape: GpuShape, card: Gpu, zone: str) -> str:
    """Return a stack in YAML for one machine of `shape` in `zone`.

    A cloud that `infra/` makes machines in gets its own name; any other is `static`: machines you
    have, whose place is judged all the same.
    """
    lines = [f"# {shape.gpus} x {card.name}, {model.name}"]
    made = shape.provider == "scaleway"
    lines.append(f"cloud: {'scaleway' if made else 'static'}")
    if made:
        lines += [f"zone: {zone}", f"shape: {shape.id}"]
    lines += [f"model: {model.id}"]
    if precision(model, asked):
        lines.append(f"precision: {precision(model, asked)}")
    lines += [f"engine: {'vllm' if asked.fmt.engine == 'vllm' else 'ollama'}"]
    lines += ["# documentation addresses (RFC 5737): put your own networks here"]
    lines += ["allow_from: [192.0.2.0/24]"]
    if made:
        lines += ["nodes: 1", "admin_key: ssh-ed25519 YOUR-PUBLIC-KEY you@example.org"]
    else:
        lines += [
            "machines:",
            "  - name: node-1",
            "    address: 192.0.2.11",
            f"    place: {shape.provider}:{zone}",
        ]
        if not planner_refuses(model, asked, shape, card):
            lines.append(f"    gpu_memory_gb: {shape.gpus * card.memory_gb}")
    return "\n".join(lines) + "\n"
