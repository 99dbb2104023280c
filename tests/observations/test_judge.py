"""What a host says of itself, judged: the yes, the no, the edge, and what could not be seen."""

from dataclasses import replace
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.observations.gpus import Gpu, Gpus
from sovereign.observations.judge import judge
from sovereign.observations.seen import Clock, Host, Swap
from tests.cli.conftest import Run, home, run

__all__ = ["home", "run"]
RULES = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea").audit.host
CARD = Gpu(0, "H100", "570.1", 1024, 0)
WELL = Host(40.0, Clock(True, 2000), (), "", Gpus((CARD,), ""))
UNSEEN = Host(None, None, None, None, Gpus((), "LibraryNotFound"))
NAMES = ("disk", "clock", "swap", "core dumps", "gpus")


def verdicts(seen: Host) -> dict[str, str]:
    return {each.what: each.verdict for each in judge(RULES, seen)}


def test_a_host_that_is_well_passes_in_each() -> None:
    """Or nobody would look at the others."""
    assert verdicts(WELL) == dict.fromkeys(NAMES, "pass")


def test_what_cannot_be_seen_is_unknown_in_each_and_never_a_pass() -> None:
    """A sandbox that hides everything must not look like a host that is well."""
    assert verdicts(UNSEEN) == dict.fromkeys(NAMES, "unknown")


@pytest.mark.parametrize(
    ("changed", "what", "verdict"),
    [
        ({"used_percent": 85.0}, "disk", "pass"),
        ({"used_percent": 85.1}, "disk", "fail"),
        ({"clock": Clock(True, 1_000_000)}, "clock", "pass"),
        ({"clock": Clock(True, 1_000_001)}, "clock", "fail"),
        ({"clock": Clock(False, 0)}, "clock", "fail"),
        ({"swaps": (Swap("/dev/dm-1", True),)}, "swap", "pass"),
        ({"swaps": (Swap("/swapfile", None), Swap("/dev/dm-1", True))}, "swap", "unknown"),
        ({"swaps": (Swap("/swapfile", None), Swap("/dev/sda2", False))}, "swap", "fail"),
        ({"dumps": "its limit is unlimited"}, "core dumps", "fail"),
        ({"gpus": Gpus((), "")}, "gpus", "unknown"),
        ({"gpus": Gpus((CARD, replace(CARD, index=1, ecc_errors=1)), "")}, "gpus", "fail"),
        ({"gpus": Gpus((CARD, replace(CARD, index=1, ecc_errors=None)), "")}, "gpus", "unknown"),
    ],
)
def test_one_thing_that_is_not_as_it_must_be_shows_in_that_one_alone(
    changed: dict[str, object], what: str, verdict: str
) -> None:
    """Each is judged for itself."""
    found = verdicts(replace(WELL, **changed))  # type: ignore[arg-type]  # a table of changes
    assert found == dict.fromkeys(NAMES, "pass") | {what: verdict}


def test_the_command_shows_this_machine_and_ends_with_3_where_nothing_fails_but_some_is_unseen(
    run: Run, home: Path
) -> None:
    """No engine runs here, so its core dumps cannot be seen; exit 0 would be a lie."""
    done = run("controller", "host", "--json")
    shown = {each["what"]: each["verdict"] for each in done.json}
    assert tuple(shown) == NAMES
    assert shown["core dumps"] == "unknown"
    assert done.code == (1 if "fail" in shown.values() else 3)
