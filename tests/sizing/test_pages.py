"""The page of formats has every field and every number format, in the program's own figures."""

import pytest

from sovereign.policy import shapes
from sovereign.sizing.formats import FORMATS
from sovereign.sizing.parameters import Kind
from tests.docs.reading import DOCS, table

PAGE = DOCS / "formats/models.md"


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("## Fields of a model", shapes.Model),
        ("## Fields of an architecture", shapes.Architecture),
        ("## Fields of a card", shapes.Gpu),
        ("## Fields of a machine", shapes.GpuShape),
    ],
)
def test_the_page_lists_every_field_of_a_file_in_order(
    heading: str, shape: type[shapes.Shape]
) -> None:
    """A field without a meaning is filled in wrongly."""
    assert [row[0] for row in table(PAGE, heading)] == list(shape.__struct_fields__)
    assert all(row[1] for row in table(PAGE, heading))


def test_the_page_lists_every_number_format_with_its_bits() -> None:
    """What is assumed of a format must be there to be doubted."""
    kinds = (Kind.EMBEDDING, Kind.HEAD, Kind.ATTENTION, Kind.FEED_FORWARD, Kind.SMALL)
    told = {row[0]: row[1:7] for row in table(PAGE, "## Number formats")}
    assert told == {
        each.id: [each.engine, *(f"{each.bits[kind]:g}" for kind in kinds)]
        for each in FORMATS.values()
    }
