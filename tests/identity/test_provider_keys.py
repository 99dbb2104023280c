"""An issuer's keys: which are taken, when they are fetched, and what an outage does to them."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm

from sovereign.errors import SettingsUnreadable
from sovereign.gateway.callers import oidc_keys
from sovereign.gateway.callers.issuers import Issuer
from sovereign.gateway.callers.oidc_keys import ASKED_AGAIN_S, KEYS_MAX, Keys, Unfit, usable
from sovereign.gateway.refusal import Denied
from tests.gateway.certificates import issued
from tests.identity.issuing import BINDING
from tests.identity.signer import Shown, Signer, made, public, showing

WEAK_BITS = 1024
ALL = ("ES256", "RS256", "PS256", "EdDSA")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def issuer(url: str, **more: Any) -> Issuer:
    import msgspec

    said = {
        "id": "corp",
        "issuer": "https://id.example",
        "audience": "sovereign",
        "keys": url,
        "place": "this-host",
        "bindings": [BINDING],
        "keys_kept_s": 600,
    }
    return msgspec.convert(said | more, Issuer)


def a_set(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def named(key_id: str = "k1", algorithm: str = "ES256", **more: Any) -> dict[str, Any]:
    return {**public(made(algorithm)), "kid": key_id, **more}


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        (named(), {"ES256"}),
        (named(alg="ES256", use="sig"), {"ES256"}),
        (named(algorithm="EdDSA"), {"EdDSA"}),
        (named(algorithm="RS256"), {"RS256", "PS256"}),
        (named(algorithm="RS256", alg="PS256"), {"PS256"}),
        (named(use="enc"), set()),
        (named(alg="ES512"), set()),
        (named(crv="P-384"), set()),
        (named(x="AAAA"), set()),
        (named(x=7), set()),
        ({**named(), "kid": 7}, set()),
        ({**ECAlgorithm.to_jwk(made("ES256"), as_dict=True), "kid": "k1"}, set()),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"}, set()),
        ({**public(rsa.generate_private_key(65537, WEAK_BITS)), "kid": "k1"}, set()),
        ({"kty": "RSA", "n": "AQ", "e": "AQ", "kid": "k1"}, set()),
        ({}, set()),
    ],
)
def test_only_public_keys_for_signatures_of_the_list_are_taken(
    entry: dict[str, Any], taken: set[str]
) -> None:
    """A set is whatever a server sends; a private key in it is known to everybody."""
    assert {algorithm for _, algorithm in usable(a_set(entry), ALL)} == taken
    assert {a for _, a in usable(a_set(named("other"), entry), ALL)} >= taken


def test_of_two_keys_of_one_name_neither_is_taken() -> None:
    """Nobody knows which one was meant, or who added the second."""
    assert usable(a_set(named("k1"), named("k1"), named("k2")), ALL).keys() == {("k2", "ES256")}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": 7}',
        b'{"key": []}',
        b"[" * 100_000,
        a_set(*[{}] * (KEYS_MAX + 1)),
    ],
    ids=range(7),
)
def test_what_is_no_set_of_keys_is_said_to_be_none(raw: bytes) -> None:
    """Sign-in pages answer 200 too."""
    with pytest.raises(Unfit):
        usable(raw, ALL)


def refuse(shown: Shown, how: str) -> None:
    if how == "status":
        shown.status = 500
    elif how == "redirect":
        shown.status, shown.headers = 302, {"location": f"{shown.url}/elsewhere"}
    elif how == "page":
        shown.body = lambda: b"<html>"
    elif how == "large":
        shown.body = lambda: b" " * (oidc_keys.FETCH_MAX_BYTES + 1)
    else:
        shown.drips = True


@pytest.mark.parametrize("how", ["status", "redirect", "page", "large", "drips"])
async def test_a_provider_that_is_out_is_believed_for_the_stated_time_and_then_nobody(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that cannot be checked may have been withdrawn; for a while that is worth it."""
    monkeypatch.setattr(oidc_keys, "FETCH_TIMEOUT_S", 0.5)
    signer, clock = Signer(), Clock()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        keys = Keys(issuer(shown.url), clock)
        assert await keys.find("k1", "ES256") is not None
        refuse(shown, how)
        clock.now += 599
        await keys.refresh(at_most_every_s=0)
        assert await keys.find("k1", "ES256") is not None
        with pytest.raises(Denied) as denied:  # a new key may well be there: nobody can say
            await keys.find("k2", "ES256")
        assert denied.value.code == "identity-unavailable"
        clock.now += 2
        with pytest.raises(Denied) as denied:
            await keys.find("k1", "ES256")
        assert (denied.value.code, denied.value.status) == ("identity-unavailable", 503)
        assert not any("elsewhere" in path for path in shown.asked)
        shown.status, shown.headers, shown.drips, shown.body = 200, {}, False, signer.key_set
        clock.now += ASKED_AGAIN_S
        assert await keys.find("k1", "ES256") is not None
        await keys.close()


async def test_keys_that_did_not_change_are_the_same_generation() -> None:
    """Otherwise every fetch would have every token verified again."""
    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        keys = Keys(issuer(shown.url), Clock())
        await keys.refresh(at_most_every_s=0)
        await keys.refresh(at_most_every_s=0)
        assert (keys.generation, len(shown.asked)) == (1, 2)
        signer.add("k2")
        await keys.refresh(at_most_every_s=0)
        assert keys.generation == 2


async def test_whoever_waits_for_keys_waits_for_one_fetch_together() -> None:
    """A thousand clients after a restart are one question."""
    import asyncio

    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        keys = Keys(issuer(shown.url), Clock())
        found = await asyncio.gather(*(keys.find("k1", "ES256") for _ in range(50)))
        assert len({id(key) for key in found}) == 1
        assert len(shown.asked) == 1


async def test_a_server_under_another_authority_is_not_asked(tmp_path: Path) -> None:
    """A key set is only as good as the certificate it came under."""
    import asyncio
    import ssl

    server, other = issued(tmp_path / "a", "localhost"), issued(tmp_path / "b", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    signer = Signer()
    signer.add("k1")
    body = signer.key_set()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    serving = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{serving.sockets[0].getsockname()[1]}/jwks"
    async with serving:
        for trusted, code in ((server, None), (other, "identity-unavailable")):
            keys = Keys(issuer(url, ca_file=str(trusted.certificate)), Clock())
            if code is None:
                assert await keys.find("k1", "ES256") is not None
                continue
            with pytest.raises(Denied) as denied:
                await keys.find("k1", "ES256")
            assert denied.value.code == code


def test_authorities_that_cannot_be_read_end_the_start(tmp_path: Path) -> None:
    """An error at the start is read by somebody."""
    for path in (str(tmp_path / "none.pem"), "\0", "\ud800"):
        with pytest.raises(SettingsUnreadable, match="ca_file of issuer corp"):
            Keys(issuer("https://id.example/jwks", ca_file=path))
