"""A command starts quickly because it imports little: what is imported is counted, not the time."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.audit_growing import Growing
from sovereign.cli import app, tree
from tests.audit.scenario import KEY, clock

SLOW = {
    "aiohttp",
    "asyncio",
    "cedarpy",
    "http.client",
    "multiprocessing",
    "pulumi",
    "sqlite3",
    "uvicorn",
    "yaml",
}
"""Modules that verifying a log has no use for, and that take tens of milliseconds."""
VERSION_AT_MOST, VERIFY_AT_MOST = 140, 460
"""Modules in all; what a bare interpreter has is some sixty of them."""
SHOW = """
import sys
sys.argv = ["sovereign", *sys.argv[1:]]
from sovereign.cli import main
try:
    main()
finally:
    print("\\n".join(sys.modules), file=sys.stderr)
"""


def imported_by(*words: str) -> set[str]:
    """The modules that a command has imported at its end, which was a good one."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *words], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return set(done.stderr.decode().split())


def test_saying_the_version_imports_next_to_nothing() -> None:
    """Scripts ask it first."""
    found = imported_by("--version")
    assert {each for each in found if each.startswith("sovereign.")} <= {"sovereign.cli"}
    assert not found & (SLOW | {"typer", "rich", "pydantic", "msgspec", "cryptography"})
    assert len(found) <= VERSION_AT_MOST


def test_verifying_a_log_imports_only_what_verifying_needs(tmp_path: Path) -> None:
    """An auditor verifies many small logs; waiting for an engine's client each time is absurd."""
    grown = Growing(tmp_path / "log", KEY, clock)
    grown.grow(3)
    words = ("audit", "verify", str(grown.folder), "--vkey", str(KEY.verifier))
    found = imported_by(*words)
    assert found & SLOW == set()
    rooms = {"gateway", "supervisor", "evidence", "engines", "keystore"}
    assert not {each for each in found for room in rooms if each == f"sovereign.{room}"}
    assert len(found) <= VERIFY_AT_MOST, len(found)


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["audit", "verify", "x"], False),
        (["audit", "prove", "--help"], False),
        (["audit"], True),
        (["audit", "--help"], True),
        (["audit", "no-such-verb"], True),
        (["--help"], True),
        (["key", "list"], True),
        ([], True),
    ],
)
def test_a_tree_with_less_in_it_is_built_only_for_what_stands_in_it(
    words: list[str], whole: bool
) -> None:
    """A page of help that lacks a command would hide it."""
    script = (
        "import sys; from sovereign.cli import tree; found = tree.wanted(sys.argv[1:]);"
        "print(found is tree.whole())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, timeout=60, check=False
    )
    assert done.stdout.decode().strip() == str(whole), done.stderr.decode()


def test_the_whole_tree_is_one_and_the_same() -> None:
    """Pages and tests look at `app`; each command must hang there once."""
    assert app is tree.whole()
    groups = [group.name for group in tree.whole().registered_groups]
    assert len(groups) == len(set(groups))
    for group in tree.whole().registered_groups:
        assert group.typer_instance is not None
        names = [
            each.name or each.callback.__name__
            for each in group.typer_instance.registered_commands
            if each.callback is not None
        ]
        assert len(names) == len(set(names)), group.name


def test_a_gateway_imports_no_client_of_others_before_it_needs_one() -> None:
    """It starts in half the time, and what is not there cannot be reached from outside."""
    code = "import sovereign.gateway.server, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=True, text=True
    )
    found = set(done.stdout.split())
    assert "sovereign.gateway.wire" in found
    assert not found & {"aiohttp", "httpx", "opentelemetry", "psycopg", "mistral_common"}
