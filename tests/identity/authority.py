"""An authority that issues client certificates for tests; valid for a day, unless said."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.gateway.certificates import Files


@dataclass(frozen=True, slots=True)
class Authority:
    """Its certificate on the disk, and the key it signs with."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> Path:
        return self.folder / "authority.pem"

    def issue(
        self, name: str, days: float = 1, key: ec.EllipticCurvePrivateKey | None = None
    ) -> Files:
        """A certificate for a client; of a new key pair, unless one is given."""
        own = key or ec.generate_private_key(ec.SECP256R1())
        files = Files(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        made = _built(name, own.public_key(), self.name, days).add_extension(usage, critical=False)
        _write(files.certificate, made.sign(self.key, hashes.SHA256()))
        files.key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


def authority(folder: Path) -> Authority:
    """A new authority."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    it = Authority(folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)]), key)
    made = _built(folder.name, key.public_key(), it.name, 2).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    _write(it.certificate, made.sign(key, hashes.SHA256()))
    return it


def _built(name: str, key: Any, by: x509.Name, days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(by)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
