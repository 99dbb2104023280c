"""Sign with an Ed25519 key that stays in a PKCS#11 token.

The key is named by a URI (RFC 7512), written into the log's key file:

    pkcs11:token=logs;object=gateway-event?module-path=/usr/lib/TOKEN.so&pin-source=credential:pin

`token` and `object` are labels, `module-path` is the token's library, `pin-source` a `credential:`
or `env:` reference: the PIN itself never stands in a file of ours. `python-pkcs11` is an optional
extra, imported only here. One session per token serves all its keys, one signature at a time;
the public key is read from the token once, and the first signature is checked against it.

A token that does not answer raises from `sign`; the log then stops and the gateway refuses, as
with a disk that fails.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sovereign.errors import BadInput, LogKeyUnusable

KEY_BYTES = 32
OCTETS = b"\x04\x20"
"""DER: 32 octets. Most tokens give the point of an Ed25519 key so wrapped, some plain."""
ED25519_OID = "1.3.101.112"
_Answer = TypeVar("_Answer")
_TRIAL = b"sovereign: is this token's private key the one of its public key?"


@dataclass(frozen=True, slots=True)
class Uri:
    """The parts of a `pkcs11:` URI that we use; each must be there."""

    token: str
    label: str
    module: str
    pin_source: str

    @classmethod
    def parse(cls, text: str) -> "Uri":
        """Read one.

        Raises:
            BadInput: a part is missing, or there is one that we do not use.
        """
        path, _, query = text.partition(":")[2].partition("?")
        found: dict[str, str] = {}
        for pair in [*path.split(";"), *query.split("&")]:
            name, equals, value = pair.partition("=")
            if not equals or name in found:
                raise _no_uri(text)
            found[name] = unquote(value)
        if found.keys() != {"token", "object", "module-path", "pin-source"}:
            raise _no_uri(text)
        return cls(found["token"], found["object"], found["module-path"], found["pin-source"])


def _no_uri(text: str) -> BadInput:
    return BadInput(
        "this does not say where the key is in a token",
        found=text[:200],
        accepted="pkcs11:token=LABEL;object=LABEL?module-path=/PATH.so&pin-source=credential:NAME",
    )


class TokenKey(Ed25519PrivateKey):
    """A private key that can be used and not seen."""

    def __init__(self, session: "_Session", label: str) -> None:
        self._session = session
        self._label = label
        self._private, point = session.find(label)
        if point[:2] == OCTETS and len(point) == len(OCTETS) + KEY_BYTES:
            point = point[2:]
        if len(point) != KEY_BYTES:
            raise LogKeyUnusable(f"the key {label!r} of the token is not Ed25519")
        self._public = Ed25519PublicKey.from_public_bytes(point)
        try:
            self._public.verify(self.sign(_TRIAL), _TRIAL)
        except InvalidSignature:
            raise LogKeyUnusable(
                f"the private and the public key called {label!r} do not belong together"
            ) from None

    def sign(self, data: Any) -> bytes:
        """Let the token sign; whatever it raises is a token that does not answer."""
        return self._session.sign(self._private, bytes(data))

    def public_key(self) -> Ed25519PublicKey:
        """The public half, as the token gave it."""
        return self._public

    def private_bytes(self, *_: Any, **__: Any) -> bytes:
        """Never."""
        raise LogKeyUnusable(f"the key {self._label!r} does not leave its token")

    def private_bytes_raw(self) -> bytes:
        """Never."""
        raise LogKeyUnusable(f"the key {self._label!r} does not leave its token")

    def __copy__(self) -> "TokenKey":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenKey":
        return self


class _Session:
    """One login to one token, for all keys and threads of this process."""

    def __init__(self, opened: Any, library: ModuleType) -> None:
        self._opened = opened
        self._library = library
        self._lock = threading.Lock()

    def find(self, label: str) -> tuple[Any, bytes]:
        """The private key object called so, and the public one's point."""
        names, kinds = self._library.Attribute, self._library.ObjectClass
        with self._lock:
            found = {
                kind: [*self._opened.get_objects({names.CLASS: kind, names.LABEL: label})]
                for kind in (kinds.PRIVATE_KEY, kinds.PUBLIC_KEY)
            }
            if any(len(each) != 1 for each in found.values()):
                private, public = (len(each) for each in found.values())
                raise LogKeyUnusable(
                    f"the token does not hold one pair of keys called {label!r}",
                    found=f"{private} private, {public} public",
                    next_step="--make, which makes one when there is none",
                )
            (public_key,) = found[kinds.PUBLIC_KEY]
            return found[kinds.PRIVATE_KEY][0], bytes(public_key[names.EC_POINT])

    def sign(self, private: Any, data: bytes) -> bytes:
        """One Ed25519 signature."""
        with self._lock:
            return bytes(private.sign(data, mechanism=self._library.Mechanism.EDDSA))

    def make(self, label: str) -> None:
        """Make a pair of keys that cannot leave the token; an existing one is left alone."""
        from pkcs11.util.ec import encode_named_curve_parameters

        names, kinds = self._library.Attribute, self._library.KeyType
        with self._lock:
            if any(self._opened.get_objects({names.LABEL: label})):
                return
            curve = {names.EC_PARAMS: encode_named_curve_parameters(ED25519_OID)}
            parameters = self._opened.create_domain_parameters(kinds.EC_EDWARDS, curve, local=True)
            parameters.generate_keypair(
                mechanism=self._library.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                store=True,
                label=label,
                private_template={names.EXTRACTABLE: False, names.SENSITIVE: True},
            )


_SESSIONS: dict[tuple[str, str, bool], _Session] = {}
_OPENING = threading.Lock()


def key_of(uri: str, secret_of: Callable[[str], str]) -> TokenKey:
    """The private key that a `pkcs11:` URI names; `secret_of` gives what `pin-source` leads to.

    Raises:
        LogKeyUnusable: no such token, key or PIN, or the library cannot be used.
        BadInput: it is no such URI.
    """
    named = Uri.parse(uri)
    return _answered(named, lambda: TokenKey(_session(named, secret_of), named.label))


def make(uri: str, secret_of: Callable[[str], str]) -> None:
    """Make the pair of keys that a URI names in its token, unless it is there.

    Raises:
        LogKeyUnusable, BadInput: as `key_of`.
    """
    named = Uri.parse(uri)
    _answered(named, lambda: _session(named, secret_of, writable=True).make(named.label))


def _session(named: Uri, secret_of: Callable[[str], str], *, writable: bool = False) -> _Session:
    """The login of this process; a token takes one, whatever it is asked for later."""
    import pkcs11

    with _OPENING:
        place = (named.module, named.token, writable)
        if place not in _SESSIONS:
            token = pkcs11.lib(named.module).get_token(token_label=named.token)
            pin = secret_of(named.pin_source)
            try:
                opened = token.open(rw=writable, user_pin=pin)
            except pkcs11.exceptions.UserAlreadyLoggedIn:
                opened = token.open(rw=writable)
            _SESSIONS[place] = _Session(opened, pkcs11)
        return _SESSIONS[place]


def _answered(named: Uri, ask: Callable[[], _Answer]) -> _Answer:
    """Whatever goes wrong in the library, said in our words and never with a PIN."""
    try:
        import pkcs11
    except ImportError:
        raise LogKeyUnusable(
            "keys in a token need python-pkcs11, which is not installed",
            next_step="install sovereign with its extra: sovereign[pkcs11]",
        ) from None
    try:
        return ask()
    except pkcs11.exceptions.PKCS11Error as error:
        raise LogKeyUnusable(
            f"the token {named.token!r} does not give the key {named.label!r}",
            found=type(error).__name__,
            accepted=f"a token of that label in {named.module}, and its PIN in {named.pin_source}",
        ) from None
