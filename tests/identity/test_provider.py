"""Tokens of a real identity provider, sent by the official clients through a real socket."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from mistralai.client import Mistral

from sovereign.gateway import models
from sovereign.gateway.callers import oidc_keys
from sovereign.registry import utcnow
from sovereign.subjects import pseudonym
from tests.gateway.site import Site, site
from tests.identity.glewlwyd import Glewlwyd, serving
from tests.identity.issuing import BINDING, write
from tests.identity.listening import port_of
from tests.simulated.engine import MODEL, engine


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glewlwyd]:
    with serving(tmp_path_factory.mktemp("glewlwyd")) as it:
        yield it


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a provider be asked again without the pause that protects it."""
    monkeypatch.setattr(oidc_keys, "ASKED_AGAIN_S", 0.0)


@asynccontextmanager
async def believing(provider: Glewlwyd, folder: Path, **more: Any) -> AsyncIterator[Site]:
    """A site that believes this provider."""
    issuer = {
        "id": "corp",
        "issuer": provider.issuer,
        "audience": "sovereign",
        "keys": provider.key_set,
        "place": "this-host",
        "bindings": [BINDING],
    }
    path = write(folder, issuer | more)
    async with engine() as it, site(folder / "home", it.address, issuers=path) as ours:
        yield ours


def by_mistral(port: int, token: str) -> str:
    with Mistral(api_key=token, server_url=f"http://127.0.0.1:{port}") as client:
        said = client.chat.complete(model=MODEL, messages=[{"role": "user", "content": "Capital?"}])
    return str(said.choices[0].message.content)


def by_openai(port: int, token: str) -> str:
    with openai.OpenAI(
        api_key=token, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0
    ) as client:
        said = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Capital?"}]
        )
    return str(said.choices[0].message.content)


async def test_the_official_clients_work_with_a_providers_token(
    provider: Glewlwyd, tmp_path: Path
) -> None:
    """For an application it is an `api_key` like any other."""
    async with believing(provider, tmp_path) as ours, port_of(ours) as port:
        for by in (by_mistral, by_openai):
            for token in (provider.token(), provider.of_ann()):
                assert await asyncio.to_thread(by, port, token)
        assert {r["key"] for r in ours.kinds("decision")} == {"oidc:corp/staff"}
        assert [r["outcome"] for r in ours.kinds("completion")] == ["answered"] * 4


async def test_a_person_is_found_again_by_issuer_and_sub(
    provider: Glewlwyd, tmp_path: Path
) -> None:
    """A subject request names the person as the provider does."""
    token = provider.of_ann()
    sub = claims_of(token)["sub"]
    async with believing(provider, tmp_path) as ours:
        assert (await ours.chat(secret=token)).status == 200
        assert (await ours.chat(secret=provider.token())).status == 200
        known = ours.gateway.view.known
        named = pseudonym(known.secrets["acme"], f"corp/{sub}")
        found = [known.subjects["acme"].is_of(r["subject"], named) for r in ours.kinds("decision")]
        assert found == [True, False]
        records = json.dumps([ours.records(s) for s in ("event", "security", "evidence")])
        assert sub not in records


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


async def test_claims_of_a_person_choose_binding_and_tenant(
    provider: Glewlwyd, tmp_path: Path
) -> None:
    """The provider says which department; what that department may is said here."""
    person = {**BINDING, "id": "person", "tenant": "", "from_claims": {"tenant": "org"}}
    bindings = [
        {**person, "when": {"org": "hr", "scope": "sovereign"}, "purpose": "cv-screening"},
        {**BINDING, "id": "app", "subject": "none"},
    ]
    async with believing(provider, tmp_path, bindings=bindings) as ours:
        token = provider.of_ann()
        reply = await ours.chat(secret=token)
        assert (reply.status, reply.error["code"]) == (403, "token-not-bound")
        ours.key(tenant="hr")
        await ours.seen()
        assert (await ours.chat(secret=token)).status == 200
        assert (await ours.chat(secret=provider.token())).status == 200
        person_, app = ours.kinds("decision")
        assert (person_["key"], person_["tenant"]) == ("oidc:corp/person", "hr")
        assert person_["purpose"] == "cv-screening"
        assert app["key"] == "oidc:corp/app"
        assert "subject" not in app


async def test_a_key_that_the_provider_rotates_in_is_found_and_one_it_drops_is_forgotten(
    provider: Glewlwyd, tmp_path: Path, at_once: None
) -> None:
    """Providers rotate without telling anybody; what they drop may be what was stolen."""
    provider.rotate("k1")
    async with believing(provider, tmp_path) as ours:
        before = provider.token()
        assert (await ours.chat(secret=before)).status == 200
        provider.rotate("k2", "k1")
        after = provider.token()
        assert (await ours.chat(secret=after)).status == 200
        assert (await ours.chat(secret=before)).status == 200
        provider.rotate("k3")
        assert (await ours.chat(secret=provider.token())).status == 200
        for dropped in (before, after):
            reply = await ours.chat(secret=dropped)
            assert (reply.status, reply.error["code"]) == (401, "token-refused")


@pytest.mark.parametrize(
    ("ahead_s", "status", "code"),
    [
        (-120, 401, "token-refused"),
        (-20, 200, ""),
        (20, 200, ""),
        (620, 200, ""),  # its tokens live for 600 s, and the leeway is 30
        (640, 401, "token-expired"),
        (3600, 401, "token-expired"),
    ],
)
async def test_a_gateway_whose_clock_is_off_is_strict_beyond_the_leeway(
    provider: Glewlwyd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ahead_s: int,
    status: int,
    code: str,
) -> None:
    """Two machines, two clocks: seconds are forgiven, minutes are not."""
    token = provider.token()
    async with believing(provider, tmp_path) as ours:
        off = timedelta(seconds=ahead_s)
        monkeypatch.setattr(models, "utcnow", lambda: utcnow() + off)
        asked = {"authorization": f"Bearer {token}"}
        reply = await ours.ask("GET", "/v1/models", asked)
        assert (reply.status, reply.error["code"] if code else "") == (status, code)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"audience": "another-site"}, 401, "token-refused"),
        ({"issuer": "https://id.example"}, 401, "token-refused"),
        ({"algorithms": ["RS256"]}, 401, "token-refused"),
        ({"token_types": ["jwt"]}, 401, "token-refused"),
        ({"place": "aws:eu-central-1"}, 403, "residency-refused"),
        ({"bindings": [{**BINDING, "when": {"org": "legal"}}]}, 403, "token-not-bound"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_genuine_token_that_is_not_for_this_site_is_refused(
    provider: Glewlwyd, tmp_path: Path, more: dict[str, Any], status: int, code: str
) -> None:
    """A provider issues tokens for everybody; most of them are none of our business."""
    async with believing(provider, tmp_path, **more) as ours:
        reply = await ours.chat(secret=provider.of_ann())
        assert (reply.status, reply.error["code"]) == (status, code)
        assert (await ours.chat()).status == 200
