"""Canaries: words that nobody else uses, and every way in which one may lie in a file.

A canary is `STEM` `CODE` `STEM`. The stem is drawn for one drill, so that a search for one word
finds every canary; the code is drawn for one field of one request, and says which it was. The
stem stands there twice: what cuts a text short at either end, or breaks it once in the middle
(a page of a database, a line of base64), leaves one of them whole.

A stem is of lower-case letters and digits alone. So escaping for a URL, for JSON or for a page
leaves it as it is, unless it escapes every character, and then it is one of the spellings below;
and no base64 of it holds one of the two characters that the kinds of base64 differ in.

Pure, but for the drawing of lots.
"""

import base64
import json
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from urllib.parse import quote

STEM_CHARS, CODE_CHARS, SHORT_CHARS = 20, 6, 9
"""20 characters of 36 are 103 bits; 9, where a field holds no more, are 46."""
ALPHABET = string.ascii_lowercase + string.digits


def spellings(word: str) -> dict[str, bytes]:
    """A word as it may lie in a file, by the name of the spelling.

    Base64 is cut to what does not depend on its neighbours; a word of at least 9 characters then
    still is 8 or more.
    """
    return {name: spell(word) for name, spell in SPELLINGS.items()}


def _each(word: str, form: str) -> bytes:
    """Every unit of UTF-16 by itself, as JSON and pages escape a character."""
    return "".join(form.format(unit) for character in word for unit in _units(character)).encode()


def _percent(word: str, form: str) -> bytes:
    return "".join(form.format(each) for each in word.encode()).encode()


def _base64(word: str, offset: int) -> bytes:
    raw = word.encode()
    if offset == 0:
        return base64.b64encode(raw[: len(raw) // 3 * 3])
    coded = base64.b64encode(b"\0" * offset + raw)
    return coded[4:] if (len(raw) + offset) % 3 == 0 else coded[4:-4]


SPELLINGS: Mapping[str, Callable[[str], bytes]] = MappingProxyType(
    {
        "text": str.encode,
        "upper case": lambda word: word.upper().encode(),
        "reversed": lambda word: word[::-1].encode(),
        "UTF-16, little end first": lambda word: word.encode("utf-16-le"),
        "UTF-16, big end first": lambda word: word.encode("utf-16-be"),
        "hex": lambda word: word.encode().hex().encode(),
        "hex, upper case": lambda word: word.encode().hex().upper().encode(),
        "percent-encoded": partial(_percent, form="%{:02x}"),
        "percent-encoded, upper case": partial(_percent, form="%{:02X}"),
        "JSON-escaped": partial(_each, form="\\u{:04x}"),
        "JSON-escaped, upper case": partial(_each, form="\\u{:04X}"),
        "HTML-escaped": partial(_each, form="&#{};"),
        "base64 at 0": partial(_base64, offset=0),
        "base64 at 1": partial(_base64, offset=1),
        "base64 at 2": partial(_base64, offset=2),
    }
)


def text_spellings(text: str) -> dict[str, bytes]:
    """A piece of a text in the spellings that texts are kept in; it holds any character."""
    found = spellings(text)
    kept = ("text", "UTF-16, little end first", "hex")
    escaped = {
        "in JSON": json.dumps(text)[1:-1].encode(),
        "in JSON, unescaped": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        "in an address": quote(text).encode(),
    }
    new = {name: data for name, data in escaped.items() if data != found["text"]}
    coded = {name: data for name, data in found.items() if name.startswith("base64")}
    return {name: found[name] for name in kept} | coded | new


def _units(character: str) -> tuple[int, ...]:
    """The units of UTF-16 that JSON escapes a character as."""
    raw = character.encode("utf-16-be")
    return tuple(int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a canary went in: a field of a request, and the outcome that request met."""

    field: str
    outcome: str


@dataclass(slots=True)
class Canaries:
    """The canaries of one drill. `shorts` are for fields that hold no more than 9 characters."""

    stem: str = field(default_factory=lambda: _drawn(STEM_CHARS))
    words: dict[str, Origin] = field(default_factory=dict)
    shorts: dict[str, Origin] = field(default_factory=dict)
    _drawn: dict[str, str] = field(default_factory=dict)
    _spelled: dict[str, dict[bytes, Origin]] = field(default_factory=dict)

    def word(self, where: str) -> str:
        """A new canary for a field of the request that is being made."""
        word = f"{self.stem}{_drawn(CODE_CHARS)}{self.stem}"
        self._drawn[word] = where
        return word

    def short(self, where: str) -> str:
        """One of exactly 9 characters, as the id of a tool call must be; one for each field."""
        known = {origin.field: word for word, origin in self.shorts.items()}
        if where not in known:
            known[where] = _drawn(SHORT_CHARS)
            self.shorts[known[where]] = Origin(where, "any")
        return known[where]

    def go(self, outcome: str) -> None:
        """The request is about to leave, towards this outcome, with all that was drawn for it."""
        self.words |= {word: Origin(where, outcome) for word, where in self._drawn.items()}
        self._drawn.clear()
        self._spelled.clear()

    def needles(self) -> tuple[str, ...]:
        """What to search for: the stem, and every short word."""
        return (self.stem, *self.shorts)

    def origin(self, needle: str, spelling: str, around: bytes) -> Origin | None:
        """Which canary was found, by the bytes around the find; None for a mere piece of one."""
        if needle in self.shorts:
            return self.shorts[needle]
        # In base64 the place of a part says nothing of the place of the whole.
        family = spelling.partition(" at ")[0]
        if family not in self._spelled:
            self._spelled[family] = {
                spell(word): origin
                for name, spell in SPELLINGS.items()
                if name.partition(" at ")[0] == family
                for word, origin in self.words.items()
            }
        return next((o for data, o in self._spelled[family].items() if data in around), None)


def pieces(texts: Mapping[str, str], chars: int, at_most: int) -> dict[str, str]:
    """What a model wrote, cut so that a part of it is found too: piece to name.

    A piece with few different characters (a row of dashes) says nothing, and is left out.

    Args:
        at_most: so many pieces of each text, its beginning first: each makes a search longer.
    """
    found: dict[str, str] = {}
    for name, text in texts.items():
        clean = text.strip()
        cut = [clean[at : at + chars] for at in range(0, len(clean) - chars + 1, chars)]
        for piece in [each for each in cut if len(set(each)) >= chars // 3][:at_most]:
            found.setdefault(piece, name)
    return found


def _drawn(chars: int) -> str:
    """Random characters; the first is a letter, so that no program takes it for a number."""
    first = secrets.choice(string.ascii_lowercase)
    return first + "".join(secrets.choice(ALPHABET) for _ in range(chars - 1))
