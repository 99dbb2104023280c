"""A controller that opens an incident and is killed at a step, as a process of its own."""

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from sovereign import eventlog
from sovereign.incidents.opening import Opening
from sovereign.settings import Home, Settings
from tests.incidents.making import NOW, POLICY, writing


def die(*_: object, **__: object) -> None:
    """End as if the power had gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Look once, and die before the opening is recorded, or after it and before it is told."""
    home, step = Home(Path(sys.argv[1]), Settings()), sys.argv[2]
    at = (
        patch.object(Opening, "_open", die)
        if step == "before"
        else patch.object(eventlog, "emit", die)
    )
    opening = Opening(home, POLICY, writing(home, "controller"))
    with at:
        opening.look(NOW)


if __name__ == "__main__":
    main()
