"""Clients that show a certificate: with real TLS, through a real socket."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvloop
from cryptography import x509

from sovereign.errors import BadInput, SettingsUnreadable
from sovereign.gateway.tls import Certificate
from sovereign.keystore import certificate as certificates
from sovereign.registry import utcnow
from sovereign.settings import GatewaySettings, load
from tests.gateway.certificates import Files, issued
from tests.gateway.site import CHAT, Site, site, until
from tests.identity.authority import Authority, authority
from tests.identity.issuing import said, write
from tests.identity.listening import port_of
from tests.identity.signer import Signer, showing
from tests.needs import need
from tests.simulated.engine import MODEL, engine

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Capital?"}]}


@dataclass
class Secured:
    """A site behind TLS that asks for certificates of one authority."""

    site: Site
    port: int
    server: Files
    clients: Authority

    def bind(self, files: Files, **more: Any) -> str:
        """Bind a certificate to a key; its id."""
        found = certificates.read(files.certificate.read_bytes())
        key_id = f"key_{found.public_key[:12]}"
        self.site.key(id=key_id, certificate=found.public_key, **more)
        return key_id

    def trusting(self, files: Files | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.server.certificate))
        context.check_hostname = False
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context

    async def ask(
        self, files: Files | None, secret: str | None = None, path: str = CHAT
    ) -> tuple[int, str]:
        """One call on a connection of its own: its status, and the code of a refusal."""
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        url = f"https://127.0.0.1:{self.port}{path}"
        async with httpx.AsyncClient(verify=self.trusting(files), trust_env=False) as client:
            answer = await (
                client.post(url, json=BODY, headers=headers) if path == CHAT else client.get(url)
            )
        return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]


@asynccontextmanager
async def secured(tmp_path: Path, **more: Any) -> AsyncIterator[Secured]:
    server = issued(tmp_path / "tls", "gateway.example")
    clients = authority(tmp_path / "clients")
    bounds = {
        "tls_certificate": str(server.certificate),
        "tls_key": str(server.key),
        "tls_clients_ca": str(clients.certificate),
        **more,
    }
    async with engine() as it, site(tmp_path / "home", it.address, **bounds) as ours:
        certificate = Certificate(ours.home.settings.gateway)
        async with port_of(ours, certificate) as port:
            yield Secured(ours, port, server, clients)


async def test_a_bound_certificate_is_let_in_as_the_key_it_is_bound_to(tmp_path: Path) -> None:
    """A service that has a certificate needs no second secret to lose."""
    async with secured(tmp_path) as it:
        mine, other = it.clients.issue("mine"), it.clients.issue("other")
        bound = it.bind(mine, tenant="hr", purpose="cv-screening")
        it.bind(other)
        await it.site.seen()
        assert await it.ask(mine) == (200, "")
        assert await it.ask(mine, secret="certificate") == (200, "")  # pragma: allowlist secret
        (first, second) = it.site.kinds("decision")
        for found in (first, second):
            assert (found["key"], found["tenant"]) == (bound, "hr")
            assert found["purpose"] == "cv-screening"


async def test_only_a_certificate_that_is_verified_bound_and_in_force_counts(
    tmp_path: Path,
) -> None:
    """No certificate, one of nobody's binding, and one that names the same subject."""
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        assert await it.ask(None) == (401, "key-missing-or-unknown")
        unknown = await it.ask(None, secret="certificate")  # pragma: allowlist secret
        assert unknown == (401, "key-missing-or-unknown")
        assert await it.ask(it.clients.issue("unbound")) == (401, "certificate-refused")
        twin = Files(tmp_path / "twin.pem", tmp_path / "twin.key")
        again = it.clients.issue("mine")  # the same name, another key pair
        shutil.copy(again.certificate, twin.certificate)
        shutil.copy(again.key, twin.key)
        assert await it.ask(twin) == (401, "certificate-refused")
        unknown = await it.ask(mine, secret="something")  # pragma: allowlist secret
        assert unknown == (401, "key-missing-or-unknown")


async def test_a_certificate_that_was_shut_out_is_not_let_in_by_a_secret_beside_it(
    tmp_path: Path,
) -> None:
    """Whoever took a key pair may have taken a secret with it."""
    async with secured(tmp_path) as it:
        mine, unbound = it.clients.issue("mine"), it.clients.issue("unbound")
        bound = it.bind(mine)
        await it.site.seen()
        assert await it.ask(mine, secret=it.site.secret) == (200, "")
        it.site.keystore.revoke(bound, utcnow())
        await it.site.seen()
        assert await it.ask(mine, secret=it.site.secret) == (401, "key-inactive")
        assert await it.ask(unbound, secret=it.site.secret) == (200, "")
        assert await it.ask(None, secret=it.site.secret) == (200, "")


async def refused_at_the_door(it: Secured, files: Files) -> bool:
    try:
        await it.ask(files)
    except (httpx.HTTPError, ssl.SSLError, OSError):
        return True
    return False


async def test_a_certificate_of_another_authority_or_of_yesterday_does_not_get_through_tls(
    tmp_path: Path,
) -> None:
    """Whoever is refused there never reaches the code that reads requests."""
    stranger = authority(tmp_path / "strangers").issue("mine")
    async with secured(tmp_path) as it:
        it.bind(stranger)
        yesterday = it.clients.issue("yesterday", days=-1)
        it.bind(yesterday)
        await it.site.seen()
        assert await refused_at_the_door(it, stranger)
        assert await refused_at_the_door(it, yesterday)
        assert await refused_at_the_door(it, issued(tmp_path / "self", "mine"))
        assert it.site.kinds("decision") == []
        assert await it.ask(None, secret=it.site.secret) == (200, "")


async def test_a_binding_that_ends_ends_on_connections_that_are_open(tmp_path: Path) -> None:
    """A pool of kept connections would otherwise outlive its revocation by hours."""
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        bound = it.bind(mine)
        await it.site.seen()
        kept = HTTPSConnection("127.0.0.1", it.port, context=it.trusting(mine), timeout=10)

        def ask() -> tuple[int, str]:
            kept.request("POST", CHAT, json.dumps(BODY), {"content-type": "application/json"})
            answer = kept.getresponse()
            content = json.loads(answer.read())
            return answer.status, content.get("code", "")

        assert await asyncio.to_thread(ask) == (200, "")
        local = kept.sock.getsockname()
        it.site.keystore.revoke(bound, utcnow())
        view = it.site.gateway.view
        await until(lambda: it.site.gateway.view is not view)  # its own watch, nobody's push
        await until(lambda: it.site.gateway.view.known.keys != view.known.keys)
        assert await asyncio.to_thread(ask) == (401, "key-inactive")
        assert kept.sock.getsockname() == local
        kept.close()


async def test_a_certificate_that_ends_ends_on_connections_that_are_open(tmp_path: Path) -> None:
    """TLS looks at the dates once; a connection may stay open for days."""
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        found = certificates.read(mine.certificate.read_bytes())
        ended = replace(found, until=utcnow().timestamp() - 1)
        scope = {"extensions": {"sovereign.certificate": {"shown": ended}}}
        status, code = await ask_as(it.site, scope)
        assert (status, code) == (401, "certificate-refused")
        scope = {"extensions": {"sovereign.certificate": {"shown": found}}}
        assert (await ask_as(it.site, scope))[0] == 200


async def ask_as(ours: Site, more: dict[str, Any]) -> tuple[int, str]:
    """A call whose connection has been read by the listener already."""
    sent: list[Any] = []
    body = msgspec.json.encode(BODY)
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    over = asyncio.Event()

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("more_body") is False:
            over.set()

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], **more}
    await ours.gateway(scope, receive, send)
    content = json.loads(b"".join(m.get("body", b"") for m in sent))
    return sent[0]["status"], content.get("code", "")


async def test_where_certificates_are_required_a_secret_alone_opens_nothing(
    tmp_path: Path,
) -> None:
    """A secret that leaked is then worth nothing by itself; who watches still can."""
    async with secured(tmp_path, tls_clients="required") as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        assert await it.ask(None, secret=it.site.secret) == (401, "certificate-refused")
        assert await it.ask(None, path="/v1/models") == (401, "certificate-refused")
        assert await it.ask(it.clients.issue("unbound"), secret=it.site.secret) == (200, "")
        assert await it.ask(mine) == (200, "")
        assert await it.ask(None, path="/healthz") == (200, "")


async def test_a_token_bound_to_a_certificate_counts_only_beside_it(tmp_path: Path) -> None:
    """A token that is stolen from a log is then a text (RFC 8705)."""
    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        path = write(tmp_path, said(shown.url))
        async with secured(tmp_path, issuers=path) as it:
            mine, other = it.clients.issue("mine"), it.clients.issue("other")
            thumbprint = certificates.read(mine.certificate.read_bytes()).thumbprint
            token = signer.token(cnf={"x5t#S256": thumbprint})
            assert await it.ask(mine, secret=token) == (200, "")
            assert await it.ask(other, secret=token) == (401, "token-refused")
            assert await it.ask(None, secret=token) == (401, "token-refused")
            assert await it.ask(mine, secret=token) == (200, "")
            assert await it.ask(other, secret=signer.token()) == (200, "")


async def test_openssls_own_client_gets_in_too(tmp_path: Path) -> None:
    """Another implementation of the handshake than the one both ends share here."""
    program = shutil.which("openssl")
    need(program, "no openssl", "apt-get install openssl")
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        body = json.dumps(BODY)
        request = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
        )
        words = [
            str(program), "s_client", "-quiet", "-connect", f"127.0.0.1:{it.port}",
            "-cert", str(mine.certificate), "-key", str(mine.key),
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, words, input=request.encode(), capture_output=True, timeout=30
        )
        assert done.stdout.startswith(b"HTTP/1.1 200 OK"), done.stderr[-500:]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_resumed_connection_is_still_the_same_caller(tmp_path: Path, version: str) -> None:
    """Clients resume to save a round trip; the certificate is then in the session, not sent."""
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        context = it.trusting(mine)
        context.maximum_version = ssl.TLSVersion[version]

        def ask(session: ssl.SSLSession | None) -> tuple[bytes, bool, ssl.SSLSession | None]:
            raw = socket.create_connection(("127.0.0.1", it.port), timeout=10)
            with context.wrap_socket(raw, session=session) as spoken:
                body = json.dumps(BODY)
                head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
                spoken.sendall(f"{head}connection: close\r\n\r\n{body}".encode())
                status = spoken.recv(15)
                while spoken.recv(65_536):
                    pass
                return status, bool(spoken.session_reused), spoken.session

        first = await asyncio.to_thread(ask, None)
        second = await asyncio.to_thread(ask, first[2])
        assert (first[0], second[0]) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")
        assert (first[1], second[1]) == (False, True)


def test_certificates_are_read_under_the_event_loop_a_gateway_runs_on(tmp_path: Path) -> None:
    """The other tests here run on Python's own, which keeps a connection's TLS elsewhere."""

    async def asked() -> None:
        async with secured(tmp_path) as it:
            mine = it.clients.issue("mine")
            it.bind(mine)
            await it.site.seen()
            assert await it.ask(mine) == (200, "")
            assert await it.ask(it.clients.issue("unbound")) == (401, "certificate-refused")
            assert await it.ask(None) == (401, "key-missing-or-unknown")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asked())


async def test_an_authority_that_is_added_counts_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authorities are replaced by having two for a while."""
    newer = authority(tmp_path / "newer")
    monkeypatch.setattr("sovereign.gateway.server.LOOK_EVERY_S", 0)
    async with secured(tmp_path) as it:
        theirs, ours = newer.issue("theirs"), it.clients.issue("ours")
        it.bind(theirs)
        it.bind(ours)
        await it.site.seen()
        assert await refused_at_the_door(it, theirs)
        both = it.clients.certificate.read_bytes() + newer.certificate.read_bytes()
        it.clients.certificate.write_bytes(both)
        for _ in range(100):
            if not await refused_at_the_door(it, theirs):
                break
            await asyncio.sleep(0.1)
        assert await it.ask(theirs) == (200, "")
        assert await it.ask(ours) == (200, "")


def test_a_renewed_certificate_of_the_same_key_pair_is_the_same_caller(tmp_path: Path) -> None:
    """Certificates are renewed every few weeks; the binding should not have to be."""
    it = authority(tmp_path / "clients")
    first = it.issue("mine")
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Any = load_pem_private_key(first.key.read_bytes(), None)
    second = it.issue("again", days=2, key=key)
    one, two = (certificates.read(f.certificate.read_bytes()) for f in (first, second))
    assert one.fingerprint == two.fingerprint
    assert one.thumbprint != two.thumbprint
    der = x509.load_pem_x509_certificate(first.certificate.read_bytes())
    from cryptography.hazmat.primitives.serialization import Encoding

    assert certificates.read(der.public_bytes(Encoding.DER)) == one


@pytest.mark.parametrize("raw", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_binds_nobody(raw: bytes) -> None:
    """A wrong file must not become a key that somebody has."""
    with pytest.raises(ValueError, match=r"."):
        certificates.read(raw)


def test_one_public_key_is_bound_once_and_a_revoked_one_stays_so(tmp_path: Path) -> None:
    """Whoever was shut out must not come back as somebody else with the same key pair."""
    from sovereign.keystore import Keystore
    from tests.supervisor.test_keystore import key

    store = Keystore(tmp_path / "keys.sqlite")
    store.create()
    bound = key(certificate="ab" * 32)
    assert store.add(bound) == ""
    with pytest.raises(BadInput, match="bound already"):
        store.add(key(certificate="ab" * 32))
    store.revoke(bound.id, utcnow())
    with pytest.raises(BadInput, match="bound already"):
        store.add(key(certificate="ab" * 32))


@pytest.mark.parametrize("content", [None, b"", b"nothing"])
def test_authorities_that_are_none_end_the_start(tmp_path: Path, content: bytes | None) -> None:
    """Otherwise a typing error would shut every client out, one by one."""
    server = issued(tmp_path / "tls", "gateway.example")
    path = tmp_path / "clients.pem"
    if content is not None:
        path.write_bytes(content)
    settings = GatewaySettings(
        tls_certificate=str(server.certificate), tls_key=str(server.key), tls_clients_ca=str(path)
    )
    with pytest.raises(SettingsUnreadable, match="tls_clients_ca"):
        Certificate(settings)


@pytest.mark.parametrize(
    "said_", ["tls_clients_ca: /etc/x.pem", "tls_clients: required"], ids=["ca", "required"]
)
def test_asking_for_certificates_without_what_it_needs_is_refused(
    tmp_path: Path, said_: str
) -> None:
    """Half of it would be no certificate asked for, and nobody would notice."""
    (tmp_path / "sovereign.yaml").write_text(f"version: 1\ngateway: {{{said_}}}\n")
    with pytest.raises(SettingsUnreadable, match="needs tls_"):
        load(tmp_path)
