"""A controller vouches under the policy in force, or not at all."""

import signal
import threading
import time
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.controller import loop
from sovereign.errors import PolicySuperseded
from sovereign.registry import Registry
from sovereign.settings import ControllerSettings
from tests.controller.seen import POLICY
from tests.controller.test_loop import engine, evidence, home_at
from tests.policy.changing import another, put_in_force
from tests.policy.conftest import SHIPPED

__all__ = ["engine"]
BRIEFLY = ControllerSettings(interval_s=1)


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop runs in this process, whose signals are the test's."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_a_controller_ends_when_another_policy_is_in_force(tmp_path: Path, engine: str) -> None:
    """Whatever started it starts it anew, under the new policy, which it then records."""
    home = home_at(tmp_path / "home", engine, controller=BRIEFLY)
    swapped = threading.Timer(1.5, put_in_force, (home.root, another(tmp_path)))
    swapped.start()
    with pytest.raises(PolicySuperseded):
        loop.serve(home, POLICY)
    swapped.join()
    loaded = [r["policy"] for r in evidence(home) if r["type"] == "policy-loaded"]
    assert loaded == [POLICY.digest]


def test_under_a_policy_that_does_not_load_nothing_is_vouched_for(
    tmp_path: Path, engine: str
) -> None:
    """What was vouched for before ends by itself; no policy that was replaced lets on."""
    home = home_at(tmp_path / "home", engine, controller=BRIEFLY)
    put_in_force(home.root, another(tmp_path, broken=True), "b" * 64)

    def mend() -> None:
        time.sleep(2)
        assert Registry(home.registry).snapshot().endpoints == ()
        put_in_force(home.root, another(tmp_path, "mended"))

    mending = threading.Thread(target=mend)
    mending.start()
    with pytest.raises(PolicySuperseded):
        loop.serve(home, POLICY)
    mending.join()
    assert "attestation" not in {r["type"] for r in evidence(home)}
    assert policies.load(SHIPPED).digest == POLICY.digest
