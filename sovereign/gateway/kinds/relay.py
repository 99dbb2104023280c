"""Pass an engine's stream on, event by event, in the client's dialect.

Engines send `usage` in a last chunk without choices; Mistral's clients expect it on the
chunk that carries `finish_reason`, OpenAI's only when they asked. What else a dialect asks for
is in `reshape.py`. Everything else goes through untouched and unparsed: a chunk is decoded only
when its bytes show that it ends the answer, or holds what the dialect says in another way. Pure:
bytes in, bytes out; no socket, no clock.
"""

from typing import Any

import msgspec

from sovereign.engines import conversation
from sovereign.engines.callids import CallIds
from sovereign.gateway.kinds import reshape

DONE = b"data: [DONE]\n\n"
EVENT_MAX_BYTES = 4 * 1024 * 1024
_RUNNING = (b'"finish_reason":null', b'"finish_reason": null')
_THOUGHTS = (b'"reasoning"', b'"reasoning_content"')
_MARKS = {
    "mistral": (b'"usage":{', b'"tool_calls"', *_THOUGHTS, b'"logprobs":{'),
    "openai": (b'"usage":{', b'"tool_calls"', _THOUGHTS[0]),
}
"""What a chunk in the middle of an answer must not hold to pass as it is. Inside of a text every
quotation mark is escaped, so a model that writes such a word never makes one of these."""


class Relay:
    """State of one stream: what it used, how it finished, what is held back.

    `messages` are those the engine was sent: a new tool call must have none of their ids. `begun`
    is what stands before the engine's words in each of the `choices`.
    """

    def __init__(
        self,
        dialect: str,
        *,
        wants_usage: bool,
        messages: object = None,
        begun: str = "",
        choices: int = 1,
    ) -> None:
        self._dialect = dialect
        self._mistral = dialect != "openai"
        self._marks = _MARKS["mistral" if self._mistral else "openai"]
        self._wants_usage = wants_usage
        self._messages = messages
        self._ids: CallIds | None = None
        self._calls = reshape.Calls(self._conversation_ids)
        self._begun = begun
        self._beginning = set(range(choices)) if begun else set()
        self._rest = b""
        self._last: dict[str, Any] | None = None
        self.usage: dict[str, Any] = {}
        self.finish = ""
        self.done = False
        self.failed = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine, return the bytes that may go out now.

        The end marker is never among them: the caller sends it once the completion is
        recorded.

        Raises:
            ValueError: an event is larger than `EVENT_MAX_BYTES`, not text, or not JSON where it
                must be; or the end came before the answer had one.
        """
        *events, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > EVENT_MAX_BYTES:
            raise ValueError("event too large")
        return b"".join(self._event(event) for event in events if event)

    def rest(self) -> bytes:
        """What was held back and must go out before the end marker."""
        last, self._last = self._last, None
        return b"" if last is None else _event(last)

    def _event(self, event: bytes) -> bytes:
        if self.done or not event.startswith(b"data:"):
            return b""
        if not self._beginning and self._is_running(event):
            if not event.isascii():
                event.decode()  # what passes unparsed must at least be text
            return event + b"\n\n"
        data = event[5:].strip()
        if data == b"[DONE]":
            if not self.finish:
                raise ValueError("an end without a finish")
            self.done = True
            return b""
        return self._decoded(event, msgspec.json.decode(data))

    def _is_running(self, event: bytes) -> bool:
        """True for a chunk in the middle of an answer that is right as it is: by bytes alone."""
        for mark in self._marks:
            if mark in event:
                return False
        running = _RUNNING[0] in event or _RUNNING[1] in event
        return running and event.count(b'"finish_reason"') == 1

    def _decoded(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        if "error" in chunk:
            self.failed = True
            return b""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        choices = chunk.get("choices") or []
        if not choices:
            return self._usage_chunk(chunk)
        changed = False
        for choice in choices:
            self.finish = choice.get("finish_reason") or self.finish
            changed |= self._begin(choice) | self._calls.mend(choice)
            changed |= reshape.delta(choice, self._dialect)
        if not self._mistral:
            return _event(chunk) if changed else event + b"\n\n"
        if self._is_only_pieces(choices):
            return b""
        if self.finish:
            out, self._last = self.rest(), chunk
            return out
        return _event(chunk)

    def _begin(self, choice: dict[str, Any]) -> bool:
        """Put what the client began before the first words of the choice."""
        at = choice.get("index", 0)
        if at not in self._beginning:
            return False
        self._beginning.discard(at)
        reshape.begin(choice["delta"], self._begun)
        return True

    def _is_only_pieces(self, choices: list[dict[str, Any]]) -> bool:
        """Gather the pieces of tool calls; True when nothing is left to be sent now."""
        left = False
        for choice in choices:
            pieces = bool(choice["delta"].get("tool_calls"))
            if pieces:
                self._calls.take(choice)
            if choice.get("finish_reason"):
                reshape.finish(choice)
                self._calls.give(choice)
                left = True
            elif not pieces or choice["delta"].get("content"):
                left = True
        return not left

    def _conversation_ids(self) -> CallIds:
        if self._ids is None:
            self._ids = conversation.ids_in(self._messages)
        return self._ids

    def _usage_chunk(self, chunk: dict[str, Any]) -> bytes:
        if not self._mistral:
            return _event(chunk) if self._wants_usage else b""
        if self._last is not None and self.usage:
            self._last["usage"] = self.usage
        return b""


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
