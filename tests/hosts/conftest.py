"""A lab, and in it a host that `python -m playbooks configure` made serve."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host as Seen

from playbooks import release
from sovereign import policy as policies
from sovereign.policy import Policy
from tests.hosts.playing import CHECKOUT, Played, Site
from tests.needs import need
from tests.tools import lab as labs
from tests.tools.lab import Host, Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever leaves the hosts out (`-m "not hosts"`) leaves all of these out."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "lab" in getattr(
            item, "fixturenames", ()
        ):
            item.add_marker("hosts")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    lacking = labs.missing()
    need(
        not lacking,
        f"a lab of hosts needs {', '.join(lacking)}",
        "as root, apt install mmdebstrap systemd-container nftables iproute2 openssh-client "
        "socat tinyproxy zstd",
    )
    with labs.lab() as it:
        yield it


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One release and one copy of the policies, so that two runs mean the same."""
    folder = tmp_path_factory.mktemp("site")
    copied = Path(shutil.copytree(CHECKOUT / "policies", folder / "policies"))
    return Site(folder, copied, release.build())


@pytest.fixture(scope="session")
def policy(site: Site) -> Policy:
    return policies.load(site.policies, "eea")


@dataclass(frozen=True, slots=True)
class Configured:
    """The host that serves, and the run that made it so."""

    host: Host
    first: Played


@pytest.fixture(scope="session")
def configured(lab: Lab, site: Site) -> Iterator[Configured]:
    with lab.host("serves") as host:
        yield Configured(host, site.play("configure", host))


@pytest.fixture
def seen(configured: Configured) -> Seen:
    """The same host as testinfra looks at it."""
    host = configured.host
    return testinfra.get_host(f"ssh://{host.address}", ssh_config=str(host.lab.ssh_config))
