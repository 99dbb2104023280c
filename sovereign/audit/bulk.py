"""Check many records at once: the same question as `record.parse`, for a whole bundle.

It says yes only when every entry is a record of the table that may stand in the stream, in
canonical form; whatever it cannot say yes to, `record.parse` looks at one by one. So it may say
no too often, which costs time, and never yes too often. A test compares the two.

How: the entries are read as lines into values of one type for each row of the table, which
knows the fields and their kinds, and written again with sorted keys. What comes out must be
what went in, byte by byte. Canonical text holds no line break, so it was not cut elsewhere.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, reduce
from operator import or_
from typing import Any

import msgspec

from sovereign.audit import record

_ENCODER = msgspec.json.Encoder(order="sorted")
_TIMES = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)*", re.ASCII)
_SALTS = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries that all are records: the time of each, and the places of those to be told of."""

    times: list[str]
    told: list[int]


def check(entries: Sequence[bytes], stream: str, told: Collection[str]) -> Checked | None:
    """Check the entries of one bundle, and find the records whose type is in `told`.

    Args:
        stream: that of the log the entries are from.

    Returns:
        None when it cannot be said that all are; then they are to be looked at one by one.
    """
    rows = _rows(stream)
    text = b"\n".join(entries) + b"\n"
    try:
        found = rows.decoder.decode_lines(text)
        if _ENCODER.encode_lines(found) != text or len(found) != len(entries):
            return None
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, OverflowError):
        return None
    if not _are_times(rows.times_of(found)):
        return None
    if not _SALTS.fullmatch("".join([each.salt for each in found])):
        return None
    wanted = rows.named(told)
    places = [i for i, each in enumerate(found) if type(each) in wanted] if wanted else []
    return Checked([each.at for each in found], places)


def _are_times(times: list[str]) -> bool:
    if not _TIMES.fullmatch("".join(times)):
        return False
    try:
        for time in times:
            datetime.fromisoformat(time)
    except ValueError:
        return False
    return True


class _Rows:
    """The rows of the table that may stand in one stream, as one type."""

    def __init__(self, stream: str) -> None:
        self._types = {
            name: shape
            for name, row in record.RECORD_TYPES.items()
            if row.stream in ("any", stream) and (shape := record.shape(name)) is not None
        }
        united = reduce(or_, [shape.type for shape in self._types.values()])
        self.decoder: Any = msgspec.json.Decoder(united)
        self._timed = [shape for shape in self._types.values() if shape.times]

    def times_of(self, found: list[Any]) -> list[str]:
        """Every time in these records, of fields too that a record may go without."""
        times = [each.at for each in found]
        for shape in self._timed:
            holders = [each for each in found if type(each) is shape.type]
            times += [getattr(each, name) for each in holders for name in shape.times]
        return [time for time in times if time is not msgspec.UNSET] if self._timed else times

    def named(self, wanted: Collection[str]) -> set[type]:
        """The types of these names."""
        return {self._types[name].type for name in wanted if name in self._types}


_rows = cache(_Rows)
