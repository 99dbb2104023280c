"""Records: canonical, salted, bounded, and without room for content."""

import os
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import record
from sovereign.audit.record import INTEGER_MAX, NAME_MAX_CHARS, REASON_MAX_CHARS, RECORD_TYPES, Kind
from sovereign.audit.tiles import ENTRY_MAX_BYTES
from sovereign.errors import NaiveTime, RecordInvalid
from tests.audit.scenario import NOW, completion, entry

SALT = b"\x5a" * 16
BOUNDS = {Kind.NAME: NAME_MAX_CHARS, Kind.REASON: REASON_MAX_CHARS}
characters = st.characters(exclude_categories=("Cs",))
values = {
    Kind.NAME: st.text(characters, max_size=NAME_MAX_CHARS),
    Kind.REASON: st.text(characters, max_size=REASON_MAX_CHARS),
    Kind.INTEGER: st.integers(0, INTEGER_MAX),
    Kind.TIME: st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)).map(record.written),  # noqa: DTZ001 - hypothesis adds the zone
}


def fields_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any fields that the table allows for a type of record."""
    table = RECORD_TYPES[kind].fields
    return st.fixed_dictionaries(
        {name: values[f.kind] for name, f in table.items() if f.required},
        optional={name: values[f.kind] for name, f in table.items() if not f.required},
    )


def example(kind: str) -> dict[str, Any]:
    """The fields of a record at their bounds: as long and as large as they may be."""
    largest = {
        Kind.NAME: "\x1f" * NAME_MAX_CHARS,  # six bytes each once written
        Kind.REASON: "\x1f" * REASON_MAX_CHARS,
        Kind.INTEGER: INTEGER_MAX,
        Kind.TIME: "2026-11-23T12:00:00.000000Z",
    }
    return {name: largest[field.kind] for name, field in RECORD_TYPES[kind].fields.items()}


@settings(deadline=None, max_examples=60)
@given(st.data())
@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_every_type_of_record_is_written_as_rfc_8785_says_and_reads_back(
    kind: str, data: st.DataObject
) -> None:
    """Canonical means anybody's encoder gives these bytes: the package rfc8785 is the measure."""
    fields = data.draw(fields_of(kind))
    written = record.encode(kind, fields, NOW, SALT)
    read = record.parse(written)
    assert read == {
        "v": 1,
        "type": kind,
        "at": "2026-11-24T12:00:00.000000Z",
        "salt": "5a" * 16,
        **fields,
    }
    assert rfc8785.dumps(read) == written


@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_the_longest_record_of_every_type_fits_a_bundle(kind: str) -> None:
    """A bundle's length field has two bytes; no record may come near them."""
    assert len(record.encode(kind, example(kind), NOW)) < ENTRY_MAX_BYTES


@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_no_field_of_any_record_takes_more_than_a_name_or_a_sentence(kind: str) -> None:
    """There is no field for content, and it must not slip in under another name."""
    for name, field in RECORD_TYPES[kind].fields.items():
        good = example(kind)
        record.encode(kind, good, NOW)
        bad: list[object] = [None, 1.5, ["a"], {"a": "b"}, b"bytes", True]
        if field.kind in BOUNDS:
            bad += ["a" * (BOUNDS[field.kind] + 1), 7]
        elif field.kind is Kind.INTEGER:
            bad += [-1, INTEGER_MAX + 1, "7"]
        else:
            bad += ["yesterday", "2026-13-01T00:00:00.000000Z", "2026-11-23T12:00:00Z", 7]
        for value in bad:
            with pytest.raises(RecordInvalid):
                record.encode(kind, {**good, name: value}, NOW)  # type: ignore[dict-item]


@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_a_missing_and_an_unknown_field_are_refused(kind: str) -> None:
    """Exactly what the table says: a typing slip must not become an unread field."""
    good = example(kind)
    for name, field in RECORD_TYPES[kind].fields.items():
        less = {key: value for key, value in good.items() if key != name}
        if field.required:
            with pytest.raises(RecordInvalid, match=name):
                record.encode(kind, less, NOW)
        else:
            record.encode(kind, less, NOW)
    with pytest.raises(RecordInvalid):
        record.encode(kind, {**good, "prompt": "Dear model"}, NOW)


@pytest.mark.parametrize("name", ["v", "type", "at", "salt"])
def test_a_caller_cannot_set_what_every_record_carries(name: str) -> None:
    """A chosen salt would let its author prove what an erased record said."""
    with pytest.raises(RecordInvalid):
        record.encode("filler", {name: "0" * 32}, NOW)


def test_half_a_character_is_refused_before_it_reaches_the_log() -> None:
    """JSON can carry a lone surrogate, so a client can send one as its model's name."""
    with pytest.raises(RecordInvalid):
        record.encode("completion", {**completion(1), "outcome": "\ud800"}, NOW)


def test_every_record_has_its_own_salt() -> None:
    """Once an entry is erased its hash must not tell what it was, not even by guessing."""
    one, two = (record.encode("filler", {}, NOW) for _ in range(2))
    assert one != two
    assert len(record.parse(one)["salt"]) == 32


def test_times_are_written_in_utc_and_a_time_without_a_zone_is_refused() -> None:
    """An hour's doubt in an audit log is a day's work."""
    paris = datetime(2026, 11, 24, 13, 0, 0, 7, tzinfo=timezone(timedelta(hours=1)))
    written = record.encode("filler", {}, paris)
    assert record.parse(written)["at"] == "2026-11-24T12:00:00.000007Z"
    assert record.time_of(written) == paris
    with pytest.raises(NaiveTime):
        record.encode("filler", {}, paris.replace(tzinfo=None))


GOOD = entry(1)
CONTENT = msgspec.json.decode(GOOD)


def spoiled(**changes: object) -> bytes:
    """A record with other fields, otherwise canonical."""
    return msgspec.json.encode({**CONTENT, **changes}, order="sorted")


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        GOOD + b" ",
        b" " + GOOD,
        GOOD.replace(b":", b": ", 1),
        GOOD[:-1] + b',"v":1}',  # a key twice
        GOOD[:-1],
        spoiled(type=["completion"]),
        spoiled(type={"a": 1}),
        spoiled(type="prompt"),
        spoiled(v=True),
        spoiled(v=1.0),
        spoiled(v=2),
        spoiled(at="2026-02-30T12:00:00.000000Z"),
        spoiled(at="٢٠٢٦-11-24T12:00:00.000000Z"),
        spoiled(at="2026-11-24T12:00:00.000000Z\n"),
        spoiled(salt="5A" * 16),
        spoiled(salt="5a" * 15),
        spoiled(extra="x"),
        spoiled(status=1e3),
        spoiled(status=-1),
        GOOD.replace(b"stop", b"\\u0073top"),
    ],
)
def test_an_entry_that_is_no_canonical_record_of_ours_is_invalid(entry: bytes) -> None:
    """One record, one form: otherwise the same words could stand there in two hashes."""
    with pytest.raises(RecordInvalid):
        record.parse(entry)


@given(st.binary(max_size=200))
def test_whatever_lies_in_an_entry_reading_it_only_says_no(junk: bytes) -> None:
    """Verification must end with a finding, never with a traceback."""
    with pytest.raises(RecordInvalid):
        record.parse(junk)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(sorted(CONTENT)), json_values)
def test_whatever_a_field_holds_reading_it_says_yes_or_no(name: str, value: object) -> None:
    """The same, for entries that are JSON and nearly a record."""
    try:
        junk = spoiled(**{name: value})
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return
    try:
        assert record.parse(junk)[name] == value
    except RecordInvalid:
        assert value != CONTENT[name] or type(value) is not type(CONTENT[name])


def test_a_forked_child_hands_out_salts_of_its_own() -> None:
    """Salts are drawn ahead; one that two records share hides neither of them."""
    record.encode("filler", {}, NOW)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, record.encode("filler", {}, NOW))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = record.parse(os.read(read_end, 4096))["salt"]
    os.close(read_end)
    os.close(write_end)
    assert record.parse(record.encode("filler", {}, NOW))["salt"] != theirs
