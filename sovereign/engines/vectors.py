"""Texts to be turned into vectors, in the words all our engines share. Pure.

| client's field                   | engine's field                                          |
|----------------------------------|---------------------------------------------------------|
| input, one text or a list        | input                                                   |
| encoding_format                  | encoding_format                                         |
| dimensions, output_dimension     | dimensions, where the engine can shorten; else dropped  |
| output_dtype: float              | nothing: it is what engines give                        |

KNOWN: Ollama cuts a text that is longer than its context, where the other engines refuse it.
"""

from collections.abc import Mapping
from typing import Any

from sovereign.engines.contract import ChatContext, Upstream
from sovereign.engines.translate import WITHHELD

PATH = "/v1/embeddings"
_SENT = ("input", "encoding_format")
_DIMENSIONS = ("dimensions", "output_dimension")
_ANSWERED = frozenset({"model", "output_dtype"})


def embed(body: Mapping[str, Any], ctx: ChatContext, *, shortens: bool) -> Upstream:
    """Return the request; `shortens` says that the engine heeds the number of dimensions."""
    asked = {name: value for name, value in body.items() if value is not None}
    sent: dict[str, Any] = {name: asked[name] for name in _SENT if name in asked}
    wanted = next((asked[name] for name in _DIMENSIONS if name in asked), None)
    if shortens and wanted is not None:
        sent["dimensions"] = wanted
    heeded = {*_SENT, *(_DIMENSIONS if shortens else ())}
    dropped = set(asked) - heeded - WITHHELD - _ANSWERED
    whole = {"model": ctx.served_name, **sent}
    return Upstream(PATH, whole, tuple(sorted(dropped)), "vectors")
