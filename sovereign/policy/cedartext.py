"""Take Cedar text apart into words and statements, each with its line. Nothing is judged here.

Cedar's own parser says what is wrong, but neither on which line nor what a file says once comments
and spaces are gone. Both are needed: the line for whoever mends it, the bare words for the digest.
What is evaluated is these words too, so the digest names exactly what is in force.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_WORD = re.compile(
    r"\s+|//[^\n]*"  # between words
    r'|("(?:\\.|[^"\\])*"|\?\w+|\w+|::|==|!=|<=|>=|&&|\|\||.)',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of Cedar and the line it stands on, from 1."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """The words up to a semicolon, which is the last of them unless the file ends before."""

    words: tuple[Word, ...]

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.words[0].line

    @property
    def text(self) -> str:
        """It, with one space between two words and no comment."""
        return " ".join(word.text for word in self.words)

    def line_of(self, *wanted: str) -> int:
        """The line of the first of these words that occurs in it; else where it begins."""
        lines = {word.text: word.line for word in reversed(self.words)}
        return next((lines[text] for text in wanted if text in lines), self.line)


def statements(text: str) -> tuple[Statement, ...]:
    """Every statement of a file, in its order."""
    found, begun = [], list[Word]()
    for word in words(text):
        begun.append(word)
        if word.text == ";":
            found.append(Statement(tuple(begun)))
            begun = []
    return (*found, Statement(tuple(begun))) if begun else tuple(found)


def words(text: str) -> Iterator[Word]:
    """Every word, without comments and space."""
    line = 1
    for match in _WORD.finditer(text):
        if match[1]:
            yield Word(match[1], line)
        line += match[0].count("\n")


def attributes(schema: str) -> dict[str, tuple[str, ...]]:
    """By entity type, the attributes that a schema declares; only used to say what is accepted."""
    found: dict[str, tuple[str, ...]] = {}
    for statement in statements(schema):
        said = [word.text for word in statement.words]
        if said[0] != "entity":
            continue
        body = said.index("{") if "{" in said else len(said)
        ends = [said.index(end) for end in ("in", "=", "{", ";") if end in said]
        names = [name for name in said[1 : min(ends)] if name != ","]
        inner = said[body:]
        own = [name for name, after in pairwise(inner) if after in (":", "?")]
        found |= dict.fromkeys(names, tuple(own))
    return found


def actions(schema: str) -> tuple[str, ...]:
    """The names of the actions that a schema declares."""
    found: list[str] = []
    for statement in statements(schema):
        said = [word.text for word in statement.words]
        if said[0] == "action":
            ends = [said.index(end) for end in ("appliesTo", "in", ";") if end in said]
            found += [name.strip('"') for name in said[1 : min(ends)] if name != ","]
    return tuple(found)
