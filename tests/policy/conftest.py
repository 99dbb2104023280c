"""Policies as tests see them: the shipped one, under each profile, and copies to spoil."""

import shutil
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.policy import Policy

SHIPPED = Path(__file__).resolve().parents[2] / "policies"


@pytest.fixture(scope="session")
def eea() -> Policy:
    return policies.load(SHIPPED, "eea")


@pytest.fixture(scope="session")
def immune() -> Policy:
    return policies.load(SHIPPED, "immune")


@pytest.fixture(scope="session")
def adequate() -> Policy:
    return policies.load(SHIPPED, "adequate")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped policy in a folder of its own, to be edited."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))
