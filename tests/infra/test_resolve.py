"""What a stack means: a model that fits a machine."""

import msgspec
import pytest

from infra import resolve, stack
from infra.resolve import fits, memory_needed_gb, model_of
from infra.shapes import inventory
from infra.stack import Stack
from sovereign.errors import UnknownName

MIXTRAL = "mixtral-8x7b-instruct-v0.1"


def example(**changed) -> Stack:
    return msgspec.structs.replace(stack.load("scaleway-example"), **changed)


def test_the_smallest_machine_that_holds_the_model_is_chosen(eea, shop):
    """48 GB do not fit into 48 GB: the engine and the driver need some."""
    assert resolve.site("s", example(), eea, shop).offer.id == "H100-1-80G"
    assert resolve.site("s", example(precision="bf16"), eea, shop).offer.id == "H100-2-80G"


def test_the_machine_that_is_named_is_taken_if_it_fits(eea, shop):
    """The operator's word counts, unless it cannot work."""
    chosen = resolve.site("s", example(shape="L40S-4-48G"), eea, shop)
    assert chosen.offer.id == "L40S-4-48G"
    with pytest.raises(UnknownName) as refused:
        resolve.site("s", example(shape="L4-1-24G"), eea, shop)
    assert "48 GB" in str(refused.value)
    assert "H100-1-80G (80 GB)" in refused.value.found


def test_a_model_too_large_for_every_machine_is_refused(eea, shop):
    """Better said before the bill than after it."""
    with pytest.raises(UnknownName, match="900 GB"):
        resolve.site("s", example(model="mistral-large-latest", precision="fp8"), eea, shop)


def test_a_zone_without_gpus_is_refused_with_what_is_sold_there(eea, shop):
    """fr-par-1 is in Paris and allowed, and has no machine for this."""
    with pytest.raises(UnknownName) as refused:
        resolve.site("s", example(zone="fr-par-1"), eea, shop)
    assert refused.value.found == "none"


def test_a_zone_nobody_sells_is_left_to_the_guard(eea, shop):
    """So that the refusal is the policy's, with its rule, and not a missing price."""
    chosen = resolve.site("s", example(zone="eu-west-2"), eea, shop)
    assert (chosen.place, chosen.region) == ("scaleway:eu-west-2", "eu-west-2")
    assert chosen.offer is not None


def test_a_model_is_found_by_id_and_by_alias(eea):
    """Aliases are what clients say."""
    assert model_of(eea, "open-mixtral-8x7b").id == MIXTRAL
    with pytest.raises(UnknownName):
        model_of(eea, "gpt-4")


def test_a_precision_must_be_one_the_model_has(eea):
    """No precision of several means that somebody has to choose."""
    model = model_of(eea, MIXTRAL)
    assert memory_needed_gb(model, "fp8") == 48
    for wrong in ("", "fp2"):
        with pytest.raises(UnknownName, match="precision"):
            memory_needed_gb(model, wrong)
    assert memory_needed_gb(model_of(eea, "smollm2-135m-instruct"), "") is None


@pytest.mark.parametrize(
    ("has", "needs", "holds"),
    [(80, 72, True), (80, 73, False), (48, 48, False), (0, None, True), (1, 0, True)],
)
def test_a_machine_holds_what_nine_tenths_of_its_memory_hold(has, needs, holds):
    """vLLM's own default; a model that just fits leaves no room for a single request."""
    assert fits(has, needs) is holds


def test_a_machine_you_have_that_is_too_small_is_refused_by_name(eea):
    """The one wrong machine of twenty."""
    asked = stack.load("static-example")
    small = msgspec.structs.replace(asked.machines[1], gpu_memory_gb=24)
    with pytest.raises(UnknownName, match="node-2"):
        resolve.site("s", msgspec.structs.replace(asked, machines=(small,)), eea, None)
    unstated = msgspec.structs.replace(small, gpu_memory_gb=0)
    assert resolve.site("s", msgspec.structs.replace(asked, machines=(unstated,)), eea, None)


def test_the_inventory_says_how_to_reach_each_machine_and_what_it_is_for(eea):
    """The playbooks read exactly these names."""
    site = resolve.site("static-example", stack.load("static-example"), eea, None)
    group = inventory(site, resolve.machine_hosts(site))["all"]["children"]["inference"]
    assert group["hosts"]["node-1"] == {
        "ansible_host": "192.0.2.11",
        "ansible_user": "root",
        "ansible_port": 22,
        "sovereign_listen": "{{ ansible_host }}:8080",
        "sovereign_place": "hetzner:fsn1",
    }
    assert group["vars"] == {
        "gateway_clients": [],
        "sovereign_site": "static-example",
        "sovereign_engine": "vllm",
        "sovereign_model": MIXTRAL,
        "sovereign_profile": "eea",
        "sovereign_environment": "production",
    }
