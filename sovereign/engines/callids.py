"""Tool-call ids as Mistral's models know them: nine letters and digits, made out of any other.

Engines and clients name a call as they please (`chatcmpl-tool-…`, `call_…`); Mistral's tokenizers
refuse all but nine letters and digits, and vLLM cuts longer ones and writes them into its log. An
id is therefore a function of the other one: the same name gives the same id in every request, so
that what a client sends back means what it was sent. An id that has the form stays as it is.

Two names never share an id within one conversation: ids that were given are taken first, and a
name whose id is taken gets the next. Pure; a name is never kept beyond its conversation.
"""

import string
from collections.abc import Iterable
from hashlib import sha256

CHARS = 9
_ALPHABET = string.digits + string.ascii_letters
_LETTERS = frozenset(_ALPHABET)


def is_short(name: str) -> bool:
    """Whether it already is what Mistral's interface calls an id: nine letters and digits."""
    return len(name) == CHARS and _LETTERS.issuperset(name)


class CallIds:
    """The ids of one conversation. `taken` are those it holds already, of any form."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._ids: dict[str, str] = {}
        self._used: set[str] = set()
        names = list(dict.fromkeys(taken))
        for name in sorted(names, key=is_short, reverse=True):  # stable: given ids come first
            self.of(name)

    def of(self, name: str) -> str:
        """The id of this name, the same whenever it is asked for."""
        found = self._ids.get(name)
        if found is None:
            found = name if is_short(name) and name not in self._used else self._next(name)
            self._ids[name] = found
            self._used.add(found)
        return found

    def fresh(self, name: str) -> str:
        """The id of a new call, which is none that the conversation holds, even if an engine that
        counts its calls gave it a name that was there before."""
        found = self._next(name) if name in self._ids else self.of(name)
        self._ids.setdefault(name, found)
        self._used.add(found)
        return found

    def _next(self, name: str) -> str:
        attempt = 0
        while (found := _drawn(name, attempt)) in self._used:
            attempt += 1
        return found


def _drawn(name: str, attempt: int) -> str:
    """One of 62^9 ids; `attempt` 0 gives the one a name has when no other is in its way."""
    number = int.from_bytes(sha256(f"{attempt}:{name}".encode()).digest()[:16])
    letters = []
    for _ in range(CHARS):
        number, at = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[at])
    return "".join(letters)
