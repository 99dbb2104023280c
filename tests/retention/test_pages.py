"""The worked examples of docs/formats/{erasures,holds}.md are real, byte by byte."""

import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sovereign.audit import erasures, holds, record
from sovereign.audit.merkle import Tree, leaf_hash
from tests.audit.test_holds import FACTS

DOCS = Path(__file__).parents[2] / "docs/formats"
ERASURES, HOLDS = ((DOCS / f"{name}.md").read_text() for name in ("erasures", "holds"))
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
ERASED = datetime(2025, 12, 31, 12, tzinfo=UTC)


def shown(page: str, text: str) -> bool:
    """True when the page shows the text as a block of its own."""
    return f"\n\n{textwrap.indent(text, '    ')}\n\n" in f"{page}\n\n"


def entry(index: int) -> bytes:
    return record.encode("filler", {}, BEGAN + timedelta(minutes=index), bytes([index % 256]) * 16)


def test_the_page_shows_a_receipt_whose_root_and_ages_a_stranger_can_compute() -> None:
    """Another program is right when it gets these numbers."""
    tree = Tree()
    for index in range(260):
        tree.append(leaf_hash(entry(index)))
    assert shown(ERASURES, entry(0).decode())
    fields = {
        "log": "test.example/gateway/event",
        "first": 0,
        "last": 255,
        "rule": "event",
        "item": "tile/entries/000",
        **erasures.fields_of(
            "event",
            erasures.Limits(184, 365, 24),
            policy="7" * 64,
            first=0,
            last=255,
            oldest=record.written(BEGAN),
            newest=record.written(BEGAN + timedelta(minutes=255)),
            size=260,
            root=tree.root().hex(),
        ),
    }
    receipt = record.encode("erasure", fields, ERASED, b"\2" * 16)
    assert shown(ERASURES, receipt.decode())
    told = erasures.receipt_of(record.parse(receipt), "x#0").told
    assert told is not None
    for seconds in (told.youngest_s, told.oldest_s):
        assert f"{seconds:,} s" in ERASURES
    early = told.newest + timedelta(days=told.limits.min_days)
    assert f"{early:%Y-%m-%dT%H:%M:%SZ}" in ERASURES
    late = told.oldest + timedelta(days=366)
    assert f"{late:%Y-%m-%dT%H:%M:%SZ}" in ERASURES


def test_the_page_names_every_finding_about_erasures_and_holds() -> None:
    """A verifier written from the page alone must not miss one."""
    for code in erasures.FINDINGS:
        assert f"`{code}`" in ERASURES + HOLDS, code


def test_the_page_shows_a_hold_and_its_line_in_the_manifest() -> None:
    """`sha256sum --check` must agree with us about what a manifest is."""
    assert shown(HOLDS, FACTS.encode().decode())
    line = holds.manifest({holds.FACTS: holds.digest(FACTS.encode())}).decode().rstrip("\n")
    assert shown(HOLDS, line)
