"""One deployed site for all journeys. Each leaves it ready for the next."""

from collections.abc import Iterator

import pytest

from tests.journeys.deployed import Site, site_at, wait_until


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("site") / "home") as site:
        yield site


@pytest.fixture
def site(deployed: Site) -> Site:
    """The site, answering: a journey before may have shaken it."""
    wait_until(lambda: deployed.is_ready() and deployed.chat().status == 200, 60)
    return deployed
