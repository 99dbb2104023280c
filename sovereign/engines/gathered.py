"""A whole answer, asked of llama.cpp as a stream and put together again. Pure.

llama.cpp looks once a second whether anybody still waits for a whole answer, and beside somebody
else's stream not even that: each of its tokens begins the second anew. In a stream it notices with
the next token. So it is asked for streams alone, and what comes out of here is the answer that it
would have given by itself, field by field.

KNOWN: while it reads a prompt it notices only once a second, or with the first token; vectors
likewise. An error of 400 or more comes before the stream begins, and is no stream.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from sovereign.engines.contract import Answers, Upstream

EVENT_MAX_BYTES = 4 * 1024 * 1024
_NAMES = frozenset({"role", "id", "type", "name"})
"""Texts that come whole, and again."""


def asked(upstream: Upstream) -> Upstream:
    """The same request, for a stream; one for vectors stays as it is."""
    if upstream.answers == "vectors":
        return upstream
    counted = {"stream_options": {"include_usage": True}} if upstream.answers == "chat" else {}
    return replace(upstream, body={**upstream.body, **counted, "stream": True}, gathered=True)


class Gathered:
    """One answer on its way: the engine's bytes in, and in the end the whole answer."""

    def __init__(self, answers: Answers) -> None:
        self._answer = _Chat() if answers == "chat" else _Text()
        self._rest = b""
        self.done = False
        self.failed = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the engine. `done` is true once there are no more to come, `failed` once
        it has reported an error.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: it is no stream of such an answer,
                or one of its events is larger than `EVENT_MAX_BYTES`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > EVENT_MAX_BYTES:
            raise ValueError("event too large")
        for line in lines:
            self._line(line.strip())

    def _line(self, line: bytes) -> None:
        if not line.startswith((b"data:", b"error:")):
            return
        said = line.partition(b":")[2].strip()
        if said == b"[DONE]":
            self.done = True
            return
        event = msgspec.json.decode(said)
        if line.startswith(b"error:") or "error" in event:
            self.failed = True
        else:
            self._answer.take(event)
            self.done = self.done or self._answer.is_over

    def whole(self) -> bytes:
        """The answer.

        Raises:
            ValueError: the stream ended before it did.
        """
        if not self.done:
            raise ValueError("an answer without an end")
        return msgspec.json.encode(self._answer.whole())


class _Chat:
    """The choices of a chat, out of its chunks. Its end is a marker of its own."""

    is_over = False

    def __init__(self) -> None:
        self._about: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def take(self, chunk: Mapping[str, Any]) -> None:
        """Take one chunk; the last has `usage` and no choices."""
        for name, value in chunk.items():
            if name not in ("choices", "object"):
                self._about[name] = value
        for piece in chunk["choices"]:
            at = piece["index"]
            choice = self._choices.setdefault(at, {"finish_reason": None, "index": at, "said": {}})
            _merge(choice["said"], piece["delta"])
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if piece.get("logprobs"):
                known = choice.setdefault("logprobs", {"content": []})
                known["content"] += piece["logprobs"].get("content") or []

    def whole(self) -> dict[str, Any]:
        """The answer, once every choice has an end."""
        choices = [self._choices[at] for at in sorted(self._choices)]
        if not choices or not all(choice["finish_reason"] for choice in choices):
            raise ValueError("a choice without an end")
        told = [_choice(choice) for choice in choices]
        return {**self._about, "object": "chat.completion", "choices": told}


def _choice(gathered: Mapping[str, Any]) -> dict[str, Any]:
    """One choice as a whole answer has it: a message, whose calls are not counted."""
    message = {"role": "assistant", **gathered["said"]}
    if "tool_calls" in message:
        calls = message["tool_calls"]
        message["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
    elif message.get("content") is None:
        message["content"] = ""
    return {**{k: v for k, v in gathered.items() if k != "said"}, "message": message}


def _merge(said: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Put what a chunk says behind what was said: texts are continued, calls by their index."""
    for name, value in piece.items():
        known = said.get(name)
        if name == "tool_calls":
            for call in value or ():
                _called(said.setdefault(name, []), call)
        elif isinstance(known, str) and isinstance(value, str) and name not in _NAMES:
            said[name] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif value is not None or name not in said:
            said[name] = dict(value) if isinstance(value, dict) else value


def _called(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    for call in calls:
        if call.get("index") == piece.get("index"):
            _merge(call, piece)
            return
    begun: dict[str, Any] = {}
    _merge(begun, piece)
    calls.append(begun)


class _Text:
    """A text to go on from, or a fill in the middle, as llama.cpp's own routes stream it."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._last: Mapping[str, Any] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event; the last says `stop` and counts."""
        self._said.append(event["content"])
        self._last = event

    @property
    def is_over(self) -> bool:
        """True once an event has said that it is the last."""
        return self._last.get("stop") is True

    def whole(self) -> dict[str, Any]:
        """The answer."""
        return {**self._last, "content": "".join(self._said)}
