"""vLLM: the official CUDA build on hosts with a GPU, a community CPU build in tests.

It serves a folder of safetensors, batches conversations by itself (so `slots` only sizes memory on
a CPU), and is the one engine of ours with a salt for its prefix cache: one a tenant, so that no
tenant learns from timing what another asked.

Five habits of vLLM are dealt with here:
  * It reports usage to its makers unless told not to in exactly one spelling.
  * Its crash dump and its warnings repeat pieces of requests: the loggers that handle requests are
    closed by a logging file that `prepare` writes. vLLM's own words at its start stay.
  * It rewrites its process titles over the environment, so that /proc would show nothing of it:
    `SPT_NOENV` keeps the environment readable, for the controller and for an auditor.
  * Its processes talk through sockets in a folder, whose path the kernel wants short.
  * It may fetch from a hub what a folder lacks: offline switches, and the folder is checked first.
"""

import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from sovereign.engines import (
    conversation,
    digest,
    environment,
    installed,
    probe,
    texts,
    translate,
    vectors,
)
from sovereign.engines.contract import ChatContext, EnvRule, Found, LaunchSpec, Probe, Upstream
from sovereign.errors import BadInput, EngineMissing

_SWITCHES = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "SPT_NOENV": "1",
}

# Its processes meet on this host. Left to themselves they listen where the host's name leads.
_ON_LOOPBACK = {
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}

_ON_CPU = {
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_WAIT_POLICY": "passive",  # threads that wait give their core away, see `llamacpp.py`
}

_RULES = (
    *environment.SILENCE_RULES,
    *environment.NO_PROXY_RULES,
    EnvRule("VLLM_NO_USAGE_STATS", "1", "any other value leaves usage reports on"),
    EnvRule("VLLM_DO_NOT_TRACK", "1", "the second spelling of the same switch"),
    EnvRule("TRANSFORMERS_OFFLINE", "1", "a tokenizer or code must not come from a hub"),
    EnvRule("SPT_NOENV", "1", "without it the workers' environment cannot be read back"),
    EnvRule("GLOO_SOCKET_IFNAME", "lo", "its workers would listen where the network reaches them"),
    EnvRule("VLLM_USAGE_STATS_SERVER", None, "it names a receiver of usage reports"),
    EnvRule("VLLM_LOGGING_LEVEL", None, "at DEBUG whole requests are logged"),
    EnvRule("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", None, "it logs answers"),
    EnvRule("VLLM_TRACE_FUNCTION", None, "it writes every call to a file"),
    EnvRule("VLLM_SERVER_DEV_MODE", None, "it opens routes that change the engine"),
    EnvRule("VLLM_ALLOW_RUNTIME_LORA_UPDATING", None, "it lets a request load weights"),
)

_UNDERSTOOD = translate.COMMON_FIELDS | {
    "tool_choice",
    "parallel_tool_calls",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "top_k",
    "min_p",
    "ignore_eos",
    "min_tokens",
    "repetition_penalty",
    "prompt_logprobs",
}

# These loggers speak while a request is handled, and may repeat pieces of it.
_CLOSED_LOGGERS = (
    "vllm.logging_utils.dump_input",
    "vllm.entrypoints.openai",
    "vllm.entrypoints.serve",
    "vllm.entrypoints.logger",
    "vllm.entrypoints.chat_utils",
    "vllm.renderers",
    "vllm.parser",
    "vllm.reasoning",
    "vllm.tool_parsers",
    "vllm.v1.structured_output",
)

# No white space between JSON tokens: a model that may choose it can fill its answer with it.
_STRUCTURED = '{"backend":"xgrammar","disable_any_whitespace":true}'

# What vLLM's salt accepts is wider; opaque letters and digits are what a tenant salt should be.
_SALT = re.compile(r"[A-Za-z0-9_-]{1,128}")

# sun_path in unix(7) holds 107 characters and a zero; vLLM names a socket by a slash and a UUID.
_SOCKET_PATH_MAX_CHARS = 107
_SOCKET_NAME_CHARS = 37

_MIB = 1024 * 1024
_CPU_KV_AT_LEAST_BYTES = 64 * _MIB
_CPU_KV_UNKNOWN_BYTES = 1024 * _MIB


class Vllm:
    """The `Engine` for a folder of safetensors."""

    name = "vllm"
    turns = None
    routes_allowed = frozenset({translate.CHAT_PATH, texts.VLLM_PATH, vectors.PATH})
    streams_only = False
    ends_with_a_stream = False
    takes_ids = True

    def find(self) -> Found:
        program = installed.locate("vllm", variable="SOVEREIGN_VLLM", cached="vllm-*/bin/vllm")
        if program is None:
            raise EngineMissing(
                "vLLM is not on this machine",
                found="no vllm in $SOVEREIGN_VLLM, on PATH or in the cache",
                accepted="vLLM 0.32 or later in an environment of its own",
                next_step="docs/runbooks/engine-missing.md, Fix C",
            )
        return Found(program, _version(program))

    def prepare(self, spec: LaunchSpec) -> None:
        if not any(spec.model.glob("*.safetensors")):
            raise BadInput(
                "this engine serves a folder of safetensors, and the model is none",
                found=str(spec.model),
                accepted="a folder with config.json or params.json and *.safetensors",
            )
        for folder in (spec.state_dir, spec.state_dir / "cache", spec.state_dir / "tmp"):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        _make_private(_sockets(spec))
        _logging_path(spec).write_text(json.dumps(_LOGGING, indent=2) + "\n")

    def command(self, spec: LaunchSpec) -> list[str]:
        return [
            *(str(spec.found.program), "serve", str(spec.model)),
            *("--host", spec.host),
            *("--port", str(spec.port)),
            *("--served-model-name", spec.served_name),
            *("--max-model-len", str(spec.context)),
            *("--structured-outputs-config", _STRUCTURED),
            "--no-enable-log-requests",
            "--disable-uvicorn-access-log",
            "--disable-fastapi-docs",
            *("--uvicorn-log-level", "critical"),
            *_mistral_switches(spec.model, thinks=spec.thinks),
            *(("--runner", "pooling") if spec.embeds else ()),
            *(("--tensor-parallel-size", str(spec.gpus)) if spec.gpus > 1 else ()),
            *(_cpu_switches(spec) if _on_cpu(spec) else ()),
        ]

    def environment(self, spec: LaunchSpec) -> dict[str, str]:
        cache = spec.state_dir / "cache"
        return {
            **environment.clean(spec.state_dir, spec.found.program),
            **_SWITCHES,
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
            "VLLM_LOGGING_CONFIG_PATH": str(_logging_path(spec)),
            "TMPDIR": str(spec.state_dir / "tmp"),
            **_ON_LOOPBACK,
            "VLLM_RPC_BASE_PATH": str(_sockets(spec)),
            **(_ON_CPU if _on_cpu(spec) else {}),
        }

    def required_environment(self) -> tuple[EnvRule, ...]:
        return _RULES

    def probe(self, base_url: str, model: str, timeout_s: float) -> Probe:
        return probe.one_token(base_url, model, timeout_s)

    def chat(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        _refuse_other_salt(ctx)
        sent = translate.chat(body, ctx, understood=_UNDERSTOOD)
        sent.body["cache_salt"] = ctx.tenant_salt
        if conversation.is_begun(body.get("messages")):
            sent.body.update(add_generation_prompt=False, continue_final_message=True)
            sent = translate.beginning(sent)
        if sent.body.get("logprobs") is True and ctx.dialect == "mistral":
            sent.body["return_tokens_as_token_ids"] = True
        return translate.without_switch(sent, "prompt_logprobs")

    def fim(self, body: Mapping[str, Any], ctx: ChatContext, ids: Sequence[int]) -> Upstream:
        """vLLM renders no markers of Mistral's itself, and takes them for text in a text."""
        _refuse_other_salt(ctx)
        if not ids:
            raise BadInput(
                "vLLM cannot fill in without token ids",
                found="no fim_tokenizer for this model in policies/facts/models.yaml",
                accepted="the tokenizer the model was trained with",
            )
        return texts.vllm(body, ctx, ids)

    def complete(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        _refuse_other_salt(ctx)
        return texts.vllm(body, ctx, body["prompt"])

    def embed(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        _refuse_other_salt(ctx)
        sent = vectors.embed(body, ctx, shortens=True)
        sent.body["cache_salt"] = ctx.tenant_salt
        return sent

    def model_digest(self, path: Path) -> str:
        return digest.model_digest(path)


def _refuse_other_salt(ctx: ChatContext) -> None:
    if not _SALT.fullmatch(ctx.tenant_salt):
        raise BadInput(
            "a tenant's salt cannot be sent to vLLM",
            found=f"{len(ctx.tenant_salt)} characters",
            accepted="1 to 128 letters, digits, - and _",
        )


def _mistral_switches(model: Path, *, thinks: bool) -> list[str]:
    """Mistral's own formats where the folder has them: its tokenizer is then the exact one, and
    tool calls and thoughts are written the way its models were taught. With the parser of thoughts
    a grammar begins where they end, so a model that has none is not given it."""
    switches: list[str] = []
    if _has(model, "tekken.json") or _has(model, "tokenizer*.model.v*"):
        switches += ["--tokenizer-mode", "mistral"]
        switches += ["--enable-auto-tool-choice", "--tool-call-parser", "mistral"]
        switches += ["--reasoning-parser", "mistral"] if thinks else []
    if _has(model, "params.json") and _has(model, "consolidated*.safetensors"):
        switches += ["--config-format", "mistral", "--load-format", "mistral"]
    return switches


def _has(model: Path, pattern: str) -> bool:
    return any(model.glob(pattern))


def _on_cpu(spec: LaunchSpec) -> bool:
    """A CPU build carries the word in its version; that is also how vLLM itself knows."""
    return "cpu" in spec.found.version


def _cpu_switches(spec: LaunchSpec) -> tuple[str, ...]:
    """Without a GPU there is no memory to measure, so the cache is sized by what was asked."""
    return ("--enforce-eager", "--kv-cache-memory-bytes", str(_kv_bytes(spec)))


def _kv_bytes(spec: LaunchSpec) -> int:
    """Keys and values, 2 bytes each, of every layer, for every token of every slot."""
    try:
        config = json.loads((spec.model / "config.json").read_text())
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        kv_heads = config.get("num_key_value_heads") or heads
        per_token = 2 * 2 * config["num_hidden_layers"] * kv_heads * head_dim
    except (OSError, ValueError, LookupError, TypeError):
        return _CPU_KV_UNKNOWN_BYTES
    return max(_CPU_KV_AT_LEAST_BYTES, int(per_token * spec.context * spec.slots))


def _sockets(spec: LaunchSpec) -> Path:
    """Where vLLM's processes meet: in its own folder, or where that is too deep, in one whose
    name is short and tells this engine's from every other's."""
    own = spec.state_dir / "tmp"
    if len(str(own)) + _SOCKET_NAME_CHARS <= _SOCKET_PATH_MAX_CHARS:
        return own
    return Path("/tmp") / f"sovereign-{sha256(str(own).encode()).hexdigest()[:16]}"  # noqa: S108 - private, see _make_private


def _make_private(folder: Path) -> None:
    """Others could listen in a folder of theirs, so one that is not ours alone is refused.

    Its group may look into it, as the controller does on a host: only who can write calls a socket.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o027
    if not private or found.st_uid != os.geteuid():
        raise BadInput(
            "the folder of vLLM's sockets is not this user's alone",
            found=str(folder),
            accepted="a folder of mode 0700 or 0750 that belongs to the user who starts the engine",
            next_step=f"remove {folder}, or choose a shorter SOVEREIGN_HOME",
        )


def _logging_path(spec: LaunchSpec) -> Path:
    return spec.state_dir / "logging.json"


_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {
        "out": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "stream": "ext://sys.stderr",
        },
        "nowhere": {"class": "logging.NullHandler"},
    },
    "loggers": {
        "vllm": {"handlers": ["out"], "level": "INFO", "propagate": False},
        **{
            name: {"handlers": ["nowhere"], "level": "CRITICAL", "propagate": False}
            for name in _CLOSED_LOGGERS
        },
    },
}


def _version(program: Path) -> str:
    """Read it off the installed package; starting vLLM only to ask takes ten seconds."""
    packages = program.resolve().parent.parent.glob("lib/python3*/site-packages")
    for folder in packages:
        for info in sorted(folder.glob("vllm-*.dist-info")):
            return info.name.removeprefix("vllm-").removesuffix(".dist-info")
    done = subprocess.run(
        [str(program), "--version"],
        env=environment.clean(Path("/nonexistent"), program) | _SWITCHES,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout.strip().splitlines()
    return said[-1] if said else "unknown"
