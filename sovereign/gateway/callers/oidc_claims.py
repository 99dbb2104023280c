"""What a verified token is bound to, by the operator's bindings. Pure.

What a binding does not say and the claims leave open is refused: an empty list of models would
mean every model, and a missing tenant nobody's.
"""

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from sovereign.gateway.callers.issuers import Binding, Issuer
from sovereign.gateway.choose import resolve
from sovereign.gateway.refusal import Denied
from sovereign.keystore import LEGAL_BASES, Key
from sovereign.policy import Policy

WORD_MAX_CHARS = 128
WORDS_MAX = 64
POINTER_DEPTH_MAX = 8


def bind(policy: Policy, issuer: Issuer, claims: Mapping[str, Any], now: datetime) -> Key:
    """The key a token stands for while it is valid. Its id names issuer and binding, no person.

    Raises:
        Denied: no binding matches, or a claim that should fill a field does not.
    """
    binding = next((each for each in issuer.bindings if _matches(each, claims)), None)
    if binding is None:
        raise _unbound("no binding of this site matches its claims")
    return Key(
        id=f"oidc:{issuer.id}/{binding.id}",
        tenant=_word(binding, "tenant", claims),
        purpose=_word(binding, "purpose", claims),
        basis=_one_of(binding, "basis", claims, LEGAL_BASES),
        data=_one_of(binding, "data", claims, policy.data),
        subject=binding.subject,
        created_at=now,
        models=_models(binding, claims, policy),
        roles=_roles(binding, claims),
        priority=binding.priority,
    )


def _unbound(because: str) -> Denied:
    return Denied("token-not-bound", f"the token is right, and not bound to anything: {because}")


def _matches(binding: Binding, claims: Mapping[str, Any]) -> bool:
    return all(value in _listed(claims, name) for name, value in binding.when.items())


def _listed(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The words of a claim: a text, a list of them, or the words of `scope` (RFC 8693)."""
    found = _claim(claims, name)
    if isinstance(found, str):
        return tuple(found.split()) if name == "scope" else (found,)
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return tuple(found)
    return ()


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or by a JSON pointer to one inside another (RFC 6901)."""
    if not name.startswith("/"):
        return claims.get(name)
    found: object = claims
    for step in name[1:].split("/", POINTER_DEPTH_MAX):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step.replace("~1", "/").replace("~0", "~"))
    return found


def _words(binding: Binding, field: Any, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The words a claim fills a field with, () when the field is not filled from one."""
    name = binding.from_claims.get(field)
    if name is None:
        return ()
    words = _listed(claims, name)
    if len(words) > WORDS_MAX or not all(_is_word(word) for word in words):
        raise _unbound(f"the claim for its {field} holds something that is no word")
    return words


def _is_word(text: str) -> bool:
    return 0 < len(text) <= WORD_MAX_CHARS and text.isprintable()


def _word(binding: Binding, field: Any, claims: Mapping[str, Any]) -> str:
    if field not in binding.from_claims:
        said: str = getattr(binding, field)
        return said
    words = _words(binding, field, claims)
    if len(words) != 1:
        raise _unbound(f"the claim for its {field} does not name one")
    if words[0] not in binding.may_name.get(field, words):
        raise _unbound(f"the claim for its {field} names one that it may not")
    return words[0]


def _one_of(
    binding: Binding,
    field: Any,
    claims: Mapping[str, Any],
    accepted: Container[str],
) -> str:
    word = _word(binding, field, claims)
    if word not in accepted:
        raise _unbound(f"the claim for its {field} names none that this site knows")
    return word


def _roles(binding: Binding, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the binding, and those of the claim that it may name; the others are left out."""
    named = _words(binding, "roles", claims)
    may = binding.may_name.get("roles", named)
    return tuple(sorted({*binding.roles, *(word for word in named if word in may)}))


def _models(binding: Binding, claims: Mapping[str, Any], policy: Policy) -> tuple[str, ...]:
    """Models by id; what the claim names and nobody knows is left out, and never all of it."""
    if "models" not in binding.from_claims:
        return binding.models
    named = (resolve(policy.models, word) for word in _words(binding, "models", claims))
    found = {model.id for model in named if model is not None}
    allowed = found & set(binding.models) if binding.models else found
    if not allowed:
        raise _unbound("the claim for its models names none that this site knows")
    return tuple(sorted(allowed))
