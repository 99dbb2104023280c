"""TLS in front of every call: one certificate, its key, and both again when they are renewed.

TLS 1.2 at least (RFC 8446, RFC 9325 section 3.1.1). A renewed certificate is taken up by the
running gateway: whoever connects afterwards gets it, and nobody is cut off. One that cannot be
used changes nothing, and is said once.
"""

import ssl
import stat
from pathlib import Path

from sovereign import eventlog
from sovereign.errors import SettingsUnreadable
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
        self._seen = self._state()
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # tried on one nobody is served with
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context)

    def _state(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((s.st_mtime_ns, s.st_ino) for s in (self._chain.stat(), self._key.stat()))
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

    async def look(self) -> None:
        """Take up the files when they have changed."""
        now = self._state()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except SettingsUnreadable:
            eventlog.emit("certificate-unusable")
        else:
            eventlog.emit("certificate-renewed")
