"""Tokens at a gateway: the good ones in, and every other way to write one out."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.gateway.callers import oidc
from sovereign.gateway.callers.oidc_token import TOKEN_MAX_CHARS, opened
from sovereign.gateway.refusal import Denied
from sovereign.registry import utcnow
from sovereign.subjects import pseudonym
from tests.gateway.site import OPENAI, Site, until
from tests.identity.issuing import BINDING, issued, said, write
from tests.identity.signer import Signer, encoded, made, public, showing

NOW = time.time


async def test_a_good_token_is_let_in_and_its_record_names_binding_and_pseudonym(
    tmp_path: Path,
) -> None:
    """The record says on whose word and for what; who it was stays sealed."""
    async with issued(tmp_path) as it:
        assert await it.ask(it.signer.token(sub="ann")) == (200, "")
        (found,) = it.site.kinds("decision")
        assert found["key"] == "oidc:corp/staff"
        assert (found["tenant"], found["purpose"], found["basis"]) == ("acme", "tests", "contract")
        known = it.site.gateway.view.known
        named = pseudonym(known.secrets["acme"], "corp/ann")
        assert known.subjects["acme"].is_of(found["subject"], named)
        assert not known.subjects["acme"].is_of(
            found["subject"], pseudonym(known.secrets["acme"], "corp/ben")
        )


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
async def test_every_algorithm_of_the_list_is_verified(tmp_path: Path, algorithm: str) -> None:
    """Providers differ; the list is the same for all."""
    async with issued(tmp_path, algorithms=[algorithm]) as it:
        it.signer.add("k2", algorithm)
        assert await it.ask(it.signer.token("k2")) == (200, "")
        assert (await it.ask(it.signer.token("k2")[:-4] + "AAAA"))[1] == "token-refused"


def hmac_with(secret: bytes) -> Callable[[Signer], str]:
    def token(signer: Signer) -> str:
        head = json.dumps({"alg": "HS256", "kid": "k1", "typ": "at+jwt"}).encode()
        text = f"{encoded(head)}.{encoded(json.dumps(signer.claims()).encode())}"
        signature = jwt.get_algorithm_by_name("HS256").sign(text.encode(), secret)
        return f"{text}.{encoded(signature)}"

    return token


def with_the_public_key(signer: Signer) -> str:
    """The classic: HMAC under bytes that everybody has, for a verifier that trusts `alg`."""
    pem = (
        signer.keys["k1"][1]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return hmac_with(pem)(signer)


def unsigned(signer: Signer) -> str:
    head = encoded(json.dumps({"alg": "none", "kid": "k1", "typ": "at+jwt"}).encode())
    return f"{head}.{encoded(json.dumps(signer.claims()).encode())}."


def tampered(signer: Signer) -> str:
    head, _, signature = signer.token().split(".")
    return f"{head}.{encoded(json.dumps(signer.claims(sub='root')).encode())}.{signature}"


def by_a_stranger(signer: Signer) -> str:
    head = json.dumps({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}).encode()
    return signer.signed(head, json.dumps(signer.claims()).encode(), "ES256", made("ES256"))


def with_its_own_key(signer: Signer) -> str:
    stranger = made("ES256")
    shown = {**public(stranger), "kid": "k1"}
    head = json.dumps({"alg": "ES256", "kid": "k1", "typ": "at+jwt", "jwk": shown}).encode()
    return signer.signed(head, json.dumps(signer.claims()).encode(), "ES256", stranger)


def twice(signer: Signer) -> str:
    body = json.dumps(signer.claims())
    return signer.token(payload=(body[:-1] + ', "sub": "root"}').encode())


def deep(signer: Signer) -> str:
    claims = json.dumps(signer.claims())
    return signer.token(payload=(claims[:-1] + ', "x": ' + "[" * 2500 + "]" * 2500 + "}").encode())


def number(text: str) -> Callable[[Signer], str]:
    def token(signer: Signer) -> str:
        body = json.dumps(signer.claims(exp=None))
        return signer.token(payload=(body[:-1] + f', "exp": {text}}}').encode())

    return token


def loosely_written(signer: Signer) -> str:
    """The same bytes of the signature, in another way to write them."""
    token = signer.token()
    last = token[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(last) ^ 1]
    raw = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
    assert base64.urlsafe_b64decode(token.rpartition(".")[2][:-1] + other + "==") == raw
    return token[:-1] + other


HOSTILE: dict[str, tuple[Callable[[Signer], str], str]] = {
    "unsigned": (unsigned, "token-refused"),
    "none, and a signature": (lambda s: s.token(header={"alg": "none"}), "token-refused"),
    "an HMAC under the public key": (with_the_public_key, "token-refused"),
    "an HMAC under nothing": (hmac_with(b""), "token-refused"),
    "tampered": (tampered, "token-refused"),
    "signed by a stranger": (by_a_stranger, "token-refused"),
    "bringing its own key": (with_its_own_key, "token-refused"),
    "another algorithm for this key": (
        lambda s: s.token(header={"alg": "RS256"}),
        "token-refused",
    ),
    "for another audience": (lambda s: s.token(aud="elsewhere"), "token-refused"),
    "for several others": (lambda s: s.token(aud=["a", "b"]), "token-refused"),
    "for nobody": (lambda s: s.token(aud=None), "token-refused"),
    "of another issuer": (lambda s: s.token(iss="https://id.example/"), "token-refused"),
    "of no issuer": (lambda s: s.token(iss=None), "token-refused"),
    "of a list of issuers": (lambda s: s.token(iss=["https://id.example"]), "token-refused"),
    "expired": (lambda s: s.token(exp=NOW() - 31), "token-expired"),
    "too old, whatever it says": (
        lambda s: s.token(iat=NOW() - 3700, exp=NOW() + 9e9),
        "token-expired",
    ),
    "not valid yet": (lambda s: s.token(nbf=NOW() + 120), "token-refused"),
    "issued in the future": (lambda s: s.token(iat=NOW() + 120), "token-refused"),
    "without an end": (lambda s: s.token(exp=None), "token-refused"),
    "without a beginning": (lambda s: s.token(iat=None), "token-refused"),
    "an end that is a text": (lambda s: s.token(exp="9999999999"), "token-refused"),
    "an end that is true": (lambda s: s.token(exp=True), "token-refused"),
    "an end that is no number": (number("NaN"), "token-refused"),
    "an end without end": (number("1e400"), "token-refused"),
    "an end of many digits": (number("9" * 400), "token-refused"),
    "without a subject": (lambda s: s.token(sub=None), "token-refused"),
    "an empty subject": (lambda s: s.token(sub=""), "token-refused"),
    "a subject that is a number": (lambda s: s.token(sub=7), "token-refused"),
    "a very long subject": (lambda s: s.token(sub="a" * 256), "token-refused"),
    "an identity token": (lambda s: s.token(header={"typ": "JWT"}), "token-refused"),
    "of no type": (lambda s: s.token(header={"typ": None}), "token-refused"),
    "an unknown key": (lambda s: s.token(header={"kid": "k9"}), "token-refused"),
    "no key named": (lambda s: s.token(header={"kid": None}), "token-refused"),
    "a key named at length": (lambda s: s.token(header={"kid": "k" * 300}), "token-refused"),
    "an extension it insists on": (
        lambda s: s.token(header={"crit": ["exp"], "exp": 1}),
        "token-refused",
    ),
    "an unencoded payload": (lambda s: s.token(header={"b64": False}), "token-refused"),
    "a claim twice": (twice, "token-refused"),
    "deeply nested": (deep, "token-refused"),
    "huge": (lambda s: s.token(x="a" * TOKEN_MAX_CHARS), "token-refused"),
    "not an object": (lambda s: s.token(payload=b"[]"), "token-refused"),
    "not JSON": (lambda s: s.token(payload=b"{"), "token-refused"),
    "not UTF-8": (lambda s: s.token(payload=b'{"iss": "\xff"}'), "token-refused"),
    "written loosely": (loosely_written, "token-refused"),
    "padded": (lambda s: s.token() + "=", "token-refused"),
    "of two parts": (lambda s: s.token().rpartition(".")[0], "token-refused"),
    "of five parts": (lambda s: s.token() + ".x.y", "token-refused"),
    "dots": (lambda _: "..", "token-refused"),
    "bound to a proof we cannot check": (
        lambda s: s.token(cnf={"jkt": "x"}),
        "token-refused",
    ),
    "bound to a certificate nobody shows": (
        lambda s: s.token(cnf={"x5t#S256": "x"}),
        "token-refused",
    ),
}


async def test_no_hostile_token_is_let_in_and_none_of_it_is_repeated(tmp_path: Path) -> None:
    """Every line is an attack that worked on somebody; the answer names none of it."""
    async with issued(tmp_path) as it:
        for name, (make, code) in HOSTILE.items():
            token = make(it.signer)
            for dialect in ({}, OPENAI):
                reply = await it.site.chat(secret=token, headers=dialect)
                assert (reply.status, reply.error["code"]) == (401, code), name
                assert reply.headers["www-authenticate"] == "Bearer", name
                assert not any(len(p) > 12 and p in reply.body.decode() for p in token.split("."))
        assert it.site.kinds("decision") == []
        assert await it.ask(it.signer.token()) == (200, "")
        assert len(it.shown.asked) <= 2  # the one at the start, and one for all unknown keys


async def test_a_clock_that_differs_within_the_leeway_shuts_nobody_out(tmp_path: Path) -> None:
    """Two clocks are never the same; the bound is stated, and small."""
    async with issued(tmp_path, leeway_s=30) as it:
        for good in ({"exp": NOW() - 20}, {"nbf": NOW() + 20}, {"iat": NOW() + 20}):
            assert await it.ask(it.signer.token(**good)) == (200, ""), good
        assert await it.ask(it.signer.token(aud=["other", "sovereign"])) == (200, "")


async def test_nothing_a_token_says_makes_the_gateway_fetch_from_elsewhere(tmp_path: Path) -> None:
    """`jku` and `x5u` would be a stranger's key, and a way into our network."""
    async with issued(tmp_path) as it:
        stranger = Signer(keys={"k1": ("ES256", made("ES256"))})
        with showing(stranger.key_set) as trap:
            for name in ("jku", "x5u"):
                token = stranger.token(header={name: trap.url})
                assert await it.ask(token) == (401, "token-refused")
            assert trap.asked == []


async def test_who_invents_key_names_causes_one_fetch_and_no_more(tmp_path: Path) -> None:
    """Otherwise our gateway would be somebody's way to flood the provider."""
    async with issued(tmp_path) as it:
        assert await it.ask(it.signer.token()) == (200, "")
        before = len(it.shown.asked)
        for number_ in range(50):
            token = it.signer.token(header={"kid": f"invented-{number_}"})
            assert await it.ask(token) == (401, "token-refused")
        assert len(it.shown.asked) - before <= 1


async def test_a_provider_that_was_never_reached_is_503_and_keys_go_on_working(
    tmp_path: Path,
) -> None:
    """Waiting helps here, and nowhere else; and one provider's outage is not the site's."""
    async with issued(tmp_path, keys="http://127.0.0.1:9/jwks") as it:
        reply = await it.site.chat(secret=it.signer.token())
        assert (reply.status, reply.error["code"]) == (503, "identity-unavailable")
        assert int(reply.headers["retry-after"]) > 0
        assert (await it.site.chat()).status == 200


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("aws:eu-central-1", "personal-data-stays-in-eea"),
        ("nowhere:at-all", "place-is-known"),
    ],
)
async def test_a_provider_at_a_place_the_policy_refuses_is_not_believed_nor_asked(
    tmp_path: Path, place: str, rule: str
) -> None:
    """It sees who somebody is and when they work: personal data, where it stands."""
    async with issued(tmp_path, place=place) as it:
        reply = await it.site.chat(secret=it.signer.token())
        assert (reply.status, reply.error["code"]) == (403, "residency-refused")
        assert reply.error["rule"] == rule
        assert (await it.site.chat()).status == 200
        (judged,) = [r for r in it.site.records("evidence") if r["type"] == "issuer-judged"]
        assert (judged["issuer"], judged["place"]) == ("corp", place)
        assert (judged["verdict"], judged["rule"]) == ("refuse", rule)
        assert it.shown.asked == []


async def test_a_provider_of_this_host_is_judged_by_where_it_answers(tmp_path: Path) -> None:
    """`this-host` admits loopback and nothing else."""
    async with issued(tmp_path) as it:
        assert await it.ask(it.signer.token()) == (200, "")
        (judged,) = [r for r in it.site.records("evidence") if r["type"] == "issuer-judged"]
        assert (judged["verdict"], judged["rule"]) == ("allow", "nothing-leaves-this-host")
        assert it.shown.url.endswith(f"//{judged['listener']}/jwks")
    other = tmp_path / "other"
    other.mkdir()
    async with issued(other, keys="https://id.example/jwks") as it:
        assert await it.ask(it.signer.token()) == (403, "residency-refused")


async def test_a_tenant_that_is_suspended_or_unknown_takes_its_tokens_along(
    tmp_path: Path,
) -> None:
    """A token outlives nothing that the operator ended."""
    binding = {**BINDING, "from_claims": {"tenant": "org"}, "tenant": ""}
    async with issued(tmp_path, bindings=[binding]) as it:
        token = it.signer.token(org="acme")
        assert await it.ask(token) == (200, "")
        it.site.keystore.suspend("acme", utcnow())
        await it.site.seen()
        assert await it.ask(token) == (403, "tenant-suspended")
        it.site.keystore.suspend("acme", None)
        await it.site.seen()
        assert await it.ask(token) == (200, "")
        assert await it.ask(it.signer.token(org="nobody")) == (403, "token-not-bound")
        assert await it.ask(it.signer.token()) == (403, "token-not-bound")


async def test_a_second_use_costs_no_second_verification_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client sends the same token a thousand times."""
    verified = []
    real = oidc.verified

    def counted(*how: Any) -> bool:
        verified.append(how[0])
        return real(*how)

    monkeypatch.setattr(oidc, "verified", counted)
    monkeypatch.setattr(oidc, "HELD_MAX", 3)
    async with issued(tmp_path) as it:
        token = it.signer.token()
        for _ in range(3):
            assert await it.ask(token) == (200, "")
        assert len(verified) == 1
        for number_ in range(5):
            assert await it.ask(it.signer.token(sub=f"s{number_}")) == (200, "")
        tokens = it.site.gateway.view.asked.tokens
        assert tokens is not None
        assert len(tokens._held) == 3
        assert all(token.encode() != digest for digest in tokens._held)
        assert await it.ask(token) == (200, "")
        assert len(verified) == 7


async def test_a_token_that_was_good_ends_when_it_says(tmp_path: Path) -> None:
    """Being remembered must not make it live longer."""
    async with issued(tmp_path, leeway_s=0) as it:
        token = it.signer.token(exp=NOW() + 1.5)
        assert await it.ask(token) == (200, "")
        for _ in range(100):
            status, code = await it.ask(token)
            if status != 200:
                break
            await asyncio.sleep(0.05)
        assert (status, code) == (401, "token-expired")


async def test_subject_of_a_token_reaches_no_record_no_log_and_no_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the name of a person, or as good as one."""
    async with issued(tmp_path) as it:
        token = it.signer.token(sub="zirkonfalter", email="zirkonfalter@example.org")
        assert await it.ask(token) == (200, "")
        assert await it.ask(token, model="gibt-es-nicht") == (404, "model-unknown")
        everything = json.dumps([it.site.records(s) for s in ("event", "security", "evidence")])
    out, err = capsys.readouterr()
    for part in ("zirkonfalter", token, token.split(".")[1]):
        assert part not in everything
        assert part not in out + err


async def test_a_changed_file_is_taken_up_and_one_that_cannot_be_read_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A binding that is taken out ends like a key that is revoked."""
    async with issued(tmp_path) as it:
        token, asked = it.signer.token(groups=["a"]), len(it.shown.asked)
        assert await it.ask(token) == (200, "")
        file = said(it.shown.url)
        narrow = {**BINDING, "id": "narrow", "when": {"groups": "b"}}
        write(tmp_path, {**file, "bindings": [narrow]})
        await until(lambda: "issuers-changed" in capsys.readouterr().err)
        assert await it.ask(token) == (403, "token-not-bound")
        assert await it.ask(it.signer.token(groups=["b"])) == (200, "")
        assert len(it.shown.asked) <= asked + 1  # its keys are the same
        write(tmp_path, {**file, "bindings": [{**narrow, "basis": "because"}]})
        await until(lambda: "issuers-unusable" in capsys.readouterr().err)
        assert await it.ask(it.signer.token(groups=["b"])) == (200, "")
        write(tmp_path, {**file, "issuer": "https://other.example"})
        await until(lambda: "issuers-changed" in capsys.readouterr().err)
        assert await it.ask(it.signer.token(groups=["b"])) == (401, "token-refused")
        await until(lambda: len({record["digest"] for record in taken(it.site)}) == 3)


def taken(ours: Site) -> list[dict[str, Any]]:
    return [r for r in ours.records("evidence") if r["type"] == "issuers-taken"]


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.characters(max_codepoint=255), max_size=400))
def test_whatever_somebody_sends_is_refused_in_our_words(text: str) -> None:
    """A reader of other people's bytes has one way to fail."""
    for token in (text, f"{text}.{text}.{text}", ".".join([encoded(text.encode())] * 3)):
        with pytest.raises(Denied) as denied:
            opened(token)
        assert denied.value.code == "token-refused"


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10_000), by=st.integers(1, 255))
def test_no_token_is_good_with_one_character_changed(at: int, by: int) -> None:
    """Of a signed text every letter is signed, and may be written in one way."""
    place = at % len(ONE)
    changed = ONE[:place] + chr((ord(ONE[place]) + by) % 256) + ONE[place + 1 :]
    if changed == ONE:
        return
    with contextlib.suppress(Denied):
        found = opened(changed)
        key = SIGNER.keys["k1"][1].public_key()
        assert not oidc.verified("ES256", key, found.signed, found.signature)


SIGNER = Signer()
SIGNER.add("k1")
ONE = SIGNER.token()
