"""Is the engine able to answer? Ask it for one token and see; one without chats, for one vector.

An engine's own `/health` is never asked: vLLM says 200 while its worker on another machine is
dead, and while a model that starts cannot run. Whether a failed probe quarantines an endpoint is
the controller's decision; `timed-out` may only mean that the engine is busy.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from sovereign.engines.contract import Probe

PATH = "/v1/chat/completions"
VECTORS_PATH = "/v1/embeddings"
ANSWER_MAX_BYTES = 1024 * 1024
"""A vector of 16,384 numbers is about 350 KB."""
NO_CHATS = ("status 404", "status 501")
"""What vLLM and llama.cpp say to a chat when their model makes vectors only. A name that nobody
knows is 404, too; it is for vectors as well."""

# Why a probe failed. The words are stable: records and runbooks use them.
REASONS = {
    "unreachable": "nothing listens at that address, or the connection broke",
    "timed-out": "no whole answer in the time given",
    "status": "an HTTP status other than 200, which follows the word",
    "not-an-answer": "200, but not a chat completion with a choice in it, nor a vector",
    "wrong-model": "it answered as another model than the one asked for",
}


def one_token(base_url: str, model: str, timeout_s: float) -> Probe:
    """Ask `base_url` for one token of `model`, and if it has no chats, for one vector; all of it
    takes at most `timeout_s`."""
    started = time.monotonic()
    reason, answered_as = _ask(base_url, _CHAT, model, timeout_s)
    left_s = timeout_s - (time.monotonic() - started)
    if reason in NO_CHATS and left_s > 0:
        other, answered_as = _ask(base_url, _VECTOR, model, left_s)
        reason = other if other not in NO_CHATS else reason
    latency_ms = round((time.monotonic() - started) * 1000)
    return Probe(not reason, latency_ms, reason, answered_as)


@dataclass(frozen=True, slots=True)
class _Question:
    """Where it is asked, what, and whether an answer is one; that raises when it is none."""

    path: str
    body: Mapping[str, Any]
    is_answered: Callable[[Any], bool]


_CHAT = _Question(
    PATH,
    {
        "messages": [{"role": "user", "content": "ping"}],
        "max_tokens": 1,
        "temperature": 0,
        "stream": False,
    },
    lambda answer: answer["choices"][0]["message"]["role"] == "assistant",
)
_VECTOR = _Question(
    VECTORS_PATH, {"input": "ping"}, lambda answer: len(answer["data"][0]["embedding"]) > 0
)


def _ask(base_url: str, question: _Question, model: str, timeout_s: float) -> tuple[str, str]:
    address = urlsplit(base_url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    cut = _Deadline(timeout_s, lambda: _shut(connection))
    try:
        with cut:
            status, raw = _exchange(connection, question, model)
    except TimeoutError:
        return "timed-out", ""
    except (OSError, HTTPException):
        return ("timed-out" if cut.passed else "unreachable"), ""
    finally:
        connection.close()
    if cut.passed:
        return "timed-out", ""
    if status != 200:
        return f"status {status}", ""
    return _judge(raw, question, model)


def _exchange(connection: HTTPConnection, question: _Question, model: str) -> tuple[int, bytes]:
    body = json.dumps({"model": model, **question.body})
    connection.request("POST", question.path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read(ANSWER_MAX_BYTES)


def _judge(raw: bytes, question: _Question, model: str) -> tuple[str, str]:
    try:
        answer: Any = json.loads(raw)
        answered = question.is_answered(answer)
        answered_as = str(answer["model"])
    except (ValueError, LookupError, TypeError):
        return "not-an-answer", ""
    if not answered:
        return "not-an-answer", ""
    return ("" if answered_as == model else "wrong-model"), answered_as


def _shut(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)


class _Deadline:
    """Cuts a connection off after `timeout_s`, which the socket's own timeout, being per read,
    does not: an engine that sends a byte a second would hold the probe for ever."""

    def __init__(self, timeout_s: float, cut: Callable[[], None]) -> None:
        self.passed = False
        self._cut = cut
        self._timer = threading.Timer(timeout_s, self._pass)
        self._timer.daemon = True

    def _pass(self) -> None:
        self.passed = True
        with suppress(OSError):  # it closed at the same moment, which is what we wanted
            self._cut()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
