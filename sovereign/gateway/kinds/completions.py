"""OpenAI's `POST /v1/completions`: a text to go on from, and for models that fill in, a suffix.

Not every field of OpenAI's has a meaning here: one prompt, one answer, no echo. A suffix makes it
a fill in the middle, on the same way as Mistral's route and with the same refusals.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sovereign.engines import ChatContext, Dialect, Engine, Upstream
from sovereign.gateway.kinds import fim, onetext
from sovereign.gateway.kinds.fim import Count, Stops, named
from sovereign.gateway.kinds.kind import Kind, Sent, Whole
from sovereign.gateway.kinds.onetext import AsText, TextRelay
from sovereign.gateway.kinds.reading import Body, read
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.refusal import Denied
from sovereign.policy.shapes import Model

TOKENS_BY_DEFAULT = 16
"""OpenAI's; an engine of its own accord would go on to the end of its context."""


class StreamOptions(Body, frozen=True):
    """What a stream says beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Completion(Body, frozen=True):
    """The fields of OpenAI's public interface, and the two that vLLM's own tools add to them."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=1)]
    suffix: str | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    stop: Stops | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None


def _read(raw: bytes, dialect: Dialect) -> Wish:
    """OpenAI's fields whoever asks: Mistral has no such route."""
    asked = read(raw, Completion)
    for name in ("n", "best_of"):
        if getattr(asked, name) not in (None, 1):
            raise Denied("field-invalid", f"`{name}` must be 1 here", param=name)
    if asked.echo:
        raise Denied("field-invalid", "`echo` is not served", param="echo")
    options = asked.stream_options
    wants_usage = options is not None and options.include_usage is True
    return Wish(asked.model, asked.stream is True, wants_usage, 1, _body(asked))


def _body(asked: Completion) -> dict[str, Any]:
    """As the engines' adapters read it: fields with their defaults left out, but for the tokens."""
    body = msgspec.structs.asdict(asked)
    for name in ("n", "best_of", "echo", "stream_options"):
        del body[name]
    body["prompt"] = asked.prompt if isinstance(asked.prompt, str) else asked.prompt[0]
    if asked.max_tokens is None:
        body["max_tokens"] = TOKENS_BY_DEFAULT
    return body


def _needs(wish: Wish) -> str:
    """Every model of text goes on from one; not every one fills in."""
    return "fim" if wish.body["suffix"] else ""


async def _translate(engine: Engine, wish: Wish, context: ChatContext, model: Model) -> Upstream:
    if wish.body["suffix"]:
        return await fim.translate(engine, wish, context, model)
    return engine.complete(wish.body, context)


def _whole(body: bytes, sent: Sent) -> Whole:
    return onetext.whole(body, sent.upstream.answers, AsText(), named(sent))


def _relay(sent: Sent) -> TextRelay:
    wants_usage = sent.wish.wants_usage
    return TextRelay(sent.upstream.answers, AsText(), named(sent), wants_usage=wants_usage)


COMPLETION = Kind(
    name="completion",
    route="/v1/completions",
    needs=_needs,
    read=_read,
    translate=_translate,
    whole=_whole,
    relay=_relay,
    speaks="openai",
)
