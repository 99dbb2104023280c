"""Write down which logs the site has, how far each has come, and whether the gateway answers.

The rules of `sovereign.audit.writers` are about what is read out of these records. Each round
looks; a record is written when something changed, and again every `ALIVE_EVERY_S`, so that a look
that is missing tells too. The register is written whole once a day, so that it outlives the
erasure of old evidence.

It sees the gateway as any client on this host does, at its health route. Where the host lets the
controller reach loopback alone and the gateway listens elsewhere, it is `not-seen`, which accuses
nobody.
"""

import http.client
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta

import msgspec

from sovereign import door, fleet
from sovereign.audit.trail import Trail
from sovereign.audit.writers import ALIVE_EVERY_S, NOT_SEEN, REGISTER, UP
from sovereign.errors import LogUnwritable
from sovereign.settings import GatewaySettings, Home, Round, standby_file

RECORD_TIMEOUT_S = 10
KNOCK_TIMEOUT_S = 1.0
EVERY = timedelta(seconds=ALIVE_EVERY_S)
REGISTER_EVERY = timedelta(days=1)
SENDER_GRACE = timedelta(seconds=60)
"""A sender that starts, or waits for an answer, says nothing for a while."""
WATCHED = "gateway"


def answers(gateway: GatewaySettings) -> bool:
    """Whether a gateway says where it listens that it is alive."""
    try:
        with closing(door.connection(gateway, KNOCK_TIMEOUT_S)) as connection:
            connection.request("GET", "/healthz")
            return bool(connection.getresponse().status == 200)
    except (OSError, http.client.HTTPException):
        return False


def standing(last: Round | None, now: datetime, recovery_point_s: int) -> str:
    """What is to be said of the standby; the same words as long as nothing changes."""
    patience = timedelta(seconds=recovery_point_s) + SENDER_GRACE
    if last is None or last.at.tzinfo is None or now - last.at > patience:
        return "nobody says how far the standby is"
    if last.code:
        return f"the logs do not reach the standby as they should: {last.code}"[:200]
    return "the standby has everything within the recovery point"


class Watching:
    """Looks once a round; remembers what it wrote last."""

    def __init__(
        self, home: Home, trail: Trail, knock: Callable[[GatewaySettings], bool] = answers
    ) -> None:
        self._home = home
        self._trail = trail
        self._knock = knock
        self._registered: dict[str, str] = {}
        self._register_due: datetime | None = None
        self._seen: dict[str, int] = {}
        self._logs_due: datetime | None = None
        self._up: bool | None = None
        self._up_due: datetime | None = None
        self._standby = ""

    def look(self, now: datetime) -> None:
        """Look, and write down what is new or due again; a log that is stopped waits."""
        with suppress(LogUnwritable, TimeoutError):
            self._register(now)
            self._look_at_gateway(now)
            self._look_at_logs(now)
            self._look_at_standby(now)

    def _register(self, now: datetime) -> None:
        if self._register_due is None or now >= self._register_due:
            self._registered.clear()
            self._register_due = now + REGISTER_EVERY
        for member in fleet.members(self._home):
            if member.vkey is not None and self._registered.get(member.origin) != str(member.vkey):
                self._write("writer-registered", log=member.origin, vkey=str(member.vkey))
                self._registered[member.origin] = str(member.vkey)

    def _look_at_gateway(self, now: datetime) -> None:
        up = self._knock(self._home.settings.gateway)
        due = up and (self._up_due is None or now >= self._up_due)
        if up != self._up or due:
            state = UP if up else NOT_SEEN
            self._write("writer-seen", writer=WATCHED, state=state, every_s=ALIVE_EVERY_S)
            self._up, self._up_due = up, now + EVERY

    def _look_at_logs(self, now: datetime) -> None:
        """What is seen of a log binds it: it can become neither shorter nor other than that."""
        if self._logs_due is not None and now < self._logs_due:
            return
        self._logs_due = now + EVERY
        for member in fleet.members(self._home):
            own = member.origin.endswith(f"/{REGISTER}")
            signed = None if own else fleet.checkpoint_of(member)
            if signed is None or signed.size <= self._seen.get(member.origin, 0):
                continue
            root = signed.root.hex()
            self._write("log-seen", log=member.origin, size=signed.size, root=root)
            self._seen[member.origin] = signed.size

    def _look_at_standby(self, now: datetime) -> None:
        """Whether the logs reach the second machine, when it changes: it is evidence too."""
        chosen = self._home.settings.standby
        if not chosen.url:
            return
        found = standing(self._last_round(), now, chosen.recovery_point_s)
        if found != self._standby:
            self._write("observation", endpoint="standby", what="standby", found=found)
            self._standby = found

    def _last_round(self) -> Round | None:
        try:
            return msgspec.json.decode(standby_file(self._home).read_bytes(), type=Round)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, kind: str, **fields: str | int) -> None:
        self._trail.record(kind, **fields).result(RECORD_TIMEOUT_S)
