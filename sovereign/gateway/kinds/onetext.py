"""An answer that is one text, in the client's words, whichever way its engine put it.

Mistral's clients get the text of a fill in the middle as a message, OpenAI's get the text of a
completion as a text. Both are made here, whole or chunk by chunk, from what `said.py` reads out of
an engine's answer. Pure: `Named` brings the id and the time in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sovereign.engines.contract import Answers
from sovereign.engines.said import READERS, Said
from sovereign.gateway.kinds.kind import Whole
from sovereign.gateway.kinds.relay import EVENT_MAX_BYTES

Choice = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """What goes with every chunk of one answer."""

    id: str
    created: int
    model: str


class AsMessage:
    """Mistral's form: a message, and usage on the chunk that finishes."""

    whole_is, piece_is = "chat.completion", "chat.completion.chunk"

    def opening(self) -> list[Choice]:
        """The chunk a stream begins with, before any text."""
        return [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]

    def whole(self, text: str, finish: str) -> Choice:
        """All of the answer."""
        message = {"role": "assistant", "content": text, "tool_calls": None, "prefix": False}
        return {"index": 0, "message": message, "finish_reason": finish}

    def piece(self, text: str, finish: str | None) -> Choice:
        """A part of it; `finish` is None but on the last."""
        return {"index": 0, "delta": {"content": text}, "finish_reason": finish}


class AsText:
    """OpenAI's form: a text, and usage on a chunk of its own for those who asked."""

    whole_is, piece_is = "text_completion", "text_completion"

    def opening(self) -> list[Choice]:
        """There is none."""
        return []

    def whole(self, text: str, finish: str) -> Choice:
        """All of the answer, or a part of it: they look the same."""
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    def piece(self, text: str, finish: str | None) -> Choice:
        """A part of it; `finish` is None but on the last."""
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


Form = AsMessage | AsText


def whole(body: bytes, answers: Answers, form: Form, named: Named) -> Whole:
    """Put an engine's whole answer in the client's form.

    Raises:
        One of `NONSENSE`: it is not the answer of an engine to a text.
    """
    said = READERS[answers](_object(body))
    if not said.finish:
        raise ValueError("an answer without an end")
    usage = said.usage or {}
    content = _with(named, form.whole_is, [form.whole(said.text, said.finish)])
    return Whole(msgspec.json.encode({**content, "usage": usage}), usage, said.finish)


class TextRelay:
    """State of one stream of text; see `kind.Stream`. Reads events (`data: …`) and bare lines."""

    def __init__(self, answers: Answers, form: Form, named: Named, *, wants_usage: bool) -> None:
        self._read = READERS[answers]
        self._form = form
        self._named = named
        self._wants_usage = wants_usage
        self._rest = b""
        self._opening = form.opening()
        self.usage: dict[str, Any] = {}
        self.finish = ""
        self.done = False
        self.failed = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine, return those that may go out now.

        Raises:
            One of `NONSENSE`: a line is larger than `EVENT_MAX_BYTES`, no JSON object, or none of
            this engine's; or the end came before the answer had one.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > EVENT_MAX_BYTES:
            raise ValueError("event too large")
        return b"".join(self._line(line.strip()) for line in lines)

    def rest(self) -> bytes:
        """The chunk that finishes, with usage as the form and the client want it."""
        last = self._chunk([self._form.piece("", self.finish)])
        if isinstance(self._form, AsMessage):
            last["usage"] = self.usage
            return _event(last)
        counted = _event(self._chunk([]) | {"usage": self.usage}) if self._wants_usage else b""
        return _event(last) + counted

    def _line(self, line: bytes) -> bytes:
        if self.done or not line or line.startswith((b":", b"event:", b"id:", b"retry:")):
            return b""
        data = line[5:].strip() if line.startswith(b"data:") else line
        if data == b"[DONE]":
            return self._ended()
        event = _object(data)
        if "error" in event:
            self.failed = True
            return b""
        return self._said(self._read(event))

    def _said(self, said: Said) -> bytes:
        self.usage = said.usage or self.usage
        self.finish = said.finish or self.finish
        out = b""
        if said.text:
            opening, self._opening = self._opening, []
            begun = _event(self._chunk(opening)) if opening else b""
            out = begun + _event(self._chunk([self._form.piece(said.text, None)]))
        return out + self._ended() if said.last else out

    def _ended(self) -> bytes:
        if not self.finish:
            raise ValueError("an end without an answer's")
        self.done = True
        return b""

    def _chunk(self, choices: list[Choice]) -> dict[str, Any]:
        return _with(self._named, self._form.piece_is, choices)


def _object(raw: bytes) -> Mapping[str, Any]:
    found = msgspec.json.decode(raw)
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _with(named: Named, kind: str, choices: list[Choice]) -> dict[str, Any]:
    return {
        "id": named.id,
        "object": kind,
        "created": named.created,
        "model": named.model,
        "choices": choices,
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
