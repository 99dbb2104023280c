"""Fill in the middle: the code before the cursor, the code after it, and what goes between.

Mistral's `POST /v1/fim/completions`, over engines that do not have it. The prompt goes as token
ids where the engine takes them and the facts name the model's tokenizer (`engines/fillers.py`).
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sovereign.engines import ChatContext, Dialect, Engine, Upstream, fillers
from sovereign.errors import BadInput
from sovereign.gateway.kinds import onetext
from sovereign.gateway.kinds.kind import Kind, Sent, Whole
from sovereign.gateway.kinds.onetext import AsMessage, Named, TextRelay
from sovereign.gateway.kinds.reading import Body, read
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.refusal import Denied
from sovereign.policy.shapes import Model

ENCODED_AT_ONCE_CHARS = 2048
"""Encoding this much takes about half a millisecond; what is longer is encoded in a thread."""
TOKENS_BY_DEFAULT = 512
"""How long what goes between may become when the client does not say. Engines of their own accord
take 16, or go on to the end of their context; that end is not known here."""
STOPS_MAX = 64
Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Stops = str | Annotated[list[str], Meta(max_length=STOPS_MAX)]


class Fim(Body, frozen=True):
    """The fields of Mistral's public interface."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str
    suffix: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Count | None = None
    min_tokens: Count | None = None
    stream: bool | None = None
    stop: Stops | None = None
    random_seed: int | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None


def _read(raw: bytes, dialect: Dialect) -> Wish:
    """Mistral's fields whoever asks: OpenAI has no such route."""
    asked = read(raw, Fim)
    body = msgspec.structs.asdict(asked)
    if asked.max_tokens is None:
        body["max_tokens"] = TOKENS_BY_DEFAULT
    return Wish(asked.model, asked.stream is True, True, 1, body)


def _needs(wish: Wish) -> str:
    return "fim"


async def translate(engine: Engine, wish: Wish, context: ChatContext, model: Model) -> Upstream:
    """The request to the engine that fills in.

    Raises:
        Denied: the engine needs token ids and there are none to be had for this model, or it
            cannot tell this text from markers.
    """
    try:
        ids = await _ids(engine, wish, model)
        return engine.fim(wish.body, context, ids)
    except BadInput as error:
        raise Denied("fim-not-possible", f"{error.message}: {error.found}") from None


async def _ids(engine: Engine, wish: Wish, model: Model) -> Sequence[int]:
    if not engine.takes_ids or not model.fim_tokenizer:
        return ()
    asked = (model.fim_tokenizer, wish.body["prompt"], wish.body["suffix"] or "")
    size = len(asked[1]) + len(asked[2])
    if size <= ENCODED_AT_ONCE_CHARS and fillers.is_loaded(model.fim_tokenizer):
        return fillers.encoded(*asked)
    return await asyncio.to_thread(fillers.encoded, *asked)


def _whole(body: bytes, sent: Sent) -> Whole:
    return onetext.whole(body, sent.upstream.answers, AsMessage(), named(sent))


def _relay(sent: Sent) -> TextRelay:
    return TextRelay(sent.upstream.answers, AsMessage(), named(sent), wants_usage=True)


def named(sent: Sent) -> Named:
    """A new id and the time: engines of their own give neither."""
    return Named(secrets.token_hex(16), int(time.time()), sent.model)


FIM = Kind(
    name="fim",
    route="/v1/fim/completions",
    needs=_needs,
    read=_read,
    translate=translate,
    whole=_whole,
    relay=_relay,
)
