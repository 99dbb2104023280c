"""`sovereign issuer`: what a gateway would say, before there is a client to say it to."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.settings import load
from tests.cli.conftest import Run
from tests.identity.issuing import said, write
from tests.identity.signer import Shown, Signer, showing

Given = tuple[Signer, Shown]


@pytest.fixture
def given(site: Path) -> Iterator[Given]:
    """An issuer that this site's file names."""
    signer = Signer()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        configure(site, said(shown.url))
        yield signer, shown


def configure(home: Path, *issuers: dict[str, Any]) -> None:
    write(home, *issuers)
    (home / "sovereign.yaml").write_text("version: 1\ngateway: {issuers: issuers.yaml}\n")
    store = Keystore(load(home).keystore)
    store.create()
    store.create_tenant("acme", utcnow())


def test_every_provider_is_listed_with_its_verdict_and_a_refused_one_is_exit_1(
    run: Run, site: Path, given: Given
) -> None:
    """Whoever signs for the site reads where its people's names go."""
    done = run("issuer", "list", "--json")
    assert done.code == 0
    (only,) = done.json["issuers"]
    assert (only["id"], only["verdict"]) == ("corp", "allow")
    assert only["rule"] == "nothing-leaves-this-host"
    refused = said("https://id.example/jwks", place="aws:eu-central-1")
    configure(site, refused)
    done = run("issuer", "list")
    assert done.code == 1
    assert "personal-data-stays-in-eea" in done.out


def checked(
    run: Run, monkeypatch: pytest.MonkeyPatch, token: str, *words: str
) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    done = run("issuer", "check", "--json", *words)
    assert token not in done.out + done.err
    return done.code, json.loads(done.out)


def test_a_token_is_told_what_it_stands_for_or_why_it_does_not(
    run: Run, site: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of a gateway, without a gateway, and in the same words."""
    signer, shown = given
    code, found = checked(run, monkeypatch, signer.token())
    assert (code, found["allowed"], found["id"]) == (0, True, "oidc:corp/staff")
    assert found["tenant"] == "acme"
    assert "ann" not in str(found)
    for token, refusal in (
        (signer.token(aud="elsewhere"), "token-refused"),
        (signer.token(exp=1), "token-expired"),
        ("x", "token-refused"),
        ("a" * 10_000, "token-refused"),
    ):
        code, found = checked(run, monkeypatch, token)
        assert (code, found["allowed"], found["code"]) == (1, False, refusal)
    Keystore(load(site).keystore).suspend("acme", utcnow())
    code, found = checked(run, monkeypatch, signer.token())
    assert (code, found["code"]) == (1, "tenant-suspended")
    shown.status = 500
    code, found = checked(run, monkeypatch, signer.token())
    assert (code, found["code"]) == (3, "identity-unavailable")


def test_nothing_on_input_is_a_mistake_of_the_asker(
    run: Run, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty pipe is the commonest of them."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert (run("issuer", "check").code, run("issuer", "check").error) == (2, "bad-input")
