"""An engine's answer in the words of the client's dialect.

| an engine says                 | Mistral's clients get                  | OpenAI's get          |
|--------------------------------|----------------------------------------|-----------------------|
| tool call `chatcmpl-tool-…`    | nine letters and digits (`callids.py`) | the same              |
| tool call in pieces            | whole, on the chunk that finishes      | the same              |
| `stop` after a tool call       | `tool_calls`                           | the same              |
| `reasoning`                    | a part `thinking` in `content`         | `reasoning_content`   |
| another `finish_reason`        | one of Mistral's five                  | one of OpenAI's       |
| what follows a `prefix`        | the prefix and what follows it         | the same              |
| log probabilities              | with `token_id`, if the engine says it | the same              |
| fields of a message of its own | nothing                                | the same              |

Everything works in place on what was decoded, and says whether it changed anything, so that an
answer which is right already leaves as the engine's own bytes. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sovereign.engines.callids import CallIds

MISTRAL_FINISHES = frozenset({"stop", "length", "error", "tool_calls", "model_length"})
_TO_MISTRAL = {"abort": "error", "content_filter": "stop", "function_call": "tool_calls"}
_TO_OPENAI = {"model_length": "length"}
_MESSAGE = frozenset({"role", "content", "tool_calls", "prefix"})
_THOUGHTS = ("reasoning_content", "reasoning")
_BY_ID = "token_id:"

Ids = Callable[[], CallIds]
"""The ids of the conversation; only an answer with tool calls asks for them."""


def whole(choice: dict[str, Any], dialect: str, ids: CallIds) -> bool:
    """Put one choice of a whole answer in words of the dialect; return whether it changed."""
    message = choice["message"]
    if dialect == "openai":
        return _renamed(message) | _finished(choice, _TO_OPENAI)
    changed = _think(message)
    for name in [name for name in message if name not in _MESSAGE]:
        del message[name]
        changed = True
    if message.get("tool_calls"):
        changed |= _called(message, choice, ids)
    return changed | finish(choice) | _counted(choice)


def delta(choice: dict[str, Any], dialect: str) -> bool:
    """Put one choice of a chunk in words of the dialect; return whether it changed. Its tool calls
    are `Calls`' to gather."""
    if dialect == "openai":
        return _renamed(choice["delta"]) | _finished(choice, _TO_OPENAI)
    return _think(choice["delta"]) | _counted(choice)


def begin(message: dict[str, Any], begun: str) -> None:
    """Put the beginning that the client gave before what the engine said after it."""
    message["content"] = begun + (message.get("content") or "")


def finish(choice: dict[str, Any]) -> bool:
    """Say in Mistral's words how the choice ended: what it has no word for is an error."""
    ended = choice.get("finish_reason")
    if not isinstance(ended, str):
        choice["finish_reason"] = "error"
        return True
    if ended in MISTRAL_FINISHES:
        return False
    choice["finish_reason"] = _TO_MISTRAL.get(ended, "error")
    return True


class Calls:
    """The tool calls of a stream, gathered until the choice they belong to is finished.

    Mistral's interface sends a call whole; its clients cannot read a piece without a name.
    """

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._open: dict[int, dict[int, dict[str, Any]]] = {}
        self._begun: set[tuple[int, int]] = set()

    def mend(self, choice: dict[str, Any]) -> bool:
        """Mend the beginning of arguments; return whether it had to be.

        vLLM (seen with 0.32.0) leaves the colon before them in a stream whose tool was forced and
        whose JSON has no white space, which is how we have it written.
        """
        mended = False
        for at, piece in _pieces(choice):
            function, call = piece.get("function") or {}, (choice.get("index", 0), at)
            said = function.get("arguments")
            if said and call not in self._begun:
                self._begun.add(call)
                if said.startswith(":"):
                    function["arguments"], mended = said[1:].lstrip(), True
        return mended

    def take(self, choice: dict[str, Any]) -> None:
        """Take the pieces out of a chunk's choice."""
        gathered = self._open.setdefault(choice.get("index", 0), {})
        for at, piece in _pieces(choice):
            call = gathered.setdefault(
                at, {"name": "", "arguments": [], "id": "", "index": len(gathered)}
            )
            call["id"] = piece.get("id") or call["id"]
            function = piece.get("function") or {}
            call["name"] = function.get("name") or call["name"]
            call["arguments"].append(function.get("arguments") or "")
        del choice["delta"]["tool_calls"]

    def give(self, choice: dict[str, Any]) -> None:
        """Put what was gathered on the chunk that finishes the choice."""
        gathered = self._open.pop(choice.get("index", 0), None)
        if not gathered:
            return
        choice["delta"]["tool_calls"] = [
            {
                "id": self._ids().fresh(call["id"] or f"call {call['index']}"),
                "type": "function",
                "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                "index": call["index"],
            }
            for call in gathered.values()
        ]
        if choice["finish_reason"] == "stop":
            choice["finish_reason"] = "tool_calls"


def _pieces(choice: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The pieces of calls in a chunk, each with the place of its call; some engines count none."""
    pieces = choice["delta"].get("tool_calls") or ()
    return [(piece.get("index", at), piece) for at, piece in enumerate(pieces)]


def _called(message: dict[str, Any], choice: dict[str, Any], ids: CallIds) -> bool:
    changed = False
    for at, call in enumerate(message["tool_calls"]):
        found = ids.fresh(call.get("id") or f"call {at}")
        if call.get("id") != found or call.get("index", 0) != at:
            call["id"], call["index"] = found, at
            changed = True
    if message.get("content") is None:
        message["content"], changed = "", True
    if choice.get("finish_reason") == "stop":
        choice["finish_reason"], changed = "tool_calls", True
    return changed


def _think(message: dict[str, Any]) -> bool:
    """Make Mistral's parts of an engine's thoughts and text."""
    if not any(name in message for name in _THOUGHTS):
        return False
    said = [message.pop(name, None) for name in _THOUGHTS]
    thoughts = next((each for each in said if each), "")
    if thoughts:
        parts: list[dict[str, Any]]
        parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thoughts}]}]
        if message.get("content"):
            parts.append({"type": "text", "text": message["content"]})
        message["content"] = parts
    return True


def _renamed(message: dict[str, Any]) -> bool:
    """What vLLM and Ollama call `reasoning` is `reasoning_content` to clients of OpenAI's kind."""
    if "reasoning" not in message:
        return False
    thoughts = message.pop("reasoning")
    if thoughts:
        message.setdefault("reasoning_content", thoughts)
    return True


def _finished(choice: dict[str, Any], words: Mapping[str, str]) -> bool:
    ended = choice.get("finish_reason")
    if not isinstance(ended, str) or ended not in words:
        return False
    choice["finish_reason"] = words[ended]
    return True


def _counted(choice: dict[str, Any]) -> bool:
    """Give each token of the log probabilities its id, as Mistral's clients need it."""
    probabilities = choice.get("logprobs")
    if not isinstance(probabilities, dict):
        return False
    tokens = probabilities.get("content") or ()
    for token in tokens:
        for each in (token, *(token.get("top_logprobs") or ())):
            _identify(each)
    return bool(tokens)


def _identify(token: dict[str, Any]) -> None:
    """vLLM writes the id in place of the text, whose bytes stand beside it; llama.cpp has `id`."""
    said = token["token"]
    if said.startswith(_BY_ID):
        token["token_id"] = int(said[len(_BY_ID) :])
        token["token"] = bytes(token.get("bytes") or ()).decode(errors="replace")
    elif "id" in token:
        token["token_id"] = token["id"]
