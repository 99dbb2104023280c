"""Logs and a witness over them, in memory, for the tests of the second trust domain."""

from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovereign.audit.disk import Disk
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.witnesses import submit
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.audit.witnesses.witness import BEGUN, Answer, Witness
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, NOW
from tests.simulated.disk import SimulatedDisk

COSIGNER = CosignerSecret("witness.example/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
AT = int(NOW.timestamp())
STRANGER = SignerKey(KEY.name, Ed25519PrivateKey.from_private_bytes(b"s" * 32))
"""A key of the same log's name that nobody trusts."""


def clock() -> datetime:
    return datetime.fromtimestamp(AT, UTC)


def disk(**chosen: Any) -> SimulatedDisk:
    """A disk on which a witness has begun, and signed nothing yet."""
    return SimulatedDisk({BEGUN: b""}, **chosen)


def witness(
    on: Disk | None = None,
    keys: tuple[CosignerSecret, ...] = (COSIGNER,),
    logs: tuple[VerifierKey, ...] = (KEY.verifier,),
) -> Witness:
    """A witness of the test log that has seen nothing, or what lies on the disk."""
    return Witness(on or disk(), keys, logs, clock)


def log(size: int, *, salt: str = "", key: SignerKey = KEY) -> dict[str, bytes]:
    """The files of a log of `size` entries. Another salt: another history from entry 0 on."""
    content = [each + salt.encode() for each in entries(size)]
    return files(content, key)


def forked(size: int, common: int, key: SignerKey = KEY) -> dict[str, bytes]:
    """The files of a log that shares its first `common` entries with `log(size)`."""
    content = entries(size)
    return files(content[:common] + [each + b" " for each in content[common:]], key)


def body(there: dict[str, bytes], size: int, old: int) -> bytes:
    """The request that the client's side makes for this log."""
    return submit.submission(there.get, there["checkpoint"], size, old)


def posting(target: Witness) -> submit.Post:
    """An HTTP call that ends in a witness in this process."""

    def post(url: str, sent: bytes, content_type: str) -> submit.Reply:
        assert url.endswith("/add-checkpoint"), url
        assert content_type.startswith("text/plain")
        answer: Answer = target.add(sent)
        return submit.Reply(answer.status, answer.content_type, answer.body)

    return post
