"""A page that leads nowhere is worse than none: it is found when it is needed."""

import re
from pathlib import Path

import pytest

from tests.docs.reading import DOCS, ROOT, anchor, headings, links, name_of, pages

HOSTS = {"c2sp.org", "www.rfc-editor.org", "eur-lex.europa.eu", "github.com"}
"""Where a page may point outside: specifications, the law, and the programs we build on."""


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_to_a_file_or_heading_of_ours_resolves(page: Path):
    """Renaming a page must not strand its readers."""
    for target in links(page):
        if ":" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} points at {target}"
        assert file.is_relative_to(ROOT), f"{name_of(page)} points outside the project: {target}"
        if fragment:
            known = {anchor(text) for _, text in headings(file)}
            assert fragment in known, f"{name_of(page)} points at {target}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_link_outwards_goes_to_a_host_on_the_list(page: Path):
    """No page sends its reader, or a copy-and-paste, to a host that nobody thought about."""
    found = re.findall(r"https?://([^/\s)\"'`>]+)", page.read_text())
    local = re.compile(
        r"(127\.0\.0\.1|\[::1\]|localhost|[a-z0-9.-]*\.?example(\.org|\.net)?)(:\S+)?"
    )
    outside = {host for host in found if not local.fullmatch(host)}
    assert outside <= HOSTS, f"{name_of(page)}: {outside - HOSTS}"


def test_every_page_of_the_docs_is_reached_from_its_index():
    """A page that no index names is read by nobody."""
    seen: set[Path] = set()
    queue = [DOCS / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in links(page):
            path = target.partition("#")[0]
            file = (page.parent / path).resolve()
            if path and ":" not in target and file.is_file():
                queue.append(file)
    assert set(DOCS.rglob("*.md")) <= seen


def test_every_page_has_one_title():
    """The title is what a search shows."""
    for page in pages():
        assert [level for level, _ in headings(page)].count(1) == 1, name_of(page)
