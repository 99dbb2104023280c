"""The part of the policy that says who may hold what back, and for how long."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from tests.retention.site import POLICY

SHIPPED = Path(__file__).resolve().parents[2] / "policies"
FILE = "rules/retention.yaml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))


def spoil(copy: Path, change: Callable[[str], str]) -> None:
    text = (copy / FILE).read_text()
    changed = change(text)
    assert changed != text
    (copy / FILE).write_text(changed)


def test_every_shipped_ground_cites_its_article_and_since_when_it_applies() -> None:
    """A ground without a source is somebody's wish."""
    assert POLICY.holds is not None
    for basis in POLICY.holds.bases:
        assert basis.source.startswith("GDPR art. ")
        assert "applicable since 25 May 2018" in basis.source
        assert basis.id.startswith("gdpr-")
    assert all("-" in role for role in POLICY.holds.approvers), "roles, never persons"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace("max_days: 1096", "max_days: 0"), "max_days"),
        (lambda t: t.replace("max_days: 1096", "max_days: unlimited"), "max_days"),
        (lambda t: t.replace("records_max: 20000", "records_max: 1000000"), "records_max"),
        (lambda t: t.replace("id: gdpr-17-3-b", "id: gdpr-17-3-e"), "gdpr-17-3-e"),
        (lambda t: t.replace("[data-protection-officer, ", "[legal-counsel, "), "legal-counsel"),
        (lambda t: t.replace("    - id: gdpr-58-1", "    - name: gdpr-58-1"), "name"),
        (lambda t: t + "  forever: yes\n", "forever"),
    ],
)
def test_rules_that_do_not_hold_together_are_not_loaded(
    copy: Path, change: Callable[[str], str], says: str
) -> None:
    """A hold without end, or a ground that means two things, is refused when the policy loads."""
    spoil(copy, change)
    with pytest.raises(PolicyUnreadable, match=says):
        policies.load(copy)


def test_a_policy_of_before_has_no_holds_and_another_digest(copy: Path) -> None:
    """It loads as it did; and that holds became possible shows in the digest."""
    spoil(copy, lambda text: text[: text.index("\n# A legal hold")] + "\n")
    before = policies.load(copy)
    assert before.holds is None
    assert before.digest != policies.load(SHIPPED).digest
