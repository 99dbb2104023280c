"""A command in a page is copied and run; it must be one that exists."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from sovereign.cli import app
from tests.docs.reading import ROOT, block_lines, blocks_and_prose, inline_code, name_of, pages

_SOVEREIGN = re.compile(r"^(?:sudo (?:-u \S+ )?)?(?:[A-Z_]+=\S+ )*(?:\S*/)?sovereign (?=[a-z-])")
_SHELL = {"|", "&&", "||", ";", ">", ">>", "2>&1", "<", "&"}
_ELLIPSIS = {"…", "..."}


def commands(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each line that calls `sovereign`, and its words up to the first sign of the shell."""
    for line in lines:
        match = _SOVEREIGN.match(line)
        if match:
            yield line, _words(line[match.end() :])


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#" if " #" in text else ""
    words = []
    for word in lexer:
        if word in _SHELL or set(word) <= set("|&;<>"):
            break
        words.append(word)
    return words


@cache
def tree() -> Any:
    """The command line as it is parsed; building it takes longer than parsing with it."""
    return typer.main.get_command(app)


def parse(words: list[str], *, whole: bool) -> str:
    """What is wrong with a command, "" when nothing is; `whole` asks for what it requires too."""
    given = [word for word in words if word not in _ELLIPSIS]
    command = tree()
    while hasattr(command, "commands") and given and given[0] != "--help":
        name = given.pop(0)
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    if "--help" in given:
        return ""
    if whole and not set(words) & _ELLIPSIS:
        return _refusal(command, given)
    known = {option for param in command.params for option in param.opts}
    return ", ".join(word for word in given if word.startswith("--") and word not in known)


def _refusal(command: Any, given: list[str]) -> str:
    """What the real parser says to these words; nothing is run."""
    if hasattr(command, "commands"):
        return "it stops before a command"
    try:
        command.make_context("sovereign", list(given))
    except Exception as error:  # noqa: BLE001 - whatever the parser says, it is the finding
        return str(getattr(error, "message", error)) or type(error).__name__
    return ""


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_in_a_block_parses_as_it_stands(page: Path):
    """Options are renamed sooner or later; a page must not lag behind."""
    faults = [
        f"{line}: {fault}"
        for line, words in commands(block_lines(page))
        if (fault := parse(words, whole=True))
    ]
    assert not faults, name_of(page)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_in_a_sentence_names_only_what_exists(page: Path):
    """In a sentence the required options may be left out, but not invented."""
    faults = [
        f"{line}: {fault}"
        for line, words in commands(inline_code(page))
        if (fault := parse(words, whole=False))
    ]
    assert not faults, name_of(page)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_make_target_in_a_page_is_in_the_makefile(page: Path):
    """`make` is the door; a sign must not point at a wall."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in [*block_lines(page), *inline_code(page)]:
        for target in re.findall(r"(?:^|&& |; )make ([a-z-]+)", line):
            assert target in targets, f"{name_of(page)}: {line}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_command_or_output_has_slipped_out_of_its_block(page: Path):
    """Outside a block it is neither checked nor shown line by line."""
    _, prose = blocks_and_prose(page)
    stray = re.compile(r"\$ |(found|accepted|next|more) {2,}|… ")
    assert not [line for line in prose if stray.match(line)], name_of(page)


def test_the_parser_of_this_test_tells_good_from_bad():
    """A check that cannot fail would pass for ever."""
    assert parse(["key", "create", "--tenant", "hr", "--purpose", "cv"], whole=True) == ""
    assert parse(["key", "create", "--tenant", "hr"], whole=True)
    assert parse(["key", "create", "--tenant", "hr"], whole=False) == ""
    assert parse(["key", "create", "--colour", "red"], whole=False)
    assert parse(["key", "destroy"], whole=False)
    assert parse(["serve", "nothing"], whole=True)
