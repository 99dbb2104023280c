"""Several gateways share limits through a real PostgreSQL, and go on as declared without it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sovereign.gateway.limiting.shared import Sharing
from sovereign.policy.shapes import Limit
from tests.gateway.limited import left, limit, limited, limiter, usage
from tests.gateway.limiting import LIMITING
from tests.gateway.site import Site, until
from tests.simulated.engine import engine
from tests.tools.postgres import Postgres, postgres

BOUNDED_S = 10
"""No call may take longer, whatever the database does; the machine of a test may be slow."""
LOCAL = limit("shared", "requests", 30, "tenant", every="day")
STRICT = limit("strict", "requests", 30, "tenant", every="day", when_unreachable="refuse")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as it:
        yield it


@pytest.fixture
def database(server: Postgres) -> Postgres:
    """The server, with nothing in it."""
    with psycopg.connect(server.url) as connection:
        connection.execute("DROP TABLE IF EXISTS sovereign_bucket, sovereign_claim")
    return server


@asynccontextmanager
async def gateways(
    root: Path, url: str, *limits: Limit, number: int = 2
) -> AsyncIterator[list[Site]]:
    """Sites of one fleet, each with a log and keys of its own, over one engine."""
    names = [f"gw{each}" for each in range(number)]
    async with engine() as it:
        opened = [
            limited(root / name, it.address, *limits, site=name, limits_database=url)
            for name in names
        ]
        sites = [await each.__aenter__() for each in opened]
        try:
            for each in sites:
                await until(lambda one=each: sharing(one).link.up, 10)  # type: ignore[misc]
            yield sites
        finally:
            for each in reversed(opened):
                await each.__aexit__(None, None, None)


def sharing(ours: Site) -> Sharing:
    found = limiter(ours)._sharing
    assert found is not None
    return found


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT gateway, amount::int FROM sovereign_claim ORDER BY gateway"
        ).fetchall()


async def ask(ours: Site, times: int) -> Counter[int]:
    """Chat one after the other."""
    return Counter([(await ours.chat()).status for _ in range(times)])


async def test_two_gateways_let_through_together_what_one_may(
    tmp_path: Path, database: Postgres
) -> None:
    """A tenant that spreads its calls over the fleet has one budget, not one for each."""
    async with gateways(tmp_path, database.url, LOCAL) as (one, two):
        found = Counter[int]()
        for _ in range(25):
            for ours in (one, two):
                found += await ask(ours, 1)
        assert found.keys() <= {200, 402}
        assert 26 <= found[200] <= 30, "a few may be in the hands of the other one"
        assert sum(amount for _, amount in rows(database.url)) <= 30


async def test_what_a_gateway_did_not_use_is_anothers_once_it_stops(
    tmp_path: Path, database: Postgres
) -> None:
    """A machine that is taken away takes nothing of the budget with it."""
    async with gateways(tmp_path, database.url, LOCAL, number=1) as (one,):
        assert (await ask(one, 7))[200] == 7
    assert rows(database.url) == [("gw0", 7)]
    async with gateways(tmp_path / "other", database.url, LOCAL) as (_, two):
        assert (await ask(two, 30))[200] == 23


async def test_a_rate_is_shared_too_and_the_database_is_not_asked_for_each_call(
    tmp_path: Path, database: Postgres
) -> None:
    """A burst of forty is forty in all; what came back while the test ran is little."""
    rate = limit("rate", "requests", 40, "tenant")
    async with gateways(tmp_path, database.url, rate) as sites:
        started, found = time.monotonic(), Counter[int]()
        for _ in range(30):
            for ours in sites:
                found += await ask(ours, 1)
        came_back = 40 * (time.monotonic() - started) / 60
        assert 36 <= found[200] <= 40 + came_back + 1
        assert set(found) == {200, 429}
        with psycopg.connect(database.url) as connection:
            (tat,) = connection.execute("SELECT count(*) FROM sovereign_bucket").fetchone() or (0,)
        assert tat == 1


@pytest.mark.parametrize(
    "stops", [Postgres.kill, lambda it: it.signal(signal.SIGSTOP)], ids=["killed", "hangs"]
)
async def test_a_database_that_dies_under_load_stops_nobody_but_those_who_need_it(
    tmp_path: Path, database: Postgres, stops: Any
) -> None:
    """Limits that may go on alone do; the strict one refuses with 503; no call waits for it, and
    when it is back everything is as it was, by itself."""
    local = limit("local", "requests", 100_000, "tenant", every="day")
    strict = limit(
        "strict", "requests", 1000, every="day", when_unreachable="refuse", tenants=("strict",)
    )
    took: list[float] = []
    async with gateways(tmp_path, database.url, local, strict) as sites:
        secrets = {ours: ours.key(tenant="strict") for ours in sites}
        for ours in sites:
            await ours.seen()

        async def timed(ours: Site, **more: Any) -> str:
            since = time.monotonic()
            reply = await ours.chat(**more)
            took.append(time.monotonic() - since)
            return "" if reply.status == 200 else str(reply.error["code"])

        async def load(ours: Site, over: asyncio.Event) -> Counter[str]:
            found = Counter[str]()
            while not over.is_set():
                found[await timed(ours)] += 1
                await asyncio.sleep(0.005)
            return found

        async def strict_is_served() -> None:
            for ours in sites:  # a machine that is slow may find the database so, and try again
                async with asyncio.timeout(3 * BOUNDED_S):
                    while await timed(ours, secret=secrets[ours]):
                        pass

        over = asyncio.Event()
        loads = [asyncio.create_task(load(ours, over)) for ours in sites]
        await strict_is_served()
        stops(database)
        try:
            for ours in sites:
                await until(lambda one=ours: not sharing(one).link.up, BOUNDED_S)
            refused = [await ours.chat(secret=secrets[ours]) for ours in sites]
            assert [reply.status for reply in refused] == [503, 503]
            assert {reply.error["code"] for reply in refused} == {"limits-unreachable"}
            assert all("limit strict is shared" in reply.error["message"] for reply in refused)
            assert all(reply.headers["retry-after"] == "5" for reply in refused)
            await asyncio.sleep(0.3)
        finally:
            if database._process is None:
                database.start()
            else:
                database.signal(signal.SIGCONT)
        for ours in sites:
            await until(lambda one=ours: sharing(one).link.up, BOUNDED_S)
        await strict_is_served()
        over.set()
        for each in loads:
            found = await each
            assert found[""] > 10
            assert not found.keys() & LIMITING.keys(), "who may go on alone never noticed"
        assert max(took) < BOUNDED_S
        used = {each["id"]: each for ours in sites for each in (await usage(ours))["limits"]}
        assert "local" in used


async def test_a_database_that_forgot_everything_is_told_again(
    tmp_path: Path, database: Postgres
) -> None:
    """What was used is in the logs of the gateways; the database holds no fact of its own."""
    async with gateways(tmp_path, database.url, LOCAL) as (one, two):
        assert (await ask(one, 20))[200] == 20
        with psycopg.connect(database.url) as connection:
            connection.execute("DROP TABLE sovereign_claim, sovereign_bucket")
        for ours in (one, two):
            sharing(ours)._asked.set()
        assert (await ask(one, 1)).keys() <= {200, 402}
        for ours in (one, two):
            await until(lambda each=ours: sharing(each).link.up, BOUNDED_S)
        await until(lambda: max(rows(database.url), default=("", 0)) >= ("gw0", 20), BOUNDED_S)
        found = (await ask(two, 30))[200]
        assert found <= 10
        assert left(await usage(one))["shared"] <= 10


async def test_a_gateway_that_crashed_claims_what_its_log_says_and_no_more(
    tmp_path: Path, database: Postgres
) -> None:
    """Its claim outlives it; when it is back, it is what it used."""
    async with gateways(tmp_path, database.url, LOCAL, number=1) as (one,):
        secret = one.secret
        assert (await ask(one, 3))[200] == 3
    with psycopg.connect(database.url) as connection:  # as a crash would have left it
        connection.execute("UPDATE sovereign_claim SET amount = 25")
    async with gateways(tmp_path, database.url, LOCAL, number=1) as (one,):
        assert left(await usage(one, secret)) == {"shared": 27}
        assert (await one.chat(secret=secret)).status == 200
        assert rows(database.url)[0][1] < 25


async def test_a_database_that_is_not_there_at_the_start_is_like_one_that_is_away(
    tmp_path: Path,
) -> None:
    """A gateway starts without it: that something is down must not take the rest down."""
    nowhere = "postgresql://sovereign@127.0.0.1:9/postgres"
    async with (
        engine() as it,
        limited(tmp_path, it.address, LOCAL, limits_database=nowhere) as ours,
    ):
        assert (await ours.chat()).status == 200
    async with (
        engine() as it,
        limited(tmp_path / "2", it.address, STRICT, limits_database=nowhere) as ours,
    ):
        assert (await ours.chat()).status == 503


def test_a_gateway_that_shares_nothing_never_loads_the_driver() -> None:
    """What is not used must cost neither memory nor time at the start."""
    code = "import sys, sovereign.gateway.server as _; print('psycopg' in sys.modules)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
