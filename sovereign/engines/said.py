"""What an engine said when it was to go on from a text, whichever way it says such things.

Pure: one parsed JSON object in, a whole answer or one event of a stream, and what it says out. An
object that reports an error is the caller's to notice, before this.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sovereign.engines.contract import Answers

FINISHES = frozenset({"stop", "length"})


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of text, or all of it.

    `finish` is "" while the answer goes on, else "stop", "length", or "error" for an end that was
    none of the answer's own. `usage` is None until the engine has counted. `last` says that
    nothing follows.
    """

    text: str
    finish: str = ""
    usage: dict[str, Any] | None = None
    last: bool = False


def _texts(event: Mapping[str, Any]) -> Said:
    """OpenAI's text completion, as vLLM answers it. A stream ends with a marker of its own, and
    counts in an event without choices."""
    usage = event.get("usage") or None
    if not event["choices"]:
        return Said("", usage=usage)
    choice = event["choices"][0]
    return Said(_text(choice["text"]), _finish(choice.get("finish_reason") or ""), usage)


def _infill(event: Mapping[str, Any]) -> Said:
    """llama.cpp's own; `stop_type` is what a stop was for: eos, word, limit or none."""
    text = _text(event["content"])
    if event.get("stop") is not True:
        return Said(text)
    finish = {"eos": "stop", "word": "stop", "limit": "length"}.get(event["stop_type"], "error")
    usage = _counted(event.get("tokens_evaluated"), event.get("tokens_predicted"))
    return Said(text, finish, usage, last=True)


def _generate(event: Mapping[str, Any]) -> Said:
    """Ollama's own; it counts nothing for a prompt it has wholly in its cache."""
    text = _text(event.get("response", ""))
    if event["done"] is not True:
        return Said(text)
    finish = _finish(event.get("done_reason") or "error")
    usage = _counted(event.get("prompt_eval_count"), event.get("eval_count"))
    return Said(text, finish, usage, last=True)


READERS: Mapping[Answers, Callable[[Mapping[str, Any]], Said]] = {
    "texts": _texts,
    "infill": _infill,
    "generate": _generate,
}
"""By the shape in which an engine answers. Each raises LookupError, TypeError, ValueError or
AttributeError for an object of another shape."""


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError("an answer's text is none")
    return found


def _finish(found: object) -> str:
    """An end that is no end of an answer (an engine that was told to stop) is an error."""
    return str(found) if found in FINISHES or found == "" else "error"


def _counted(prompt: object, completion: object) -> dict[str, Any]:
    counted = [count if type(count) is int else 0 for count in (prompt, completion)]
    return {
        "prompt_tokens": counted[0],
        "completion_tokens": counted[1],
        "total_tokens": sum(counted),
    }
