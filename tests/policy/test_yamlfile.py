"""The traps of YAML, each refused with its line, and the small dialect that is left."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.errors import PolicyUnreadable
from sovereign.policy.yamlfile import FILE_MAX_BYTES, read_as


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "file.yaml"


def read(path: Path, text: str | bytes, kind: Any = dict[str, Any]) -> Any:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_as(path, kind)


def test_the_dialect_is_mappings_lists_strings_whole_numbers_and_truth(path: Path) -> None:
    """What a lawyer reads is what the machine gets."""
    text = (
        "a: text\nb: [1, -2, 0]\nc: true\nd: {e: null}\nf: 2026-11-22\n"
        'g: "NO"\nh: >-\n  two\n  lines\n'
    )
    assert read(path, text) == {
        "a": "text",
        "b": [1, -2, 0],
        "c": True,
        "d": {"e": None},
        "f": "2026-11-22",  # a date stays what was written
        "g": "NO",
        "h": "two lines",
    }


@pytest.mark.parametrize("word", ["NO", "No", "no", "OFF", "off", "ON", "on", "YES", "yes"])
def test_a_bare_word_that_is_a_boolean_is_named_where_a_string_was_meant(
    path: Path, word: str
) -> None:
    """Norway is the oldest trap of the format; it has eight sisters."""
    with pytest.raises(PolicyUnreadable) as refusal:
        read(path, f'eea:\n  - "SE"\n  - {word}\n', dict[str, list[str]])
    assert refusal.value.message == f"{path}:3: eea[1] is the bare word {word}"
    assert refusal.value.accepted == f'the quoted string "{word}"'


def test_of_two_groups_the_spoiled_one_is_named(path: Path) -> None:
    """The quoted code on the line above is innocent."""
    text = 'one: ["SE", "NO"]\ntwo: ["SE", NO]\n'
    with pytest.raises(PolicyUnreadable, match=r":2: two\[1\] is the bare word NO$"):
        read(path, text, dict[str, list[str]])


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 46.7\n", 2, r"'46\.7' reads as float"),
        ("a: 1\nb: .inf\n", 2, "reads as float"),
        ("a: 012\n", 1, "'012' reads as int"),  # ten to YAML, twelve to a reader
        ("a: 0x10\n", 1, "'0x10' reads as int"),
        ("a: 0b11\n", 1, "'0b11' reads as int"),
        ("a: 1_000\n", 1, "'1_000' reads as int"),
        ("a: 22:30\n", 1, "'22:30' reads as int"),  # base sixty
        ("a: +1\n", 1, r"'\+1' reads as int"),
        ("a: 99999999999999999999\n", 1, "reads as int"),
        ("a: !!bool banana\n", 1, "'banana' reads as bool"),
        ("a: !!null something\n", 1, "'something' reads as null"),
        ("a: !!binary aGk=\n", 1, "reads as binary"),
        ("a: !!python/object:os.system x\n", 1, "reads as python/object:os.system"),
        ("a: !mine {b: 1}\n", 1, "this reads as !mine"),
        ("a: !!set {b}\n", 1, "this reads as set"),
        ("a: !!omap [b: 1]\n", 1, "this reads as omap"),
        ("a: =\n", 1, "reads as value"),
        ("a: 1\na: 2\n", 2, "the key 'a' stands here a second time"),
        ("a:\n  b: 1\n  b: 1\n", 3, "the key 'b' stands here a second time"),
        ("1: a\n", 1, "the key '1' is not a string"),
        ("NO: a\n", 1, "the key 'NO' is not a string"),
        ("<<: {a: 1}\n", 1, "the key '<<' is not a string"),
        ("[a, b]: 1\n", 1, "the key here is not a string"),
        ("? !mine x\n: 1\n", 1, "the key 'x' is not a string"),
        ("a: &x [1]\nb: 2\n", 1, "anchors and aliases are not accepted"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases are not accepted"),
        ("a: &x [*x]\n", 1, "anchors and aliases are not accepted"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: `x`\n", 1, "not YAML"),
        ("", 1, "the file is empty"),
        ("# only a remark\n", 1, "the file is empty"),
    ],
)
def test_what_could_be_read_two_ways_is_refused_with_its_line(
    path: Path, text: str, line: int, says: str
) -> None:
    """A policy that loads and means something else than its reader thought is the worst kind."""
    with pytest.raises(PolicyUnreadable, match=says) as refusal:
        read(path, text)
    assert refusal.value.message.startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"a: \xff\n", "not UTF-8"),
        (b"a: \x00\n", "not YAML"),
        (b"[" * 20_000, "nested too deeply"),
        (b"#" * (FILE_MAX_BYTES + 1), "at most"),
    ],
)
def test_a_file_that_is_no_text_or_too_much_is_refused(path: Path, raw: bytes, says: str) -> None:
    """A reader that can be made to crash or swell is no gate."""
    with pytest.raises(PolicyUnreadable, match=says):
        read(path, raw)


def test_a_file_of_exactly_the_largest_size_is_read(path: Path) -> None:
    """The bound is where it says it is."""
    raw = b"a: 1\n#"
    assert read(path, raw + b"#" * (FILE_MAX_BYTES - len(raw))) == {"a": 1}


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """Absent is not empty."""
    with pytest.raises(PolicyUnreadable, match=r"absent\.yaml: cannot be read"):
        read_as(tmp_path / "absent.yaml", dict[str, Any])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_anything_else(path: Path, text: str) -> None:
    """Whatever is typed, the operator gets a sentence and no traceback."""
    try:
        outcome = read(path, text.encode(errors="replace"))
    except PolicyUnreadable as refusal:
        outcome = refusal
    assert isinstance(outcome, dict) or outcome.message.startswith(str(path))
