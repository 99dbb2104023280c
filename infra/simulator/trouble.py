"""Trouble on order: what goes wrong in the simulated account, and when.

A file beside the books, named like them with `.trouble` at its end, holds a JSON list. Each entry
names what it strikes and what happens; it strikes once, and is then crossed off the list, so that
a test, or a person who practises, says exactly what goes wrong:

    {"on": "create", "kind": "Server", "do": "fail"}     refused; nothing was made
    {"on": "create", "kind": "Server", "do": "lose"}     made, and the answer is lost on the way
    {"on": "create", "kind": "Server", "do": "stock"}    the zone has none left
    {"on": "create", "kind": "Server", "do": "slow", "s": 2}
    {"on": "create", "kind": "Server", "do": "die"}      the engine is killed before it is made
    {"on": "create", "kind": "Server", "do": "die-after"}     and after: made, and nobody told
    {"on": "delete", "kind": "Server", "do": "fail"}     refused; it stands
    {"on": "delete", "kind": "PrivateNic", "do": "lag"}  answered, and it is there once more

`kind` is the last word of a type; without it any is struck.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.simulator.account import CloudRefused

SUFFIX = ".trouble"
SLOW_AT_MOST_S = 60.0


class Trouble:
    """What is on order. Safe to use from several threads of one process."""

    def __init__(self, books: Path) -> None:
        self._path = books.with_name(books.name + SUFFIX)
        self._lock = threading.Lock()

    def before(self, verb: str, kind: str) -> str:
        """Let what strikes before happen; return what is left to happen afterwards, or "".

        Raises:
            CloudRefused: the cloud says no, and nothing was done.
        """
        what = self._next(verb, kind.rpartition(":")[2])
        match what.get("do"):
            case "fail":
                raise CloudRefused(f"the cloud failed to {verb} this; nothing was done")
            case "stock":
                raise CloudRefused("scaleway-sdk-go: resource is out of stock")
            case "slow":
                time.sleep(min(float(what["s"]), SLOW_AT_MOST_S))
            case "die":
                _end_the_engine()
        return str(what.get("do", ""))

    def after(self, left: str) -> None:
        """Let what strikes after something was done happen.

        Raises:
            CloudRefused: it was done, and the answer says otherwise.
        """
        if left == "lose":
            raise CloudRefused("the connection ended before the cloud answered")
        if left == "die-after":
            _end_the_engine()

    def _next(self, verb: str, kind: str) -> Mapping[str, Any]:
        with self._lock:
            if not self._path.exists():
                return {}
            ordered: list[dict[str, Any]] = json.loads(self._path.read_text())
            for number, each in enumerate(ordered):
                if each["on"] == verb and each.get("kind") in (None, kind):
                    self._path.write_text(json.dumps(ordered[:number] + ordered[number + 1 :]))
                    return each
        return {}


def _end_the_engine() -> None:
    """As a power cut would: the engine has no time to write anything down, nor have we."""
    engine = os.getppid()
    children = Path(f"/proc/{engine}/task").glob("*/children")
    others = {int(pid) for file in children for pid in file.read_text().split()} - {os.getpid()}
    for pid in (engine, *others, os.getpid()):
        os.kill(pid, signal.SIGKILL)
