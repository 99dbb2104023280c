"""Coroutines run here as they do in the tests of the gateway, commands as in those of the CLI."""

from tests.cli.conftest import home, run, site
from tests.gateway.conftest import pytest_pyfunc_call

__all__ = ["home", "pytest_pyfunc_call", "run", "site"]
