"""What goes wrong at a cloud, ordered one by one: the next run converges, nothing is orphaned."""

import json
import os
import subprocess
import sys

import pytest

from infra import deploy, destroy, unsettled
from infra.deploy import Wanted
from infra.deployment import Deployment, made
from infra.engine import Announced
from infra.simulator.trouble import SUFFIX
from infra.unsettled import Wish
from sovereign import settings
from sovereign.errors import StackIncomplete, StackLocked
from tests.infra.test_command import EXAMPLE, ROOT
from tests.infra.test_deploy import Person, books_of

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
KINDS = ("Vpc", "SecurityGroup", "SshKey", "Ip", "Volume", "Bucket", "PrivateNetwork", "Server",
         "PrivateNic")  # fmt: skip
WANTED = Wanted(EXAMPLE, simulated=True, playbooks=False)


@pytest.fixture
def home(tmp_path):
    return settings.load(tmp_path / "home")


@pytest.fixture
def engine(home, cli, site):
    """The deployment of the example in a simulated account; a fresh one for each use."""

    def make(say=lambda _line: None):
        return Deployment(cli, site, made(home.root, cli, EXAMPLE, "file", simulated=True), say)

    return make


def order(home, *troubles):
    folder = home.root / "infra" / EXAMPLE / "practised"
    (folder / f"simulated-account.json{SUFFIX}").write_text(json.dumps(troubles))


def names(home):
    """What stands in the account, as type and name; twice the same is a machine nobody knows."""
    return sorted(entry["urn"].split("::", 2)[2] for entry in books_of(home).values())


@pytest.mark.pulumi
def test_an_engine_that_is_killed_at_the_first_a_middle_and_the_last_resource_orphans_nothing(
    home, engine
):
    """After each kill something stands that no answer told of; taken in, never made again."""
    for kind in (None, "Server", "PrivateNic"):
        cut_off = engine()
        deploy.settle(cut_off, WANTED, lambda _line: None)
        order(home, {"on": "create", "do": "die-after"} | ({"kind": kind} if kind else {}))
        assert not cut_off.up().finished
    last = engine()
    deploy.settle(last, WANTED, lambda _line: None)
    shown = last.up()
    assert shown.finished, shown.said
    assert len(names(home)) == len(set(names(home))) == len(KINDS)
    known = {each["id"] for each in last.export()["resources"] if each["type"][:6] != "pulumi"}
    assert known == set(books_of(home))
    last.release()


@pytest.mark.pulumi
def test_lost_answers_sold_out_zones_and_lagging_deletions_are_told_and_overcome(
    home, tmp_path, engine
):
    """In one life of a stack: each stops the run with its own words, and the next goes on."""
    engine()
    person = Person()
    order(home, {"on": "create", "kind": "Vpc", "do": "slow", "s": 0.2},
          {"on": "create", "kind": "Volume", "do": "lose"})  # fmt: skip
    with pytest.raises(StackIncomplete, match="made in part"):
        deploy.deploy(WANTED, home, person.outside())
    order(home, {"on": "create", "kind": "Server", "do": "stock"})
    with pytest.raises(StackIncomplete, match="no H100-1-80G left") as sold_out:
        deploy.deploy(WANTED, home, person.outside())
    assert sold_out.value.accepted == "scaleway:pl-waw-2"
    assert any("taken in: node-1" in line for line in person.heard)
    done = deploy.deploy(WANTED, home, person.outside())
    assert dict(done.steps)["up"].endswith("made")
    assert len(names(home)) == len(set(names(home))) == len(KINDS)

    _drifts(home, engine())

    order(home, {"on": "delete", "kind": "PrivateNic", "do": "lag"},
          {"on": "delete", "kind": "Volume", "do": "fail"})  # fmt: skip
    wanted = destroy.Wanted(EXAMPLE, tmp_path, simulated=True, erase_data=EXAMPLE)
    for _ in range(3):
        try:
            destroy.destroy(wanted, home, person.outside())
            break
        except StackIncomplete:
            continue
    assert books_of(home) == {}


def _drifts(home, engine):
    """Somebody took an address away in the console, and renamed what a volume is tagged with."""
    path = engine.books
    books = json.loads(path.read_text())
    gone = next(own for own, entry in books.items() if entry["kind"].endswith(":PrivateNic"))
    edited = next(entry for entry in books.values() if entry["kind"].endswith(":Volume"))
    del books[gone]
    edited["inputs"]["tags"] = edited["outputs"]["tags"] = ["data:public"]
    path.write_text(json.dumps(books))
    found = engine.refresh(only_look=True)
    assert found.finished, found.said
    drifted = {(s.operation, s.kind.rpartition(":")[2]) for s in found.done}
    assert {("delete", "PrivateNic"), ("update", "Volume")} <= drifted
    assert not {("update", "Server"), ("delete", "Server")} & drifted
    assert json.loads(path.read_text()) == books


@pytest.mark.pulumi
def test_two_at_once_do_not_meet_in_the_cloud_and_the_second_is_told_who_holds_it(home, engine):
    """Two runs would each make what the other has just made."""
    first = engine()
    first.hold()
    other = subprocess.run(
        [sys.executable, "-m", "infra", "deploy", EXAMPLE, "--simulated", "--yes"],
        cwd=ROOT,
        env={**os.environ, "SOVEREIGN_HOME": str(home.root), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert other.returncode == 3, other.stderr
    assert f"process {os.getpid()} of this machine" in other.stderr
    first.release()
    _locked_from_elsewhere(engine)


def _locked_from_elsewhere(engine):
    """The engine's own lock, as a colleague's machine leaves it in a shared state backend."""
    run = engine()
    run.export()
    locks = run.folder / "state" / ".pulumi" / "locks" / "organization" / "sovereign" / EXAMPLE
    locks.mkdir(parents=True, exist_ok=True)
    held = {"pid": 1, "username": "anna", "hostname": "desk", "timestamp": "2026-11-25T16:00:00Z"}
    (locks / "a.json").write_text(json.dumps(held))
    with pytest.raises(StackLocked) as locked:
        run.up()
    assert "anna@desk, process 1" in locked.value.found
    assert list(locks.glob("*.json")) == [locks / "a.json"]


URN = "urn:pulumi:s::sovereign::scaleway:instance/server:Server::gpu"


def test_what_failed_or_was_cut_off_is_open_and_what_stands_is_not():
    """Everything that may cost money without being known, and nothing else."""
    server = {"urn": URN, "type": "scaleway:instance/server:Server", "inputs": {"zone": "z"}}
    provider = {"urn": "p", "type": "pulumi:providers:scaleway"}
    state = {
        "resources": [{"urn": "stands", "type": "t", "id": "1"}],
        "pending_operations": [
            {"type": "creating", "resource": server},
            {"type": "creating", "resource": provider},
            {"type": "updating", "resource": {**server, "urn": "other"}},
        ],
    }
    lost = Wish("lost", "t", {})
    found = unsettled.wishes(state, [lost, Wish("stands", "t", {})])
    assert {wish.urn for wish in found} == {URN, "lost"}
    failed = [Announced("create", "t", "new", {}), Announced("update", "t", "old", {})]
    assert {wish.urn for wish in unsettled.of_failed(failed)} == {"new"}


def test_in_a_real_account_only_what_the_operator_saw_counts(tmp_path):
    """What we cannot see is not absent; a wish nobody answered for stays open."""
    wishes = [Wish("a", "t", {}), Wish("b", "t", {}), Wish("c", "t", {})]
    answers = unsettled.answered(wishes, unsettled.as_told({"a": "id-1"}, ["b"]))
    assert dict(answers.found) == {"a": "id-1"}
    assert [wish.urn for wish in answers.open] == ["c"]
    unsettled.keep(tmp_path, wishes)
    assert unsettled.kept(tmp_path) == tuple(wishes)
    unsettled.keep(tmp_path, ())
    assert unsettled.kept(tmp_path) == ()
