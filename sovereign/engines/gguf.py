"""What we ask of a GGUF file before a start: is it one, how does it chat, what are its markers.

Not a reader of the format: the header is searched for one key, or for tokens of the vocabulary. The
GGUF specification stores a key's name, then its type as 4 bytes (8 is a string), then 8 bytes of
length, then the value, all little-endian; a token is stored as such a length and value.
"""

from pathlib import Path

from sovereign.errors import BadInput

_MAGIC = b"GGUF"
_CHAT_TEMPLATE = b"tokenizer.chat_template" + (8).to_bytes(4, "little")
# The key stands behind the vocabulary; 256,000 tokens take about 8 MiB.
_HEADER_MAX_BYTES = 32 * 1024 * 1024


def refuse_other(model: Path) -> None:
    """Raise `BadInput` unless `model` is a file that begins as GGUF does."""
    if _begins(model, len(_MAGIC)) != _MAGIC:
        raise BadInput(
            "this engine serves a GGUF file, and the model is none",
            found=str(model),
            accepted="a file that begins with the letters GGUF",
        )


def chat_template(model: Path) -> str:
    """Return the Jinja chat template inside `model`, empty if it has none."""
    header = _begins(model, _HEADER_MAX_BYTES)
    key = header.find(_CHAT_TEMPLATE)
    if key < 0:
        return ""
    start = key + len(_CHAT_TEMPLATE) + 8
    length = int.from_bytes(header[start - 8 : start], "little")
    return header[start : start + length].decode(errors="replace")


def has_tokens(model: Path, *tokens: str) -> bool:
    """True when each of these stands in the header as a string of its own, as tokens do."""
    header = _begins(model, _HEADER_MAX_BYTES)
    written = [token.encode() for token in tokens]
    return all(len(token).to_bytes(8, "little") + token in header for token in written)


def _begins(model: Path, size: int) -> bytes:
    if not model.is_file():
        return b""
    with model.open("rb") as file:
        return file.read(size)
