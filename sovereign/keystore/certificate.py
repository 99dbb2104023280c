"""A client's certificate, as far as it says who is calling. Pure.

A certificate is known by the SHA-256 of its public key (SubjectPublicKeyInfo, RFC 5280 section
4.1.2.7): renewed for the same key pair it stays the same caller, and no name in it is believed.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sovereign.keystore.bound import CERTIFICATE

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What is kept of a certificate: nothing that names anybody.

    Args:
        public_key: SHA-256 of the public key, in hex.
        thumbprint: SHA-256 of the certificate, as a bound token names it (RFC 8705 section 3.1).
        until: when it ends, in seconds since 1970.
    """

    public_key: str
    thumbprint: str
    until: float

    @property
    def fingerprint(self) -> str:
        """What its key is found by in the keystore."""
        return CERTIFICATE + self.public_key


def read(raw: bytes) -> ClientCertificate:
    """Read the file of a certificate: DER, or PEM of which the first one counts.

    Raises:
        ValueError: it is none.
    """
    from cryptography import x509

    if raw[:1] == b"\x30" and raw[1:2] > b"\x7f":  # no text begins like that
        return read_der(raw)
    return _kept(x509.load_pem_x509_certificates(raw)[0])


def read_der(raw: bytes) -> ClientCertificate:
    """Read what a handshake verified, and nothing else: whoever is issued a certificate can have
    somebody else's written into it, as PEM.

    Raises:
        ValueError: it is none, or its public key is of a kind that cannot be read here.
    """
    from cryptography import x509

    return _kept(x509.load_der_x509_certificate(raw))


def _kept(found: "Certificate") -> ClientCertificate:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = found.public_key()
    except UnsupportedAlgorithm:
        raise ValueError("its public key is of a kind that is not known here") from None
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(found.public_bytes(Encoding.DER)).digest()
    return ClientCertificate(
        public_key=hashlib.sha256(public).hexdigest(),
        thumbprint=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        until=found.not_valid_after_utc.timestamp(),
    )
