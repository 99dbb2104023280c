"""The command line: the only place that prints and exits.

Exit codes: 0 yes, 1 a finding or a refusal, 2 you asked wrongly, 3 it could not be
determined and trying again is safe, 70 our own rule broke.

The commands are hung into their tree in `tree.py`, and imported no sooner than they are needed.
"""

import sys
from typing import Any

from sovereign import __version__


def __getattr__(name: str) -> Any:
    """`app`, the whole tree, for whoever writes its pages or tests all of it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sovereign.cli.tree import whole

    return whole()


def main() -> None:
    """Run one command; every refusal ends in its own exit code and words."""
    if sys.argv[1:] == ["--version"]:
        print(f"sovereign {__version__}")
        return
    _run()


def _run() -> None:
    from sovereign.cli.output import BROKEN, UNDETERMINED, fail, give_up, misread
    from sovereign.cli.tree import wanted
    from sovereign.errors import BadInput, SovereignError

    try:
        wanted(sys.argv[1:])()
    except SovereignError as error:
        sys.exit(fail(error, as_json="--json" in sys.argv))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(UNDETERMINED)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # the framework makes a finding, 1, of it
            sys.exit(UNDETERMINED)
        if end.code == BadInput.exit_code and "--json" in sys.argv:
            misread(end.__context__)
        raise
    except _outside() as error:
        sys.exit(give_up(error, UNDETERMINED, as_json="--json" in sys.argv))
    except Exception as error:  # noqa: BLE001 - never 1, which would be a finding; its trace is shown
        import traceback

        traceback.print_exc()
        sys.exit(give_up(error, BROKEN, as_json="--json" in sys.argv))


def _outside() -> tuple[type[Exception], ...]:
    """Faults of what is not ours. A command that met a database has imported it."""
    database = sys.modules.get("sqlite3")
    return (OSError,) if database is None else (OSError, database.Error)
