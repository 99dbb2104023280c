"""Say what a test needs, and never let a missing thing pass for a green one.

On a developer's machine a missing tool skips the test, with the reason and how to get it.
In CI (`CI=true`) nothing may be missing, so the same lack is a failure.
"""

import os

import pytest


def need(condition: object, reason: str, how: str) -> None:
    """Go on when `condition` is true; else skip, or fail in CI."""
    if condition:
        return
    message = f"{reason}; to get it: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
