"""Tables that an auditor reads in a page are the ones the program works with."""

from sovereign.audit import record
from sovereign.audit.verify import FINDINGS
from tests.docs import codes
from tests.docs.reading import DOCS, headings, links, table

RECORDS = DOCS / "formats/records.md"
FINDINGS_PAGE = DOCS / "formats/findings.md"


def test_the_page_of_records_lists_every_type_with_its_stream_and_meaning():
    """Which log a record goes to decides how long it is kept."""
    told = {row[0]: (row[1], row[2]) for row in table(RECORDS, "## Types")}
    assert told == {name: (kind.stream, kind.says) for name, kind in record.RECORD_TYPES.items()}


def test_the_page_of_records_lists_every_field_with_its_kind_and_need():
    """A field that is not in the page is one that nobody weighed."""
    kinds = {"NAME": "name", "REASON": "reason", "INTEGER": "integer", "TIME": "time"}
    for name, kind in record.RECORD_TYPES.items():
        told = [tuple(row[:3]) for row in table(RECORDS, f"### {name}")]
        meant = [
            (field, kinds[each.kind.name], "always" if each.required else "may be absent")
            for field, each in kind.fields.items()
        ]
        assert told == meant, name


def test_the_page_of_records_describes_no_type_that_does_not_exist():
    """A type that was taken out must leave the page too."""
    sections = {text for level, text in headings(RECORDS) if level == 3}
    assert sections == set(record.RECORD_TYPES)


def test_the_page_of_records_lists_every_kind_of_field_and_what_all_records_share():
    """The bounds are what keeps content out."""
    told = {row[0]: row[1] for row in table(RECORDS, "## Kinds")}
    assert told == {kind.name.lower(): kind.value for kind in record.Kind}
    shared = {row[0] for row in table(RECORDS, "## In every record")}
    assert shared == {"v", "type", "at", "salt"}


def test_the_page_of_findings_lists_every_finding_in_the_words_of_the_program():
    """`audit verify` prints a code; the page says what it means."""
    told = {row[0]: row[1] for row in table(FINDINGS_PAGE, "## Findings")}
    assert told == FINDINGS


def test_every_finding_leads_to_a_runbook():
    """A finding without a next step is only bad news."""
    runbooks = [target for target in links(FINDINGS_PAGE) if "../runbooks/" in target]
    assert len(runbooks) >= len(FINDINGS)
    own = codes.with_a_runbook()
    for row in table(FINDINGS_PAGE, "## Findings"):
        wanted = row[0] if row[0] in own else codes.SHARED_BY_FINDINGS
        assert f"../runbooks/{wanted}.md" in row[3], row[0]
