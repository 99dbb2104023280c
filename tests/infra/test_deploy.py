"""A stack from its file to its hosts and back, on the real engine and the simulated account."""

import json
import tarfile
from datetime import UTC, datetime

import pytest

from infra import changing, deploy, destroy
from infra.deploy import Outside, Wanted
from playbooks.__main__ import _parsed
from sovereign import fleet, settings
from sovereign.audit import trail
from sovereign.errors import BadInput, DestroyRefused, StackIncomplete
from tests.infra.test_command import EXAMPLE, STATIC, run

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Person:
    """Says yes or no, listens, and stands in for the hosts: the playbooks end as told."""

    def __init__(self, *, yes=True, plays=0):
        self.yes, self.plays = yes, plays
        self.heard, self.asked, self.inventories = [], [], []

    def outside(self):
        return Outside(self.heard.append, lambda _plan: None, self._agreed, self._configure)

    def _agreed(self, what):
        self.asked.append(what)
        return self.yes

    def _configure(self, inventory):
        self.inventories.append(json.loads(inventory.read_text()))
        return self.plays


@pytest.fixture
def home(tmp_path):
    """A home with an operator's log, so that what is done is on record."""
    home = settings.load(tmp_path / "home")
    trail.create(home.audit, home.keys, home.trust, "operator", home.settings.site)
    return home


def books_of(home, name=EXAMPLE):
    path = home.root / "infra" / name / "practised" / "simulated-account.json"
    return json.loads(path.read_text()) if path.exists() else {}


def removal(tmp_path, **said):
    return destroy.Wanted(EXAMPLE, retired=tmp_path / "retired", simulated=True, **said)


def changes_on_record(home):
    (member,) = [m for m in fleet.members(home) if m.stream == "evidence"]
    found = [fields for _, fields in fleet.records(member, 0, 1000)]
    return [(f["verb"], f["created"], f["deleted"]) for f in found if f["type"] == "stack-changed"]


@pytest.mark.pulumi
def test_a_stack_is_made_configured_kept_and_at_last_gone_without_a_trace(home, tmp_path, cli):
    """The whole life of a site, with every no that stands between its making and its end."""
    undecided = Person(yes=False)
    with pytest.raises(BadInput, match="nobody said yes"):
        deploy.deploy(Wanted(EXAMPLE, simulated=True), home, undecided.outside())
    assert undecided.asked == ["11 change(s) at scaleway:fr-par-2"]
    assert not books_of(home)

    failing = Person(plays=1)
    with pytest.raises(StackIncomplete, match="not all configured"):
        deploy.deploy(Wanted(EXAMPLE, simulated=True), home, failing.outside())
    made = books_of(home)
    assert len(made) == 9

    again = Person()
    done = deploy.deploy(Wanted(EXAMPLE, simulated=True), home, again.outside())
    assert dict(done.steps)["up"] == "nothing to change"
    assert not again.asked
    assert books_of(home) == made
    assert again.inventories == failing.inventories
    hosts = again.inventories[0]["all"]["children"]["inference"]["hosts"]
    assert {host["ansible_host"] for host in hosts.values()} == {"203.0.113.1"}
    assert done.record

    _refused_for(removal(tmp_path, erase_data=EXAMPLE), home, "were not carried away")
    _carried_away(home, tmp_path)
    _refused_for(removal(tmp_path, erase_data="another"), home, "backups, node-1")
    looked = destroy.destroy(
        removal(tmp_path, erase_data=EXAMPLE, dry_run=True), home, Person().outside()
    )
    assert len(looked.standing) == 9
    assert books_of(home) == made

    gone = destroy.destroy(removal(tmp_path, erase_data=EXAMPLE), home, Person().outside())
    assert books_of(home) == {}
    folder = home.root / "infra" / EXAMPLE / "practised"
    assert not any((folder / name).exists() for name in ("state", "passphrase", "inventory.json"))
    assert gone.record
    assert changes_on_record(home) == [("deploy", 0, 0), ("destroy", 0, 9)]


def _refused_for(wanted, home, found):
    with pytest.raises(DestroyRefused) as refused:
        destroy.destroy(wanted, home, Person().outside())
    assert found in refused.value.found
    assert len(books_of(home)) == 9


def _carried_away(home, tmp_path):
    """The archive that `playbooks retire` makes of a host: here of a log that verifies."""
    (tmp_path / "retired").mkdir()
    with tarfile.open(tmp_path / "retired" / "sovereign-node-1.tar.gz", "w:gz") as packed:
        packed.add(home.audit, "audit")
        packed.add(home.trust, "trust")


def test_an_archive_that_was_tampered_with_or_is_none_does_not_let_a_host_go(home, tmp_path, eea):
    """A log is only carried away when it still proves something."""
    now = datetime.now(UTC)
    (tmp_path / "retired").mkdir()
    archive = tmp_path / "retired" / "sovereign-node-1.tar.gz"
    archive.write_bytes(b"no archive")
    assert "cannot be read" in destroy.of_host(archive, "node-1", eea, now)[0]
    with tarfile.open(archive, "w:gz"):
        pass
    assert destroy.of_host(archive, "node-1", eea, now) == [f"{archive.name} holds no log"]
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(home.audit, "audit")  # and not the keys that it verifies under
    assert "does not verify" in destroy.of_host(archive, "node-1", eea, now)[0]


def test_the_playbooks_understand_the_words_they_are_called_with(tmp_path):
    """The two tools are started by each other and must not drift apart."""
    words = changing.playbooks_words("somewhere", tmp_path / "inventory.json")
    asked, rest = _parsed(words)
    assert (asked.verb, asked.inventory, rest) == ("configure", tmp_path / "inventory.json", [])


def test_machines_you_have_are_deployed_without_an_engine_and_nothing_of_them_is_destroyed(home):
    """Nothing was bought, so nothing is given back: they are retired."""
    person = Person()
    done = deploy.deploy(Wanted(STATIC), home, person.outside())
    assert [name for name, _ in done.steps] == ["plan", "inventory", "playbooks", "record"]
    assert not person.asked
    hosts = person.inventories[0]["all"]["children"]["inference"]["hosts"]
    assert set(hosts) == {"node-1", "node-2"}
    with pytest.raises(BadInput) as refused:
        destroy.destroy(destroy.Wanted(STATIC, retired=home.root), home, person.outside())
    assert "playbooks retire" in refused.value.next_step


def test_a_state_that_is_kept_elsewhere_needs_a_passphrase_that_is_kept_elsewhere(home, cli):
    """One that only this machine knows would lock everybody else out of what costs money."""
    done = run(home.root, "deploy", EXAMPLE, "--yes", PULUMI_CONFIG_PASSPHRASE="")
    assert done.returncode == 2
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" in done.stderr


@pytest.mark.pulumi
def test_a_deployment_to_a_real_account_fetches_no_provider_and_makes_nothing(home, stacks, cli):
    """The engine's maker would be asked for a program, outside the EEA, at an odd moment."""
    path = stacks / f"{EXAMPLE}.yaml"
    path.write_text(path.read_text().partition("state_backend")[0])
    done = deploy.deploy(Wanted(EXAMPLE, folder=stacks), home, Person().outside())
    assert done.plan is not None
    assert done.plan.verdict == "unknown"
    assert any("scaleway" in reason for reason in done.plan.unclear), done.plan.unclear
    assert [name for name, _ in done.steps] == ["settle", "plan"]
