"""A real time-stamping authority on loopback: `openssl ts` behind a few lines of HTTP (RFC 3161).

`made` builds an authority once: a root, a signer under it, and the configuration openssl wants.
`serving` answers `application/timestamp-query` with what `openssl ts -reply` says. Ways to be a
bad one: another root, a signer that has expired, and a `Twist`, which changes the question or the
answer on the way.
"""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_RUN_TAKES_AT_MOST_S = 30
POLICY = "1.3.6.1.4.1.55555.1"
_CONFIG = """
[ tsa ]
default_tsa = here
[ here ]
serial = {root}/serial
crypto_device = builtin
signer_cert = {root}/signer.pem
certs = {root}/root.pem
signer_key = {root}/signer.key
signer_digest = sha256
default_policy = {policy}
digests = sha256, sha512
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Authority:
    """Its folder, and the PEM of its root, which a policy pins."""

    root: Path
    anchor: str

    def reply(self, query: bytes) -> bytes:
        """What openssl answers."""
        asked = self.root / "query.tsq"
        asked.write_bytes(query)
        words = ["ts", "-reply", "-config", str(self.root / "tsa.cnf"), "-queryfile", str(asked)]
        return _openssl(*words)

    def verifies(self, token: bytes, data: bytes) -> bool:
        """Whether openssl itself takes the token for a good one over these bytes."""
        paths = {"token.tsr": token, "data": data}
        for name, content in paths.items():
            (self.root / name).write_bytes(content)
        words = ["-data", str(self.root / "data"), "-in", str(self.root / "token.tsr")]
        done = subprocess.run(
            ["openssl", "ts", "-verify", *words, "-CAfile", str(self.root / "root.pem")],
            check=False,
            capture_output=True,
            timeout=_RUN_TAKES_AT_MOST_S,
        )
        return done.returncode == 0


def missing() -> list[str]:
    """What stands in the way here, empty if nothing."""
    return [] if shutil.which("openssl") else ["openssl"]


def made(
    root: Path,
    *,
    name: str = "Test Authority",
    days: tuple[int, int] = (-1, 365),
) -> Authority:
    """An authority whose signer is valid between these days from now."""
    root.mkdir(parents=True)
    ca_key, signer_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca = _certificate(f"{name} Root", ca_key, None, None, (-3650, 3650), None)
    usage = ExtendedKeyUsageOID.TIME_STAMPING
    signer = _certificate(name, signer_key, ca, ca_key, days, usage)
    anchor = ca.public_bytes(serialization.Encoding.PEM)
    (root / "root.pem").write_bytes(anchor)
    (root / "signer.pem").write_bytes(signer.public_bytes(serialization.Encoding.PEM))
    (root / "signer.key").write_bytes(
        signer_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (root / "serial").write_text("01\n")
    (root / "tsa.cnf").write_text(_CONFIG.format(root=root, policy=POLICY))
    return Authority(root, anchor.decode())


Twist = Callable[[bytes], bytes]


def same(content: bytes) -> bytes:
    """No twist at all."""
    return content


@contextmanager
def serving(authority: Authority, *, question: Twist = same, answer: Twist = same) -> Iterator[str]:
    """The authority over HTTP; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            wanted = self.headers["content-type"] == "application/timestamp-query"
            body = answer(authority.reply(question(query))) if wanted else b""
            self.send_response(200 if wanted else 415)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_RUN_TAKES_AT_MOST_S)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
    days: tuple[int, int],
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC).replace(microsecond=0)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usage is None:
        built = built.add_extension(_key_usage(signs_certificates=True), critical=True)
    else:
        built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        built = built.add_extension(_key_usage(signs_certificates=False), critical=True)
    if issuer_key is not None:
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        built = built.add_extension(own, critical=False)
    return built.sign(issuer_key or key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=not signs_certificates,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _openssl(*words: str) -> bytes:
    done = subprocess.run(
        ["openssl", *words], check=False, capture_output=True, timeout=_RUN_TAKES_AT_MOST_S
    )
    if done.returncode != 0 and not done.stdout:
        raise RuntimeError(f"openssl {words[0]} {words[1]}: {done.stderr.decode()[-500:]}")
    return done.stdout
