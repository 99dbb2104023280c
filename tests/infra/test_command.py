"""`python -m infra`, as an operator types it."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from infra import plan, pulumi_cli, stack
from infra.plan import Plan
from sovereign import policy as policies
from sovereign import settings
from sovereign.audit import trail
from sovereign.errors import ResidencyRefused
from sovereign.fleet import members, records
from sovereign.residency import Question, decide
from sovereign.settings import Home
from tests.needs import need

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ROOT = Path(__file__).parents[2]
EXAMPLE, STATIC = "scaleway-example", "static-example"


def run(home, *words, before=(), **environment):
    return subprocess.run(
        [*before, sys.executable, "-m", "infra", *words],
        cwd=ROOT,
        env={**os.environ, "SOVEREIGN_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def silent(_line: str) -> None:
    """Nobody listens."""


def of_home(path):
    return settings.load(path)


def edited(stacks_folder, name, before, after):
    path = stacks_folder / f"{name}.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return stacks_folder


@pytest.mark.pulumi
def test_plan_shows_resources_cost_memory_dependencies_and_verdict(tmp_path, cli):
    """All that somebody needs before they spend money, on one page."""
    done = run(tmp_path, "plan", EXAMPLE)
    assert done.returncode == 0, done.stderr
    for said in (
        "scaleway:instance/server:Server",
        "1 x H100-1-80G at scaleway:fr-par-2",
        "2.8665 EUR an hour",
        "read 2026-10-06",
        "the model needs 48 GB",
        "personal-data-stays-in-eea",
        "pulumi-cloud-state",
        "not recorded: no site is deployed here",
    ):
        assert said in done.stdout
    assert re.search(r"verdict\s+allowed", done.stdout)


@pytest.mark.pulumi
def test_plan_writes_below_its_own_home_only(tmp_path, cli):
    """Whoever deletes SOVEREIGN_HOME has deleted every name of every machine."""
    home, elsewhere = tmp_path / "state", tmp_path / "person"
    elsewhere.mkdir()
    done = run(home, "plan", EXAMPLE, HOME=str(elsewhere), SOVEREIGN_PULUMI=str(cli))
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []


@pytest.mark.pulumi
def test_plan_as_json_gives_the_same_facts(tmp_path, cli):
    """For the pipeline that gates a change."""
    done = run(tmp_path, "plan", EXAMPLE, "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["verdict"], shown["unclear"]) == (0, "allow", [])
    assert len(shown["resources"]) == 11
    assert shown["cost"] == {
        "hour": "2.8665",
        "month": "2093",
        "currency": "EUR",
        "read_on": "2026-10-06",
        "source": shown["cost"]["source"],
    }
    assert {entry["id"] for entry in shown["dependencies"]} >= {"pulumi-cloud-state"}


@pytest.mark.pulumi
def test_plan_needs_no_network_at_all(tmp_path, cli):
    """Not an account, not a registry, not the engine's maker: nothing can be asked."""
    alone = ("unshare", "--map-root-user", "--net")
    may = shutil.which("unshare") and subprocess.run([*alone, "true"], check=False).returncode == 0
    need(may, "network namespaces are not permitted here", "run as root")
    loopback = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    done = run(tmp_path, "plan", EXAMPLE, "--json", before=(*alone, *loopback))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "allow"


@pytest.mark.pulumi
def test_a_look_alike_zone_is_refused_by_rule_with_exit_code_one(tmp_path, stacks, cli):
    """The one line somebody changed, and the rule that says no."""
    edited(stacks, EXAMPLE, "zone: fr-par-2", "zone: eu-west-2")
    made = plan.make(EXAMPLE, of_home(tmp_path / "home"), silent, stacks)
    assert made.verdict == "refuse"
    assert {answer.rule for answer in made.refused} == {"place-is-known"}
    assert set(made.accepted) == {"scaleway:fr-par-2", "scaleway:pl-waw-2"}


@pytest.mark.pulumi
def test_a_state_backend_in_pulumi_cloud_is_refused_though_all_resources_are_allowed(
    tmp_path, stacks, cli
):
    """Machines in Paris, and every secret of them in another legal order."""
    path = stacks / f"{EXAMPLE}.yaml"
    path.write_text(
        re.sub(r"state_backend: .*", "state_backend: https://api.pulumi.com", path.read_text())
    )
    made = plan.make(EXAMPLE, of_home(tmp_path / "home"), silent, stacks)
    assert made.verdict == "refuse"
    (answer,) = made.refused
    assert (answer.resource, answer.place) == ("state-backend", "pulumi:cloud")
    assert all(resource.verdict == "allow" for resource in made.resources)


@pytest.mark.pulumi
def test_a_guard_that_does_not_run_makes_the_plan_unknown_not_allowed(tmp_path, cli, monkeypatch):
    """The silent failure every policy engine has: no answer, so no objection."""
    from infra import engine

    def unasked(self):
        return self._run(lambda stack, on_event: stack.preview(on_event=on_event))

    monkeypatch.setattr(engine.Rehearsal, "preview", unasked)
    made = plan.make(EXAMPLE, of_home(tmp_path / "home"), silent)
    assert made.verdict == "unknown"
    assert any("did not judge" in reason for reason in made.unclear)


@pytest.mark.pulumi
def test_a_cloud_that_fails_makes_the_plan_unknown(tmp_path, stacks, cli, monkeypatch):
    """Not allowed, not refused: nobody knows, and trying again is safe."""
    from infra.clouds import scaleway

    monkeypatch.setattr(scaleway, "IMAGE", "an-image-that-is-gone")
    made = plan.make(EXAMPLE, of_home(tmp_path / "home"), silent, stacks)
    assert made.verdict == "unknown"
    assert any("image" in reason for reason in made.unclear)


@pytest.mark.pulumi
def test_every_answer_is_recorded_in_the_operators_log_where_a_site_is_deployed(tmp_path, cli):
    """A plan somebody was allowed to make is evidence; the log verifies it later."""
    home = of_home(tmp_path / "home")
    trail.create(home.audit, home.keys, home.trust, "operator", home.settings.site)
    done = run(home.root, "plan", EXAMPLE, "--json")
    shown = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert len(shown["records"]) == len(shown["answers"])
    origin = trail.origin_of(home.settings.site, "operator", "evidence")
    assert all(re.fullmatch(rf"{origin}#\d+", name) for name in shown["records"])
    _computed_again(home)


def _computed_again(home: Home) -> None:
    """Every answer of residency in the log is what its own fields lead to."""
    policy = policies.load(None, "eea")
    (member,) = [m for m in members(home) if m.stream == "evidence"]
    found = [fields for _, fields in records(member, 0, 1000) if "asked_at" in fields]
    assert len(found) > 5
    for fields in found:
        asked_at = datetime.fromisoformat(fields["asked_at"])
        place, listener = fields["place"], fields.get("listener", "")
        question = Question(place, fields["data"], fields["verb"], asked_at, listener)
        decision = decide(policy, question)
        assert (decision.verdict, decision.rule, decision.policy) == (
            fields["verdict"],
            fields["rule"],
            fields["policy"],
        )


def test_without_a_site_nothing_is_recorded_and_no_log_is_made(tmp_path):
    """A log is made by an explicit verb, never as a side effect."""
    done = run(tmp_path, "plan", STATIC)
    assert done.returncode == 0, done.stderr
    assert "not recorded" in done.stdout
    assert not (tmp_path / "audit").exists()


def test_machines_you_have_are_judged_where_they_stand(tmp_path, stacks):
    """One of them in London is one too many, and it is named."""
    edited(stacks, STATIC, "hetzner:hel1", "hetzner:ash")
    made = plan.make(STATIC, of_home(tmp_path), silent, stacks)
    assert made.verdict == "refuse"
    assert {answer.resource for answer in made.refused} == {"node-2"}
    assert {answer.rule for answer in made.refused} == {"personal-data-stays-in-eea"}


def test_this_machine_is_planned_on_loopback(tmp_path, stacks):
    """`local` is what `make deploy` does; its country is nobody's claim."""
    (stacks / "here.yaml").write_text(
        "cloud: local\nmodel: smollm2-135m-instruct\nengine: llamacpp\n"
    )
    made = plan.make("here", of_home(tmp_path), silent, stacks)
    assert made.verdict == "allow"
    assert {answer.rule for answer in made.answers} == {"nothing-leaves-this-host"}


def test_a_plan_is_refused_by_one_no_and_allowed_only_without_doubt():
    """The order of the three outcomes, without an engine."""

    class Answer:
        def __init__(self, allowed):
            self.allowed = allowed

    for answers, unclear, verdict in (
        ([True], [], "allow"),
        ([True, False], [], "refuse"),
        ([True, False], ["doubt"], "refuse"),
        ([True], ["doubt"], "unknown"),
    ):
        made = object.__new__(Plan)
        made.answers, made.unclear = [Answer(each) for each in answers], unclear
        assert made.verdict == verdict


def test_inventory_prints_what_ansible_reads(tmp_path):
    """The playbooks start here."""
    done = run(tmp_path, "inventory", STATIC)
    hosts = json.loads(done.stdout)["all"]["children"]["inference"]["hosts"]
    assert list(hosts) == ["node-1", "node-2"]


def test_a_refused_state_backend_is_never_asked_for_an_inventory(eea, stacks):
    """Asking is already telling it who we are."""
    path = stacks / f"{EXAMPLE}.yaml"
    path.write_text(re.sub(r"state_backend: .*", "state_backend: s3://state", path.read_text()))
    with pytest.raises(ResidencyRefused) as refused:
        plan.refuse_backend(stack.load(EXAMPLE, stacks), eea)
    assert refused.value.rule == "place-is-known"


def test_asking_wrongly_exits_two_and_says_what_would_be_right(tmp_path):
    """A misspelt stack is not a refusal, and a pipeline must be able to tell."""
    done = run(tmp_path, "plan", "nowhere")
    assert done.returncode == 2
    assert EXAMPLE in done.stderr


def test_without_engine_and_without_go_the_plan_exits_three_and_says_how_to_get_it(tmp_path):
    """A person without root is one command away."""
    named = str(tmp_path / "not-there")
    done = run(tmp_path, "plan", EXAMPLE, SOVEREIGN_PULUMI=named)
    assert done.returncode == 3
    assert "SOVEREIGN_PULUMI" in done.stderr


def test_an_engine_that_is_nowhere_is_built_only_with_a_go_that_is_new_enough(
    tmp_path, monkeypatch
):
    """Debian's own Go is too old, and would fail after minutes with somebody else's words."""
    old = tmp_path / "bin" / "go"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(old.parent))
    assert pulumi_cli.go() is None
    old.write_text("#!/bin/sh\necho go version go1.27.3 linux/amd64\n")
    assert pulumi_cli.go() == old
