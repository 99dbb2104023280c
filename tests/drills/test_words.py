"""A canary must be found in every way it may lie in a file, and say where it went in."""

import base64
import gzip
import html
import json
import secrets
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from sovereign.drills import seek
from sovereign.drills.seek import Find, Seeker
from sovereign.drills.words import ALPHABET, SHORT_CHARS, Canaries, pieces, spellings


def seeker(canaries: Canaries) -> Seeker:
    return Seeker(canaries.needles(), (), canaries.origin)


def parts(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture
def canaries() -> Canaries:
    it = Canaries()
    it.word("prompt")
    it.word("tool")
    it.go("whole")
    return it


def prompt(canaries: Canaries) -> str:
    return next(iter(canaries.words))


WRITTEN: dict[str, Callable[[str], bytes]] = {
    "a log line": lambda w: f'{{"event":"x","said":"{w}"}}'.encode(),
    "upper case": lambda w: w.upper().encode(),
    "reversed": lambda w: w[::-1].encode(),
    "UTF-16 of Windows": lambda w: f"said {w}".encode("utf-16"),
    "UTF-16, big": lambda w: f"said {w}".encode("utf-16-be"),
    "hex": lambda w: f"x{w}".encode().hex().encode(),
    "hex, upper": lambda w: f"x{w}".encode().hex().upper().encode(),
    "base64": lambda w: base64.b64encode(w.encode()),
    "base64 after one": lambda w: base64.b64encode(b"a" + w.encode() + b"zz"),
    "base64 after two": lambda w: base64.b64encode(b"ab" + w.encode() + b"z"),
    "base64 for addresses": lambda w: base64.urlsafe_b64encode(b"\xff\xfe" + w.encode()),
    "base64 in lines": lambda w: base64.encodebytes(b"line before it, " * 3 + w.encode()),
    "a query": lambda w: f"?q={quote(f'{w} & é')}".encode(),
    "every character percent-encoded": lambda w: "".join(f"%{ord(c):02X}" for c in w).encode(),
    "JSON": lambda w: json.dumps({"é": f'"{w}"\n'}).encode(),
    "JSON, every character": lambda w: "".join(f"\\u{ord(c):04x}" for c in w).encode(),
    "a page": lambda w: html.escape(f"<b>{w}</b>").encode(),
    "a page, every character": lambda w: "".join(f"&#{ord(c)};" for c in w).encode(),
    "Python's repr": lambda w: repr({"said": w.encode()}).encode(),
    "gzip": lambda w: gzip.compress(b"before " * 500 + w.encode()),
    "zlib": lambda w: b"\x00" * 9 + zlib.compress(b"before " * 500 + w.encode()),
    "gzip of hex": lambda w: gzip.compress(w.encode().hex().encode()),
    "cut at its end": lambda w: w[:24].encode(),
    "cut at its beginning": lambda w: w[-24:].encode(),
    "broken in the middle": lambda w: w[:22].encode() + b"\0\0\0\7" + w[22:].encode(),
}


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
@pytest.mark.parametrize("how", sorted(WRITTEN))
def test_it_is_found_however_it_was_written_and_wherever_a_part_ends(
    canaries: Canaries, how: str, size: int
) -> None:
    """A search that misses one spelling calls a leaking site clean."""
    data = secrets.token_bytes(3000) + WRITTEN[how](prompt(canaries)) + secrets.token_bytes(3000)
    assert seeker(canaries).seek(parts(data, size)).finds, how


@pytest.mark.parametrize("size", [50, 1 << 20])
def test_a_whole_one_says_in_which_field_and_towards_which_outcome_it_went(
    canaries: Canaries, size: int
) -> None:
    """`Something leaked` is no use to whoever has to mend it."""
    for name, data in spellings(prompt(canaries)).items():
        found = seeker(canaries).seek(parts(b"." * 500 + data + b"." * 500, size)).finds
        assert Find(name, "prompt", "whole") in found, name


@pytest.mark.parametrize("chars", [SHORT_CHARS, *range(12, 21)])
def test_a_word_of_any_length_is_found_wherever_it_lies(chars: int) -> None:
    """A long search looks at every eighth byte first; no place and no length may slip through."""
    word = "q" + "".join(secrets.choice(ALPHABET) for _ in range(chars - 1))
    finding = Seeker((word,), (), lambda *_: None)
    for name, data in spellings(word).items():
        for before in range(17):
            for behind in (0, 1, 7):
                bytes_ = b"\0" * before + b"~" + data + b"~" * behind
                found = {find.spelling for find in finding.seek([bytes_]).finds}
                assert name in found, (name, before, behind)


def test_what_is_not_there_is_not_found(canaries: Canaries) -> None:
    """Ten megabytes of noise, and the canaries of another drill."""
    other = Canaries()
    data = secrets.token_bytes(10 << 20) + other.word("x").encode()
    sought = seeker(canaries).seek(parts(data, 1 << 20))
    assert (sought.finds, sought.cut, sought.bytes) == (set(), False, len(data))


def test_no_spelling_is_so_short_that_chance_writes_it() -> None:
    """A false alarm costs an auditor a day."""
    for word in (Canaries().stem, Canaries().short("id")):
        for name, data in spellings(word).items():
            assert len(data) >= 8, name


def test_words_are_drawn_anew_and_of_characters_that_nothing_escapes() -> None:
    """A canary that somebody could guess could be planted, or filtered."""
    first, second = Canaries(), Canaries()
    assert first.stem != second.stem
    words = [first.word("a"), first.word("a"), first.short("id")]
    assert len(set(words)) == 3
    assert set("".join(words)) <= set(ALPHABET)
    assert quote(words[0]) == json.loads(json.dumps(words[0])) == html.escape(words[0])
    assert len(first.short("id")) == SHORT_CHARS
    assert first.short("id") == words[2]


def test_a_bomb_is_not_unpacked_to_its_end_and_is_said_to_be_one(
    canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search must not fill the memory of the site it protects; and it must not pass either."""
    monkeypatch.setattr(seek, "UNPACKED_MAX_BYTES", 3 << 20)
    sought = seeker(canaries).seek(parts(gzip.compress(b"\0" * (40 << 20)), 1 << 20))
    assert sought.cut


def test_pieces_of_an_answer_are_found_wherever_it_was_cut() -> None:
    """What a model wrote is somebody's, too."""
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps for a hundred years."
    cut = pieces({"chat": text}, 16, 9)
    assert set(cut.values()) == {"chat"}
    assert all(any(p in text[at : at + 31] for p in cut) for at in range(len(text) - 36))
    assert pieces({"chat": "-" * 100, "short": "abc"}, 16, 9) == {}
    assert list(pieces({"chat": text}, 16, 2)) == list(cut)[:2]


TEXT = 'He said: "où est 🦊 & the fox?"\n'


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-16"),
        json.dumps(TEXT).encode(),
        json.dumps(TEXT, ensure_ascii=False).encode(),
        quote(f"x {TEXT}").encode(),
        TEXT.encode().hex().encode(),
        base64.b64encode(b"x" + TEXT.encode() + b"yz"),
        gzip.compress(json.dumps(TEXT).encode()),
    ],
    ids=["text", "UTF-16", "JSON", "JSON, unescaped", "URL", "hex", "base64", "packed"],
)
def test_a_text_of_any_characters_is_found_as_texts_are_kept(raw: bytes) -> None:
    """A model's answer has quotes, line ends and foxes in it."""
    finding = Seeker((), (TEXT,), lambda *_: None)
    assert finding.seek([b"before " + raw + b" after"]).finds
    assert not finding.seek([b"before " + raw[:-12] + b" after"]).finds
