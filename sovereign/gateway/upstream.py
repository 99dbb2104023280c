"""Send a translated request to an engine on this host or its private network.

One connection pool, no redirects, no cookies, no proxy from the environment, no header of
the client's: what the engine sees is the body the adapter made and nothing else.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

from sovereign.engines import Upstream
from sovereign.gateway.refusal import Denied
from sovereign.gateway.replicas.silence import Silence

CONNECT_TIMEOUT_S = 3
KEPT_IDLE_S = 3
"""Shorter than the 5 s after which engines close an idle connection: a request sent into one that
is just being closed is lost."""
ERROR_MAX_BYTES = 16_384
MESSAGE_MAX_CHARS = 500
WHOLE, STREAM = ("application/json",), ("text/event-stream", "application/x-ndjson")
"""What engines call a whole answer, and a streamed one."""


class NotSent(Denied):
    """Not a byte of the request left this machine, so no engine can have begun to answer it."""

    def __init__(self) -> None:
        super().__init__("engine-unhealthy", "the engine does not answer")


class Answer:
    """An engine's answer whose body has not been read yet."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout_s: float) -> None:
        self._response = response
        self._idle_timeout_s = idle_timeout_s
        self.status = response.status

    def refuse_other(self, *, stream: bool) -> None:
        """Be sure that it is of the kind that was asked for.

        Raises:
            Denied: a page, a picture, a whole answer where a stream was asked for.
        """
        said = self._response.headers.get("content-type", "").lower()
        if not said.startswith(STREAM if stream else WHOLE):
            raise Denied("engine-failed", "the engine's answer is of another kind")

    async def read(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            Denied: it is larger than `max_bytes`, or the engine broke off.
        """
        parts: list[bytes] = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > max_bytes:
                raise Denied("answer-too-large", f"the answer is over {max_bytes} bytes")
            parts.append(data)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. How long it takes to begin is for the caller to bound.

        Raises:
            Denied: the engine broke off, or fell silent for too long once it had begun.
        """
        content, silence = self._response.content, None
        try:
            async for data in content.iter_any():
                if silence is not None:
                    silence.heard()
                yield data
                if silence is not None:
                    silence.waits()
                elif not content.at_eof():
                    silence = Silence(self._idle_timeout_s, self._response.close)
        except (aiohttp.ClientError, OSError):
            if silence is not None and silence.over:
                raise Denied("engine-timed-out", "the engine fell silent in its answer") from None
            raise Denied("engine-failed", "the engine broke off its answer") from None
        finally:
            if silence is not None:
                silence.end()

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
    """The pool. Open it inside the running event loop; close it at the end."""

    def __init__(self, connections_max: int, idle_timeout_s: float) -> None:
        """`idle_timeout_s` is how long an engine that has begun to answer may say nothing."""
        self._idle_timeout_s = idle_timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections_max, use_dns_cache=False, keepalive_timeout=KEPT_IDLE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            auto_decompress=False,
            headers={"accept-encoding": "identity", "user-agent": "sovereign"},
        )

    @asynccontextmanager
    async def post(self, address: str, upstream: Upstream) -> AsyncIterator[Answer]:
        """Send it; the answer's connection is given back when the block ends.

        Raises:
            NotSent: nobody takes a connection at `address`. Nothing was sent.
            Denied: nothing answers there, or what it says is not HTTP.
        """
        request = self._session.post(
            f"http://{address}{upstream.path}",
            data=msgspec.json.encode(upstream.body),
            headers={"content-type": "application/json"},
            allow_redirects=False,
        )
        try:
            response = await request
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise NotSent from None
        except aiohttp.ClientConnectionError:  # also when it went away with our request
            raise Denied("engine-unhealthy", "the engine does not answer") from None
        except (aiohttp.ClientError, OSError):
            raise Denied("engine-failed", "the engine broke off the exchange") from None
        async with response:
            yield Answer(response, self._idle_timeout_s)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
