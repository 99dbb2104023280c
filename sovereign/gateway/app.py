"""The gateway as one ASGI application. Its routes are the dictionary `ROUTES`; no others exist.

This is where a stranger should start reading: a request arrives in `_http`, its route says
which layer answers, and every refusal is turned into bytes in `_deny`. What is decided is in
`choose.py`, what is recorded in `records.py`, the whole story of a call in `story.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from sovereign import eventlog
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable
from sovereign.gateway import models, superseded
from sovereign.gateway.admit import Bench
from sovereign.gateway.aliases import names
from sovereign.gateway.call import JSON, Call, ClientGone, Message, Receive, Send
from sovereign.gateway.callers.tokens import believing
from sovereign.gateway.entitle import Entitling
from sovereign.gateway.kinds.kind import Kind
from sovereign.gateway.kinds.table import KINDS
from sovereign.gateway.limiting import limit, usage
from sovereign.gateway.limiting.turns import Turns
from sovereign.gateway.models import Shelf
from sovereign.gateway.records import Recording
from sovereign.gateway.refusal import Denied, envelope, headers
from sovereign.gateway.replicas.seats import Replicas
from sovereign.gateway.seen.course import ANSWERED, GONE, INTERRUPTED
from sovereign.gateway.seen.metrics import Counting
from sovereign.gateway.story import tell
from sovereign.gateway.sums import Sums
from sovereign.gateway.superseded import Superseding
from sovereign.gateway.upstream import Upstreams
from sovereign.gateway.view import Asked, View, Watching
from sovereign.keystore import Keystore
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home, following

if TYPE_CHECKING:
    from sovereign.gateway.seen.admin import Admin
    from sovereign.gateway.seen.tracing import Tracing

SUMS_EVERY_S = 60
LAST_ENDINGS_MAX, LAST_ENDINGS_EVERY_S = 200, 0.01
Handler = Callable[["Gateway", View, Call], Awaitable[None]]


class Gateway:
    """One site's gateway. It starts and stops with the ASGI lifespan."""

    def __init__(self, home: Home, policy: Policy, trail: Trail) -> None:
        self.home = home
        self.policy = policy
        self.trail = trail
        self._believing = believing(home, policy)
        tokens = self._believing.tokens if self._believing else None
        asked = Asked(tokens, certificate=home.settings.gateway.asks_certificates)
        self._watching = Watching(Keystore(home.keystore), Registry(home.registry), asked)
        self.names = names(policy.models, home.settings.aliases)
        self._sums = Sums()
        self._recording = Recording(trail)
        self._active = 0
        self.drains = False
        self._bench: Bench | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.superseding = Superseding(following(home, policy.digest))
        self.counting = Counting()
        self.tracing: Tracing | None = None
        self.admin: Admin | None = None

    @property
    def view(self) -> View:
        """What is known of keys and endpoints at this moment."""
        return self._watching.current

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """The ASGI entry point (ASGI 3.0). Only `http` and `lifespan` exist here."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(Call(scope, receive, send))

    async def _http(self, call: Call) -> None:
        self.counting.begin(call)
        code = INTERRUPTED
        try:
            await self._route(call)
            code = ANSWERED
        except ClientGone:
            code = GONE  # its completion is recorded; nobody is left to answer
        except Denied as denied:
            code = denied.code
            await self._deny(call, denied)
        except Exception as error:  # noqa: BLE001 - the top of every request; its class is logged
            eventlog.emit("broken", route=call.route or "none", exception=type(error).__name__)
            broke, code = "the gateway broke one of its own rules", "broken"
            await self._deny(call, Denied("broken", broke, record=call.record))
        finally:
            call.course.code = code
            self.counting.end(call)
            if self.tracing is not None:
                self.tracing.end(call)

    async def _route(self, call: Call) -> None:
        call.route, call.item = found(call.path)
        if not call.route:
            raise Denied("route-unknown", "this site serves no such route")
        methods = ROUTES[call.route]
        handler = methods.get(call.method)
        if handler is None:
            allow = ", ".join(methods)
            raise Denied("method-unknown", f"this route answers {allow}", allow=allow)
        await handler(self, self._watching.current, call)

    async def infer(self, kind: Kind, view: View, call: Call) -> None:
        """Let at most `concurrency_max` calls run at a time; one more is told to come back."""
        assert self._bench is not None
        if kind.speaks is not None:
            call.dialect = kind.speaks
        self.superseding.refuse()
        if self._active >= self.home.settings.gateway.concurrency_max:
            raise Denied("too-many-requests", "every slot is taken")
        self._active += 1
        try:
            await tell(kind, self._bench, view, call)
        finally:
            self._active -= 1
            if call.hold is not None:
                call.hold.release()

    async def models(self, view: View, call: Call) -> None:
        """The cards of the models that a usable endpoint serves."""
        assert self._bench is not None
        await models.list_(self._shelf(self._bench), view, call)

    async def model(self, view: View, call: Call) -> None:
        """The card of one of them, by its id or an alias."""
        assert self._bench is not None
        await models.retrieve(self._shelf(self._bench), view, call)

    def _shelf(self, bench: Bench) -> Shelf:
        return Shelf(self.policy, self.names, self.home.settings, bench.entitling)

    async def usage(self, view: View, call: Call) -> None:
        """What the key that asks is bound to, what it has used, and what is left of its limits."""
        assert self._bench is not None
        await usage.answer(self.policy, self._bench.limits, view, call)

    async def alive(self, view: View, call: Call) -> None:
        """The process runs. Says nothing about engines or the log."""
        await call.respond(200, b'{"status":"alive"}', JSON)

    async def ready(self, view: View, call: Call) -> None:
        """A chat sent now would be answered: log, keys and an endpoint are as they should be."""
        now = utcnow()
        lacking = ["drained"] if self.drains else []
        if self.superseding.is_superseded or self.superseding.unreadable:
            lacking.append(superseded.CODE)
        if self.trail.failure is not None:
            lacking.append("log-unwritable")
        if view.keys_are_stale(now):
            lacking.append("keys-unreadable")
        if not any(not e.quarantine and e.is_fresh(now) for e in view.snapshot.endpoints):
            lacking.append("no-usable-endpoint")
        said = {"ready": not lacking, "lacking": lacking, "policy": self.policy.digest}
        body = msgspec.json.encode(said)
        await call.respond(503 if lacking else 200, body, JSON)

    def note_refusal(self, source: str, code: str) -> None:
        """Count a refusal of somebody who made no call."""
        self._sums.add(source, code)

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

    def calls(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Calls that run or wait, by endpoint, and the endpoints that are not asked just now."""
        assert self._bench is not None
        return self._bench.replicas.outstanding(), self._bench.replicas.resting()

    def _start(self) -> None:
        bounds = self.home.settings.gateway
        upstreams = Upstreams(bounds.engine_idle_timeout_s)
        replicas = Replicas(self.policy, self.home.settings.balance)
        entitling = Entitling(self.policy)
        limits = limit.opened(self.home, self.policy, self.names, self._recording)
        self._bench = Bench(
            self.policy,
            bounds,
            self._recording,
            upstreams,
            Turns(
                self.policy.limits.shares,
                waiting_max=bounds.queue_max,
                wait_max_s=bounds.queue_wait_max_s,
                batching_max=bounds.engine_concurrency_max or None,
            ),
            replicas,
            entitling,
            self.names,
            limits,
            lambda: self._watching.current,
        )
        if self.admin is not None:
            self.admin.start()
        self._tasks = [
            asyncio.create_task(self._watching.run()),
            asyncio.create_task(self._record_sums()),
            asyncio.create_task(self.superseding.run(lambda: self._active)),
        ]
        if self._believing is not None:
            self._tasks.append(asyncio.create_task(self._believing.keep(self.trail)))
        if limits is not None:
            self._tasks.append(asyncio.create_task(limits.run()))
        eventlog.emit("gateway-started", listen=bounds.listen, policy=self.policy.digest)

    async def _stop(self) -> None:
        for _ in range(LAST_ENDINGS_MAX):  # calls that were just cut write down that they were
            if not self._active:
                break
            await asyncio.sleep(LAST_ENDINGS_EVERY_S)
        for task in self._tasks:
            task.cancel()
        await self._flush_sums()
        if self._believing is not None:
            await self._believing.tokens.close()
        if self._bench is not None:
            await self._bench.upstreams.close()
            if self._bench.limits is not None:
                await self._bench.limits.close()
        if self.admin is not None:
            await self.admin.stop()
        if self.tracing is not None:
            await self.tracing.stop()
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


def _answering(kind: Kind) -> Handler:
    """The handler of a kind's route."""

    async def handler(gateway: Gateway, view: View, call: Call) -> None:
        await gateway.infer(kind, view, call)

    return handler


ROUTES: dict[str, dict[str, Handler]] = {
    **{kind.route: {"POST": _answering(kind)} for kind in KINDS},
    "/v1/models": {"GET": Gateway.models},
    "/v1/models/{id}": {"GET": Gateway.model},
    "/v1/sovereign/usage": {"GET": Gateway.usage},
    "/healthz": {"GET": Gateway.alive},
    "/readyz": {"GET": Gateway.ready},
}
"""Every route of the inference listener. What is not here is 404, whatever an engine serves.

A route may end in one `{name}`, which stands for one segment; the handler finds it as `call.item`.
"""
_OF_ITEMS = {route[: route.index("{")]: route for route in ROUTES if "{" in route}
ITEM_MAX_CHARS = 128


def found(path: str) -> tuple[str, str]:
    """The route of a path, as `ROUTES` writes it, and its item; a path of none gives "", ""."""
    if path in ROUTES and "{" not in path:
        return path, ""
    start, _, item = path.rpartition("/")
    route = _OF_ITEMS.get(start + "/", "")
    return (route, item) if route and 0 < len(item) <= ITEM_MAX_CHARS else ("", "")
