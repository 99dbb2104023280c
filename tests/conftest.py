"""How the suite is spread over workers (`make test WORKERS=2`): whole files, long ones first.

Some files share a worker besides: the hosts share a lab, and where a real vLLM or Ollama is
started, no two files do it at a time. One process alone takes everything in the order of its name.
"""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FIRST = ("hosts", "engines")
"""The longest groups are begun first, so that none is left over for the end."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    starting = {item.path for item in items if item.get_closest_marker("engine")}
    groups = {item.path: _group(item.path, starting) for item in items}
    items.sort(key=lambda item: _turn(groups[item.path]))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))


def _group(path: Path, starting: set[Path]) -> str:
    file = path.relative_to(TESTS)
    if file.parts[0] == "hosts":
        return "hosts"
    return "engines" if path in starting else str(file)


def _turn(group: str) -> int:
    return FIRST.index(group) if group in FIRST else len(FIRST)
