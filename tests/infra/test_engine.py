"""The real Pulumi engine, the real SDK and the real guard, against the simulated account."""

import json
import os

import pulumi
import pulumiverse_scaleway as scaleway
import pytest

from infra import engine
from infra.guard.types import PROVIDER
from infra.shapes import INVENTORY_GROUP
from infra.simulator.catalogue import SERVER, TYPES
from sovereign.errors import PlannerUnavailable

pytestmark = [
    pytest.mark.pulumi,
    # The SDK abandons a coroutine of its own whenever the engine refuses; see `_tidy`.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MADE_BY_THE_ENGINE = {"pulumi:pulumi:Stack", PROVIDER + "scaleway"}


def standing(rehearsal):
    books = rehearsal.books
    return json.loads(books.read_text()) if books.exists() else {}


def test_the_example_is_previewed_with_exactly_these_types_and_nothing_is_made(previewed):
    """Exactly: a resource more costs money, one less leaves a door open."""
    rehearsal, shown = previewed
    assert shown.finished, shown.said
    assert {step.kind for step in shown.announced} == {*TYPES, *MADE_BY_THE_ENGINE}
    assert {step.operation for step in shown.announced} == {"create"}
    assert not standing(rehearsal)


def test_every_resource_the_engine_announces_was_judged_by_the_guard(previewed):
    """A pack that the engine forgot to ask would let everything pass in silence."""
    _, shown = previewed
    assert {step.urn for step in shown.announced} == {answer.resource for answer in shown.judged}
    assert all(answer.allowed for answer in shown.judged)


def test_what_arrives_at_the_cloud_is_closed_but_for_what_the_stack_names(rehearse, site):
    """Set equality both ways: no port more, no network more."""
    shown = rehearse(allow_from=("192.0.2.0/24", "198.51.100.7/32")).preview()
    (group,) = [s.inputs for s in shown.announced if s.kind.endswith(":SecurityGroup")]
    assert group["inboundDefaultPolicy"] == group["outboundDefaultPolicy"] == "drop"
    opened = {(rule["ipRange"], rule["port"], rule["action"]) for rule in group["inboundRules"]}
    assert opened == {
        (network, port, "accept")
        for network in ("192.0.2.0/24", "198.51.100.7/32")
        for port in (22, site.gateway_port)
    }


def test_up_makes_it_and_destroy_leaves_nothing_once_the_data_is_given_up(rehearse):
    """What holds data survives a destroy until somebody says so in so many words."""
    rehearsal = rehearse()
    made = rehearsal.up()
    assert made.finished, made.said
    kinds = sorted(entry["kind"] for entry in standing(rehearsal).values())
    assert kinds == sorted(TYPES)
    refused = rehearsal.destroy()
    assert not refused.finished
    assert any("protected" in line for line in refused.said)
    kept = {entry["kind"].rpartition(":")[2] for entry in standing(rehearsal).values()}
    assert kept >= {"Volume", "Bucket"}
    rehearsal.unprotect()
    gone = rehearsal.destroy()
    assert gone.finished, gone.said
    assert standing(rehearsal) == {}


def test_a_second_up_changes_nothing_and_a_larger_disk_is_an_update(rehearse):
    """A plan that always shows changes is a plan nobody reads."""
    assert rehearse().up().finished
    again = rehearse().preview()
    assert {step.operation for step in again.announced} == {"same"}
    grown = rehearse(disk_gb=300).preview()
    changed = {(s.operation, s.kind) for s in grown.announced if s.operation != "same"}
    assert changed == {("update", "scaleway:block/volume:Volume")}


def test_a_machine_more_is_five_resources_more(rehearse):
    """Machine, address, volume, network card; and the first machine is not touched."""
    assert rehearse().up().finished
    more = rehearse(nodes=2).preview()
    created = sorted(
        step.kind.rpartition(":")[2] for step in more.announced if step.operation == "create"
    )
    assert created == ["Ip", "PrivateNic", "Server", "Volume"]


@pytest.mark.parametrize("zone", ["eu-west-2", "fr-par-7"])
def test_the_same_stack_in_a_look_alike_zone_is_refused_by_rule_and_nothing_is_made(rehearse, zone):
    """London at another cloud reads like Paris to a tired eye."""
    rehearsal = rehearse(zone=zone, region=zone, place=f"scaleway:{zone}")
    for verb in (rehearsal.preview, rehearsal.up):
        shown = verb()
        assert not shown.finished
        rules = {answer.rule for answer in shown.judged if not answer.allowed}
        assert rules == {"place-is-known"}
        assert any("place-is-known" in text for said in shown.refused.values() for text in said)
        assert not standing(rehearsal)


def server(name, provider, **inputs):
    return scaleway.instance.Server(
        name,
        type="H100-1-80G",
        image="debian_bookworm",
        opts=pulumi.ResourceOptions(provider=provider),
        **inputs,
    )


def refusing(shown, kind=SERVER):
    return {a.rule for a in shown.judged if a.kind == kind and not a.allowed}


@pytest.mark.parametrize(
    ("shell", "rule"), [(None, "guard-place-stated"), ("eu-west-2", "place-is-known")]
)
def test_a_region_that_only_the_shell_states_is_seen_and_judged(rehearse, monkeypatch, shell, rule):
    """The SDK takes it from the environment of whoever runs the plan; the guard looks after it."""
    monkeypatch.delenv("SCW_DEFAULT_REGION", raising=False)
    if shell:
        monkeypatch.setenv("SCW_DEFAULT_REGION", shell)

    def program():
        server("gpu", scaleway.Provider("p", zone="fr-par-2"), zone="fr-par-2")

    shown = rehearse(program).preview()
    assert not shown.finished
    assert refusing(shown, PROVIDER + "scaleway") == {rule}


def test_a_machine_without_zone_is_judged_by_its_providers(rehearse):
    """A policy that reads the machine's own inputs only sees nothing here, and lets it pass."""

    def program():
        server("gpu", scaleway.Provider("p", region="fr-par", zone="fr-par-2"))

    shown = rehearse(program).preview()
    assert shown.finished, shown.said
    judged = {answer.place for answer in shown.judged if answer.kind == SERVER}
    assert judged == {"scaleway:fr-par-2"}


def test_a_machine_of_the_default_provider_has_no_place(rehearse):
    """Nobody set that provider up, so nobody said where."""

    def program():
        scaleway.instance.Server("gpu", type="H100-1-80G")

    shown = rehearse(program).preview()
    assert not shown.finished
    assert refusing(shown, PROVIDER + "scaleway") == {"guard-place-stated"}


def test_a_zone_that_is_not_known_before_something_is_made_is_refused(rehearse):
    """The plan would show one thing and make another."""

    def program():
        provider = scaleway.Provider("p", region="fr-par", zone="fr-par-2")
        opts = pulumi.ResourceOptions(provider=provider)
        address = scaleway.instance.Ip("ip", zone="fr-par-2", opts=opts)
        server("gpu", provider, zone=address.address)

    shown = rehearse(program).preview()
    assert not shown.finished
    assert refusing(shown) == {"guard-place-stated"}


def test_data_without_protection_is_refused(rehearse):
    """One edited line must not delete a volume."""

    def program():
        opts = pulumi.ResourceOptions(
            provider=scaleway.Provider("p", region="fr-par", zone="fr-par-2")
        )
        scaleway.block.Volume("data", zone="fr-par-2", iops=5000, opts=opts)

    shown = rehearse(program).preview()
    assert not shown.finished
    assert refusing(shown, "scaleway:block/volume:Volume") == {"guard-data-protected"}


def test_a_type_the_guard_places_and_the_simulator_does_not_know_does_not_finish(rehearse):
    """The simulator never says yes to what nobody modelled."""

    def program():
        opts = pulumi.ResourceOptions(
            provider=scaleway.Provider("p", region="fr-par", zone="fr-par-2")
        )
        scaleway.registry.Namespace("images", region="fr-par", opts=opts)

    shown = rehearse(program).preview()
    assert not shown.finished
    assert all(answer.allowed for answer in shown.judged)
    assert any("does not know the type" in line for line in shown.said)


def test_a_property_the_simulator_does_not_know_does_not_finish(rehearse):
    """A misspelling, or something nobody modelled; the SDK accepts both."""

    def program():
        provider = scaleway.Provider("p", region="fr-par", zone="fr-par-2")
        server("gpu", provider, zone="fr-par-2", boot_type="rescue")

    shown = rehearse(program).preview()
    assert not shown.finished
    assert any("bootType" in line for line in shown.said)


def test_immune_and_eea_are_the_profiles_of_the_stack_not_of_the_shell(rehearse):
    """Scaleway's owners are all in the EEA, so the stricter profile allows it too."""
    assert rehearse(profile="immune").preview().finished


def test_the_operators_shell_cannot_move_the_rehearsals_state(rehearse, monkeypatch):
    """One exported variable would send every secret to Pulumi Cloud."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://api.pulumi.com")
    monkeypatch.setenv("PULUMI_ACCESS_TOKEN", "pul-of-somebody")
    rehearsal = rehearse()
    assert rehearsal.preview().finished
    assert list((rehearsal.folder / "state").rglob("*.json"))


def test_the_operators_account_keys_do_not_reach_a_rehearsal(rehearse, monkeypatch):
    """The SDK would put them into the state; a rehearsal needs no account."""
    monkeypatch.setenv("SCW_ACCESS_KEY", "SCWEXAMPLE")
    monkeypatch.setenv("SCW_SECRET_KEY", "canary")  # pragma: allowlist secret
    shown = rehearse().preview()
    (provider,) = [s.inputs for s in shown.announced if s.kind == PROVIDER + "scaleway"]
    assert (provider["region"], provider["zone"]) == ("fr-par", "fr-par-2")
    assert not {"accessKey", "secretKey"} & set(provider)
    assert os.environ["SCW_SECRET_KEY"]


def test_the_addresses_that_were_given_become_the_inventory(rehearse, tmp_path, cli, site):
    """The playbooks configure these machines and no others."""
    rehearsal = rehearse(nodes=2)
    assert rehearsal.up().finished
    backend = f"file://{rehearsal.folder / 'state'}"
    with pytest.MonkeyPatch.context() as shell:
        passphrase = (rehearsal.folder / "passphrase").read_text()
        shell.setenv("PULUMI_CONFIG_PASSPHRASE", passphrase)
        found = engine.made_inventory(tmp_path / "home", cli, site, backend)
    hosts = found["all"]["children"][INVENTORY_GROUP]["hosts"]
    given = {
        entry["outputs"]["address"]
        for entry in standing(rehearsal).values()
        if "address" in entry["outputs"]
    }
    assert {host["ansible_host"] for host in hosts.values()} == given
    assert {host["sovereign_place"] for host in hosts.values()} == {"scaleway:fr-par-2"}


def test_before_anything_is_made_there_is_no_inventory(tmp_path, cli, site):
    """An empty inventory would configure nothing, and call it done."""
    with pytest.raises(PlannerUnavailable, match="no inventory"):
        engine.made_inventory(tmp_path / "home", cli, site, "file")


def test_no_state_or_secret_of_a_rehearsal_can_be_read_by_others(previewed):
    """The state names every machine; on a shared host it is nobody else's."""
    rehearsal, _ = previewed
    assert (rehearsal.folder / "passphrase").stat().st_mode & 0o077 == 0
    assert (rehearsal.folder / "state").stat().st_mode & 0o077 == 0
