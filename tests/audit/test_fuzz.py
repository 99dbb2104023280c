"""Every parser of the log, fed with what is almost right and with what is not right at all.

Each gives an answer or refuses in the one way it says it does; nothing else ever leaves it. What it
answers is held against what was signed: no mutation of a good text may come to mean something new.
`tests/vectors/hostile.json` keeps the inputs that matter, by parser and name; hypothesis mutates
those, and good ones. An input that breaks something is put there, with a name that says what it is.
"""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import bulk, checkpoint, journal, note, proof, record, tiles
from sovereign.audit.journal import base_frame, group_frame
from sovereign.audit.merkle import leaf_hash
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.errors import BadInput, JournalDamaged, RecordInvalid
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, NOW, ORIGIN, entry
from tests.docs.reading import ROOT

CORPUS = ROOT / "tests/vectors/hostile.json"
SALT = b"\x07" * 16
LOG = files(entries(300))
NOTE = LOG["checkpoint"]
TOO_MANY = f"{ORIGIN}\n{'9' * 30}\n{'A' * 43}=\n"
SIGNED = {f"{ORIGIN}\n", "text\n", TOO_MANY, NOTE.decode().rpartition("\n\n")[0] + "\n"}
GROUPS = [
    group_frame(3, tiles.pack([entry(3), entry(4)]), NOTE),
    group_frame(5, tiles.pack([entry(5)]), NOTE),
]
BASE = base_frame(3, bytes(range(32)))

GOOD: dict[str, list[bytes]] = {
    "note": [NOTE, note.sign("text\n", KEY), note.sign(f"{ORIGIN}\n", KEY)],
    "key": [str(KEY.verifier).encode(), KEY.dump().encode()],
    "bundle": [LOG["tile/entries/001.p/44"], tiles.pack([b"", b"\x00", b"x" * 300])],
    "journal": [BASE + b"".join(GROUPS), (BASE + GROUPS[0])[:-5], base_frame(0, bytes(32))],
    "record": [entry(1), record.encode("log-created", {"origin": 'ö\n"\\'}, NOW, SALT)],
    "proof": [
        proof.prove(LOG.get, KEY.verifier, 77),
        proof.prove(files(entries(1)).get, KEY.verifier, 0),
    ],
}


# --- what each parser promises ----------------------------------------------------------------


def note_holds(data: bytes) -> None:
    text = note.open_note(data, KEY.verifier)
    assert text is None or text in SIGNED
    found = checkpoint.read(data, KEY.verifier)
    assert found is None or (found.origin, found.size) == (ORIGIN, 300)


def key_holds(data: bytes) -> None:
    text = data.decode(errors="replace")
    with suppress(BadInput):
        key = VerifierKey.parse(text)
        assert VerifierKey.parse(str(key)) == key
        assert str(key) == text.strip()
    with suppress(BadInput):
        signer = SignerKey.parse(text)
        assert SignerKey.parse(signer.dump()).verifier == signer.verifier


def bundle_holds(data: bytes) -> None:
    try:
        found = tiles.unpack(data)
    except ValueError:
        return
    assert tiles.pack(found) == data


def journal_holds(data: bytes) -> None:
    try:
        found = journal.parse(data)
    except JournalDamaged:
        return
    again = base_frame(found.base, found.base_root) + b"".join(
        group_frame(each.first, tiles.pack(list(each.entries)), each.note) for each in found.groups
    )
    assert again == data[: found.good_bytes]
    assert found.good_bytes + found.torn_bytes == len(data)


def record_holds(data: bytes) -> None:
    try:
        found = record.parse(data)
    except RecordInvalid:
        found = None
    for stream in record.STREAMS:
        fits = found is not None and record.RECORD_TYPES[found["type"]].stream in ("any", stream)
        assert (bulk.check([data], stream, ()) is not None) == fits
    assert found is None or msgspec.json.encode(found, order="sorted") == data


def proof_holds(data: bytes) -> None:
    try:
        found = proof.check(data, KEY.verifier)
    except BadInput:
        return
    if found is not None:
        index, size = found.index, found.size
        assert (index, size) in {(77, 300), (0, 1)}
        assert found.entry == entries(300)[index]


PARSERS: dict[str, Callable[[bytes], None]] = {
    "note": note_holds,
    "key": key_holds,
    "bundle": bundle_holds,
    "journal": journal_holds,
    "record": record_holds,
    "proof": proof_holds,
}


# --- what they are fed with -------------------------------------------------------------------


def corpus() -> dict[str, dict[str, bytes]]:
    """The kept inputs, by parser and name. A value `{"repeat": N, "of": TEXT}` is a long one."""
    kept = msgspec.json.decode(CORPUS.read_bytes())
    return {parser: {n: _bytes(v) for n, v in some.items()} for parser, some in kept.items()}


def _bytes(value: str | dict[str, str | int]) -> bytes:
    if isinstance(value, str):
        return (
            base64.b64decode(value.removeprefix("base64:"))
            if value[:7] == "base64:"
            else (value.encode())
        )
    return str(value["of"]).encode() * int(value["repeat"])


@st.composite
def mutated(draw: st.DrawFn, parser: str) -> bytes:
    """A good or kept input, changed in up to six places; now and then just any bytes."""
    seeds = [*GOOD[parser], *(each for each in corpus()[parser].values() if len(each) < 5_000)]
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.sampled_from([0, 1, 1, 2, 4, 32, 64, 400])))
        other = draw(st.sampled_from(seeds))
        start = draw(st.integers(0, len(other)))
        new = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b"\n", b"\n\n", b" ", b"+", b"\0", b"\xff", b"9" * 40, b'"', b"SVJg"]
            )
            | st.just(other[start : start + 64])
        )
        data = data[:at] + new + data[upto:]
    return data


@pytest.mark.parametrize("parser", PARSERS)
def test_no_mutation_of_a_text_crashes_its_parser_or_comes_to_mean_something(parser: str) -> None:
    """A verifier that stops with a trace has said nothing, and one that is talked round, worse."""

    @settings(deadline=None, max_examples=400)
    @given(mutated(parser))
    def holds(data: bytes) -> None:
        PARSERS[parser](data)

    holds()


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=200))
def test_any_bytes_at_all_are_refused_in_the_way_that_was_promised(
    parser: str, data: bytes
) -> None:
    """Nobody said that what is handed over was ever a log."""
    PARSERS[parser](data)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([b"SVJg", b"SVJb"]), st.binary(max_size=60)), max_size=4))
def test_frames_whose_sum_is_right_may_still_hold_anything(
    frames: list[tuple[bytes, bytes]],
) -> None:
    """A sum is no signature: whoever can write the journal can make one."""
    data = BASE
    for kind, payload in frames:
        framed = kind + len(payload).to_bytes(4, "big") + payload
        data += framed + sha256(framed).digest()
    try:
        found = journal.parse(data)
    except JournalDamaged:
        return
    assert len(found.groups) <= len(frames)


@pytest.mark.parametrize(
    ("parser", "name"), [(parser, name) for parser, some in corpus().items() for name in some]
)
def test_what_once_mattered_is_still_refused_or_read_as_promised(parser: str, name: str) -> None:
    """The corpus is kept so that a mistake is made once."""
    PARSERS[parser](corpus()[parser][name])


def test_the_corpus_covers_every_parser_with_names_that_say_what_they_are() -> None:
    """A name is all that tells the next reader why an input is there."""
    assert corpus().keys() == PARSERS.keys()
    for some in corpus().values():
        assert len(some) >= 3
        assert all(re.fullmatch(r"[a-z0-9 ,']{6,}", name) for name in some)


def test_the_good_ones_are_good() -> None:
    """Mutations of what was never right would show nothing."""
    assert note.open_note(NOTE, KEY.verifier) in SIGNED
    assert VerifierKey.parse(GOOD["key"][0].decode()) == KEY.verifier
    assert len(tiles.unpack(GOOD["bundle"][0])) == 44
    assert len(journal.parse(GOOD["journal"][0]).groups) == 2
    assert record.parse(GOOD["record"][1])["type"] == "log-created"
    shown = proof.check(GOOD["proof"][0], KEY.verifier)
    assert shown is not None
    assert leaf_hash(shown.entry) == leaf_hash(entries(300)[77])
