"""Read the access rules under `access/`, strictly: what is not sure to mean something is refused.

Cedar's validator holds every rule to the schema: types, attributes, actions. Beyond it, a rule
must say its id, its reason and its source; may have no open slot; and may name only models, data
classes, terms and countries that the tables of this policy know, since a rule about a misspelt one
would never apply and nobody would notice.

This module evaluates nothing; `sovereign.access` does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from sovereign.errors import PolicyUnreadable
from sovereign.policy import cedartext, spoken
from sovereign.policy.cedartext import Statement
from sovereign.policy.shapes import AccessCase

if TYPE_CHECKING:
    from cedarpy import ValidationError

FOLDER = "access"
SCHEMA = f"{FOLDER}/schema.cedarschema"
FILE_MAX_BYTES = 262_144
RULES_MAX = 1000
RESERVED = ("access-default-deny", "access-not-evaluated")
"""Answers that are no rule's."""
PRINCIPALS: tuple[Literal["Key", "Token"], ...] = ("Key", "Token")
ANNOTATIONS = ("id", "because", "source")
_EFFECTS = ("permit", "forbid")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")
_QUOTED = re.compile(r"`([^`]+)`")
_NUMBERED = re.compile(r"for policy `policy[0-9]+`, ")
_STRING = re.compile(r'"[^"]*"')
_OF_TYPE = re.compile(r"on entity type `([^`]+)`")
_TRIED = spoken.Principal("k", "t", "p", spoken.BASES[0], "d", ("m",), ("r",))
_TRIED_ON = spoken.Served("m", "e", "llamacpp", "open", "yes", "this-host", ("chat",))


class AccessFiles(msgspec.Struct, frozen=True):
    """What the folder says, in bare words; this is what the digest is made over."""

    schema: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One rule. `text` is it in bare words."""

    id: str
    effect: Literal["permit", "forbid"]
    because: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Every rule by id, the schema they hold to, and the cases they must answer."""

    rules: tuple[AccessRule, ...] = ()
    schema: str = ""
    cases: tuple[AccessCase, ...] = ()

    @property
    def text(self) -> str:
        """All of them, as one text for Cedar: rule number N of it is `rules[N]`."""
        return "\n".join(rule.text for rule in self.rules)


Known = Mapping[str, frozenset[str]]
"""By entity type, the names that some table of the policy knows."""


def read(root: Path, known: Known) -> AccessFiles:
    """Read and check every `.cedar` file of the folder.

    Args:
        known: by entity type, the names that the tables of the policy know.

    Raises:
        PolicyUnreadable: file, line, what was found and what is accepted. Nothing was loaded.
    """
    schema = _schema(root / SCHEMA)
    paths = sorted((root / FOLDER).glob("*.cedar"))
    if not paths:
        raise PolicyUnreadable(f"{root / FOLDER}: no file here", accepted="at least one .cedar")
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        for rule, statement in _rules(path, schema):
            where = f"{path}:{statement.line}"
            if rule.id in found:
                raise PolicyUnreadable(
                    f"{where}: the id {rule.id!r} stands twice",
                    found=f"first at {found[rule.id][0]}",
                    accepted="an id of its own for every rule",
                )
            _refuse_unknown(path, statement, known)
            found[rule.id] = where, rule.text
    if len(found) > RULES_MAX:
        raise PolicyUnreadable(f"{root / FOLDER}: {len(found)} rules", accepted=f"{RULES_MAX}")
    return AccessFiles(schema, tuple(text for _, (_, text) in sorted(found.items())))


def rules_of(files: AccessFiles, cases: tuple[AccessCase, ...]) -> AccessRules:
    """What these files mean, once they were read."""
    rules = sorted((_meant(text) for text in files.rules), key=lambda rule: rule.id)
    return AccessRules(tuple(rules), files.schema, cases)


def _refuse_unknown(path: Path, statement: Statement, known: Known) -> None:
    """Refuse a rule that names what no table knows: it would never apply, and nobody would see."""
    for kind, name in sorted(set(_named(_parsed(statement.text)))):
        accepted = ", ".join(sorted(known.get(kind, ())))
        if kind == "Country" and not spoken.COUNTRY.fullmatch(name):
            accepted = 'two capital letters, or "unknown"'
        elif kind not in known or name in known[kind]:
            continue
        raise PolicyUnreadable(
            f'{path}:{statement.line_of(_quoted(name))}: {kind}::"{name}" is in no table',
            accepted=accepted,
        )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyUnreadable(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > FILE_MAX_BYTES:
        raise PolicyUnreadable(f"{path}: {len(raw)} bytes, at most {FILE_MAX_BYTES} are read")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PolicyUnreadable(f"{path}: not UTF-8") from error


# --- the schema ----------------------------------------------------------------------------


def _schema(path: Path) -> str:
    """The schema in bare words, once it is sure that this program states what it asks for."""
    text = _text(path)
    bare = " ".join(word.text for word in cedartext.words(text))
    if not _fits(bare):
        fault = _schema_fault(bare)
        lines = {f"`{word.text}`": word.line for word in cedartext.words(text)}
        line = next((lines[piece] for piece in lines if piece in fault.splitlines()[0]), 1)
        raise PolicyUnreadable(
            f"{path}:{line}: {fault.splitlines()[0]}",
            accepted="the schema as it was shipped: rules can only ask for what is stated",
        )
    return bare


@cache
def _fits(schema: str) -> bool:
    return not _schema_fault(schema)


def _schema_fault(schema: str) -> str:
    """Why a schema is none, or asks for something that is never stated; "" when it fits."""
    import cedarpy  # 16 MB, and only whoever loads a policy needs it

    declared = cedartext.actions(schema)
    if set(declared) != set(spoken.ACTIONS):
        return f"the actions are {', '.join(spoken.ACTIONS)}"
    try:
        compiled = cedarpy.Schema.from_str(schema)
        for kind in PRINCIPALS:
            principal = replace(_TRIED, kind=kind)
            sample = spoken.document(principal.entity(), _TRIED_ON.entity())
            cedarpy.Entities.from_json_str(sample, compiled)
            for action in spoken.ACTIONS:
                asked = spoken.request(principal, action, _TRIED_ON)
                answer = cedarpy.is_authorized(asked, "", sample, compiled)
                if answer.decision is not cedarpy.Decision.Deny:
                    return f"{kind} may not ask to {action}: {answer.diagnostics.errors}"
    except ValueError as error:
        return str(error)
    return ""


# --- the rules -----------------------------------------------------------------------------


def _rules(path: Path, schema: str) -> Iterator[tuple[AccessRule, Statement]]:
    found = cedartext.statements(_text(path))
    for statement in found:
        _refuse_unparsable(path, statement)
    _refuse_invalid(path, found, schema)
    for statement in found:
        _refuse_unexplained(path, statement)
        yield _meant(statement.text), statement


def _refuse_unparsable(path: Path, statement: Statement) -> None:
    if statement.words[-1].text != ";":
        line = statement.words[-1].line
        raise PolicyUnreadable(f"{path}:{line}: a rule ends with a semicolon, and this does not")
    try:
        content = _parsed(statement.text)
    except ValueError as error:
        said = str(error).splitlines()[0]
        line = statement.line_of(*_QUOTED.findall(said), *_EFFECTS)
        raise PolicyUnreadable(
            f"{path}:{line}: not Cedar: {said}",
            accepted='@id("…") @because("…") @source("…") permit or forbid (principal, action, '
            "resource) when { … };",
        ) from error
    if content["templates"]:
        raise PolicyUnreadable(
            f"{path}:{statement.line_of(*_EFFECTS)}: a rule with an open slot decides nothing",
            accepted="the principal or resource itself instead of ?principal or ?resource",
        )


def _parsed(text: str) -> dict[str, Any]:
    import cedarpy

    content: dict[str, Any] = msgspec.json.decode(cedarpy.policies_to_json_str(text))
    return content


def _refuse_invalid(path: Path, found: tuple[Statement, ...], schema: str) -> None:
    import cedarpy

    result = cedarpy.validate_policies("\n".join(each.text for each in found), schema)
    for fault in sorted(result.errors, key=_place_of):  # Cedar's own order is not always the same
        statement = found[int(fault.policy_id.removeprefix("policy"))]
        said = _NUMBERED.sub("", fault.error).splitlines()[0]
        names = [n for piece in _QUOTED.findall(said) for n in (piece, *_STRING.findall(piece))]
        raise PolicyUnreadable(
            f"{path}:{statement.line_of(*names, *_EFFECTS)}: {said}",
            accepted=_accepted(said, schema),
        )
    if not result.validation_passed:
        raise PolicyUnreadable(f"{path}: these rules do not hold to the schema")


def _place_of(fault: "ValidationError") -> tuple[int, bool, str]:
    """By rule; what names the mistake comes before what follows from it."""
    number = int(fault.policy_id.removeprefix("policy"))
    return number, "unable to find" in fault.error, fault.error


def _accepted(said: str, schema: str) -> str:
    """What could have stood there instead, where that can be told."""
    attributes = cedartext.attributes(schema)
    of_type = _OF_TYPE.search(said)
    if of_type and of_type[1] in attributes:
        return ", ".join(attributes[of_type[1]]) or f"nothing: {of_type[1]} has no attribute"
    if "action" in said:
        return ", ".join(f'Action::"{name}"' for name in spoken.ACTIONS)
    if "entity type" in said:
        return ", ".join(sorted(attributes))
    if "in context" in said:
        return "nothing: no context is stated, so an answer holds until the policy changes"
    return f"what {SCHEMA} declares"


def _refuse_unexplained(path: Path, statement: Statement) -> None:
    """A rule says its id, its reason and its source, and nothing that has no meaning here."""
    said = _only(statement.text).get("annotations", {})
    where = f"{path}:{statement.line}"
    for name in ANNOTATIONS:
        if not said.get(name):
            raise PolicyUnreadable(
                f"{where}: this rule has no @{name}",
                accepted='@id("…"), @because("…") and @source("…") before every rule',
            )
    unknown = sorted(set(said) - set(ANNOTATIONS))
    if unknown:
        raise PolicyUnreadable(
            f"{path}:{statement.line_of(*unknown)}: @{unknown[0]} means nothing",
            accepted="@id, @because, @source",
        )
    if not _NAME.fullmatch(said["id"]) or said["id"] in RESERVED:
        raise PolicyUnreadable(
            f"{where}: {said['id']!r} cannot be the id of a rule",
            accepted="lower-case letters, digits, - and ., and not " + " or ".join(RESERVED),
        )


def _only(text: str) -> dict[str, Any]:
    """The one rule of a text, parsed."""
    (content,) = _parsed(text)["staticPolicies"].values()
    return cast(dict[str, Any], content)


def _meant(text: str) -> AccessRule:
    content = _only(text)
    said = content["annotations"]
    return AccessRule(said["id"], content["effect"], said["because"], said["source"], text)


def _named(content: object) -> Iterator[tuple[str, str]]:
    """Type and name of every entity that parsed rules name."""
    if isinstance(content, dict):
        if content.keys() == {"type", "id"}:
            yield content["type"], content["id"]
        for value in content.values():
            yield from _named(value)
    elif isinstance(content, list):
        for value in content:
            yield from _named(value)
