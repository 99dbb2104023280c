"""Pass an engine's stream on, event by event, in the client's dialect.

Engines send `usage` in a last chunk without choices; Mistral's clients expect it on the
chunk that carries `finish_reason`, OpenAI's only when they asked. Everything else goes
through untouched and unparsed: a chunk is decoded only when its bytes show that it ends
the answer. Pure: bytes in, bytes out; no socket, no clock.
"""

from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
EVENT_MAX_BYTES = 4 * 1024 * 1024
_RUNNING = (b'"finish_reason":null', b'"finish_reason": null')


class Relay:
    """State of one stream: what it used, how it finished, what is held back."""

    def __init__(self, dialect: str, *, wants_usage: bool) -> None:
        self._mistral = dialect != "openai"
        self._wants_usage = wants_usage
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
            ValueError: an event is larger than `EVENT_MAX_BYTES`, or not JSON where it must be.
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
        if not event.startswith(b"data:"):
            return b""
        if _is_running(event):
            return event + b"\n\n"
        data = event[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return b""
        return self._decoded(msgspec.json.decode(data))

    def _decoded(self, chunk: dict[str, Any]) -> bytes:
        if "error" in chunk:
            self.failed = True
            return b""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        choices = chunk.get("choices") or []
        if not choices:
            return self._usage_chunk(chunk)
        for choice in choices:
            self.finish = choice.get("finish_reason") or self.finish
        if self._mistral and self.finish:
            out, self._last = self.rest(), chunk
            return out
        return _event(chunk)

    def _usage_chunk(self, chunk: dict[str, Any]) -> bytes:
        if not self._mistral:
            return _event(chunk) if self._wants_usage else b""
        if self._last is not None and self.usage:
            self._last["usage"] = self.usage
        return b""


def _is_running(event: bytes) -> bool:
    """True for a chunk in the middle of an answer, by its bytes alone."""
    marked = any(mark in event for mark in _RUNNING)
    return marked and event.count(b'"finish_reason"') == 1 and b'"usage":{' not in event


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
