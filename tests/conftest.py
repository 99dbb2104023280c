"""How the suite is spread over workers (`make test` takes two): whole files, long ones first.

Some files share a worker besides: where a real vLLM or Ollama is started, no two files do it at a
time; the hosts share a lab, and fill the temporary folder with gigabytes, which the canary drill
would search. One process alone takes everything in the order of its name.
"""

import os
import signal
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
FIRST = ("machine", "engines")
"""The longest groups are begun first, so that none is left over for the end."""
FILLS_OR_SEARCHES = ("tests/hosts/", "tests/privacy/")
DRILLS = '"drill", "canary"'
STARTS_AN_ENGINE = ("mark.engine", "tests.gateway.tiny")
"""What such a file says."""


@cache
def group_of(file: str) -> str:
    """The tests that one worker takes as a whole, by a file's path from the root of the tree."""
    text = (ROOT / file).read_text()
    if file.startswith(FILLS_OR_SEARCHES) or DRILLS in text:
        return "machine"
    return "engines" if any(said in text for said in STARTS_AN_ENGINE) else file


class ByGroup(LoadScopeScheduling):
    """Sends each group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Whatever `--dist` says: a file that is split makes what it shares twice."""
    return ByGroup(config, log)


def pytest_configure() -> None:
    """No generated example has a time limit: a machine that is busy is no defect, and what is slow
    is shown by a benchmark.

    A worker is started with Ctrl-C ignored, and what a test starts would inherit that; a handler
    is not inherited."""
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("ours")
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The same order in every worker."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _turn(group_of(str(item.path.relative_to(ROOT)))))


def _turn(group: str) -> int:
    return FIRST.index(group) if group in FIRST else len(FIRST)
