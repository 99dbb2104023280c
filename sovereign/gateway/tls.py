"""TLS in front of every call: one certificate, its key, and both again when they are renewed.

TLS 1.2 at least (RFC 8446, RFC 9325 section 3.1.1). A renewed certificate is taken up by the
running gateway: whoever connects afterwards gets it, and nobody is cut off. One that cannot be
used changes nothing, and is said once.

Where the operator names authorities for clients, a client that shows a certificate of one of them
has shown who it is: what it may do is bound to its public key like to a key's secret, and is
gone within a second of the binding, on connections that are open too. An authority that is
put into their file counts like a renewed certificate, from the next connection on; one that is
taken out is believed until the gateway is started again.
"""

import asyncio
import ssl
import stat
from datetime import datetime
from pathlib import Path

from sovereign import eventlog
from sovereign.errors import SettingsUnreadable
from sovereign.keystore import certificate
from sovereign.keystore.certificate import ClientCertificate
from sovereign.settings import GatewaySettings

LOOK_EVERY_S = 10
OTHERS = stat.S_IRWXO


class Certificate:
    """The certificate that is served, by the files that hold it."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Load it.

        Raises:
            SettingsUnreadable: a file is not there, the two do not belong together, or others may
                read the key.
        """
        self._chain, self._key = Path(settings.tls_certificate), Path(settings.tls_key)
        self._authorities = Path(settings.tls_clients_ca) if settings.tls_clients_ca else None
        self._seen = self._state()
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # tried on one nobody is served with
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context)
        self.ends_at = _ends_at(self._chain)

    def _state(self) -> tuple[tuple[int, int], ...]:
        try:
            files = (self._chain, self._key, *([self._authorities] if self._authorities else ()))
            return tuple((s.st_mtime_ns, s.st_ino) for s in map(Path.stat, files))
        except OSError:
            return ()

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            if self._key.stat().st_mode & OTHERS:
                raise SettingsUnreadable(
                    f"{self._key} (gateway.tls_key) can be read by others on this machine",
                    accepted="mode 0600, or 0640 with the gateway's own group",
                    next_step=f"chmod o-rwx {self._key}",
                )
            context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsUnreadable(
                f"{self._chain} and {self._key} are no certificate and its key",
                found=getattr(error, "reason", None) or error.strerror or type(error).__name__,
                accepted="PEM files: the chain, leaf first, and its private key without passphrase",
            ) from error
        if self._authorities is not None:
            _ask_clients(context, self._authorities)

    async def look(self) -> None:
        """Take up the files when they have changed."""
        now = self._state()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
            self.ends_at = _ends_at(self._chain)
        except SettingsUnreadable:
            eventlog.emit("certificate-unusable")
        else:
            eventlog.emit("certificate-renewed")


def _ask_clients(context: ssl.SSLContext, authorities: Path) -> None:
    """Ask every client for a certificate of one of these authorities, and refuse any other.

    Whoever shows none gets as far as the health routes, which those who watch need; calls are
    `identify`'s to refuse.

    Raises:
        SettingsUnreadable: the file holds none.
    """
    try:
        context.load_verify_locations(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise SettingsUnreadable(
            f"{authorities} (gateway.tls_clients_ca) holds no certificates",
            found=getattr(error, "reason", None) or error.strerror or type(error).__name__,
            accepted="a PEM file of the authorities that issue client certificates",
        ) from error
    context.verify_mode = ssl.CERT_OPTIONAL


def shown_by(transport: asyncio.BaseTransport) -> ClientCertificate | None:
    """The certificate the client of this connection showed and the handshake verified, if any."""
    spoken = transport.get_extra_info("ssl_object")
    raw = spoken.getpeercert(binary_form=True) if spoken is not None else None
    if not raw:
        return None
    try:
        return certificate.read_der(raw)
    except ValueError:  # what OpenSSL verified and we cannot read says nothing
        return None


def _ends_at(chain: Path) -> datetime | None:
    """When the leaf of a chain that was loaded ends; None when only OpenSSL can read it."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
