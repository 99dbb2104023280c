"""The Pulumi engine for the tests: `python -m tests.tools.pulumi` prints the program.

Found or built exactly as for a user, by `infra.pulumi_cli`: about 3 minutes the first time.
"""

from pathlib import Path

from infra import pulumi_cli


def missing() -> list[str]:
    """Return what stands in the way of a run here, empty if nothing."""
    return [] if pulumi_cli.find() or pulumi_cli.go() else ["go"]


def program() -> Path:
    """Return the path of `pulumi`, building it if it is nowhere."""
    return pulumi_cli.get(lambda line: print(line, flush=True))


if __name__ == "__main__":
    print(program())
