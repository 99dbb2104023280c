"""Run tests that are coroutines, each in an event loop of its own and with a bound.

And the one vLLM that several files ask: it takes half a minute to start.
"""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from tests.engines.running import Running
from tests.gateway.tiny import started

TEST_TAKES_AT_MOST_S = 60
LONG = 2048
"""A context in which an answer goes on for longer than a client stays."""


@pytest.fixture(scope="package")
def long_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """vLLM with the tiny model, for tests that leave it as it is."""
    with started("vllm", tmp_path_factory.mktemp("v"), context=LONG) as it:
        yield it


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Await a coroutine function; leave every other one to pytest."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def bounded() -> None:
        async with asyncio.timeout(TEST_TAKES_AT_MOST_S):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True
