"""One look that never returns stops nothing, costs one thread, and is seen as not answering."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sovereign.audit.trail import Trail
from sovereign.controller.bounded import Bounded
from sovereign.controller.loop import run_round
from sovereign.controller.observe import Bounds, Wanted
from sovereign.controller.plan import find_fault
from sovereign.engines import Probe
from sovereign.host import EngineProcess
from sovereign.registry import Registry, utcnow
from sovereign.residency import Question, decide
from tests.controller.seen import (
    ANSWERS,
    ENVIRONMENT,
    NOW,
    POLICY,
    VALID,
    WELL,
    observe,
    wanted,
)
from tests.controller.test_loop import evidence, home_at

BRIEF_S, LONG_S = 2.0, 60.0


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Set at the end of the test, so that nothing is left waiting behind it."""
    event = threading.Event()
    yield event
    end(event)


def end(event: threading.Event) -> None:
    """Let everything that waits go on, and wait until it has."""
    event.set()
    for thread in threading.enumerate():
        if thread.name == "look":
            thread.join(LONG_S)


def threads() -> int:
    return sum(each.name == "look" for each in threading.enumerate())


def waits(event: threading.Event) -> Callable[[], str]:
    def look() -> str:
        event.wait(LONG_S * 10)
        return "late"

    return look


def test_what_hangs_is_left_out_and_the_others_are_looked_at(never: threading.Event) -> None:
    """More of them than run together, and the one that hangs first of all."""
    looks: dict[str, Callable[[], str]] = {"hangs": waits(never)}
    looks |= {f"{n}": f"saw {n}".format for n in range(9)}
    found = Bounded[str](BRIEF_S, 1).run(looks)
    assert found == {f"{n}": f"saw {n}" for n in range(9)}


def test_what_is_late_is_not_looked_at_again_before_it_is_back(never: threading.Event) -> None:
    """A disk that hangs for a week must not cost a thread a round."""
    before, bounded = threads(), Bounded[str](BRIEF_S, 4)
    for _ in range(5):
        assert bounded.run({"hangs": waits(never), "well": lambda: "saw"}) == {"well": "saw"}
    assert threads() == before + 1
    assert bounded.late == {"hangs"}
    end(never)
    assert bounded.late == frozenset()
    assert bounded.run({"hangs": lambda: "back"}) == {"hangs": "back"}


@pytest.mark.parametrize("error", [PermissionError(13, "no"), ValueError("not a number")])
def test_a_look_that_cannot_look_is_one_that_is_not_there(error: Exception) -> None:
    """What could not be seen is unknown; it is no reason to end the controller."""

    def fails() -> str:
        raise error

    assert Bounded[str](LONG_S, 2).run({"fails": fails, "well": lambda: "saw"}) == {"well": "saw"}


def test_nothing_to_look_at_is_looked_at_at_once() -> None:
    """A site without an engine has rounds, too."""
    assert Bounded[str](LONG_S, 1).run({}) == {}


def brief(name: str) -> Bounds:
    """One of the two takes no longer than a moment; the other as long as it likes."""
    moment: dict[str, Any] = {name: Bounded(BRIEF_S, 2)}
    return replace(Bounds(), **moment)


@pytest.mark.parametrize(
    ("slow", "code"), [("knocks", "engine-unhealthy"), ("looks", "environment-unknown")]
)
def test_an_endpoint_that_does_not_come_back_is_shut_and_its_neighbour_attested(
    slow: str, code: str, never: threading.Event
) -> None:
    """Not seen is not well; and one bad engine is one bad engine."""

    def waiting(endpoint: Wanted, kind: str) -> None:
        if (endpoint.id, kind) == ("hangs", slow):
            never.wait(LONG_S * 10)

    def knock(endpoint: Wanted) -> Probe:
        waiting(endpoint, "knocks")
        return ANSWERS

    def look(endpoint: Wanted) -> EngineProcess:
        waiting(endpoint, "looks")
        return WELL

    seen = observe((wanted(name="hangs"), wanted(name="well")), knock, look, brief(slow))
    answer = decide(POLICY, Question("this-host", "personal", "process", NOW, "127.0.0.1:1"))
    faults = [find_fault(each, answer) for each in seen]
    assert [fault and fault.code for fault in faults] == [code, None]


def test_a_round_with_a_look_that_never_returns_ends_and_the_next_one_too(
    tmp_path: Path, never: threading.Event
) -> None:
    """The loop goes on: what it shut is in the registry and in the log."""

    def look(_: Any) -> EngineProcess:
        never.wait(LONG_S * 10)
        return WELL

    home, within = home_at(tmp_path, "127.0.0.1:9"), brief("looks")
    registry = Registry(home.registry, writable=True)
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        for _ in range(3):
            run_round(home, POLICY, registry, trail, lambda _: ANSWERS, look, within=within)
    (endpoint,) = registry.snapshot().endpoints
    assert endpoint.quarantine == "environment-unknown"
    assert [r["type"] for r in evidence(home)].count("quarantine") == 1


def test_what_is_vouched_for_is_dated_from_before_the_look_and_after_the_knock(
    tmp_path: Path,
) -> None:
    """A process that changed while others were looked at was vouched for as of before it did."""
    times: list[datetime] = []

    def knock(_: Wanted) -> Probe:
        times.append(utcnow())
        return ANSWERS

    def look(_: Wanted) -> EngineProcess:
        times.append(utcnow())
        return EngineProcess(1, ENVIRONMENT, ("127.0.0.1:9",))

    home = home_at(tmp_path, "127.0.0.1:9")
    registry = Registry(home.registry, writable=True)
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        run_round(home, POLICY, registry, trail, knock, look)
    (endpoint,) = registry.snapshot().endpoints
    assert endpoint.attested_at is not None
    assert times[0] <= endpoint.attested_at <= times[1]
    assert endpoint.expires_at == endpoint.attested_at + VALID


def test_a_round_in_which_the_machine_slept_is_thrown_away(tmp_path: Path) -> None:
    """What was seen before is no reason to open anything after."""
    ticking = iter((0.0, 3600.0, 7000.0, 7000.5))
    home = home_at(tmp_path, "127.0.0.1:9")
    registry = Registry(home.registry, writable=True)
    process = EngineProcess(1, ENVIRONMENT, ("127.0.0.1:9",))
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        for endpoints in (0, 1):
            run_round(
                *(home, POLICY, registry, trail, lambda _: ANSWERS, lambda _: process),
                ticking=lambda: next(ticking),
            )
            assert len(registry.snapshot().endpoints) == endpoints
    assert [r["type"] for r in evidence(home)].count("attestation") == 1
