"""A text to go on from, or to fill in, in each engine's words. Pure; nothing given is changed.

Unlike a chat, this is asked of each engine in its own way: only so do token ids, a suffix and the
bare text of the client arrive as what they are. As with chats, only fields named here pass.

| client's field            | vLLM                   | llama.cpp         | Ollama (in `options`)  |
|---------------------------|------------------------|-------------------|------------------------|
| prompt, ids given         | prompt: the ids        | prompt: the ids   |                        |
| prompt, suffix            | refused without ids    | input_prefix, …   | prompt, suffix         |
| prompt alone              | prompt                 | prompt            | prompt, raw            |
| max_tokens                | max_tokens             | n_predict         | num_predict            |
| random_seed, seed         | seed                   | seed              | seed                   |
| stop, one or a list       | stop, a list           | stop, a list      | stop, a list           |
| stop: "", in a list too   | left out               | left out          | left out               |
| min_tokens                | min_tokens             | nothing: dropped  | nothing: dropped       |

KNOWN: in a bare text llama.cpp and Ollama read control tokens (`<s>`, `[INST]`) as such. It is the
answer of whoever wrote them that goes astray, and nobody else's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sovereign.engines.contract import ChatContext, Upstream
from sovereign.engines.translate import WITHHELD

VLLM_PATH = "/v1/completions"
LLAMACPP_PATH = "/completion"
INFILL_PATH = "/infill"
OLLAMA_PATH = "/api/generate"

_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
_VLLM = {
    **{name: name for name in (*_SAME, "max_tokens", "min_tokens", "logit_bias", "ignore_eos")},
    "repetition_penalty": "repetition_penalty",
    "random_seed": "seed",
}
_LLAMACPP = {
    **{name: name for name in (*_SAME, "logit_bias", "ignore_eos")},
    "repetition_penalty": "repeat_penalty",
    "random_seed": "seed",
    "max_tokens": "n_predict",
}
_OLLAMA = {
    **{name: name for name in _SAME},
    "repetition_penalty": "repeat_penalty",
    "random_seed": "seed",
    "max_tokens": "num_predict",
}
_ANSWERED = frozenset({"model", "prompt", "suffix", "stream", "stream_options"})


def vllm(body: Mapping[str, Any], ctx: ChatContext, prompt: str | Sequence[int]) -> Upstream:
    """`body` says `max_tokens`: left out, or null, vLLM takes 16; more than it has it cuts off."""
    sent, dropped = _named(body, _VLLM)
    asked = {
        "model": ctx.served_name,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        **sent,
        **({"stream_options": {"include_usage": True}} if body.get("stream") is True else {}),
        "stream": body.get("stream") is True,
        "cache_salt": ctx.tenant_salt,
    }
    return Upstream(VLLM_PATH, asked, dropped, "texts")


def llamacpp(body: Mapping[str, Any], ctx: ChatContext, prompt: str | Sequence[int]) -> Upstream:
    """llama.cpp's own route: it takes ids, and says how an answer ended."""
    asked = {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
    return _llamacpp(LLAMACPP_PATH, body, ctx, asked)


def infill(body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
    """The markers are those the GGUF file names, in llama.cpp's order; both texts stay text."""
    asked = {"input_prefix": body["prompt"], "input_suffix": body.get("suffix") or ""}
    return _llamacpp(INFILL_PATH, body, ctx, asked)


def _llamacpp(
    path: str, body: Mapping[str, Any], ctx: ChatContext, asked: dict[str, Any]
) -> Upstream:
    sent, dropped = _named(body, _LLAMACPP)
    stream = body.get("stream") is True
    whole = {"model": ctx.served_name, **asked, **sent, "stream": stream, "cache_prompt": False}
    return Upstream(path, whole, dropped, "infill")


def ollama(body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
    """With a suffix by the model's template; without one as bare text, since Ollama would make a
    chat of it. What does not fit is refused instead of cut."""
    options, dropped = _named(body, _OLLAMA)
    suffix = body.get("suffix") or ""
    asked = {
        "model": ctx.served_name,
        "prompt": body["prompt"],
        **({"suffix": suffix} if suffix else {"raw": True}),
        "options": options,
        "stream": body.get("stream") is True,
        "truncate": False,
        "shift": False,
    }
    return Upstream(OLLAMA_PATH, asked, dropped, "generate")


def _named(
    body: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The client's fields under the engine's names, and those that have none."""
    asked = {name: value for name, value in body.items() if value is not None}
    sent = {names[name]: value for name, value in asked.items() if name in names}
    if "stop" in sent:
        stops = [sent["stop"]] if isinstance(sent["stop"], str) else sent["stop"]
        sent["stop"] = [stop for stop in stops if stop]
    dropped = set(asked) - set(names) - WITHHELD - _ANSWERED
    return sent, tuple(sorted(dropped))
