"""What may stand in the files of a set, read before any engine does.

Headers of tensors are read by `sizing/reading`, which believes no size, offset or count. And:

  * No configuration asks for code of its own (`auto_map`, `trust_remote_code` and their like).
  * No chat template reaches for more than a conversation: another template, or the inside of
    Python. Engines run templates in a sandbox; this refuses before they do.

KNOWN: a template is judged by its words, not by running it. One that puts a forbidden word together
out of pieces is left to the engine's sandbox; the words for getting at such a name are refused too.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sovereign.engines import gguf
from sovereign.errors import BadInput, WeightsUnsafe
from sovereign.sizing import reading
from sovereign.weights.manifest import GGUF, TENSORS, Manifest

CONFIG_MAX_BYTES = 8 * 1024 * 1024
TEMPLATE_MAX_CHARS = 262_144
CODE_KEYS = frozenset(
    {"auto_map", "trust_remote_code", "custom_generate", "custom_pipelines", "_class_path"}
)
_VOCABULARY = re.compile(
    r"tekken\.json|tokenizer\.json|vocab\.json|added_tokens\.json|.*\.index\.json"
)
"""Their keys are tokens and tensors, which may be any word."""
_REACHES = re.compile(
    r"__|\|\s*attr\b|\battr\s*\(|\{%[-+]?\s*(include|import|from|extends|macro\s+_)\b"
    r"|\b(func_globals|gi_frame|cr_frame|f_globals|mro|getattr|lipsum|cycler|joiner|self\._)\b"
)


def check(folder: Path, manifest: Manifest) -> str:
    """Judge the contents of every file; return the digest of the chat template, "" for none.

    Raises:
        WeightsUnsafe: something in it is not served.
    """
    found = [text for each in manifest.entries for text in _templates(folder / each.name)]
    _headers(folder, manifest)
    for text in found:
        _refuse_template(text)
    whole = "\n".join(dict.fromkeys(found))
    return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}" if found else ""


def _headers(folder: Path, manifest: Manifest) -> None:
    weights = [each.name for each in manifest.entries if each.name.endswith((TENSORS, GGUF))]
    try:
        for name in weights:
            reading.read(folder / name)
        if (folder / "config.json").is_file() or (folder / "params.json").is_file():
            reading.read(folder)
    except BadInput as error:
        raise WeightsUnsafe(
            f"{error}; nothing was published", found=error.found, accepted=error.accepted
        ) from None


def _templates(path: Path) -> Iterator[str]:
    """The chat templates in a file, once nothing else in it asks for code."""
    if path.name.endswith(GGUF):
        yield from filter(None, [gguf.chat_template(path)])
    elif path.name.endswith(".jinja"):
        yield _text(path)
    elif path.name.endswith(".json") and not _VOCABULARY.fullmatch(path.name):
        said = _json(path)
        for key, value in _pairs(said):
            if key in CODE_KEYS and value not in (None, False):
                raise _unsafe(f"{path.name} asks for code of its own", key, "weights without it")
            if key == "chat_template":
                yield from _strings(value)


def _text(path: Path) -> str:
    if path.stat().st_size > CONFIG_MAX_BYTES:
        raise _unsafe(
            f"{path.name} is too long", f"{path.stat().st_size} bytes", str(CONFIG_MAX_BYTES)
        )
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise _unsafe(f"{path.name} is no text", "bytes", "UTF-8") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError):
        raise _unsafe(f"{path.name} is no JSON", "something else", "one document") from None


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of a document, however deep; `json` bounds the depth."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from each.items()
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _strings(value: Any) -> Iterator[str]:
    """A template, or several by name: each text in it."""
    if isinstance(value, str):
        yield value
        return
    yield from (each for _, each in _pairs(value) if isinstance(each, str))


def _refuse_template(text: str) -> None:
    if len(text) > TEMPLATE_MAX_CHARS:
        raise _unsafe(
            "a chat template is too long", f"{len(text)} characters", str(TEMPLATE_MAX_CHARS)
        )
    reaches = _REACHES.search(text)
    if reaches:
        raise _unsafe("a chat template reaches beyond a conversation", reaches[0], "no such word")


def _unsafe(what: str, found: str, accepted: str) -> WeightsUnsafe:
    return WeightsUnsafe(f"{what}; nothing was published", found=found[:80], accepted=accepted)
