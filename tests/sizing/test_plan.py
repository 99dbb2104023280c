"""What is printed to be typed must be accepted where it is typed."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from infra import stack as stacks
from infra.resolve import fits as infra_fits
from infra.resolve import memory_needed_gb, model_of
from sovereign import catalogue
from sovereign.policy import Policy
from sovereign.policy.shapes import Gpu
from sovereign.sizing import plan
from sovereign.sizing.answer import Wish, answer_of, asked_of, subject_of
from sovereign.sizing.fit import best
from sovereign.sizing.formats import weight_format
from sovereign.sizing.machines import allowed_shapes, machines
from tests.sizing.conftest import Ask

Card = Callable[[str], Gpu]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH3eBLwr2yAqDfCyyGmxbBRPOyLrTRiynqRKs19FT9Vp example"


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "zone"),
    [
        ("mixtral-8x7b", "bf16", "H100-2-80G", "fr-par-2"),
        ("ministral-3-8b", "fp8", "L40S-1-48G", "pl-waw-2"),
        ("mistral-small-4", "nvfp4", "H100-2-80G", "fr-par-2"),
        ("mistral-small-4", "fp8", "1H200.141S.*", "FIN-01"),
    ],
)
def test_the_stack_that_comes_out_is_one_that_the_planner_reads(
    name: str,
    dtype: str,
    shape: str,
    zone: str,
    policy: Policy,
    ask: Ask,
    card: Card,
    tmp_path: Path,
) -> None:
    """A file that is copied and refused is worse than none."""
    model, asked = catalogue.with_weights(policy, name), ask(name, dtype)
    found = next(each for each in policy.gpus.shapes if each.id == shape)
    text = plan.stack_file(model, asked, found, card(found.gpu), zone)
    (tmp_path / "s.yaml").write_text(
        text.replace("ssh-ed25519 YOUR-PUBLIC-KEY you@example.org", KEY)
    )
    read = stacks.load("s", tmp_path)
    assert model_of(policy, read.model) is model
    assert (read.cloud, read.engine) == (
        "scaleway" if found.provider == "scaleway" else "static",
        "vllm",
    )
    needed = memory_needed_gb(model, read.precision)
    sold = found.gpus * card(found.gpu).memory_gb
    refused = plan.planner_refuses(model, asked, found, card(found.gpu))
    assert infra_fits(sold, needed) is (refused == "")
    if read.machines:
        assert (read.machines[0].gpu_memory_gb > 0) is infra_fits(sold, needed)


def test_a_machine_that_the_planner_would_refuse_comes_with_a_word_about_it(
    policy: Policy, ask: Ask, card: Card
) -> None:
    """Ministral 3 8B fits 24 GB at 8192 tokens; the planner thinks of all 262,144."""
    model, asked = catalogue.with_weights(policy, "ministral-3-8b"), ask("ministral-3-8b", "fp8")
    shape = next(each for each in policy.gpus.shapes if each.id == "GEX45")
    found = best(asked, card(shape.gpu), 1)
    assert found is not None
    assert found.fits
    assert "34 GB" in plan.planner_refuses(model, asked, shape, card(shape.gpu))
    assert "gpu_memory_gb" not in plan.stack_file(model, asked, shape, card(shape.gpu), "fsn1")


def test_the_command_names_layout_context_load_and_formats(
    policy: Policy, ask: Ask, card: Card
) -> None:
    """Every number of the answer is in it, and telemetry is off in front."""
    model = catalogue.with_weights(policy, "mixtral-8x7b")
    asked = ask("mixtral-8x7b", "fp8", context=16_384, concurrency=12, kv="fp8")
    found = best(asked, card("l40s"), 4)
    assert found is not None
    words = plan.vllm_command(model, asked, found)
    pairs = dict(pairwise(words))
    assert words[:3] == ("VLLM_NO_USAGE_STATS=1", "VLLM_DO_NOT_TRACK=1", "vllm")
    assert pairs["serve"] == "mistralai/Mixtral-8x7B-Instruct-v0.1"
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--tensor-parallel-size"] == "4"
    assert pairs["--max-model-len"] == "16384"
    assert pairs["--max-num-seqs"] == "12"
    assert pairs["--kv-cache-dtype"] == "fp8"
    assert pairs["--quantization"] == "fp8"
    assert "--enable-expert-parallel" not in words
    assert "--pipeline-parallel-size" not in words


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("ministral-3-8b", "--tool-call-parser", "--reasoning-parser"),
        ("ministral-3-8b-reasoning", "--reasoning-parser", "--quantization"),
        ("mistral-7b-base", "--tokenizer-mode", "--tool-call-parser"),
        ("ministral-3-8b", "--load-format", "--quantization"),
        ("mistral-small-3.1", "--tool-call-parser", "--load-format"),
    ],
)
def test_switches_follow_what_the_model_can_and_how_it_is_published(
    name: str, there: str, absent: str, policy: Policy, ask: Ask, card: Card
) -> None:
    """A parser for tools on base weights, or a second quantisation, would stop the engine."""
    model = catalogue.with_weights(policy, name)
    asked = ask(name, model.published_as)
    found = best(asked, card("h100"), 1)
    assert found is not None
    words = plan.vllm_command(model, asked, found)
    assert there in words
    assert absent not in words


def test_notes_say_what_would_go_wrong(policy: Policy, ask: Ask, card: Card) -> None:
    """No fit, formats that need other weights, and cards without bf16."""
    model = catalogue.with_weights(policy, "mixtral-8x7b")

    def notes(dtype: str, gpu: str) -> str:
        asked = ask("mixtral-8x7b", dtype)
        found = best(asked, card(gpu), 1)
        assert found is not None
        return "; ".join(plan.notes(model, asked, found))

    assert "does not fit" in notes("bf16", "l4")
    assert "made in int4" in notes("int4", "l40s")
    assert "no bf16" in notes("bf16", "v100")
    assert "does not fit" not in notes("int4", "l40s")


def test_ollama_is_offered_where_its_library_has_the_model(
    policy: Policy, ask: Ask, card: Card
) -> None:
    """With the cloud switched off, on loopback, and with a word where the tag is not verified."""
    asked = ask("mixtral-8x7b", concurrency=2)
    model = catalogue.with_weights(policy, "mixtral-8x7b")
    found = plan.ollama(model, asked, card("l40s"), 1)
    assert found is not None
    assert (found.tag, found.sure, found.fits) == ("mixtral:8x7b", False, True)
    assert "OLLAMA_NO_CLOUD=1" in found.environment
    assert "OLLAMA_NUM_PARALLEL=2" in found.environment
    assert 26 < found.gib < 34
    small = catalogue.with_weights(policy, "mistral-small-4")
    assert plan.ollama(small, ask("mistral-small-4"), card("l40s"), 1) is None


def test_only_machines_at_allowed_places_are_offered(policy: Policy, ask: Ask) -> None:
    """A Swiss operator's machine in Frankfurt stays out when the policy says so."""
    asked = ask("mistral-7b")
    known = {each.id: each for each in policy.gpus.gpus}
    shapes = allowed_shapes(policy.gpus.shapes, {"exoscale:de-fra-1", "ovh:GRA11"})
    found = machines(asked, shapes, known, policy.gpus.exchange)
    assert {m.shape.provider for m in found} == {"exoscale", "ovh"}
    assert {m.zone for m in found} == {"de-fra-1", "GRA11"}
    assert (
        machines(asked, allowed_shapes(policy.gpus.shapes, ()), known, policy.gpus.exchange) == ()
    )


def test_an_answer_warns_of_what_is_retired_and_of_what_is_not_verified(policy: Policy) -> None:
    """The figure that is read first must not hide what it rests on."""
    day = policy.models["mixtral-8x7b-instruct-v0.1"].checked_on

    def warnings(name: str) -> str:
        subject = subject_of(policy, catalogue.with_weights(policy, name), None, name)
        return "; ".join(answer_of(policy, subject, Wish(), None, 1, (), day).warnings)

    assert "retired at Mistral" in warnings("mixtral-8x7b")
    assert "mistral-small-4-119b-2603" in warnings("mixtral-8x7b")
    assert "not verified" in warnings("mistral-large-3")
    assert "Non-Production" in warnings("codestral")
    assert warnings("mistral-small-4") == ""


def test_what_was_left_open_is_filled_in_as_promised(policy: Policy) -> None:
    """8192 tokens, one conversation, the format the weights are published in."""
    subject = subject_of(policy, catalogue.with_weights(policy, "ministral-3-8b"), None, "")
    asked = asked_of(subject, Wish())
    assert (asked.load.context, asked.load.concurrency) == (8192, 1)
    assert asked.fmt is weight_format("fp8")
    short = replace(subject, context=4096)
    assert asked_of(short, Wish()).load.context == 4096
