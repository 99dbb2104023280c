"""Send a translated request to an engine on this host or its private network.

No redirects, no cookies, no proxy from the environment, no header of the client's: what the
engine sees is the body the adapter made and nothing else. Connections are kept for the next call
(`wire.py`); there are never more than there are calls.
"""

import asyncio
from collections import deque
from functools import lru_cache, partial
from time import monotonic
from types import TracebackType

import msgspec

from sovereign.engines import Upstream
from sovereign.gateway.refusal import Denied
from sovereign.gateway.replicas.silence import Silence
from sovereign.gateway.wire import Wire, WireBroken

CONNECT_TIMEOUT_S = 3
KEPT_IDLE_S = 3
"""Shorter than the 5 s after which engines close an idle connection: a request sent into one that
is just being closed is lost."""
LOOKED_AT_AFTER_S = 0.5
"""One that was idle for this long is looked at before it is used. Where this process stood still
meanwhile, the engine may have hung up and nobody heard it yet."""
ERROR_MAX_BYTES = 16_384
MESSAGE_MAX_CHARS = 500
WHOLE, STREAM = (b"application/json",), (b"text/event-stream", b"application/x-ndjson")
"""What engines call a whole answer, and a streamed one."""


class NotSent(Denied):
    """Not a byte of the request left this machine, so no engine can have begun to answer it."""

    def __init__(self) -> None:
        super().__init__("engine-unhealthy", "the engine does not answer")


class Answer:
    """An engine's answer whose body has not been read yet."""

    __slots__ = ("_began", "_idle_timeout_s", "_silence", "_wire", "status", "told")

    def __init__(self, wire: Wire, idle_timeout_s: float) -> None:
        self._wire = wire
        self._idle_timeout_s = idle_timeout_s
        self._began = False
        self._silence: Silence | None = None
        self.status = wire.status
        self.told = False
        """Set it when nothing more is wanted of the answer, though its end may not have come."""

    def refuse_other(self, *, stream: bool) -> None:
        """Be sure that it is of the kind that was asked for.

        Raises:
            Denied: a page, a picture, a whole answer where a stream was asked for.
        """
        if not self._wire.content_type.lower().startswith(STREAM if stream else WHOLE):
            raise Denied("engine-failed", "the engine's answer is of another kind")

    @property
    def is_stream(self) -> bool:
        """True when it says of itself that it comes in events."""
        return self._wire.content_type.lower().startswith(STREAM)

    async def read(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            Denied: it is larger than `max_bytes`, or the engine broke off.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self.piece():
            size += len(data)
            if size > max_bytes:
                raise Denied("answer-too-large", f"the answer is over {max_bytes} bytes")
            parts.append(data)
        return b"".join(parts)

    async def piece(self) -> bytes:
        """What came of the body since the last piece; nothing once it is over. How long it takes
        to begin is for the caller to bound.

        Raises:
            Denied: the engine broke off, or fell silent for too long once it had begun.
        """
        waits = self._began and self._wire.waits
        if waits:
            self._listen()
        try:
            data = await self._wire.piece()
        except WireBroken:
            if self._silence is not None and self._silence.over:
                raise Denied("engine-timed-out", "the engine fell silent in its answer") from None
            raise Denied("engine-failed", "the engine broke off its answer") from None
        if waits and self._silence is not None:
            self._silence.heard()
        self._began = True
        return data

    def _listen(self) -> None:
        if self._silence is None:
            self._silence = Silence(self._idle_timeout_s, self._wire.cut)
        else:
            self._silence.waits()

    def end(self) -> None:
        """Nobody reads on."""
        if self._silence is not None:
            self._silence.end()

    async def message(self) -> str:
        """The engine's own words for refusing, cut short; they go to the client only."""
        try:
            content = msgspec.json.decode(await self.read(ERROR_MAX_BYTES))
            error = content.get("error", content)
            said = error.get("message") if isinstance(error, dict) else error
        except (Denied, ValueError, RecursionError, AttributeError):
            said = None
        return said[:MESSAGE_MAX_CHARS] if isinstance(said, str) else "the engine refused"


class Upstreams:
    """The connections to engines. Used inside one running event loop; close it at the end."""

    def __init__(self, idle_timeout_s: float) -> None:
        """`idle_timeout_s` is how long an engine that has begun to answer may say nothing."""
        self.idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._free: dict[str, deque[Wire]] = {}
        self._running_out: dict[Wire, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def post(self, address: str, upstream: Upstream, *, stays: bool = True) -> "Exchange":
        """Send it; the answer's connection is given back when the block ends, if it `stays`.

        Raises:
            NotSent: nobody takes a connection at `address`. Nothing was sent.
            Denied: nothing answers there, or what it says is not HTTP.
        """
        return Exchange(self, address, upstream, stays)

    async def take(self, address: str) -> Wire:
        """A connection that nobody uses: the one that was used last, or a new one.

        Raises:
            NotSent: nobody takes one.
        """
        free = self._free.get(address)
        oldest = monotonic() - KEPT_IDLE_S
        while free:
            wire = free.pop()
            if wire.free_since < oldest + KEPT_IDLE_S - LOOKED_AT_AFTER_S:
                for _ in range(2):  # once to hear what has come over it, once to be behind that
                    await asyncio.sleep(0)
            if wire.is_reusable and wire.free_since > oldest:
                return wire
            wire.cut()
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, wire = await self._loop.create_connection(
                    lambda: Wire(self._loop), host.strip("[]"), int(port)
                )
        except (OSError, TimeoutError):
            raise NotSent from None
        return wire

    def give_back(self, address: str, wire: Wire, *, told: bool) -> None:
        """Keep it for the next call, for a while, or hang up. Where all that was wanted of its
        answer is `told`, its end may still come."""
        if wire.is_reusable or not told:
            self._keep(address, wire)
            return
        self._running_out[wire] = monotonic()
        self._sweep_later()
        wire.run_out(partial(self._ran_out, address, wire))

    def _ran_out(self, address: str, wire: Wire) -> None:
        del self._running_out[wire]
        self._keep(address, wire)

    def _keep(self, address: str, wire: Wire) -> None:
        if not wire.is_reusable:
            wire.cut()
            return
        wire.free_since = monotonic()
        free = self._free.get(address)
        if free is None:
            free = self._free[address] = deque()
        free.append(wire)
        self._sweep_later()

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEPT_IDLE_S, self._sweep)

    def _sweep(self) -> None:
        """Hang up those that nobody has used for too long, or that do not come to their end."""
        oldest = monotonic() - KEPT_IDLE_S
        for wire in [wire for wire, since in self._running_out.items() if since <= oldest]:
            wire.cut()
        for address, free in list(self._free.items()):
            while free and free[0].free_since <= oldest:
                free.popleft().cut()
            if not free:
                del self._free[address]
        self._sweeping = None
        if self._free or self._running_out:
            self._sweep_later()

    async def close(self) -> None:
        """Close every connection that nobody uses."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for wire in list(self._running_out):
            wire.cut()
        for free in self._free.values():
            while free:
                free.pop().cut()


class Exchange:
    """One request and its answer, for as long as the block runs."""

    __slots__ = ("_address", "_answer", "_stays", "_upstream", "_upstreams", "_wire")

    def __init__(self, upstreams: Upstreams, address: str, upstream: Upstream, stays: bool) -> None:
        self._upstreams = upstreams
        self._address = address
        self._upstream = upstream
        self._stays = stays

    async def __aenter__(self) -> Answer:
        body = msgspec.json.encode(self._upstream.body)
        head = b"%s%d\r\n\r\n" % (_head(self._address, self._upstream.path), len(body))
        self._wire = wire = await self._upstreams.take(self._address)
        try:
            wire.ask(head + body)
            await wire.head()
        except WireBroken as broken:  # also when it went away with our request
            wire.cut()
            if broken.began:
                raise Denied("engine-failed", "the engine broke off the exchange") from None
            raise Denied("engine-unhealthy", "the engine does not answer") from None
        except BaseException:
            wire.cut()
            raise
        self._answer = Answer(wire, self._upstreams.idle_timeout_s)
        return self._answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._answer.end()
        if self._stays:
            self._upstreams.give_back(self._address, self._wire, told=self._answer.told)
        else:
            self._wire.cut()


@lru_cache(maxsize=1024)
def _head(address: str, path: str) -> bytes:
    """All of a request's head that does not depend on its body."""
    fields = (
        f"host: {address}",
        "accept: */*",
        "accept-encoding: identity",
        "user-agent: sovereign",
        "content-type: application/json",
        "content-length: ",
    )
    return "\r\n".join((f"POST {path} HTTP/1.1", *fields)).encode()
