"""Texts in, vectors out: `POST /v1/embeddings`, in both dialects.

The vectors pass through as the engine wrote them, which is most of the answer; only what stands
around them is read and written again.
"""

import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sovereign.engines import ChatContext, Dialect, Engine, Upstream
from sovereign.gateway.kinds.kind import Kind, Sent, Stream, Whole
from sovereign.gateway.kinds.reading import Body, read
from sovereign.gateway.kinds.wish import Wish
from sovereign.policy.shapes import Model

TEXTS_MAX = 2048
"""Texts in one request, as OpenAI bounds it; the size of the body bounds them as well."""
Dimensions = Annotated[int, Meta(ge=1, le=1_000_000)]


class Asked(Body, frozen=True):
    """The fields that both dialects have."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[str], Meta(min_length=1, max_length=TEXTS_MAX)]
    encoding_format: Literal["float", "base64"] | None = None


class Mistrals(Asked, frozen=True):
    """The fields of Mistral's public interface."""

    output_dimension: Dimensions | None = None
    output_dtype: Literal["float"] | None = None
    metadata: dict[str, Any] | None = None


class OpenAIs(Asked, frozen=True):
    """The fields of OpenAI's public interface."""

    dimensions: Dimensions | None = None
    user: str | None = None


class _Answer(msgspec.Struct):
    """What is looked at of an engine's answer; the vectors stay the bytes they are."""

    data: msgspec.Raw
    usage: dict[str, Any]


def _read(raw: bytes, dialect: Dialect) -> Wish:
    asked = read(raw, OpenAIs if dialect == "openai" else Mistrals)
    return Wish(asked.model, False, False, 1, msgspec.structs.asdict(asked))


def _needs(wish: Wish) -> str:
    return "embeddings"


async def _translate(engine: Engine, wish: Wish, context: ChatContext, model: Model) -> Upstream:
    return engine.embed(wish.body, context)


def _whole(body: bytes, sent: Sent) -> Whole:
    answer = msgspec.json.decode(body, type=_Answer)
    content = {
        "id": secrets.token_hex(16),
        "object": "list",
        "data": answer.data,
        "model": sent.model,
        "usage": answer.usage,
    }
    return Whole(msgspec.json.encode(content), answer.usage, "")


def _relay(sent: Sent) -> Stream:
    raise TypeError("vectors are never streamed")


EMBEDDING = Kind(
    name="embed",
    route="/v1/embeddings",
    needs=_needs,
    read=_read,
    translate=_translate,
    whole=_whole,
    relay=_relay,
)
