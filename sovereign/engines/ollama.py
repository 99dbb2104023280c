"""Ollama, an upstream release or one built from source, with everything that calls out turned off.

Ollama keeps models in a store of its own, so `prepare` imports the GGUF file into a store under
this engine's state folder: it starts a server for the moment, runs `ollama create`, and stops it.
The store of the person who runs us is never touched.

Three habits of Ollama are dealt with here. It asks ollama.com for lists at every start, and a model
named `…cloud` is answered by ollama.com through the same local API: both are off by
`OLLAMA_NO_CLOUD`, and such a name is refused besides. And a GGUF file whose chat template it does
not recognise is served without one, which makes answers wander: `prepare` writes the template.
And its threads spin while they wait for each other, on every core there is: `prepare` spares one.

KNOWN: a prompt longer than the context is cut at its beginning without a word, where the other
engines refuse it. Whoever must know bounds the prompt before, in the gateway.

KNOWN: in fill in the middle the first word behind `[SUFFIX]` gets the leading space of a sentence,
which Mistral's tokenizer leaves out: one token differs. The other engines get exact ids.

KNOWN: Ollama has no per-tenant prefix cache and no way to turn its cache off, so that two tenants
of one Ollama can learn from timing whether a long prompt was asked before. Where tenants must not,
give each an endpoint or use vLLM.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sovereign.engines import (
    conversation,
    cores,
    digest,
    environment,
    gguf,
    installed,
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
from sovereign.errors import BadInput, EngineMissing, EngineUnhealthy, ResidencyRefused

CREATE_WITHIN_S = 600.0
SERVE_WITHIN_S = 30.0

_SWITCHES = {
    "OLLAMA_NO_CLOUD": "1",
    "OLLAMA_REMOTES": "none.invalid",
    "OLLAMA_NOHISTORY": "1",
    "OLLAMA_NOPRUNE": "1",
    "OLLAMA_KEEP_ALIVE": "-1",
    "OLLAMA_MAX_LOADED_MODELS": "1",
}

_RULES = (
    *environment.SILENCE_RULES,
    *environment.NO_PROXY_RULES,
    EnvRule("OLLAMA_NO_CLOUD", "1", "cloud models leave this host through the local API"),
    EnvRule("OLLAMA_REMOTES", "none.invalid", "no host may answer a model in our stead"),
    EnvRule("OLLAMA_CLOUD_BASE_URL", None, "it names another cloud"),
    EnvRule("OLLAMA_DEBUG", None, "it logs prompts"),
    EnvRule("OLLAMA_DEBUG_LOG_REQUESTS", None, "it writes requests to files"),
    EnvRule("OLLAMA_ORIGINS", None, "it lets web pages use the engine"),
)

# Only what Ollama's own OpenAI endpoint reads; `n`, `tool_choice` and `logit_bias` it ignores.
_UNDERSTOOD = translate.COMMON_FIELDS | {"logprobs", "top_logprobs"}

# Markers of a chat template, and the same layout in Ollama's own template language.
_CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_TEMPLATES = {"<|im_start|>": (_CHATML, "<|im_end|>")}

_MARKERS = ("[SUFFIX]", "[PREFIX]")
"""Mistral's, of fill in the middle. Ollama fills in when a template speaks of a suffix."""
_FILLING = "{{- if .Suffix }}[SUFFIX]{{ .Suffix }}[PREFIX]{{ .Prompt }}{{- else }}%s{{- end }}"


class Ollama:
    """The `Engine` for a GGUF file served by `ollama serve`."""

    name = "ollama"
    turns = SLOTS
    routes_allowed = frozenset({translate.CHAT_PATH, texts.OLLAMA_PATH, vectors.PATH})
    streams_only = False
    ends_with_a_stream = False
    takes_ids = False

    def find(self) -> Found:
        program = installed.locate("ollama", variable="SOVEREIGN_OLLAMA", cached="ollama-*/ollama")
        if program is None:
            raise EngineMissing(
                "Ollama is not on this machine",
                found="no ollama in $SOVEREIGN_OLLAMA, on PATH or in the cache",
                accepted="upstream's release, 0.24 or later, checked against its sha256",
                next_step="docs/runbooks/engine-missing.md, Fix B",
            )
        return Found(program, _version(program))

    def prepare(self, spec: LaunchSpec) -> None:
        refuse_cloud(spec.served_name)
        gguf.refuse_other(spec.model)
        modelfile = _modelfile(spec)
        _private_folders(spec)
        fills = "TEMPLATE" not in modelfile and gguf.has_tokens(spec.model, *_MARKERS)
        digested = digest.model_digest(spec.model)
        done = json.dumps({"model": digested, "modelfile": modelfile, "fills": fills})
        mark = spec.state_dir / "prepared.json"
        if mark.is_file() and mark.read_text() == done:
            return
        mark.unlink(missing_ok=True)
        path = spec.state_dir / "Modelfile"
        path.write_text(modelfile)
        with _served(self, spec):
            _run(self, spec, ["create", spec.served_name, "-f", str(path)])
            if fills:
                chats = _run(self, spec, ["show", spec.served_name, "--template"])
                path.write_text(modelfile + _filling(chats))
                _run(self, spec, ["create", spec.served_name, "-f", str(path)])
        mark.write_text(done)

    def command(self, spec: LaunchSpec) -> list[str]:
        refuse_cloud(spec.served_name)
        return [str(spec.found.program), "serve"]

    def environment(self, spec: LaunchSpec) -> dict[str, str]:
        return {
            **environment.clean(spec.state_dir, spec.found.program),
            **_SWITCHES,
            "OLLAMA_HOST": spec.base_url,
            "OLLAMA_MODELS": str(spec.state_dir / "models"),
            "OLLAMA_CONTEXT_LENGTH": str(spec.context),
            "OLLAMA_NUM_PARALLEL": str(spec.slots + 1),  # the last one is the probe's
            "TMPDIR": str(spec.state_dir / "tmp"),
        }

    def required_environment(self) -> tuple[EnvRule, ...]:
        return _RULES

    def probe(self, base_url: str, model: str, timeout_s: float) -> Probe:
        return probe.one_token(base_url, model, timeout_s)

    def chat(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        refuse_cloud(ctx.served_name)
        sent = translate.chat(body, ctx, understood=_UNDERSTOOD)
        if ctx.dialect == "mistral" and sent.body.pop("logprobs", None) is True:
            sent = translate.dropping(sent, "logprobs")  # it names tokens, but not by their ids
        begun = conversation.is_begun(body.get("messages"))
        return translate.dropping(sent, "prefix") if begun else sent

    def fim(self, body: Mapping[str, Any], ctx: ChatContext, ids: Sequence[int]) -> Upstream:
        refuse_cloud(ctx.served_name)
        _refuse_markers(body)
        return texts.ollama(body, ctx)

    def complete(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        refuse_cloud(ctx.served_name)
        return texts.ollama({**body, "suffix": None}, ctx)

    def embed(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        refuse_cloud(ctx.served_name)
        return vectors.embed(body, ctx, shortens=True)

    def model_digest(self, path: Path) -> str:
        return digest.model_digest(path)


def refuse_cloud(model: str) -> None:
    """Raise `ResidencyRefused` for a name that Ollama would send to its own cloud."""
    if re.search(r"[:-]cloud$", model, re.IGNORECASE):
        raise ResidencyRefused(
            f"the model {model!r} runs in Ollama's cloud, not on this host",
            rule="nothing-leaves-this-host",
            because="its prompts would leave through the local API, to a place nobody attested",
            accepted="a model whose weights lie on this host",
        )


def _modelfile(spec: LaunchSpec) -> str:
    """Raise `BadInput` for a GGUF that does not say how it chats: its answers would wander."""
    theirs = gguf.chat_template(spec.model)
    if not theirs:
        raise BadInput(
            "these weights hold no chat template",
            found=str(spec.model),
            accepted="a GGUF file with the key tokenizer.chat_template",
        )
    threads = cores.to_spin_on(os.sched_getaffinity(0))
    lines = [
        f"FROM {spec.model.absolute()}",
        f"PARAMETER num_ctx {spec.context}",
        f"PARAMETER num_thread {threads}",
    ]
    for marker, (template, stop) in _TEMPLATES.items():
        if marker in theirs:
            lines += [f'TEMPLATE """{template}"""', f'PARAMETER stop "{stop}"']
    return "\n".join(lines) + "\n"


def _filling(chats: str) -> str:
    """The template that Ollama chose for chats, and beside it the one of fill in the middle.

    Without the space that Ollama's own has behind the last marker: Mistral's tokenizer has none.
    """
    return f'TEMPLATE """{_FILLING % chats.strip()}"""\n'


def _refuse_markers(body: Mapping[str, Any]) -> None:
    """Ollama takes a marker in somebody's code for one, and answers nothing to no text."""
    found = [
        mark for mark in _MARKERS if mark in body["prompt"] or mark in (body.get("suffix") or "")
    ]
    if found or not body["prompt"]:
        raise BadInput(
            "Ollama cannot fill in this text",
            found=f"{', '.join(found)} in it" if found else "nothing before the place to fill",
            accepted="a text before it, and neither of the two words that mark the places",
        )


def _private_folders(spec: LaunchSpec) -> None:
    for folder in (spec.state_dir, spec.state_dir / "models", spec.state_dir / "tmp"):
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)


@contextmanager
def _served(engine: Ollama, spec: LaunchSpec) -> Iterator[None]:
    """Run the server on its own address while the model is imported."""
    process = subprocess.Popen(
        engine.command(spec),
        env=engine.environment(spec),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_up(engine, spec, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(engine: Ollama, spec: LaunchSpec, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SERVE_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        if engine.probe(spec.base_url, spec.served_name, 5).reason != "unreachable":
            return
        time.sleep(0.1)
    raise EngineUnhealthy(
        "Ollama did not come up to import the model",
        found=f"exit status {process.poll()}" if process.poll() is not None else "no answer",
        accepted=f"an answer on {spec.base_url} within {SERVE_WITHIN_S:.0f} s",
        next_step=f"see whether the port is taken: ss -ltnp 'sport = :{spec.port}'",
    )


def _run(engine: Ollama, spec: LaunchSpec, words: list[str]) -> str:
    """Run the program's own command against the server that runs; return what it printed."""
    done = subprocess.run(
        [str(spec.found.program), *words],
        env=engine.environment(spec),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CREATE_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise EngineUnhealthy(
            f"`ollama {words[0]}` refused the weights",
            found=said[-1],
            accepted="a GGUF file of an architecture this Ollama knows",
        )
    return done.stdout


def _version(program: Path) -> str:
    """Ask the program, and no server: it would report the version of one that listens."""
    done = subprocess.run(
        [str(program), "--version"],
        env=environment.clean(Path("/nonexistent"), program) | {"OLLAMA_HOST": "127.0.0.1:1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = re.search(r"version is (\S+)", done.stdout + done.stderr)
    return said.group(1) if said else "unknown"
