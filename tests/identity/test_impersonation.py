"""Whoever tries to be somebody else, or to stay after being shut out."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sovereign.errors import SettingsUnreadable
from sovereign.gateway.callers import oidc, oidc_keys
from sovereign.gateway.callers.issuers import load
from sovereign.gateway.callers.oidc_keys import usable
from sovereign.keystore import certificate as certificates
from sovereign.registry import utcnow
from tests.gateway.certificates import Files
from tests.gateway.site import CHAT, EEA, Moment, Reply, Site, until
from tests.gateway.test_failing import replicas
from tests.identity.authority import Authority, authority
from tests.identity.issuing import issued, said, write
from tests.identity.signer import made, public
from tests.identity.test_certificates import BODY, ask_as, secured

NOTE = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")


def posing_as(it: Authority, victim: Files) -> Files:
    """A certificate of one's own, with somebody else's, which is public, as text inside."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = utcnow()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mallory")])
    inside = b"\n" + victim.certificate.read_bytes()
    built = (
        x509.CertificateBuilder(it.name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.UnrecognizedExtension(NOTE, inside), critical=False)
    )
    files = Files(it.folder / "mallory.pem", it.folder / "mallory.key")
    signed = built.sign(it.key, hashes.SHA256())
    files.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


async def test_a_certificate_that_carries_anothers_is_not_taken_for_it(tmp_path: Path) -> None:
    """What a client chose to have written into its own certificate says nothing about it."""
    async with secured(tmp_path) as it:
        victim = it.clients.issue("victim")
        it.bind(victim)
        await it.site.seen()
        assert await it.ask(posing_as(it.clients, victim)) == (401, "certificate-refused")
        assert await it.ask(victim) == (200, "")


def test_a_file_of_one_certificate_binds_that_one_in_either_form(tmp_path: Path) -> None:
    """An operator who is sent a DER file must not bind whoever is written inside it."""
    it = authority(tmp_path / "clients")
    victim = it.issue("victim")
    pem = posing_as(it, victim).certificate.read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert certificates.read(der) == certificates.read(pem)
    assert certificates.read(der) != certificates.read(victim.certificate.read_bytes())


def test_a_certificate_of_a_key_nobody_here_can_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL knows curves that we do not; the connection goes on as one without a certificate."""
    raw = authority(tmp_path / "clients").issue("x").certificate.read_bytes()

    class Strange:
        def public_key(self) -> None:
            raise UnsupportedAlgorithm("a curve")

    monkeypatch.setattr(x509, "load_pem_x509_certificates", lambda _: [Strange()])
    with pytest.raises(ValueError, match="key"):
        certificates.read(raw)


async def test_two_credentials_of_one_kind_are_nobodys_whatever_the_connection_shows(
    tmp_path: Path,
) -> None:
    """Of two nobody knows which was meant; falling back on a third is worse."""
    async with secured(tmp_path) as it:
        mine = it.clients.issue("mine")
        it.bind(mine)
        await it.site.seen()
        found = certificates.read(mine.certificate.read_bytes())
        extensions = {"sovereign.certificate": {"shown": found}}
        for value in (b"Bearer x", b"Bearer certificate"):
            headers = [(b"authorization", value), (b"authorization", b"Bearer certificate")]
            scope = {"extensions": extensions, "headers": headers}
            assert await ask_as(it.site, scope) == (401, "key-missing-or-unknown")


async def test_where_certificates_are_required_one_that_ended_is_none(tmp_path: Path) -> None:
    """TLS looked at the dates once; a key or a token beside it does not make it last."""
    async with secured(tmp_path, tls_clients="required") as it:
        mine = it.clients.issue("mine")
        found = certificates.read(mine.certificate.read_bytes())
        headers = [(b"authorization", b"Bearer " + it.site.secret.encode())]
        for until_, answer in ((found.until, 200), (utcnow().timestamp() - 1, 401)):
            shown = replace(found, until=until_)
            scope = {"extensions": {"sovereign.certificate": {"shown": shown}}, "headers": headers}
            assert (await ask_as(it.site, scope))[0] == answer


async def slowly(ours: Site, secret: str, go: asyncio.Event) -> Reply:
    """A chat whose body arrives when it is told to."""
    reply, body = Reply(), msgspec.json.encode(BODY)
    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "client": ("203.0.113.7", 5),
        "headers": [(b"authorization", f"Bearer {secret}".encode())],
    }
    parts, over = [body], asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts:
            await go.wait()
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        reply.moments.append(Moment(dict(message), []))

    await ours.gateway(scope, receive, send)
    return reply


@pytest.mark.parametrize("with_token", [False, True], ids=["key", "token"])
async def test_a_call_that_was_begun_in_time_is_decided_on_what_is_known_then(
    tmp_path: Path, with_token: bool
) -> None:
    """A body may take its time; the log must not show a decision for whom it shut out before."""
    async with issued(tmp_path) as it:
        secret, go = it.signer.token() if with_token else it.site.secret, asyncio.Event()
        assert await it.ask(secret) == (200, "")
        asked = asyncio.create_task(slowly(it.site, secret, go))
        await asyncio.sleep(0)
        it.site.keystore.suspend("acme", utcnow())
        await it.site.seen()
        go.set()
        reply = await asked
        assert (reply.status, reply.error["code"]) == (403, "tenant-suspended")
        assert len(it.site.kinds("decision")) == 1


async def test_a_call_that_goes_elsewhere_goes_only_for_who_may_still_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have waited a minute; a second decision is not made for whom the log shut out."""
    async with replicas(tmp_path, None, None) as (ours, _):
        recording = ours.gateway._recording
        decision = recording.decision

        async def suspending(*given: Any, **more: Any) -> Any:
            recorded = await decision(*given, **more)
            ours.keystore.suspend("acme", utcnow())
            await ours.seen()
            return recorded

        monkeypatch.setattr(recording, "decision", suspending)
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (403, "tenant-suspended")
        (_, ending) = ours.kinds("decision", "completion")
        assert (ending["type"], ending["outcome"]) == ("completion", "tenant-suspended")


async def test_a_sub_that_is_no_text_is_refused_as_the_token_it_is_in(tmp_path: Path) -> None:
    """JSON can write half a character; nothing here may break on it."""
    async with issued(tmp_path) as it:
        assert await it.ask(it.signer.token(sub="\ud800")) == (401, "token-refused")


@pytest.mark.parametrize("url", ["https://id.example:99999/jwks", "https://id.example:x/jwks"])
def test_a_port_that_is_none_is_a_mistake_in_the_file(tmp_path: Path, url: str) -> None:
    """It would be found by whoever takes up the file, in the middle of the night."""
    with pytest.raises(SettingsUnreadable, match="issuers"):
        load(Path(write(tmp_path, said(url))), EEA)


async def test_when_the_watch_over_issuers_has_ended_nobodys_token_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binding taken out, or a place refused since, would otherwise be believed for ever."""
    async with issued(tmp_path) as it:
        token = it.signer.token()
        assert await it.ask(token) == (200, "")
        (tokens,) = [it.site.gateway.view.asked.tokens]
        assert tokens is not None
        monkeypatch.setattr(type(tokens), "tend", _stopped)
        monkeypatch.setattr(oidc, "UNTENDED_MAX_S", 0.2)
        for _ in range(100):
            if (await it.ask(token))[0] != 200:
                break
            await asyncio.sleep(0.05)
        assert await it.ask(token) == (503, "identity-unavailable")
        assert (await it.site.chat()).status == 200


async def _stopped(*_: object) -> None:
    """Does nothing any more."""


async def test_strangers_who_wait_for_keys_do_not_take_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that nobody signed must not shut out those who have a key, while a provider is
    slow."""
    monkeypatch.setattr(oidc_keys, "WAITING_MAX", 2)
    monkeypatch.setattr(oidc_keys, "ASKED_AGAIN_S", 0.0)
    async with issued(tmp_path) as it:
        assert await it.ask(it.signer.token()) == (200, "")
        monkeypatch.setattr(oidc_keys, "FETCH_TIMEOUT_S", 1.0)
        it.shown.drips = True
        invented = [it.signer.token(header={"kid": f"k{n}-"}) for n in range(6)]
        asked = [asyncio.create_task(it.ask(token)) for token in invented]
        await until(lambda: sum(task.done() for task in asked) == 4)
        early = [task.result() for task in asked if task.done()]
        assert early == [(503, "identity-unavailable")] * 4
        assert (await it.site.chat()).status == 200
        await asyncio.gather(*asked)


@pytest.mark.parametrize(("ops", "taken"), [(["verify"], 1), (["encrypt"], 0), ([], 0), (7, 0)])
def test_a_key_that_says_it_is_for_something_else_is_left_out(ops: object, taken: int) -> None:
    """`use` and `key_ops` say the same thing (RFC 7517 section 4.3)."""
    entry = {**public(made("ES256")), "kid": "k1", "key_ops": ops}
    assert len(usable(json.dumps({"keys": [entry]}).encode(), ["ES256"])) == taken
