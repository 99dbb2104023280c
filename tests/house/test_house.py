"""Promises about the tree itself that no other test would notice being broken."""

import ast
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import settings_page
from sovereign import settings
from sovereign.supervisor import watch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sovereign"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EXCEPTIONS_AT_MOST = {"noqa": 10, "type: ignore": 2}
"""Exceptions from the linters in `sovereign/`. These numbers only ever fall."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def comments(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield from (
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        )


def test_every_setting_has_its_row_in_the_page() -> None:
    """A setting that no page explains is a switch in the dark."""
    page = (ROOT / "docs/settings.md").read_text()
    assert page == settings_page()
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    assert {"site", "place", "gateway.listen", "engine.weights", "paths.audit"} <= rows
    bare = re.findall(r"^\| `[a-z_.]+` \| .* \|  \|$", page, re.MULTILINE)
    assert bare == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    """A room that prints might print a prompt; one that exits cannot be used by another."""
    if path.is_relative_to(PACKAGE / "cli") or path.name == "__main__.py":
        return
    found = set(calls(path)) & {"print", "sys.exit", "exit", "quit", "input", "breakpoint"}
    assert found == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A stranger opens any file and knows within a minute."""
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("kind", sorted(EXCEPTIONS_AT_MOST))
def test_exceptions_from_the_linters_carry_a_reason_and_only_fall(kind: str) -> None:
    """`Temporary` skips are how a clean house rots."""
    found = [c for path in SOURCES for c in comments(path) if re.search(rf"#\s*{kind}", c)]
    assert len(found) == EXCEPTIONS_AT_MOST[kind], "lower the number when one has gone"
    for comment in found:
        codes = re.search(rf"{kind}[:\[]\s*([A-Za-z0-9-]+)", comment)
        assert codes, comment
        assert re.search(r" - \S|  # \S|\] # \S|\]  # \S", comment), f"no reason: {comment}"


def test_one_module_reads_yaml_and_deciding_reads_nothing() -> None:
    """The policy is read once; what decides takes values and gives values."""
    assert {name_of(p) for p in SOURCES if "yaml" in set(imported(p))} == {
        "sovereign/policy/yamlfile.py"
    }
    impure = {"os", "pathlib", "socket", "time", "random", "secrets", "subprocess", "sqlite3"}
    names = ("residency.py", "retention.py", "controller/plan.py", "gateway/choose.py")
    for name in (*names, "access/decide.py", "access/compare.py", "evidence/loosening.py"):
        assert not set(imported(PACKAGE / name)) & impure, name


def test_the_import_contracts_name_every_room() -> None:
    """A room that no contract knows may import whatever it likes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    named = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {
        f"sovereign.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and not path.name.startswith("_")
    }
    assert named == rooms


def test_a_broad_except_stands_only_where_a_loop_or_a_command_begins() -> None:
    """Elsewhere it would turn a fault into a pass."""
    broad = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) == "Exception")
    }
    assert broad == {
        "sovereign/audit/log.py",
        "sovereign/cli/__init__.py",
        "sovereign/gateway/app.py",
        "sovereign/gateway/story.py",
        "sovereign/gateway/view.py",
    }


def test_what_the_processes_may_read_of_the_environment_is_what_they_are_given() -> None:
    """A new variable is added to the list of those passed on, or it works for `deploy` only."""
    read = set()
    for path in SOURCES:
        for text in re.findall(r"\"((?:SOVEREIGN|XDG)_[A-Z_]+)\"", path.read_text()):
            read.add(text)
    assert read <= set(watch._PASSED_ON)


def test_nothing_that_is_made_or_secret_is_tracked() -> None:
    """What git ignores must not have been added before it was ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-ci", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: there is nothing tracked to look at")
    assert listed.stdout == ""
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/.venv/", "__pycache__/", "/bench/out/", "*.egg-info/"} <= set(ignored)


def test_the_file_of_settings_is_the_one_the_pages_name() -> None:
    """One name, written once in the code and once in the page that is generated from it."""
    assert f"`$SOVEREIGN_HOME/{settings.FILE_NAME}`" in settings_page()
