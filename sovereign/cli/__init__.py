"""The command line: the only place that prints and exits.

Exit codes: 0 yes, 1 a finding or a refusal, 2 you asked wrongly, 3 it could not be
determined and trying again is safe, 70 our own rule broke.
"""

import sqlite3
import sys
import traceback
from typing import Annotated

import typer

from sovereign import __version__
from sovereign.cli import audit, decide, deploy, keys, places, policy, report, services, weights
from sovereign.cli.output import BROKEN, UNDETERMINED, fail, give_up, say
from sovereign.errors import SovereignError

app = typer.Typer(
    name="sovereign",
    help="Host Mistral models in the EU, and prove where the data went.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
deploy.add_to(app)
services.add_to(app)
decide.add_to(app)
report.add_to(app)
app.add_typer(keys.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(places.app, name="places")
app.add_typer(audit.app, name="audit")
app.add_typer(weights.app, name="weights")


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"sovereign {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run one command; every refusal ends in its own exit code and words."""
    try:
        app()
    except SovereignError as error:
        sys.exit(fail(error, as_json="--json" in sys.argv))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except (OSError, sqlite3.Error) as error:
        sys.exit(give_up(error, UNDETERMINED, as_json="--json" in sys.argv))
    except Exception as error:  # noqa: BLE001 - never 1, which would be a finding; its trace is shown
        traceback.print_exc()
        sys.exit(give_up(error, BROKEN, as_json="--json" in sys.argv))
