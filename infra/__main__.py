"""`python -m infra VERB STACK`: plan, deploy, drift, destroy, inventory; or get-engine.

Each takes `--json` for programs. Exit codes: 0 allowed and done, 1 refused or found, 2 asked
wrongly, 3 it could not be determined or was done in part.
"""

import argparse
import sys

from infra import changing, command
from sovereign.cli.output import fail
from sovereign.errors import SovereignError


def main() -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    known = {**command.VERBS, **changing.VERBS}
    for verb, run in known.items():
        one = verbs.add_parser(verb, help=run.__doc__.splitlines()[0] if run.__doc__ else "")
        if verb != "get-engine":
            one.add_argument("stack", help="a file of infra/stacks/, without its ending")
        one.add_argument("--json", action="store_true", help="print JSON")
        if verb in changing.VERBS:
            changing.arguments(verb, one)
    asked = parser.parse_args()
    try:
        return known[asked.verb](asked)
    except SovereignError as error:
        return fail(error, as_json=asked.json)


if __name__ == "__main__":
    sys.exit(main())
