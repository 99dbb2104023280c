"""`sovereign usage`: the sums of a month out of the log, and what they cost."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sovereign import settings
from sovereign.audit import record
from sovereign.audit.trail import Trail
from sovereign.registry import utcnow
from tests.cli.conftest import Run
from tests.cli.test_reading import readings


def call(log: Trail, at: datetime, tenant: str, tokens: tuple[int, int], kind: str) -> None:
    """A decision and its completion, as a gateway writes them."""
    decided = log.record(
        "decision",
        request=1,
        tenant=tenant,
        key=f"key_{tenant}",
        purpose="p",
        basis="contract",
        data="personal",
        verb="process",
        model="m",
        asked_at=record.written(at),
        verdict="allow",
        rule="r",
        policy="0" * 64,
        **({"kind": kind} if "kind" in record.RECORD_TYPES["decision"].fields else {}),
    ).result(60)
    log.record(
        "completion",
        decision=decided.index,
        outcome="answered",
        status=200,
        finish="stop",
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        latency_us=1,
    ).result(60)


@pytest.fixture
def used(site: Path) -> datetime:
    """Two tenants used a model this month, one of them last month too."""
    home, now = settings.load(site), utcnow()
    last = now.replace(day=1) - timedelta(days=1)
    with Trail.open(home.audit, home.keys, "gateway", "local", utcnow) as log:
        call(log, last, "hr", (1000, 1000), "chat")
        call(log, now, "hr", (10, 5), "chat")
        call(log, now, "hr", (20, 5), "chat")
        call(log, now, "law", (7, 3), "chat")
    return now


def test_each_key_has_its_sums_by_model_and_the_reading_is_recorded(
    run: Run, used: datetime
) -> None:
    """Whoever pays wants to know who used it; whoever is counted wants to know who looked."""
    done = run("usage", "--json")
    assert done.code == 0
    numbers = [tuple(row.values())[:6] for row in done.json["rows"]]
    assert numbers == [("hr", "key_hr", "m", 2, 30, 10), ("law", "key_law", "m", 1, 7, 3)]
    assert done.json["month"] == f"{used:%Y-%m}"
    (reading,) = [each for each in readings(run) if each["reason"] == "billing"]
    assert reading["log"] == "local/gateway/event"


def test_one_tenant_is_shown_alone(run: Run, used: datetime) -> None:
    """A bill names one customer."""
    done = run("usage", "--tenant", "law", "--json")
    assert [row["tenant"] for row in done.json["rows"]] == ["law"]
    assert "hr" not in run("usage", "--tenant", "law").out


def test_a_month_without_use_is_empty_and_no_month_is_told_so(run: Run, used: datetime) -> None:
    """An empty bill is an answer; a wrong word is not."""
    assert run("usage", "--month", "2020-02", "--json").json["rows"] == []
    done = run("usage", "--month", "2020-13")
    assert (done.code, done.error) == (2, "bad-input")


def test_prices_of_the_policy_make_it_a_bill(
    run: Run, used: datetime, tmp_path: Path, site: Path
) -> None:
    """Each day at its own price, summed without rounding."""
    import shutil

    from tests.policy.conftest import SHIPPED

    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policies"))
    file = folder / "rules/limits.yaml"
    price = (
        f"prices:\n  - {{model: any, input: '100', output: '200', since: {used.year - 1}-01-01}}"
    )
    file.write_text(file.read_text().replace("\nprices: []", f"\n{price}"))
    (site / "sovereign.yaml").write_text(f"policies: {folder}\n")
    done = run("usage", "--json")
    assert [row["eur"] for row in done.json["rows"]] == ["0.005", "0.0013"]
    assert done.json["eur"] == "0.0063"
    assert f"{used:%Y-%m}: 0.0063 EUR" in run("usage").out
