"""Run tests that are coroutines, each in an event loop of its own and with a bound."""

import asyncio
import inspect

import pytest

TEST_TAKES_AT_MOST_S = 60


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
