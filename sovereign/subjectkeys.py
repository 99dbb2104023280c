"""Keys of data subjects: each can be destroyed by itself, and none has to be stored. Pure.

The pseudonym in a record is sealed under a key of its subject, so that destroying the key makes
the field unreadable and changes no hash. A key has to be there before the record that needs it,
and a gateway must not wait for a disk on behalf of each new person. So keys are not drawn but
derived, out of a tree whose root is drawn once a tenant (Goldreich, Goldwasser, Micali 1986):

    left child   SHA-256( 00 | node )      right child   SHA-256( 01 | node )
    key          SHA-256( 02 | leaf | pseudonym )

The first 80 bits of a pseudonym lead from the root to its leaf, the first bit choosing at the
root. To destroy a key, the nodes on that way are replaced by the siblings beside it
(a punctured tree): every other leaf can still be derived from those, and this one cannot, for
nothing leads from a hash to what was hashed.

A person may come back after erasure. Then the same tree has no key for them, and the tenant's
next one, its next *generation*, has. A subject's key is that of the oldest generation which has
one; so at any time there is exactly one, and it alone has to be destroyed.

Two subjects whose pseudonyms begin with the same 80 bits would lose their keys together. Among
a million subjects of a tenant the chance that any two do is 4 in 10**13.
"""

import base64
import binascii
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

DEPTH = 80
KEY_BYTES = 32
NONCE_BYTES = 12
SEALED = "sealed1."
"""What a sealed pseudonym begins with; a pseudonym in the clear is 64 hexadecimal digits."""
KNOWN_MAX = 65_536
"""Subjects of a tenant whose ciphers are kept at hand; others cost 0.1 ms again."""
NONCES_AT_ONCE = 64

Node = tuple[int, int]
"""Where a node stands: how many bits lead to it, and which, as a number."""
Tree = Mapping[Node, bytes]
"""The nodes a tree is derived from, none above another: at first the root alone."""


def planted() -> Tree:
    """A new tree."""
    return {(0, 0): secrets.token_bytes(KEY_BYTES)}


def _way(pseudonym: str) -> int:
    """The first 80 bits of a pseudonym, which is 64 hexadecimal digits."""
    return int(pseudonym[: DEPTH // 4], 16)


def _above(tree: Tree, way: int) -> Node | None:
    """The node that the leaf at the end of this way is derived from; None when it is destroyed."""
    steps = ((depth, way >> (DEPTH - depth)) for depth in range(DEPTH + 1))
    return next((node for node in steps if node in tree), None)


def _child(node: bytes, bit: int) -> bytes:
    return sha256(bytes((bit,)) + node).digest()


def key_of(tree: Tree, pseudonym: str) -> bytes | None:
    """The key of a subject, None when it was destroyed in this tree."""
    way = _way(pseudonym)
    top = _above(tree, way)
    if top is None:
        return None
    node = tree[top]
    for depth in range(top[0], DEPTH):
        node = _child(node, way >> (DEPTH - 1 - depth) & 1)
    return sha256(b"\x02" + node + bytes.fromhex(pseudonym)).digest()


@dataclass(frozen=True, slots=True)
class Cut:
    """What destroying a key does to a tree: one node goes, its siblings below come."""

    gone: Node
    added: Tree


def cut(tree: Tree, pseudonym: str) -> Cut | None:
    """How to destroy the key of a subject; None when it is destroyed already."""
    way = _way(pseudonym)
    top = _above(tree, way)
    if top is None:
        return None
    node, added = tree[top], dict[Node, bytes]()
    for depth in range(top[0], DEPTH):
        bit = way >> (DEPTH - 1 - depth) & 1
        prefix = way >> (DEPTH - 1 - depth)
        added[depth + 1, prefix ^ 1] = _child(node, bit ^ 1)
        node = _child(node, bit)
    return Cut(top, added)


def after(tree: Tree, change: Cut) -> Tree:
    """The tree with a key destroyed."""
    return {node: key for node, key in tree.items() if node != change.gone} | dict(change.added)


class _Nonces:
    """Random bytes, drawn many at a time: each draw is a system call on the path of a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn = b""
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._drawn = b""

    def take(self) -> bytes:
        with self._lock:
            if not self._drawn:
                self._drawn = secrets.token_bytes(NONCE_BYTES * NONCES_AT_ONCE)
            nonce, self._drawn = self._drawn[:NONCE_BYTES], self._drawn[NONCE_BYTES:]
            return nonce


_NONCES = _Nonces()


@dataclass(frozen=True, slots=True)
class SubjectKeys:
    """The trees of one tenant, oldest generation first. Safe to use from several threads."""

    tenant: str
    generations: tuple[Tree, ...]
    _ciphers: OrderedDict[str, AESGCMSIV] = field(default_factory=OrderedDict, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def seal(self, pseudonym: str, nonce: bytes = b"") -> str:
        """The pseudonym as a record holds it: another text each time.

        AES-256-GCM-SIV (RFC 8452) of its 32 bytes, with the tenant as associated data:
        `sealed1.` and in base64url without padding nonce, ciphertext and tag.

        Args:
            nonce: 12 random bytes; left out, they are drawn here.
        """
        nonce = nonce or _NONCES.take()
        sealed = self._cipher(pseudonym).encrypt(nonce, bytes.fromhex(pseudonym), self._bound)
        return SEALED + base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def is_of(self, found: str, pseudonym: str) -> bool:
        """Whether a record's field names this subject, sealed or in the clear.

        False once the key is destroyed: then nobody can tell any more.
        """
        if not found.startswith(SEALED):
            return found == pseudonym
        return _opens(self._cipher(pseudonym), _unpacked(found), pseudonym, self._bound)

    @property
    def _bound(self) -> bytes:
        return self.tenant.encode()

    def _key(self, pseudonym: str) -> bytes | None:
        """Of the oldest generation in which the subject has one: what is sealed now, and was
        since its key was last destroyed. `Keystore.destroy` sees that there always is one."""
        keys = (key_of(tree, pseudonym) for tree in self.generations)
        return next((key for key in keys if key is not None), None)

    def _cipher(self, pseudonym: str) -> AESGCMSIV:
        with self._lock:
            known = self._ciphers.get(pseudonym)
            if known is None:
                key = self._key(pseudonym)
                assert key is not None, "every subject has a key in the newest generation"
                known = self._ciphers[pseudonym] = AESGCMSIV(key)
                if len(self._ciphers) > KNOWN_MAX:
                    self._ciphers.popitem(last=False)
            return known


def _unpacked(found: str) -> bytes:
    text = found.removeprefix(SEALED)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _opens(cipher: AESGCMSIV, raw: bytes, pseudonym: str, bound: bytes) -> bool:
    try:
        found = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        return False
    return found == bytes.fromhex(pseudonym)


def is_about(fields: Mapping[str, Any], pseudonym: str, keys: Mapping[str, SubjectKeys]) -> bool:
    """Whether a record is about this subject, by the keys of its tenant."""
    found, of_tenant = fields.get("subject"), keys.get(str(fields.get("tenant")))
    if not isinstance(found, str):
        return False
    return found == pseudonym if of_tenant is None else of_tenant.is_of(found, pseudonym)
