"""API keys and tenants: who may knock, and on whose behalf.

A key is `sov_` and 32 random bytes; only its SHA-256 is stored, which is enough for a
secret of that size. Or it is a client's certificate, by the SHA-256 of its public key.
A tenant holds the secret its subjects' pseudonyms are made with, and the tree out of which
the keys of its subjects are derived (`subjectkeys.py`), less what was destroyed.

The gateway reads the file at least once a second; the command line writes it.
"""

from sovereign.keystore.bound import (
    CERTIFICATE,
    LEGAL_BASES,
    PREFIX,
    PRIORITIES,
    Key,
    Known,
    Restriction,
    Tenant,
    fingerprint,
    new_id,
)
from sovereign.keystore.store import Keystore

__all__ = [
    "CERTIFICATE",
    "LEGAL_BASES",
    "PREFIX",
    "PRIORITIES",
    "Key",
    "Keystore",
    "Known",
    "Restriction",
    "Tenant",
    "fingerprint",
    "new_id",
]
