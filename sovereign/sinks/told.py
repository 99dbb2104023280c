"""How an item is named where others read it: in records, in metrics, on a screen.

The names of our own files are ours: a day, a digest, a number. Those of others (a core, a file in
a temporary folder, an export) may hold what a person is called. They are told as the beginning of
a digest, by which somebody who knows the name finds it again, and nobody else does.
"""

from hashlib import sha256

NAME_MAX_CHARS = 200
"""Below what a field of a record takes, with the words around it."""
_DIGITS = 16


def told(path: str, *, plain: bool) -> str:
    """A name that may be shown: the path itself where it is ours, else a digest of it."""
    return path if plain and len(path) <= NAME_MAX_CHARS and path.isprintable() else digest(path)


def digest(path: str) -> str:
    """`#` and the first 16 hexadecimal digits of the path's SHA-256."""
    return "#" + sha256(path.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
