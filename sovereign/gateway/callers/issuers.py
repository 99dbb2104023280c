"""Which identity providers this site believes, and what their tokens are bound to: one file.

A provider says who calls; what a call is for, on which legal basis and with which class of data
is the operator's word, in a *binding*. The first binding whose claims all match is the token's.
A provider sees personal data where it stands, so its place is judged like any other.

`docs/formats/issuers.md` explains every field.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from sovereign.errors import PolicyUnreadable, SettingsUnreadable
from sovereign.keystore import LEGAL_BASES
from sovereign.policy import THIS_HOST, Policy
from sovereign.residency import Decision, Question, decide, is_loopback
from sovereign.subjects import OIDC_SUB, SOURCES

PERSONAL = "personal"
"""What a provider sees: who somebody is, and when they use this site."""
Word = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]
TokenType = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.+-]{0,63}$")]
Claim = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(max_length=128)]
Filled = Literal["tenant", "purpose", "basis", "data", "models", "roles"]
Listed = Literal["tenant", "purpose", "basis", "data", "roles"]
"""Models are narrowed by the binding's own list."""


class _Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file."""


class Binding(_Part, frozen=True):
    """What a token is bound to when all of `when` is in its claims.

    `from_claims` names the claim that a field is taken out of, in place of the word given here;
    `may_name` lists the only words that such a claim may say.
    """

    id: Word
    when: dict[Claim, Name] = {}
    tenant: Name = ""
    purpose: Name = ""
    basis: str = "legitimate-interests"
    data: str = PERSONAL
    subject: str = OIDC_SUB
    models: tuple[str, ...] = ()
    roles: tuple[Word, ...] = ()
    priority: Literal["interactive", "batch"] = "interactive"
    from_claims: dict[Filled, Claim] = {}
    may_name: dict[Listed, Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)]] = {}

    def __post_init__(self) -> None:
        """Refuse a binding that leaves open on whose behalf, or what for."""
        for name in ("tenant", "purpose"):
            if bool(getattr(self, name)) is (name in self.from_claims):
                raise ValueError(f"{name}: a word here, or a claim under from_claims, not both")
        for name in self.may_name:
            if name not in self.from_claims:
                raise ValueError(f"may_name: {name} is not taken out of a claim")
        if "purpose" in self.from_claims and "purpose" not in self.may_name:
            raise ValueError(
                "purpose: it stands in records in the clear, so may_name has to list it"
            )


class Issuer(_Part, frozen=True):
    """One provider. `id` stands in records and subjects' names, so it never changes."""

    id: Word
    issuer: Annotated[str, Meta(min_length=1, max_length=256)]
    audience: Annotated[str, Meta(min_length=1, max_length=256)]
    keys: Annotated[str, Meta(max_length=1024)]
    place: str
    bindings: Annotated[tuple[Binding, ...], Meta(min_length=1, max_length=1000)]
    algorithms: tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...] = ("ES256",)
    token_types: tuple[TokenType, ...] = ("at+jwt",)
    ca_file: str = ""
    leeway_s: Annotated[int, Meta(ge=0, le=120)] = 30
    age_max_s: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    keys_refresh_s: Annotated[int, Meta(ge=10, le=86_400)] = 300
    keys_kept_s: Annotated[int, Meta(ge=10, le=604_800)] = 3600

    def __post_init__(self) -> None:
        """Refuse an address that others on the way could answer for."""
        url = urlsplit(self.keys)
        if not url.hostname or url.username or url.password or url.fragment:
            raise ValueError("keys: a URL with a host, and without a password or fragment")
        _ = self.address  # a port that is none is a ValueError, too
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(self.address)):
            raise ValueError("keys: an https URL, or http at a loopback address")
        if len({binding.id for binding in self.bindings}) != len(self.bindings):
            raise ValueError("bindings: two have the same id")
        if not self.algorithms:
            raise ValueError("algorithms: at least one")

    @property
    def address(self) -> str:
        """Host and port that its keys are fetched from."""
        url = urlsplit(self.keys)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


class IssuersFile(_Part, frozen=True):
    """The whole file."""

    version: Literal[1]
    issuers: Annotated[tuple[Issuer, ...], Meta(min_length=1, max_length=32)]

    def __post_init__(self) -> None:
        """Refuse two that could be taken for each other."""
        for name in ("id", "issuer"):
            if len({getattr(each, name) for each in self.issuers}) != len(self.issuers):
                raise ValueError(f"issuers: two have the same {name}")


def load(path: Path, policy: Policy) -> tuple[Issuer, ...]:
    """Read the file, and hold what its bindings say against the policy.

    Raises:
        SettingsUnreadable: it says something we do not accept. Nobody's tokens are believed.
    """
    from sovereign.policy.yamlfile import read_as  # slow to import, and rarely needed

    try:
        found = read_as(path, IssuersFile).issuers
    except PolicyUnreadable as error:
        raise SettingsUnreadable(
            error.message, found=error.found, accepted=error.accepted or "docs/formats/issuers.md"
        ) from error
    for issuer in found:
        for where, found_, accepted in _unknown(issuer, policy):
            raise SettingsUnreadable(
                f"{path}: issuer {issuer.id}, {where}", found=found_, accepted=accepted
            )
    return found


def _unknown(issuer: Issuer, policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Words of its bindings that mean nothing here: where, what was found, what is accepted."""
    for binding in issuer.bindings:
        words = {
            "basis": ((binding.basis,), LEGAL_BASES),
            "data": ((binding.data,), sorted(policy.data)),
            "subject": ((binding.subject,), (OIDC_SUB, *SOURCES)),
            "models": (binding.models, sorted(policy.models)),
            "may_name of basis": (binding.may_name.get("basis", ()), LEGAL_BASES),
            "may_name of data": (binding.may_name.get("data", ()), sorted(policy.data)),
        }
        for name, (given, accepted) in words.items():
            for each in given:
                if each not in accepted:
                    yield f"binding {binding.id}, {name}", each, ", ".join(accepted)


def judge(policy: Policy, issuer: Issuer, now: datetime) -> Decision:
    """Whether the provider may see what it sees where it stands: the first no, or the last yes."""
    listener = issuer.address if issuer.place == THIS_HOST else ""
    for verb in ("store", "process"):
        decision = decide(policy, Question(issuer.place, PERSONAL, verb, now, listener))
        if not decision.allowed:
            break
    return decision
