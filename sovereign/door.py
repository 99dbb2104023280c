"""A way to this site's own gateway, as it listens: plain, or TLS under its own certificate.

On this host we know which certificate is the gateway's: it is the one its settings name. So we
trust that one alone, and the name in it, which is for clients elsewhere, does not matter.
"""

import ssl
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sovereign.settings import GatewaySettings

ON_LOOPBACK = {str(IPv4Address(0)): "127.0.0.1", f"[{IPv6Address(0)}]": "::1"}
"""Addresses that mean every one of this host's, and the one it is asked at."""


def connection(gateway: GatewaySettings, timeout_s: float) -> HTTPConnection:
    """A connection that is not open yet; the caller closes it.

    Raises:
        OSError: the certificate cannot be read.
    """
    host, _, port = gateway.listen.rpartition(":")
    host = ON_LOOPBACK.get(host, host).strip("[]")
    if not gateway.tls_certificate:
        return HTTPConnection(host, int(port), timeout=timeout_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=leaf(Path(gateway.tls_certificate)))
    return HTTPSConnection(host, int(port), timeout=timeout_s, context=context)


def leaf(chain: Path) -> str:
    """The first certificate of a chain, which is the gateway's own."""
    end = "-----END CERTIFICATE-----"
    return chain.read_text().partition(end)[0] + end + "\n"


def scheme(gateway: GatewaySettings) -> str:
    """`https` where a certificate is named, else `http`."""
    return "https" if gateway.tls_certificate else "http"
