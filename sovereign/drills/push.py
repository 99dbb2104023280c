"""Push canaries through every route of a live site, towards every answer it can safely give.

Nothing here disturbs another client: answers are one token long, what is too large is only
announced, and whoever hangs up does so on a request of its own. Of an answer only its status is
kept, and what the model wrote, which is searched for too and forgotten.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import msgspec

from sovereign import door
from sovereign.drills import speech
from sovereign.drills.words import Canaries
from sovereign.settings import GatewaySettings
from sovereign.subjects import HEADER

WITHIN_S = 120.0
"""Longest wait for one answer."""
MALFORMED_WITHIN_S = 5.0
ANSWER_MAX_BYTES = 4 << 20
LEFT_AT_MOST_TOKENS = 200
"""How long the answers are that a client hangs up on; nobody waits for them."""
OPENAI = {"x-stainless-lang": "python", "user-agent": "OpenAI/Python 3.0"}
DIALECTS: tuple[tuple[str, Mapping[str, str]], ...] = (("", {}), (" (OpenAI)", OPENAI))
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
HUNG_UP = 0
"""The status of a request whose answer nobody waited for."""

Routes = Mapping[str, Mapping[str, Any]]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One request: what was special about it, where it went, and the status it was given."""

    outcome: str
    route: str
    status: int


@dataclass(slots=True)
class Pushed:
    """Every request of a drill.

    `silent` are those that got no answer; `wrote` is what the model answered, by the request.
    """

    cases: list[Case] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    wrote: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Pusher:
    """Sends as one client, with keys of the drill's own by where their subject comes from.

    `models` says which model is asked for at which route.
    """

    gateway: GatewaySettings
    keys: Mapping[str, str]
    canaries: Canaries
    models: Mapping[str, str]
    pushed: Pushed = field(default_factory=Pushed)

    def everything(self, routes: Routes, names: frozenset[str]) -> Iterator[str]:
        """Push it all; yields what is pushed next.

        Args:
            routes: every route of the site with its methods.
            names: every field that a body may have.
        """
        for route, methods in routes.items():
            if "POST" in methods and route in speech.BODIES:
                yield f"{route}: answers"
                self.answers(route)
                yield f"{route}: fields"
                self.fields(route, names)
                yield f"{route}: refusals"
                self.refusals(route)
                yield f"{route}: hanging up"
                self.hang_up(route)
            yield f"{route}: methods and queries"
            self.methods(route)
        yield "unknown routes"
        self.unknown_routes()
        yield "what is no HTTP"
        self.malformed()

    def _made(self, route: str) -> dict[str, Any]:
        return speech.BODIES[route](self.canaries.word, self._model(route))

    def _model(self, route: str) -> str:
        return self.models.get(route) or next(iter(self.models.values()))

    def answers(self, route: str) -> None:
        """Success: whole and streamed, each dialect, each source of a subject, a longer text."""
        word = self.canaries.word
        for how, switch in ways_of(route).items():
            for dialect, more in DIALECTS:
                self.send(f"{how}{dialect}", route, {**self._made(route), **switch}, more)
            if route in speech.STREAMED:
                body = {**speech.story(route, word, self._model(route)), **switch}
                text = self.send(f"a story, {how}", route, body)
                self.pushed.wrote[f"{route}, {how}"] = text
        for source, secret in self.keys.items():
            more = {"authorization": f"Bearer {secret}", **(OPENAI if source == "user" else {})}
            said: Body = {"user": word("user")} if source == "user" else {}
            if source == "metadata":
                said = {"metadata": {"subject": word("metadata.subject")}}
            body = {"model": self._model(route), **speech.SMALL[route], **said}
            self.send(f"a subject in {source}", route, body, more)

    def fields(self, route: str, names: frozenset[str]) -> None:
        """Each field a text, whatever it should be; an engine is given those that are let by."""
        model = self._model(route)
        for dialect, more in DIALECTS:
            for name, body in speech.fields(route, names, self.canaries.word, model):
                self.send(f"text for {name}{dialect}", route, body, more)

    def refusals(self, route: str) -> None:
        """What the gateway refuses, and what an engine may stumble over."""
        canaries, model = self.canaries, self._model(route)
        for dialect, more in DIALECTS:
            for name, body in speech.variants(route, canaries.word, canaries.short, model):
                self.send(f"{name}{dialect}", route, body, more)
        for name, raw in speech.broken(canaries.word, model):
            self.send(name, route, raw)
        kind, raw = speech.form(canaries.word)
        self.send("a form", route, raw, {"content-type": kind})
        stranger = {"authorization": f"Bearer sov_{canaries.word('key')}"}
        self.send("an unknown key", route, self._made(route), stranger)
        basic = {"authorization": f"Basic {canaries.word('credentials')}"}
        self.send("no bearer", route, self._made(route), basic)
        announced = {"content-length": str(self.gateway.body_max_bytes + 1)}
        self.send("too large", route, canaries.word("body").encode() * 100, announced)

    def hang_up(self, route: str, within_s: float = WITHIN_S) -> None:
        """In the middle of a body, before an answer, and in the middle of a stream.

        Args:
            within_s: the longest wait for the stream to begin.
        """
        for where, cut, reads in (("the body", 9, 0), ("waiting", 0, 0), ("the answer", 0, 2)):
            data = self._long(route)
            self._raw(f"hung up in {where}", route, data[: len(data) - cut], reads, within_s)

    def broken_off(self, outcome: str, route: str, break_off: Callable[[], None]) -> None:
        """Read on in a long answer while something else breaks it off."""
        data = self._long(route)
        self.canaries.go(outcome)
        with suppress(OSError), closing(door.connection(self.gateway, WITHIN_S)) as connection:
            connection.connect()
            connection.sock.sendall(data)
            connection.sock.recv(4096)
            break_off()
            while connection.sock.recv(65_536):
                pass
        self.pushed.cases.append(Case(outcome, route, HUNG_UP))

    def _long(self, route: str) -> bytes:
        """A whole request for an answer of some length, as it goes over the wire."""
        body = self._made(route)
        if route in speech.STREAMED:
            body |= {"max_tokens": LEFT_AT_MOST_TOKENS, "stream": True}
        raw = msgspec.json.encode(body)
        lines = [
            f"POST {route} HTTP/1.1",
            "host: drill",
            f"authorization: Bearer {self.keys['none']}",
            f"content-length: {len(raw)}",
            "connection: close",
            *(f"{name}: {v}" for name, v in speech.headers(self.canaries.word).items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + raw

    def methods(self, route: str) -> None:
        """Every method, with a query; a canary in the place of an item where there is one."""
        word = self.canaries.word
        for method in METHODS:
            body = {"x": word("body")} if method in ("PUT", "PATCH", "DELETE") else None
            start, brace, _ = route.partition("{")
            path = start + (word("path") if brace else "")
            asked = f"{path}?{word('name in the query')}={word('query')}"
            self.send(f"{method} with a query", asked, body, {}, method)

    def unknown_routes(self) -> None:
        """Paths that no site serves."""
        word = self.canaries.word
        for path in ("/v1/{}", "/{}", "/v1/models/{}", "/v1/chat/completions/{}", "/%2e%2e/{}"):
            self.send("an unknown route", path.format(word("path")), None, {}, "GET")
            body = {"model": word("body")}
            self.send("an unknown route", path.format(word("path")), body)

    def malformed(self) -> None:
        """What is no HTTP, or not enough of it, or two kinds at once."""
        word = self.canaries.word("raw bytes").encode()
        for data in (
            word + b"\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n" + word + b"\r\n\r\n",
            b"GET /" + word * 1000 + b" HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nx: " + word * 1000 + b"\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 5\r\n"
            b"transfer-encoding: chunked\r\n\r\n" + word,
            b"GET /healthz HTTP/1.1\r\nconnection: upgrade\r\nupgrade: " + word + b"\r\n\r\n",
            b"CONNECT " + word + b":443 HTTP/1.1\r\n\r\n",
        ):
            self._raw("no HTTP", "", data, 1, MALFORMED_WITHIN_S)

    def send(
        self,
        outcome: str,
        path: str,
        body: Body | bytes | None,
        more: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> str:
        """One request with a canary in every header too; what the model wrote, if it did."""
        raw = msgspec.json.encode(body) if isinstance(body, dict) else body
        asked = {
            "authorization": f"Bearer {self.keys['none']}",
            "content-type": "application/json",
            HEADER: self.canaries.word("subject header"),
            **speech.headers(self.canaries.word),
            **(more or {}),
        }
        self.canaries.go(outcome)
        route = path.partition("?")[0]
        shown = "(none)" if self.canaries.stem in route else route
        try:
            with closing(door.connection(self.gateway, WITHIN_S)) as connection:
                status, text = _asked(connection, method, path, raw, asked)
        except (OSError, HTTPException, ValueError) as error:
            self.pushed.silent.append(f"{outcome} at {shown}: {type(error).__name__}")
            return ""
        self.pushed.cases.append(Case(outcome, shown, status))
        return text

    def _raw(self, outcome: str, route: str, data: bytes, reads: int, within_s: float) -> None:
        """Bytes as they are, a few reads, and gone."""
        self.canaries.go(outcome)
        with suppress(OSError), closing(door.connection(self.gateway, within_s)) as connection:
            connection.connect()
            connection.sock.sendall(data)
            for _ in range(reads):
                connection.sock.recv(4096)
        self.pushed.cases.append(Case(outcome, route, HUNG_UP))


def ways_of(route: str) -> dict[str, Body]:
    """The ways in which a route gives an answer, and the switch for each."""
    whole: dict[str, Body] = {"whole": {}}
    return {**whole, "streamed": {"stream": True}} if route in speech.STREAMED else whole


def plain(route: str) -> set[str]:
    """The outcomes of requests that nothing is wrong with, in each dialect."""
    return {f"{how}{dialect}" for how in ways_of(route) for dialect, _ in DIALECTS}


def _asked(
    connection: HTTPConnection,
    method: str,
    path: str,
    raw: bytes | None,
    headers: Mapping[str, str],
) -> tuple[int, str]:
    connection.request(method, path, raw, dict(headers))
    response = connection.getresponse()
    return response.status, _text(response)


def _text(response: HTTPResponse) -> str:
    """What a model wrote, out of a whole answer or a stream; "" out of anything else."""
    answer = response.read(ANSWER_MAX_BYTES)
    try:
        if not answer.startswith(b"data: "):
            return _written([msgspec.json.decode(answer)])
        events = [event[6:] for event in answer.split(b"\n\n") if event.startswith(b"data: {")]
        return _written([msgspec.json.decode(event) for event in events])
    except (msgspec.DecodeError, AttributeError, LookupError, TypeError):
        return ""


def _written(parts: list[Any]) -> str:
    found = []
    for part in parts:
        for choice in part.get("choices", ()):
            said = choice.get("message") or choice.get("delta") or choice
            found.append(said.get("content") or said.get("text") or "")
    return "".join(each for each in found if isinstance(each, str))
