"""Where the key that signs a log comes from.

The file `keys/WRITER-STREAM.key` holds the key itself, or one line that says who does:

    PRIVATE+KEY+…          the key itself, in the form of Go's note package
    credential:NAME        the file NAME in $CREDENTIALS_DIRECTORY (systemd's LoadCredential=,
                           LoadCredentialEncrypted=): the key itself, never on the disk in the clear
    env:SOVEREIGN_LOG_KEY_NAME   an environment variable, for platforms that have nothing better
    pkcs11:…               an Ed25519 key that never leaves its token (RFC 7512, see `token.py`)

A reference belongs to its log: a process is given the credentials it is to have, and a key is
replaced by another of any kind in one rename (`handover.py`). A key file that others than its
owner and one group can read is not used.
"""

import os
import re
import stat
from pathlib import Path

from sovereign.audit.disk import RealDisk
from sovereign.audit.note import PRIVATE_PREFIX, SignerKey
from sovereign.errors import BadInput, LogKeyUnusable

CREDENTIAL, ENVIRONMENT, TOKEN = "credential:", "env:", "pkcs11:"
REFERENCES = (CREDENTIAL, ENVIRONMENT, TOKEN)
VARIABLE = re.compile(r"SOVEREIGN_LOG_KEY_[A-Z0-9_]+")
"""No other variable is read, so that a reference cannot be used to look at secrets."""
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
EXPOSED = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
"""What nobody but the owner may do. A group may read: the operator's key is for several people."""
KEY_MAX_BYTES = 4096


class KeyFolder(RealDisk):
    """The folder of the private keys: what is exposed is not read, what is written is private."""

    def read(self, path: str) -> bytes | None:
        """A key file; None when there is none.

        Raises:
            LogKeyUnusable: others can read or change it.
        """
        _refuse_exposed(self.root / path)
        return super().read(path)

    def write(self, path: str, data: bytes) -> None:
        """Make a key file that only its owner reads, or whoever reads the one it is to replace."""
        target = self.root / path
        target.unlink(missing_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            replaced = self.root / f"{path.partition('.key')[0]}.key"
            if replaced.exists():
                like = replaced.stat()
                os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, stat.S_IMODE(like.st_mode) & ~EXPOSED)
            file.write(data)


def _refuse_exposed(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    if mode & EXPOSED:
        raise LogKeyUnusable(
            f"{path} can be read or changed by others than its owner",
            found=f"mode {mode:04o}",
            accepted="0600, or 0640 for a group that shares the operator's key",
            next_step=f"chmod 600 {path}; if others had access: sovereign audit key rotate",
        )


def load(path: Path, origin: str) -> SignerKey:
    """The signing key of the log called `origin`, through its key file.

    Raises:
        LogKeyUnusable: the file is exposed, or the key cannot be had from where it says.
        BadInput: the file holds neither a key nor a reference.
        FileNotFoundError: there is no such file.
    """
    raw = KeyFolder(path.parent).read(path.name)
    if raw is None:
        raise FileNotFoundError(path)
    return signer(raw, origin)


def signer(raw: bytes, origin: str) -> SignerKey:
    """The signing key that the content of a key file is, or leads to.

    Raises:
        LogKeyUnusable: it cannot be had from where the reference says, or is another log's.
        BadInput: it is neither a key nor a reference.
    """
    text = raw[:KEY_MAX_BYTES].decode(errors="replace").strip()
    if text.startswith(TOKEN):
        from sovereign.audit.witnesses import token

        return SignerKey(origin, token.key_of(text, secret_of))
    if text.startswith((CREDENTIAL, ENVIRONMENT)):
        text = secret_of(text)
    key = SignerKey.parse(text)
    if key.name != origin:
        raise LogKeyUnusable(f"the key for {origin} is another log's", found=f"a key of {key.name}")
    return key


def secret_of(reference: str) -> str:
    """The text that a `credential:` or `env:` reference leads to.

    Raises:
        LogKeyUnusable: it is not there.
        BadInput: it is no such reference.
    """
    kind, _, name = reference.partition(":")
    if f"{kind}:" == CREDENTIAL and CREDENTIAL_NAME.fullmatch(name) and name.strip("."):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise LogKeyUnusable(
                f"this process was given no credentials, so {name!r} cannot be had",
                accepted="LoadCredentialEncrypted= in its unit, which sets $CREDENTIALS_DIRECTORY",
            )
        return _text(Path(folder) / name)
    if f"{kind}:" == ENVIRONMENT and VARIABLE.fullmatch(name):
        value = os.environ.get(name)
        if not value:
            raise LogKeyUnusable(f"{name} is not set in this process's environment")
        return value.strip()
    raise BadInput(
        f"{reference[:80]!r} does not say where a secret is",
        accepted="credential:NAME or env:SOVEREIGN_LOG_KEY_NAME",
    )


def _text(path: Path) -> str:
    _refuse_exposed(path)
    try:
        with path.open("rb") as file:
            return file.read(KEY_MAX_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LogKeyUnusable(
            f"the credential {path.name!r} cannot be read",
            found=getattr(error, "strerror", None) or "not text",
        ) from None


def describe(raw: bytes) -> str:
    """Where a key is, for a list: `file`, or the reference, which holds no secret."""
    text = raw[:KEY_MAX_BYTES].decode(errors="replace").strip()
    if text.startswith(PRIVATE_PREFIX):
        return "file"
    return text if text.startswith(REFERENCES) else "unreadable"
