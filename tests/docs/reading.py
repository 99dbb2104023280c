"""Read the documentation the way its tests need it: pages, headings, links, commands.

Markdown is read line by line, not rendered: a fence opens and closes a block, a line that begins
with four spaces is code, and everything else is prose.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^\s*(```|~~~)")
_LINK = re.compile(r"\[[^\]^\n]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")


def pages() -> list[Path]:
    """Every page a reader may open: all of docs/, and the Markdown at the root."""
    return sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


def name_of(page: Path) -> str:
    """A page's path as a failure should show it."""
    return page.relative_to(ROOT).as_posix()


def blocks_and_prose(page: Path) -> tuple[list[str], list[str]]:
    """The lines inside code blocks, and all others."""
    code: list[str] = []
    prose: list[str] = []
    fenced = False
    for line in page.read_text().splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            code.append(line.strip())
        else:
            prose.append(line.strip())
    return code, prose


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of every heading, in order."""
    _, prose = blocks_and_prose(page)
    found = (re.match(r"^(#+) (.+)$", line) for line in prose)
    return [(len(match[1]), match[2].strip()) for match in found if match]


def anchor(heading: str) -> str:
    """The anchor that GitHub, GitLab and Forgejo make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    """The target of every link in prose, pictures included."""
    _, prose = blocks_and_prose(page)
    return _LINK.findall(_INLINE.sub("", "\n".join(prose)))


def inline_code(page: Path) -> list[str]:
    """Every piece of code inside a sentence."""
    _, prose = blocks_and_prose(page)
    return [piece for line in prose for piece in _INLINE.findall(line)]


def block_lines(page: Path) -> list[str]:
    """Every line of every code block, without a prompt sign."""
    code, _ = blocks_and_prose(page)
    return [line.removeprefix("$ ").removeprefix("# ") for line in code]


def front_matter(page: Path) -> dict[str, str]:
    """The `name: value` lines between the first two `---`; a remark after ` #` is left out."""
    parts = page.read_text().split("---\n", 2)
    lines = parts[1].splitlines() if len(parts) == 3 and not parts[0] else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.partition(" #")[0].strip() for name, _, value in pairs}


def table(page: Path, heading: str) -> Iterator[list[str]]:
    """The rows of the first table below a heading, without its head; code marks are taken off."""
    below = page.read_text().partition(f"\n{heading}\n")[2]
    rows = [line for line in _first_table(below.splitlines()) if line]
    for row in rows[2:]:
        yield [cell.strip().strip("`") for cell in row.strip("|").split("|")]


def _first_table(lines: list[str]) -> Iterator[str]:
    begun = False
    for line in lines:
        if line.startswith("|"):
            begun = True
            yield line
        elif begun or line.startswith("#"):
            return
