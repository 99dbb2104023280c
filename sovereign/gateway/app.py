"""The gateway as one ASGI application. Its routes are the dictionary `ROUTES`; no others exist.

This is where a stranger should start reading: a request arrives in `_http`, its route says
which layer answers, and every refusal is turned into bytes in `_deny`. What is decided is in
`choose.py`, what is recorded in `records.py`, what is sent in `chat.py` and `upstream.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from sovereign import eventlog
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable
from sovereign.gateway import models
from sovereign.gateway.call import JSON, Call, ClientGone, Message, Receive, Send
from sovereign.gateway.chat import Bench, chat
from sovereign.gateway.records import Recording
from sovereign.gateway.refusal import Denied, envelope, headers
from sovereign.gateway.sums import Sums
from sovereign.gateway.turns import Turns
from sovereign.gateway.upstream import Upstreams
from sovereign.gateway.view import View, Watching
from sovereign.keystore import Keystore
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home

SUMS_EVERY_S = 60
Handler = Callable[["Gateway", View, Call], Awaitable[None]]


class Gateway:
    """One site's gateway. It starts and stops with the ASGI lifespan."""

    def __init__(self, home: Home, policy: Policy, trail: Trail) -> None:
        self.home = home
        self.policy = policy
        self.trail = trail
        self._watching = Watching(Keystore(home.keystore), Registry(home.registry))
        self._sums = Sums()
        self._recording = Recording(trail)
        self._active = 0
        self._bench: Bench | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """The ASGI entry point (ASGI 3.0). Only `http` and `lifespan` exist here."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(Call(scope, receive, send))

    async def _http(self, call: Call) -> None:
        try:
            await self._route(call)
        except ClientGone:
            pass  # its completion is recorded; nobody is left to answer
        except Denied as denied:
            await self._deny(call, denied)
        except Exception as error:  # noqa: BLE001 - the top of every request; its class is logged
            route = call.path if call.path in ROUTES else "none"  # any other path is content
            eventlog.emit("broken", route=route, exception=type(error).__name__)
            broke = "the gateway broke one of its own rules"
            await self._deny(call, Denied("broken", broke, record=call.record))

    async def _route(self, call: Call) -> None:
        methods = ROUTES.get(call.path)
        if methods is None:
            raise Denied("route-unknown", "this site serves no such route")
        handler = methods.get(call.method)
        if handler is None:
            allow = ", ".join(methods)
            raise Denied("method-unknown", f"this route answers {allow}", allow=allow)
        await handler(self, self._watching.current, call)

    async def chat(self, view: View, call: Call) -> None:
        """Let at most `concurrency_max` chats run at a time; one more is told to come back."""
        assert self._bench is not None
        if self._active >= self.home.settings.gateway.concurrency_max:
            raise Denied("too-many-requests", "every slot is taken")
        self._active += 1
        try:
            await chat(self._bench, view, call)
        finally:
            self._active -= 1

    async def models(self, view: View, call: Call) -> None:
        """The cards of the models that a usable endpoint serves."""
        await models.answer(self.policy, view, call)

    async def alive(self, view: View, call: Call) -> None:
        """The process runs. Says nothing about engines or the log."""
        await call.respond(200, b'{"status":"alive"}', JSON)

    async def ready(self, view: View, call: Call) -> None:
        """A chat sent now would be answered: log, keys and an endpoint are as they should be."""
        now = utcnow()
        lacking = []
        if self.trail.failure is not None:
            lacking.append("log-unwritable")
        if view.keys_are_stale(now):
            lacking.append("keys-unreadable")
        if not any(not e.quarantine and e.is_fresh(now) for e in view.snapshot.endpoints):
            lacking.append("no-usable-endpoint")
        body = msgspec.json.encode({"ready": not lacking, "lacking": lacking})
        await call.respond(503 if lacking else 200, body, JSON)

    async def _deny(self, call: Call, denied: Denied) -> None:
        if not denied.record:
            self._sums.add(call.source, denied.code)
        if call.answered:
            return
        answer = [*JSON, *headers(denied)]
        await call.respond(denied.status, envelope(denied, call.dialect), answer)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start(self) -> None:
        bounds = self.home.settings.gateway
        upstreams = Upstreams(bounds.concurrency_max)
        self._bench = Bench(self.policy, bounds, self._recording, upstreams, Turns())
        self._tasks = [
            asyncio.create_task(self._watching.run()),
            asyncio.create_task(self._record_sums()),
        ]
        eventlog.emit("gateway-started", listen=bounds.listen, policy=self.policy.digest)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._flush_sums()
        if self._bench is not None:
            await self._bench.upstreams.close()
        eventlog.emit("gateway-stopped")

    async def _record_sums(self) -> None:
        while True:
            await asyncio.sleep(SUMS_EVERY_S)
            await self._flush_sums()
            self.trail.seal_older(self.policy.bundle_spans())

    async def _flush_sums(self) -> None:
        try:
            await self._recording.refusals(self._sums.take(utcnow()))
        except LogUnwritable:
            eventlog.emit("log-unwritable")


ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/chat/completions": {"POST": Gateway.chat},
    "/v1/models": {"GET": Gateway.models},
    "/healthz": {"GET": Gateway.alive},
    "/readyz": {"GET": Gateway.ready},
}
"""Every route of the inference listener. What is not here is 404, whatever an engine serves."""
