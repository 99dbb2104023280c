"""Certificates for tests: self-signed, new at every call, valid for a day."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Files:
    """Where they lie."""

    certificate: Path
    key: Path


def issued(folder: Path, name: str) -> Files:
    """Write a certificate for `name` and its key, in the place of any that are there."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Files(folder / "certificate.pem", folder / "key.pem")
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for path, content, mode in (
        (files.key, pem, 0o600),
        (files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(mode)
        fresh.replace(path)
    return files
