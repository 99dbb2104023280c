"""Share limits with other gateways through PostgreSQL, without asking it for each call.

What a gateway asks for and what it makes of the answer is in `sovereign/limits/leases.py`; here is
the asking. One task holds one connection. Twice a second, and at once when a call needs more than
is in hand, it buys and claims for all accounts that are low, in one transaction. A call waits for
that `CALL_WAITS_S` at most. A round that fails or takes too long shuts the link: from then on no
call waits, each limit does what its `when_unreachable` says, and the task tries again every second.

Two tables: how full each bucket is, and what each gateway claims of each budget. The database keeps
no fact of its own: what it loses is claimed again out of what each gateway has in its own log.
Names of tenants and keys stand in it, never content.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sovereign import eventlog
from sovereign.limits.accounts import Account, Moment
from sovereign.limits.leases import Bought, Claimed, Link, Shared, claim, sell, shared
from sovereign.limits.ledger import Costs, Plan

if TYPE_CHECKING:
    from psycopg import AsyncConnection

EVERY_S = 0.5
CALL_WAITS_S = 0.5
ROUND_TAKES_S = 1.0
RETRY_S = 1.0
CONNECTING_TAKES_S = 2.0
SILENT_NS = 10**9
"""After so long without a word it is asked whether it still answers."""
AT_ONCE_MAX = 256
"""Accounts in one round; the others come in the next."""
FORGOTTEN_S = 62 * 86_400
_SCHEMA_LOCK = 0x736F76
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sovereign_bucket (
    rule text, holder text, tat numeric NOT NULL, PRIMARY KEY (rule, holder)
);
CREATE TABLE IF NOT EXISTS sovereign_claim (
    rule text, holder text, began bigint, gateway text, amount numeric NOT NULL,
    PRIMARY KEY (rule, holder, began, gateway)
);
"""


class Sharing:
    """The link of one gateway to the database. `gateway` is its name there, and nobody else's."""

    def __init__(self, url: str, gateway: str) -> None:
        self.link = Link()
        self._url = url
        self._gateway = gateway
        self._accounts: list[Shared] = []
        self._wanted: dict[tuple[str, str], int] = {}
        self._asked = asyncio.Event()
        self._round: asyncio.Future[None] | None = None
        self._connection: AsyncConnection[Any] | None = None
        self._spoke_ns = 0
        self._is_told = False  # that the link is shut

    def wrap(self, account: Account) -> Account:
        """The account as one that is shared."""
        made = shared(self.link, account)
        if isinstance(made, Bought | Claimed):
            self._accounts.append(made)
        return made

    async def more(self, plan: Plan, costs: Costs) -> None:
        """Ask for what a call lacks; returns once that was answered, or will not be."""
        for account, place in plan.accounts:
            name = (account.rule.id, account.holder)
            self._wanted[name] = max(costs[place], self._wanted.get(name, 0))
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        waiting = self._round
        self._asked.set()
        try:
            async with asyncio.timeout(CALL_WAITS_S):
                await asyncio.shield(waiting)
        except TimeoutError:
            self._shut("too-slow")

    async def run(self, clock: Callable[[], Moment]) -> None:
        """Keep the link open and the accounts supplied, for ever."""
        while True:
            try:
                await self._while_it_answers(clock)
            except _trouble() as error:
                self._shut(type(error).__name__)
            await self._hang_up()
            await asyncio.sleep(RETRY_S)

    async def _while_it_answers(self, clock: Callable[[], Moment]) -> None:
        async with asyncio.timeout(CONNECTING_TAKES_S):
            self._connection = await self._connected(clock().s)
        for account in self._accounts:
            account.lose()
        self._is_told, self.link.up = False, True
        eventlog.emit("limits-reachable")
        while self.link.up:
            await self._in_time(self._supply(clock()))
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._asked.wait()

    async def _in_time(self, talk: Coroutine[Any, Any, None]) -> None:
        """Talk to the database, and cut the line when it takes longer than `ROUND_TAKES_S`.

        Merely cancelled, the driver would ask the server to cancel, and wait for one that hangs.
        """
        talking = asyncio.ensure_future(talk)
        try:
            await asyncio.wait([talking], timeout=ROUND_TAKES_S)
        finally:
            if not talking.done():
                self._connection_now.pgconn.finish()
                talking.cancel()
                await asyncio.wait([talking], timeout=RETRY_S)
        if talking.cancelled():
            raise TimeoutError
        talking.result()

    async def _connected(self, now_s: int) -> "AsyncConnection[Any]":
        from psycopg import AsyncConnection

        made: AsyncConnection[Any] = await AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=int(CONNECTING_TAKES_S)
        )
        async with made.transaction():
            await made.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            await made.execute(_SCHEMA)
            await made.execute(
                "DELETE FROM sovereign_claim WHERE began < %s", (now_s - FORGOTTEN_S,)
            )
        return made

    async def _supply(self, now: Moment) -> None:
        """One round; whoever waits for it goes on, however it ends."""
        wanted, self._wanted = self._wanted, {}
        waiting, self._round = self._round, None
        self._asked.clear()
        try:
            low = [
                (account, wanted.get((account.rule.id, account.holder), 0))
                for account in self._accounts
                if (account.rule.id, account.holder) in wanted or account.is_low(now)
            ]
            if low:
                await self._trade(now, low)
                self._spoke_ns = now.ns
            elif now.ns - self._spoke_ns >= SILENT_NS:
                await self._connection_now.execute("SELECT 1")
                self._spoke_ns = now.ns
        finally:
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    @property
    def _connection_now(self) -> "AsyncConnection[Any]":
        assert self._connection is not None
        return self._connection

    async def _trade(self, now: Moment, low: list[tuple[Shared, int]]) -> None:
        connection = self._connection_now
        low.sort(key=lambda pair: (pair[1] == 0, pair[0].rule.id, pair[0].holder))
        chosen = sorted(low[:AT_ONCE_MAX], key=lambda pair: (pair[0].rule.id, pair[0].holder))
        async with connection.transaction():
            for account, cost in chosen:
                if isinstance(account, Bought):
                    await self._buy(connection, account, now, cost)
                else:
                    await self._claim(connection, account, now, cost)

    async def _buy(
        self, connection: "AsyncConnection[Any]", account: Bought, now: Moment, cost: int
    ) -> None:
        rate = account.rule.rate
        name = (f"{account.rule.id} {rate.at_most} {rate.period_ns}", account.holder)
        await connection.execute(
            "INSERT INTO sovereign_bucket VALUES (%s, %s, 0) ON CONFLICT DO NOTHING", name
        )
        found = await connection.execute(
            "SELECT tat, trunc(extract(epoch FROM clock_timestamp()) * 1000000000)"
            " FROM sovereign_bucket WHERE rule = %s AND holder = %s FOR UPDATE",
            name,
        )
        tat, there_ns = await _row(found)
        owed, need, want = account.wish(now, cost)
        sold = sell(rate, int(tat), int(there_ns), owed, need, want)
        await connection.execute(
            "UPDATE sovereign_bucket SET tat = %s WHERE rule = %s AND holder = %s",
            (sold.tat, *name),
        )
        account.receive(now, sold)

    async def _claim(
        self, connection: "AsyncConnection[Any]", account: Claimed, now: Moment, cost: int
    ) -> None:
        used, need, want = account.wish(now, cost)
        name = (account.rule.id, account.holder, account.start)
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (repr(name),)
        )
        found = await connection.execute(
            "SELECT coalesce(sum(amount), 0), 0 FROM sovereign_claim"
            " WHERE rule = %s AND holder = %s AND began = %s AND gateway <> %s",
            (*name, self._gateway),
        )
        others, _ = await _row(found)
        amount = claim(account.rule.at_most, int(others), used, need, want)
        await connection.execute(
            "INSERT INTO sovereign_claim VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (rule, holder, began, gateway) DO UPDATE SET amount = excluded.amount",
            (*name, self._gateway, amount),
        )
        account.receive(now, amount, cost)

    def _shut(self, reason: str) -> None:
        """From now on no call waits; the task notices when it looks next."""
        if not self._is_told:
            eventlog.emit("limits-unreachable", reason=reason)
        self._is_told, self.link.up = True, False
        self._asked.set()
        if self._round is not None and not self._round.done():
            self._round.set_result(None)
        self._round = None

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_trouble()):
                async with asyncio.timeout(RETRY_S):
                    await connection.close()

    async def close(self, now: Moment) -> None:
        """Give back what is claimed and not used, as far as the database can be told in time."""
        if self.link.up:
            claimed = [(each, 0) for each in self._accounts if isinstance(each, Claimed)]
            for each, _ in claimed:
                each.busy_s = 0
            with suppress(*_trouble()):
                await self._in_time(self._trade(now, list(claimed)))
        self.link.up = False
        await self._hang_up()


async def _row(found: Any) -> tuple[Any, Any]:
    """The one row of an answer that always has one."""
    row: tuple[Any, Any] = await found.fetchone()
    return row


def _trouble() -> tuple[type[BaseException], ...]:
    """What a database that is away, or in trouble, looks like from here."""
    from psycopg import Error

    return (Error, OSError, TimeoutError)
