"""An access rule that is not sure to mean something is refused with its line, and nothing loads."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

from sovereign import policy as policies
from sovereign.access import differing
from sovereign.errors import PolicyUnreadable
from sovereign.keystore import LEGAL_BASES
from sovereign.policy import spoken
from tests.docs.reading import DOCS
from tests.policy.conftest import SHIPPED

SAID = '@id("{id}")\n@because("A reason.")\n@source("here")\n'


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped policy in a folder of its own, to be edited."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))


def written(copy: Path, rule: str, name: str = "own") -> Path:
    """A file of its own with one rule, whose text begins on line 4."""
    path = copy / "access" / f"{name}.cedar"
    path.write_text(SAID.format(id=name) + rule + "\n")
    return path


def refused(copy: Path) -> PolicyUnreadable:
    with pytest.raises(PolicyUnreadable) as refusal:
        policies.load(copy)
    return refusal.value


@pytest.mark.parametrize(
    ("rule", "line", "says", "accepted"),
    [
        (
            "permit (principal, action, resource)\nwhen { principal.rolez == 3 };",
            5,
            "attribute `rolez` on entity type `Key` not found",
            "tenant, purpose, basis, data, models",
        ),
        (
            'permit (principal, action == Action::"chatt", resource);',
            4,
            'unrecognized action `Action::"chatt"`',
            'Action::"chat", Action::"fim", Action::"completion", Action::"embed", Action::"list"',
        ),
        (
            "permit (principal is Keyy, action, resource);",
            4,
            "unrecognized entity type `Keyy`",
            "Basis, Capability, Country",
        ),
        (
            'permit (principal, action, resource)\nwhen { resource.engine == "vllm" }\n'
            'when { principal.data == "personal" };',
            4,
            "the types String and Data are not compatible",
            "what access/schema.cedarschema declares",
        ),
        (
            "permit (principal, action, resource) when { context.hour > 8 };",
            4,
            "attribute `hour` in context",
            "nothing: no context is stated",
        ),
        (
            'permit (principal, action, resource)\nwhen { principal.data == Data::"personl" };',
            5,
            'Data::"personl" is in no table',
            "personal",
        ),
        (
            'forbid (principal, action,\n  resource in Model::"codestral");',
            5,
            'Model::"codestral" is in no table',
            "smollm2-135m-instruct",
        ),
        (
            'forbid (principal, action, resource) when { resource.country == Country::"Germany" };',
            4,
            'Country::"Germany" is in no table',
            'two capital letters, or "unknown"',
        ),
        (
            "permit (principal == ?principal, action, resource);",
            4,
            "a rule with an open slot decides nothing",
            "the principal or resource itself",
        ),
        ("permit (principal, action, resource) when { 1 + };", 4, "not Cedar", "permit or forbid"),
        ("permit (principal, action, resource)", 4, "a rule ends with a semicolon", ""),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_what_is_accepted(
    copy: Path, rule: str, line: int, says: str, accepted: str
) -> None:
    """A rule that never applies is worse than none: whoever wrote it believes that it does."""
    path = written(copy, rule)
    refusal = refused(copy)
    assert refusal.message.startswith(f"{path}:{line}: ")
    assert says in refusal.message
    assert accepted in refusal.accepted


@pytest.mark.parametrize("missing", ["id", "because", "source"])
def test_a_rule_that_does_not_explain_itself_is_refused(copy: Path, missing: str) -> None:
    """Whoever is refused is told why, and by whose choice."""
    path = written(copy, "permit (principal, action, resource);")
    path.write_text(re.sub(rf"@{missing}\(.*\)\n", "", path.read_text()))
    assert f"this rule has no @{missing}" in refused(copy).message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace('"own"', '"Own Rule"'), "cannot be the id of a rule"),
        (lambda t: t.replace('"own"', '"access-default-deny"'), "cannot be the id of a rule"),
        (lambda t: t.replace('"own"', '"weights-that-may-not-serve-do-not"'), "stands twice"),
        (lambda t: '@advice("x")\n' + t, "@advice means nothing"),
        (lambda t: t.replace('"A reason."', '""'), "has no @because"),
    ],
)
def test_an_id_is_a_word_of_its_own_and_nothing_else_is_said(
    copy: Path, change: Callable[[str], str], says: str
) -> None:
    """Records of years ago point at an id, so it must mean one rule, and never `no rule`."""
    path = written(copy, "permit (principal, action, resource);")
    path.write_text(change(path.read_text()))
    assert says in refused(copy).message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace("context: {},", "context: {hour: Long},"), "context"),
        (lambda t: t.replace("  engine: String,\n", "  engine: String,\n  price: Long,\n"), ""),
        (lambda t: t.replace("purpose: String", "purpose: Strin"), "Strin"),
        (lambda t: t.replace("chat, fim,", "chat, fim, pray,"), "the actions are chat, fim"),
        (lambda t: t.replace("entity Role;", "entity Role"), ""),
    ],
)
def test_a_schema_that_asks_for_more_than_is_stated_is_refused(
    copy: Path, change: Callable[[str], str], says: str
) -> None:
    """Answers are kept: a rule must not be able to depend on anything that is not in the key."""
    path = copy / "access/schema.cedarschema"
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    refusal = refused(copy)
    assert "schema.cedarschema:" in refusal.message
    assert says in refusal.message


def test_without_any_rule_file_nothing_loads(copy: Path) -> None:
    """A policy with a hole is no policy; nobody must be let in, or kept out, by a lost file."""
    (copy / "access/rules.cedar").unlink()
    assert "access: no file here" in refused(copy).message


def test_the_digest_ignores_comments_layout_order_and_files_and_nothing_else(copy: Path) -> None:
    """Two machines with the same rules name them the same; one changed word renames them."""
    before = policies.load(copy).digest
    path = copy / "access/rules.cedar"
    first, second = path.read_text().split('@id("weights')
    path.write_text('// moved, and said "otherwise" // twice\n' + '@id("weights' + second)
    (copy / "access/more.cedar").write_text(first.replace("when {", "when\n{  "))
    assert policies.load(copy).digest == before
    path.write_text(path.read_text().replace("listed as never", "listed as ever"))
    assert policies.load(copy).digest != before


def test_text_in_quotes_may_hold_what_would_end_a_rule_elsewhere(copy: Path) -> None:
    """A reason is prose: semicolons, slashes and quotes belong to it."""
    path = written(copy, "permit (principal, action, resource);")
    path.write_text(path.read_text().replace("A reason.", r"See https://x; it says \"so\" {"))
    rules = {rule.id: rule for rule in policies.load(copy).access.rules}
    assert rules["own"].because == 'See https://x; it says "so" {'
    assert rules["own"].effect == "permit"


def test_the_legal_bases_are_those_that_a_key_may_have() -> None:
    """Said twice, since the policy is read before any key; so the two are compared."""
    assert spoken.BASES == LEGAL_BASES


def test_the_rule_and_the_case_that_the_page_shows_load_and_agree(copy: Path) -> None:
    """Whoever writes a first rule copies the one in the page."""
    blocks = (DOCS / "formats/access.md").read_text().split("\n\n")
    shown = [dedent(block) for block in blocks if block.startswith("    ")]
    (rule,) = [text for text in shown if text.startswith("@id")]
    (case,) = [text for text in shown if text.startswith("- says")]
    (copy / "access/page.cedar").write_text(rule + "\n")
    cases = copy / "access/cases.yaml"
    cases.write_text(f"{cases.read_text()}\n{indent(case, '  ')}\n")
    policy = policies.load(copy)
    assert "codestral-is-for-developers" in {rule.id for rule in policy.access.rules}
    assert list(differing(policy)) == []
