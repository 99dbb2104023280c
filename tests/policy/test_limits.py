"""Limits and prices are loaded as they are meant, or not at all."""

import re
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy

LIMIT = """limits:
  - id: one
    counts: {counts}
    per: {per}
    at_most: {at_most}
    every: {every}
    when_unreachable: {fails}
    because: A reason.
"""
GOOD = {
    "counts": "requests",
    "per": "key",
    "at_most": "60",
    "every": "minute",
    "fails": "allow-local",
}
PRICE = "prices: [{{model: {model}, input: '{input}', output: '0.60', since: 2026-11-01}}]\n"


def write(root: Path, text: str) -> Path:
    """Put limits in place of the empty list; the rest of the file stays."""
    file = root / "rules/limits.yaml"
    shipped = file.read_text()
    for name in re.findall(r"^(\w+):", text, re.MULTILINE):
        shipped = shipped.replace(f"\n{name}: []\n", "\n")
    file.write_text(shipped + text)
    return root


def test_the_shipped_policy_limits_nobody_and_sells_nothing(eea: Policy) -> None:
    """What is much for one site is little for another: each says it for itself."""
    assert (eea.limits.limits, eea.limits.prices, eea.limits.shares) == ((), (), ())


def test_a_limit_changes_the_digest(copy: Path, eea: Policy) -> None:
    """A refusal names the policy it was made under, limits included."""
    changed = policies.load(write(copy, LIMIT.format(**GOOD)))
    assert changed.digest != eea.digest
    (limit,) = changed.limits.limits
    assert (limit.id, limit.at_most, limit.burst) == ("one", 60, None)


def test_the_example_in_the_file_is_a_policy(copy: Path) -> None:
    """Whoever takes away the number signs gets what the comment promises."""
    file = copy / "rules/limits.yaml"
    example = re.findall(r"^#     (.*\n)", file.read_text(), re.MULTILINE)
    start = example.index("limits:\n")
    found = policies.load(write(copy, "".join(example[start:]))).limits
    assert [limit.id for limit in found.limits] == [
        "a-key-asks-in-moderation",
        "a-tenant-spends-at-most",
    ]
    assert found.prices[0].model == "any"
    assert found.shares[0].weight == 2


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"counts": "spend", "every": "month"}, "at_most"),
        ({"counts": "spend", "at_most": "'10.00'"}, "day or month"),
        ({"counts": "spend", "at_most": "'0'", "every": "day"}, "at_most"),
        ({"at_most": "'60'"}, "at_most"),
        ({"at_most": "0"}, "at_most"),
        ({"at_most": "60.5"}, "quote"),
        ({"every": "hour"}, "every"),
        ({"counts": "concurrent"}, "every"),
        ({"every": "null"}, "every"),
        ({"fails": "maybe"}, "when_unreachable"),
        ({"counts": "concurrent", "every": "null", "fails": "refuse"}, "allow-local"),
        ({"every": "day\n    burst: 5"}, "burst"),
        ({"per": "person"}, "per"),
        ({"fails": "refuse\n    models: [no-such-model]"}, "no-such-model"),
        ({"fails": "refuse\n    surprise: 1"}, "surprise"),
    ],
)
def test_a_limit_that_nobody_could_keep_is_not_loaded(
    copy: Path, changed: dict[str, str], says: str
) -> None:
    """A slip of the pen is found by `sovereign policy check`, not by a bill."""
    with pytest.raises(PolicyUnreadable) as refusal:
        policies.load(write(copy, LIMIT.format(**(GOOD | changed))))
    assert says in f"{refusal.value.message} {refusal.value.accepted}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PRICE.format(model="any", input="0.1234567"), "input"),
        (PRICE.format(model="any", input="-1"), "input"),
        (PRICE.format(model="no-such-model", input="1"), "no-such-model"),
        (PRICE.format(model="any", input="1")[:-2] + ", " + "", "limits.yaml"),
        ("shares: [{tenant: a, weight: 0}]\n", "weight"),
        ("shares: [{tenant: a, weight: 1}, {tenant: a, weight: 2}]\n", "twice"),
    ],
)
def test_a_price_or_share_that_means_nothing_is_not_loaded(
    copy: Path, text: str, says: str
) -> None:
    """Prices have at most six decimals, so that no sum is ever rounded."""
    with pytest.raises(PolicyUnreadable) as refusal:
        policies.load(write(copy, text))
    assert says in refusal.value.message


SPEND = LIMIT.format(**(GOOD | {"counts": "spend", "at_most": "'10.00'", "every": "month"}))
MODEL = "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("prices", "models", "loads"),
    [
        ("", "", False),
        (PRICE.format(model=MODEL, input="1"), "", False),
        (PRICE.format(model=MODEL, input="1"), f"    models: [{MODEL}]\n", True),
        (PRICE.format(model="any", input="1"), "", True),
        (PRICE.format(model="any", input="1"), f"    models: [{MODEL}]\n", True),
    ],
)
def test_a_budget_needs_a_price_for_all_that_it_covers(
    copy: Path, prices: str, models: str, loads: bool
) -> None:
    """A model without a price would be free under a budget, and nobody would notice."""
    root = write(copy, SPEND + models + prices)
    if loads:
        assert policies.load(root).limits.limits[0].counts == "spend"
        return
    with pytest.raises(PolicyUnreadable, match="no price"):
        policies.load(root)


def test_two_limits_of_one_name_are_not_loaded(copy: Path) -> None:
    """A record names the limit; there must be one."""
    twice = LIMIT.format(**GOOD)
    with pytest.raises(PolicyUnreadable, match="twice"):
        policies.load(write(copy, twice + twice.partition("\n")[2]))
