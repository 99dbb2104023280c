"""What can be said about the roles without a host."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from playbooks import readme, release, variables
from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from tests.hosts.playing import CHECKOUT

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ROLES = readme.roles()
PLAYBOOKS = CHECKOUT / "playbooks"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_say_the_same(role: Path) -> None:
    """Ansible wants a default twice, and then uses the copy that nobody reads."""
    assert list(readme.disagreements(role)) == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_shows_the_interface_as_it_is(role: Path) -> None:
    """An operator sets what the page says exists."""
    page = (role / "README.md").read_text()
    assert readme.with_table(page, readme.table(role)) == page


def test_a_default_that_differs_is_named(tmp_path: Path) -> None:
    """A check that cannot fail is no check."""
    role = tmp_path / "clock"
    for name, text in {
        "meta/argument_specs.yml": "argument_specs: {main: {options: {clock_a: {type: int, "
        "default: 1, description: A.}, clock_b: {type: str, required: true, description: B.}}}}",
        "defaults/main.yml": "clock_a: 2\nclock_c: 3\n",
    }.items():
        (role / name).parent.mkdir(parents=True)
        (role / name).write_text(text)
    assert len(list(readme.disagreements(role))) == 2


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_of_a_role_carries_its_name(role: Path) -> None:
    """Two roles that both own `port` are one bug, months later."""
    assert [name for name in readme.options(role) if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_template_says_who_writes_it_and_lies_as_on_the_host(role: Path) -> None:
    """Whoever opens the file on the host must not edit it there in vain."""
    for template in (path for path in (role / "templates").rglob("*") if path.is_file()):
        assert template.suffix == ".j2"
        assert "{{ ansible_managed }}" in "".join(template.open().readlines()[:2])
        assert template.relative_to(role / "templates").parts[0] in ("etc", "usr")


def test_no_role_looks_away_from_an_error() -> None:
    """An ignored error is how a host ends up half configured and green."""
    for path in PLAYBOOKS.rglob("*.yml"):
        for task in _tasks(yaml.safe_load(path.read_text())):
            assert not {"ignore_errors", "ignore_unreachable", "failed_when"} & set(task), path


def _tasks(loaded: object) -> Iterator[dict[str, object]]:
    if isinstance(loaded, list):
        for entry in loaded:
            yield from _tasks(entry)
    if isinstance(loaded, dict):
        yield loaded
        for value in loaded.values():
            yield from _tasks(value)


def test_a_host_is_opened_only_to_dependencies_that_residency_allows() -> None:
    """The policy lists what others would like us to call, and most of it is refused."""
    policy = policies.load(CHECKOUT / "policies", "eea")
    allowed = set(variables.allowed_dependencies(policy, NOW))
    assert {"debian-packages", "time-ptb"} <= allowed
    assert not {"public-resolver", "hugging-face-hub", "ollama-cloud", "time-pool"} & allowed
    assert allowed <= policy.dependencies.keys()


def test_a_host_is_told_the_time_by_servers_at_known_places_and_by_no_pool() -> None:
    """By this clock records are dated and data are erased; the default of Debian is whoever."""
    policy = policies.load(CHECKOUT / "policies", "eea")
    servers = variables.time_servers(policy, NOW)
    assert servers.keys() == {"time-ptb", "time-netnod"}
    assert "nts.netnod.se:4460" in servers["time-netnod"]
    assert variables.of_policy(policy, NOW)["clock_dependencies"] == servers


def test_a_time_server_whose_place_is_no_longer_known_is_asked_no_more(tmp_path: Path) -> None:
    """What a policy stops naming must leave the hosts with the next run."""
    copy = Path(shutil.copytree(CHECKOUT / "policies", tmp_path / "policies"))
    path = copy / "rules/dependencies.yaml"
    path.write_text(path.read_text().replace("place: ptb:braunschweig", "place: ptb:elsewhere"))
    assert variables.time_servers(policies.load(copy, "eea"), NOW).keys() == {"time-netnod"}


def test_the_journal_is_kept_as_long_as_the_policy_says() -> None:
    """Thirty days is a promise to people, not a default of ours."""
    policy = policies.load(CHECKOUT / "policies", "eea")
    said = variables.of_policy(policy, NOW)
    assert said["logging_kept_days"] == policy.retention["process-log"].max_days


@pytest.mark.parametrize("bound", ["0", "unlimited"])
def test_a_policy_that_does_not_bound_the_journal_configures_nothing(
    bound: str, tmp_path: Path
) -> None:
    """`MaxRetentionSec=0` means for ever to journald, and nothing at all to a lawyer."""
    copy = Path(shutil.copytree(CHECKOUT / "policies", tmp_path / "policies"))
    path = copy / "rules/retention.yaml"
    bounded = "  - id: process-log\n    min_days: 0\n    max_days: {}\n"
    assert path.read_text().count(bounded.format(30)) == 1
    path.write_text(path.read_text().replace(bounded.format(30), bounded.format(bound)))
    with pytest.raises(PolicyUnreadable):
        variables.of_policy(policies.load(copy, "eea"), NOW)


@pytest.mark.parametrize(
    ("hosts", "profile"),
    [
        ({}, "eea"),
        ({"a": {}}, "eea"),
        ({"a": {"sovereign_profile": "immune"}}, "immune"),
        ({"a": {"sovereign_profile": "immune"}, "b": {"sovereign_profile": "immune"}}, "immune"),
    ],
)
def test_hosts_are_judged_under_the_profile_they_name(
    hosts: dict[str, dict[str, object]], profile: str
) -> None:
    """The stack chose the profile; configuring must not quietly choose another."""
    assert variables.profile_of(hosts) == profile


def test_hosts_under_two_profiles_are_not_configured_together() -> None:
    """One of them would be opened to what its own profile refuses."""
    with pytest.raises(PolicyUnreadable):
        variables.profile_of({"a": {}, "b": {"sovereign_profile": "immune"}})


def test_the_same_checkout_makes_the_same_release(tmp_path: Path) -> None:
    """A host that runs a release is left alone only if its name says what is in it."""
    name = release.name_of(CHECKOUT)
    assert release.name_of(CHECKOUT) == name
    copy = tmp_path / "copy"
    (copy / "sovereign").mkdir(parents=True)
    (copy / "requirements").mkdir()
    for file in (*release.LOCKED, "pyproject.toml"):
        (copy / file).write_bytes((CHECKOUT / file).read_bytes())
    (copy / "sovereign/one.py").write_text("a = 1\n")
    first = release.name_of(copy)
    (copy / "sovereign/one.py").write_text("a = 2\n")
    assert release.name_of(copy) != first


def test_a_static_stack_of_machines_is_an_inventory() -> None:
    """`make configure STACK=…` asks for nothing but the name of a stack."""
    command = [sys.executable, "-m", "playbooks", "verify", "static-example", "--", "--list-hosts"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "node-1, node-2" in done.stdout
    assert "hosts (2)" in done.stdout


@pytest.mark.parametrize("words", [["configure"], ["configure", "a", "--inventory", "b"], ["fly"]])
def test_a_question_that_means_nothing_is_asked_back(words: list[str]) -> None:
    """Half a command must not configure half the machines."""
    done = subprocess.run(
        [sys.executable, "-m", "playbooks", *words], check=False, capture_output=True, cwd=CHECKOUT
    )
    assert done.returncode == 2
