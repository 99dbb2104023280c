"""Search bytes as they stream by for words in every spelling, packed pieces included.

Memory is bounded whatever the size: a part and an overlap as long as the longest spelling are
looked at together. What none of the longer spellings can lie in is told by a look at every eighth
byte, and only the shorter ones are searched for there. Where a gzip or zlib stream begins (RFC
1952, RFC 1950), it is unpacked as it passes and searched too; what only looks like one fails after
a few bytes.

It says what was found and in which spelling, never what stands around it.
"""

import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sovereign.drills.words import Origin, spellings, text_spellings

PART_BYTES = 1 << 20
AROUND_BYTES = 1024
"""How far around a find its canary is looked for; the longest spelling of one has 300 bytes."""
GRAM_BYTES = 8
LONG_BYTES = 2 * GRAM_BYTES - 1
"""When a part is cut into grams from its beginning on, a spelling this long holds one whole gram
wherever it lies."""
FINDS_MAX = 50
"""So many finds of one spelling in one place are looked at; more say nothing new."""
PACKED_MAX = 64
"""So many packed streams are followed at the same time, and each up to `UNPACKED_MAX_BYTES`."""
UNPACKED_MAX_BYTES = 256 << 20
_PACKED = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS

Whose = Callable[[str, str, bytes], Origin | None]
"""Needle, spelling and the bytes around a find in, which canary it was out."""


@dataclass(frozen=True, slots=True, order=True)
class Find:
    """A word that was found: how it was spelled, and where it had gone in."""

    spelling: str
    field: str
    outcome: str


@dataclass(slots=True)
class Sought:
    """What came of searching one place. `cut` is true when not all of it could be unpacked."""

    finds: set[Find] = field(default_factory=set)
    bytes: int = 0
    cut: bool = False


class Seeker:
    """Searches for the same words in one place after another."""

    def __init__(self, words: Iterable[str], texts: Iterable[str], whose: Whose) -> None:
        """`words` are canaries; `texts` pieces of text, which are kept in fewer spellings."""
        self.patterns = [(w, name, data) for w in words for name, data in spellings(w).items()]
        for text in texts:
            self.patterns += [(text, name, data) for name, data in text_spellings(text).items()]
        self.whose = whose
        self.short = [each for each in self.patterns if len(each[2]) < LONG_BYTES]
        self._grams = {
            int.from_bytes(data[at : at + GRAM_BYTES], sys.byteorder)
            for *_, data in self.patterns
            if len(data) >= LONG_BYTES
            for at in range(len(data) - GRAM_BYTES + 1)
        }
        self.overlap = max((len(data) for *_, data in self.patterns), default=1) + AROUND_BYTES

    def likely(self, data: bytes) -> list[tuple[str, str, bytes]]:
        """The patterns that may lie in these bytes; none that is left out does."""
        if len(data) < LONG_BYTES:
            return self.short
        whole = memoryview(data)[: len(data) // GRAM_BYTES * GRAM_BYTES]
        return self.short if self._grams.isdisjoint(whole.cast("Q")) else self.patterns

    def seek(self, parts: Iterable[bytes]) -> Sought:
        """Search a place from its beginning to its end."""
        found = Sought()
        open_, streams = _Passing(self, found, ""), list[_Unpacking]()
        for part in parts:
            found.bytes += len(part)
            for stream in streams:
                stream.feed(part)
            for at in _beginnings(open_.rest, part):
                streams = [stream for stream in streams if not stream.over]
                if len(streams) >= PACKED_MAX:
                    found.cut = True
                    break
                streams.append(_Unpacking(self, found))
                streams[-1].feed((open_.rest[-2:] + part)[at:])
            open_.feed(part)
        return found

    def name(self, text: str) -> set[Find]:
        """Search a name, as of a file."""
        return self.seek([text.encode(errors="surrogateescape")]).finds


def _beginnings(before: bytes, part: bytes) -> Iterator[int]:
    """Where packed streams begin in a part, counted from two bytes before it."""
    carried = before[-2:]
    for match in _PACKED.finditer(carried + part):
        if match.end() > len(carried):
            yield match.start()


class _Passing:
    """The words in bytes that pass by; `rest` are the last of those that did."""

    def __init__(self, seeker: Seeker, found: Sought, prefix: str) -> None:
        self._seeker = seeker
        self._found = found
        self._prefix = prefix
        self.rest = b""

    def feed(self, part: bytes) -> None:
        data, new_from = self.rest + part, len(self.rest)
        for needle, name, pattern in self._seeker.likely(data):
            at, left = data.find(pattern), FINDS_MAX
            while at >= 0 and left:
                left -= 1
                self._note(needle, name, data, at)
                at = data.find(pattern, at + 1)
        self.rest = data[-self._seeker.overlap :] if new_from + len(part) else b""

    def _note(self, needle: str, name: str, data: bytes, at: int) -> None:
        around = data[max(0, at - AROUND_BYTES) : at + AROUND_BYTES]
        origin = self._seeker.whose(needle, name, around) or Origin("a piece of one", "")
        self._found.finds.add(Find(self._prefix + name, origin.field, origin.outcome))


class _Unpacking:
    """One packed stream, unpacked as it passes."""

    def __init__(self, seeker: Seeker, found: Sought) -> None:
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._passing = _Passing(seeker, found, "packed, ")
        self._found = found
        self._unpacked = 0
        self.over = False

    def feed(self, data: bytes) -> None:
        while data and not self.over:
            try:
                out = self._inflate.decompress(data, PART_BYTES)
            except zlib.error:
                self.over = True
                return
            data = self._inflate.unconsumed_tail
            self._unpacked += len(out)
            self._passing.feed(out)
            if self._inflate.eof:
                self.over = True
            elif self._unpacked > UNPACKED_MAX_BYTES:
                self.over = self._found.cut = True
