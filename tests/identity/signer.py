"""An issuer that signs whatever it is told to, and a server of its keys that misbehaves on order.

Only for what a real provider would never issue: the tests with a real one are in
`test_provider.py`.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "sovereign"


def made(algorithm: str) -> Any:
    """A new private key for an algorithm."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Any) -> dict[str, Any]:
    """The public half as an entry of a key set, without a name."""
    half = key.public_key()
    for how in (ECAlgorithm, OKPAlgorithm, RSAAlgorithm):
        try:
            return dict(how.to_jwk(half, as_dict=True))
        except (jwt.InvalidKeyError, AttributeError, TypeError):
            continue
    raise AssertionError("no such kind of key")


def encoded(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Signer:
    """Keys by their id, each for one algorithm, and the key set that a server shows."""

    issuer: str = "https://id.example"
    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def add(self, key_id: str, algorithm: str = "ES256") -> None:
        """Make another key."""
        self.keys[key_id] = (algorithm, made(algorithm))

    def key_set(self) -> bytes:
        """What its server shows."""
        entries = [{**public(key), "kid": kid, "alg": a} for kid, (a, key) in self.keys.items()]
        return json.dumps({"keys": entries}).encode()

    def claims(self, **more: Any) -> dict[str, Any]:
        """The claims of a good token; one that is None is left out."""
        now = int(time.time())
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300}
        return {name: value for name, value in (said | more).items() if value is not None}

    def token(
        self,
        key_id: str = "k1",
        *,
        header: Mapping[str, Any] | None = None,
        payload: bytes | None = None,
        **claims: Any,
    ) -> str:
        """A signed token."""
        algorithm, key = self.keys[key_id]
        head = {"alg": algorithm, "kid": key_id, "typ": "at+jwt", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        body = json.dumps(self.claims(**claims)).encode() if payload is None else payload
        return self.signed(json.dumps(head).encode(), body, algorithm, key)

    def signed(self, head: bytes, body: bytes, algorithm: str, key: Any) -> str:
        """Any two parts with a signature that is right for them."""
        text = f"{encoded(head)}.{encoded(body)}"
        signature = jwt.get_algorithm_by_name(algorithm).sign(text.encode(), key)
        return f"{text}.{encoded(signature)}"


@dataclass
class Shown:
    """What a server of keys shows next, and how often it was asked."""

    body: Callable[[], bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drips: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def showing(body: Callable[[], bytes]) -> Iterator[Shown]:
    """A server of keys on loopback."""
    shown, over = Shown(body), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.asked.append(self.path)
            content = shown.body()
            self.send_response(shown.status)
            for name, value in shown.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            for at in range(len(content)) if shown.drips else ():
                self.wfile.write(content[at : at + 1])
                self.wfile.flush()
                if over.wait(0.1):
                    return
            if not shown.drips:
                self.wfile.write(content)

        def handle(self) -> None:
            with suppress(OSError):  # whoever asked has gone
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        shown.url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
        try:
            yield shown
        finally:
            over.set()
            server.shutdown()
            thread.join(5)
