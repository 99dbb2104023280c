"""Records for hypothesis to choose from: good ones, and those that are almost good."""

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from sovereign.audit.record import RECORD_TYPES, Kind

AT = "2026-11-24T12:00:00.000001Z"
SALT = "0123456789abcdef" * 2
_ENCODER = msgspec.json.Encoder(order="sorted")

_GOOD: Mapping[Kind, st.SearchStrategy[Any]] = {
    Kind.NAME: st.sampled_from(["", "a", 'é\n"\\', "\x7f\u2028", "😀" * 256, "x" * 256, "\x00"]),
    Kind.REASON: st.sampled_from(["", "so", "ß" * 1024, '","type":"erasure"']),
    Kind.INTEGER: st.sampled_from([0, 1, 2**53 - 1]),
    Kind.TIME: st.sampled_from([AT, "2024-02-29T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z"]),
}
_NUMBERS = (-1, -0.0, 1.0, 1.5, 2**53, 2**63, 2**64, 10**30)
_NAMES = ("x" * 257, "😀" * 257, "y" * 1025, SALT.upper(), SALT[1:], SALT + "0", "g" * 32)
_TIMES = (
    "2026-11-24T12:00:00.000001z",
    "2026-13-24T12:00:00.000001Z",
    "2026-11-24 12:00:00.000001Z",
    "2023-02-29T12:00:00.000001Z",
    "٢026-11-24T12:00:00.000001Z",
    "2026-11-24T24:00:00.000000Z",
    "2026-11-24T12:00:00.00001Z",
    "2026-11-24T12:00:00.0000001Z",
    "2026-11-24T12:00:60.000001Z",
)
STRANGE = st.sampled_from([None, True, False, [], {}, [1], {"a": 1}, *_NUMBERS, *_NAMES, *_TIMES])
_TEXTS: tuple[tuple[bytes, bytes], ...] = (
    (b",", b", "),
    (b"{", b"{ "),
    (b"}", b"}\n"),
    (b"}", b"} "),
    (b":1", b":1.0"),
    (b":1", b":1e0"),
    (b":1", b":01"),
    (b":0", b":-0"),
    (b"a", b"\\u0061"),
    (b"a", b"\xff"),
    (b"a", b"\xed\xa0\x80"),
    (b"a", b"\\ud800"),
    (b"a", b"\n"),
    (b"a", b"\\/"),
    (b"{", b'{"v":1,'),
    (b"}", b',"v":1}'),
    (b'"v":1}', b'"v":1,"v":1}'),
    (b'"v":1', b'"v":2'),
    (b"{", b"["),
    (b"{", b"\xef\xbb\xbf{"),
    (b'"type"', b'"kind"'),
    (b":1}", b":" + b"1" * 5000 + b"}"),
)


def good(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a record that is as the table says, optional ones there or not."""
    row = RECORD_TYPES[kind]
    optional = {n: _GOOD[f.kind] for n, f in row.fields.items() if not f.required}
    required = {n: _GOOD[f.kind] for n, f in row.fields.items() if f.required}
    common = {"v": st.just(1), "type": st.just(kind), "salt": st.just(SALT)}
    return st.fixed_dictionaries({**required, **common, "at": _GOOD[Kind.TIME]}, optional=optional)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """One entry: a record, or one with at most one field and one piece of text changed."""
    known = sorted(
        k for k, r in RECORD_TYPES.items() if all(f.kind in _GOOD for f in r.fields.values())
    )
    fields = draw(good(draw(st.sampled_from(known))))
    change = draw(st.sampled_from(["", "", "", "value", "drop", "add", "text", "cut", "junk"]))
    if change == "value":
        fields[draw(st.sampled_from(sorted(fields)))] = draw(STRANGE)
    elif change == "drop":
        del fields[draw(st.sampled_from(sorted(fields)))]
    elif change == "add":
        fields[draw(st.sampled_from(["", "zz", "tenant", "log", "asked_at"]))] = draw(STRANGE)
    entry = _ENCODER.encode(fields)
    if change == "text":
        old, new = draw(st.sampled_from(_TEXTS))
        entry = entry.replace(old, new, draw(st.sampled_from([1, 1, -1])))
    elif change == "cut":
        entry = entry[: draw(st.integers(0, len(entry)))]
    elif change == "junk":
        entry = draw(st.sampled_from([b"", b"{}", b"[]", b"null", b"1", b"\n", b"[" * 60_000]))
    return entry[:65_535]
