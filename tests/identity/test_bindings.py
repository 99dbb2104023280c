"""What tokens are bound to, and the file that says so."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from docs.generate import ROOT
from sovereign.errors import SettingsUnreadable
from sovereign.gateway.callers.issuers import Binding, Issuer, judge, load
from sovereign.gateway.callers.oidc_claims import WORD_MAX_CHARS, WORDS_MAX, bind
from sovereign.gateway.refusal import Denied
from tests.docs.reading import table
from tests.gateway.site import EEA
from tests.identity.issuing import BINDING, said, write
from tests.simulated.engine import MODEL

NOW = datetime(2026, 11, 25, tzinfo=UTC)
URL = "https://id.example/jwks"


def issuer(*bindings: dict[str, Any], **more: Any) -> Issuer:
    return msgspec.convert(said(URL, bindings=[*bindings] or [BINDING], **more), Issuer)


def from_claim(field: str, name: str, **more: Any) -> dict[str, Any]:
    binding = {**BINDING, "from_claims": {field: name}, **more}
    if field == "purpose":
        binding = {"may_name": {field: ["cv-screening", "two words"]}, **binding}
    return {**binding, field: ""} if field in ("tenant", "purpose") else binding


@pytest.mark.parametrize(
    ("when", "claims", "matches"),
    [
        ({}, {}, True),
        ({"org": "hr"}, {"org": "hr"}, True),
        ({"org": "hr"}, {"org": "hr "}, False),
        ({"org": "hr"}, {"org": "HR"}, False),
        ({"org": "hr"}, {"org": "hr legal"}, False),
        ({"org": "hr"}, {"org": ["legal", "hr"]}, True),
        ({"org": "hr"}, {"org": ["legal", 7, "hr"]}, False),
        ({"org": "hr"}, {"org": {"hr": "hr"}}, False),
        ({"org": "hr"}, {"org": None}, False),
        ({"org": "True"}, {"org": True}, False),
        ({"scope": "chat"}, {"scope": "models chat"}, True),
        ({"scope": "chat"}, {"scope": "chats"}, False),
        ({"org": "hr", "scope": "chat"}, {"org": "hr"}, False),
        ({"/realm/roles": "hr"}, {"realm": {"roles": ["hr"]}}, True),
        ({"/realm/roles": "hr"}, {"realm": ["hr"]}, False),
        ({"/a~1b": "x"}, {"a/b": "x"}, True),
        ({"https://id.example/org": "hr"}, {"https://id.example/org": "hr"}, True),
    ],
)
def test_a_binding_matches_when_all_its_claims_do_letter_by_letter(
    when: dict[str, str], claims: dict[str, Any], matches: bool
) -> None:
    """What almost matches is somebody else."""
    it = issuer({**BINDING, "when": when})
    if matches:
        assert bind(EEA, it, claims, NOW).id == "oidc:corp/staff"
        return
    with pytest.raises(Denied) as denied:
        bind(EEA, it, claims, NOW)
    assert (denied.value.code, denied.value.status) == ("token-not-bound", 403)


def test_of_two_bindings_that_match_the_first_is_taken() -> None:
    """The file is read from top to bottom, by people too."""
    narrow = {**BINDING, "id": "narrow", "when": {"org": "hr"}}
    it = issuer(narrow, BINDING)
    assert bind(EEA, it, {"org": "hr"}, NOW).id == "oidc:corp/narrow"
    assert bind(EEA, it, {"org": "x"}, NOW).id == "oidc:corp/staff"


@pytest.mark.parametrize(
    ("field", "claim", "found"),
    [
        ("tenant", "acme", "acme"),
        ("tenant", ["acme"], "acme"),
        ("tenant", ["acme", "other"], None),
        ("tenant", [], None),
        ("tenant", None, None),
        ("tenant", 7, None),
        ("tenant", "", None),
        ("tenant", "a" * (WORD_MAX_CHARS + 1), None),
        ("tenant", "a\nb", None),
        ("purpose", "cv-screening", "cv-screening"),
        ("purpose", "two words", "two words"),
        ("purpose", "for somebody", None),
        ("basis", "consent", "consent"),
        ("basis", "because", None),
        ("data", "public", "public"),
        ("data", "rumours", None),
        ("models", MODEL, (MODEL,)),
        ("models", [MODEL, "gpt-5"], (MODEL,)),
        ("models", ["gpt-5"], None),
        ("models", [], None),
        ("models", None, None),
        ("roles", ["b", "a", "b"], ("a", "b")),
        ("roles", "admin", ("admin",)),
        ("roles", None, ()),
        ("roles", ["a"] * (WORDS_MAX + 1), None),
    ],
)
def test_a_field_taken_out_of_a_claim_is_a_word_this_site_knows_or_nothing(
    field: str, claim: object, found: object
) -> None:
    """An empty list of models would mean every model, and no tenant everybody's."""
    it = issuer(from_claim(field, "x"))
    claims = {} if claim is None else {"x": claim}
    if found is None:
        with pytest.raises(Denied) as denied:
            bind(EEA, it, claims, NOW)
        assert denied.value.code == "token-not-bound"
        assert str(claim) not in denied.value.message or claim in ([], None, "", 7)
        return
    assert getattr(bind(EEA, it, claims, NOW), field) == found


@pytest.mark.parametrize(
    ("field", "claim", "found"),
    [
        ("tenant", "hr", "hr"),
        ("tenant", "legal", None),
        ("tenant", ["hr", "legal"], None),
        ("basis", "consent", "consent"),
        ("basis", "contract", None),
        ("data", "public", "public"),
        ("data", "personal", None),
        ("roles", ["reviewer", "admin"], ("reviewer",)),
        ("roles", ["admin"], ()),
    ],
)
def test_a_claim_says_no_more_than_the_binding_lets_it(
    field: str, claim: object, found: object
) -> None:
    """Whoever administers the provider must not reach the tenants of others."""
    may = {"tenant": ["hr"], "basis": ["consent"], "data": ["public"], "roles": ["reviewer"]}
    it = issuer(from_claim(field, "x", may_name={field: may[field]}))
    if found is None:
        with pytest.raises(Denied) as denied:
            bind(EEA, it, {"x": claim}, NOW)
        assert denied.value.code == "token-not-bound"
        return
    assert getattr(bind(EEA, it, {"x": claim}, NOW), field) == found


def test_a_claim_can_narrow_the_models_of_a_binding_and_not_widen_them() -> None:
    """The list here is the operator's word; the claim is somebody else's."""
    it = issuer(from_claim("models", "x", models=["tiny-mixtral"]))
    with pytest.raises(Denied):
        bind(EEA, it, {"x": MODEL}, NOW)
    assert bind(EEA, it, {"x": [MODEL, "tiny-mixtral"]}, NOW).models == ("tiny-mixtral",)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"keys": "http://id.example/jwks"}, "an https URL, or http at a loopback address"),
        ({"keys": "http://localhost:1/jwks"}, "loopback address"),
        ({"keys": "https://u:p@id.example/jwks"}, "without a password"),
        ({"keys": "file:///etc/jwks"}, "a URL with a host"),
        ({"algorithms": ["HS256"]}, "HS256"),
        ({"algorithms": ["none"]}, "none"),
        ({"algorithms": []}, "at least one"),
        ({"leeway_s": 121}, "120"),
        ({"age_max_s": 86_401}, "86400"),
        ({"colour": "red"}, "colour"),
        ({"bindings": []}, "length"),
        ({"bindings": [BINDING, BINDING]}, "same id"),
        ({"bindings": [{**BINDING, "basis": "because"}]}, "basis"),
        ({"bindings": [{**BINDING, "data": "rumours"}]}, "data"),
        ({"bindings": [{**BINDING, "subject": "somewhere"}]}, "subject"),
        ({"bindings": [{**BINDING, "models": ["gpt-5"]}]}, "models"),
        ({"bindings": [{**BINDING, "tenant": ""}]}, "tenant"),
        ({"bindings": [{**BINDING, "from_claims": {"tenant": "org"}}]}, "not both"),
        ({"bindings": [{**BINDING, "from_claims": {"subject": "x"}}]}, "subject"),
        ({"bindings": [{**BINDING, "may_name": {"tenant": ["hr"]}}]}, "not taken out of a claim"),
        ({"bindings": [from_claim("purpose", "x", may_name={})]}, "in the clear"),
        ({"bindings": [from_claim("roles", "x", may_name={"roles": []})]}, "may_name"),
        ({"bindings": [from_claim("models", "x", may_name={"models": ["m"]})]}, "models"),
        (
            {"bindings": [from_claim("basis", "x", may_name={"basis": ["whim"]})]},
            "may_name of basis",
        ),
    ],
    ids=str,
)
def test_a_file_that_says_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    """A mistake in this file lets somebody in."""
    path = Path(write(tmp_path, said(URL, **more)))
    with pytest.raises(SettingsUnreadable) as refused:
        load(path, EEA)
    told = " ".join(refused.value.lines())
    assert says in told
    assert str(path) in told


def test_two_issuers_of_one_name_are_refused(tmp_path: Path) -> None:
    """A token would have two masters."""
    with pytest.raises(SettingsUnreadable, match="same"):
        load(Path(write(tmp_path, said(URL), said(URL))), EEA)


@pytest.mark.parametrize(
    ("place", "url", "allowed"),
    [
        ("this-host", "http://127.0.0.1:8/jwks", True),
        ("this-host", "http://[::1]:8/jwks", True),
        ("this-host", URL, False),
        ("scaleway:fr-par-2", URL, True),
        ("aws:eu-central-1", URL, False),
        ("nowhere:at-all", URL, False),
    ],
)
def test_a_provider_is_judged_like_any_place_that_sees_personal_data(
    place: str, url: str, allowed: bool
) -> None:
    """A German region of a US firm would learn who uses us, and when."""
    it = msgspec.convert(said(url, place=place), Issuer)
    assert judge(EEA, it, NOW).allowed is allowed


@pytest.mark.parametrize(
    ("heading", "kind"), [("## Issuer", Issuer), ("## Binding", Binding)], ids=["issuer", "binding"]
)
def test_the_page_lists_every_field_with_its_default(
    heading: str, kind: type[msgspec.Struct]
) -> None:
    """A field that no page explains is a switch in the dark."""
    told = {row[0]: row[1] for row in table(ROOT / "docs/formats/issuers.md", heading)}
    meant = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            meant[field.name] = "required"
            continue
        value = "" if field.default is msgspec.NODEFAULT else field.default
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        meant[field.name] = shown or "empty"
    assert told == meant
