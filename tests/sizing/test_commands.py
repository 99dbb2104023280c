"""`sovereign models`, `size` and `cost` as a person and a program meet them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sovereign.engines.llamacpp import packaged_model
from tests.cli.conftest import Run, home, run

__all__ = ["home", "run"]  # fixtures of another folder, used here

MIXTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
}
NAMED = ("mixtral-8x7b", "mistral-large", "codestral", "mistral-medium-3.5", "mistral-small-3.2")


def test_the_size_of_mixtral_is_what_everybody_asks_first(run: Run) -> None:
    """Names that stay: weights_gib, kv_gib, total_gib, fits; null where no GPU was named."""
    done = run("size", "mixtral-8x7b", "--dtype", "bf16", "--json")
    assert done.code == 0
    said = done.json
    assert said["model"] == "mixtral-8x7b-instruct-v0.1"
    assert (said["context"], said["concurrency"]) == (8192, 1)
    assert said["weights_gib"] == pytest.approx(86.99, abs=0.01)
    assert said["kv_gib"] == 1.0
    parts = said["weights_gib"] + said["kv_gib"] + said["beside_gib"]
    assert said["total_gib"] == pytest.approx(parts, abs=1e-5)
    assert said["weights_gib"] + said["kv_gib"] < said["total_gib"] < 93
    assert said["fits"] is None
    assert said["total_range_gib"][0] < said["total_gib"] < said["total_range_gib"][1]


@pytest.mark.parametrize(("gpus", "code", "fits"), [("1", 1, False), ("2", 0, True)])
def test_gpus_that_do_not_hold_it_end_in_1(run: Run, gpus: str, code: int, fits: bool) -> None:
    """A script asks before it orders."""
    done = run("size", "mixtral-8x7b", "--dtype", "bf16", "--gpu", "h100", "--gpus", gpus, "--json")
    assert (done.code, done.json["fits"]) == (code, fits)
    assert done.json["gpu"]["gpus"] == int(gpus)
    assert done.json["speed"]["decode_tokens_s_each"]["bound"] > 0


@pytest.mark.parametrize(
    "name", ["mixtral-8x22b", "mistral-7b", "codestral", "mistral-small-4", "mistral-large", "nemo"]
)
def test_short_names_stand_for_a_model(run: Run, name: str) -> None:
    """Nobody types the date of a release."""
    done = run("size", name, "--json")
    assert done.code == 0
    assert done.json["weights_gib"] > 3


@pytest.mark.parametrize(
    ("words", "code", "accepted"),
    [
        (["size", "mixtral-9x7b"], "unknown-name", "mixtral-8x7b"),
        (["size", "codestral-2508"], "unknown-name", "codestral-22b-v0.1"),
        (["size", "mixtral-8x7b", "--gpu", "h9000"], "unknown-name", "h100-sxm"),
        (["size", "mixtral-8x7b", "--dtype", "fp3"], "unknown-name", "bf16"),
        (["size", "mixtral-8x7b", "--kv-dtype", "int2"], "unknown-name", "fp8"),
        (["size", "mixtral-8x7b", "--context", "32769"], "bad-input", "32768"),
        (["size", "mixtral-8x7b", "--gpus", "2"], "bad-input", "--gpu"),
        (["size", "mixtral-8x7b", "--weights", "absent"], "bad-input", "GGUF"),
        (
            ["size", "mixtral-8x7b", "--gpu", "h100", "--gpus", "3", "--tensor-parallel", "3"],
            "bad-input",
            "tp=1 pp=3",
        ),
        (["size", "mistral-7b", "--gpu", "h100", "--expert-parallel"], "bad-input", "tp=1"),
        (["cost", "mixtral-8x7b", "--profile", "poetry"], "unknown-name", "chat"),
        (["cost", "mixtral-8x7b", "--input-tokens", "40000"], "bad-input", "32768"),
        (["cost", "mistral-7b", "--own", "l40s"], "bad-input", "--own-price"),
        (["cost", "mistral-large-3", "--own", "1xl4", "--own-price", "1"], "bad-input", "size"),
        (["models", "show", "gpt-4"], "unknown-name", "catalogue"),
        (["models", "list", "--family", "gpt"], "unknown-name", "codestral"),
        (["models", "list", "--can", "fly"], "unknown-name", "vision"),
        (["models", "list", "--licence", "free"], "unknown-name", "modified"),
        (["models", "list", "--state", "new"], "unknown-name", "retired"),
        (["models", "compare", "mixtral-8x7b"], "bad-input", "two or three"),
        (["models", "licence", "mistral-embed"], "unknown-name", "weights"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_asked_wrongly_it_says_what_is_accepted(
    run: Run, words: list[str], code: str, accepted: str
) -> None:
    """Exit 2, the code, and the way on; as text and as JSON."""
    done = run(*words)
    assert (done.code, done.error) == (2, code)
    assert accepted in done.err
    assert run(*words, "--json").json["error"]["code"] == code


def test_weights_on_disk_are_read_and_disagreements_said(run: Run, tmp_path: Path) -> None:
    """The table is for what is not there yet; the file is what will be loaded."""
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL | {"num_hidden_layers": 16}))
    done = run("size", "mixtral-8x7b", "--weights", str(tmp_path), "--dtype", "bf16", "--json")
    assert done.json["disagreements"] == [{"figure": "layers", "table": 32, "file": 16}]
    assert done.json["kv_gib"] == 0.5
    shown = run("size", "mixtral-8x7b", "--weights", str(tmp_path))
    assert "the table says 32, the files 16" in shown.out


def test_weights_of_a_model_that_no_table_knows_are_sized_from_themselves(
    run: Run, tmp_path: Path
) -> None:
    """Tomorrow's model is sized today."""
    (tmp_path / "config.json").write_text(json.dumps(MIXTRAL))
    done = run("size", str(tmp_path), "--json")
    assert done.json["parameters"] == 46_702_792_704
    real = run("size", str(packaged_model()), "--json")
    assert real.json["weights_gib"] == pytest.approx(96_576_768 / 2**30, abs=1e-3)
    assert real.json["kv_dtype"] == "fp16"


def test_explain_shows_every_term_and_they_add_up(run: Run) -> None:
    """A number whose way is not shown has to be believed."""
    words = ["size", "mixtral-8x7b", "--gpu", "h100", "--gpus", "2", "--explain"]
    terms = run(*words, "--json").json["terms"]
    said = run(*words).out
    per_gpu = run(*words, "--json").json["gpu"]["gib_per_gpu"]
    assert sum(term["gib"][1] for term in terms) == pytest.approx(per_gpu, abs=0.01)
    for term in terms:
        assert term["formula"] in said
    assert "assumed:" in said


def test_a_plan_has_command_stack_and_ollama(run: Run) -> None:
    """From the question to what is typed, in one call; without GPUs, for the cheapest machine."""
    planned = run("size", "mixtral-8x7b", "--plan", "--json").json["plan"]
    assert "vllm serve mistralai/Mixtral-8x7B-Instruct-v0.1" in planned["engine command"][0]
    assert "model: mixtral-8x7b-instruct-v0.1" in planned["stack"][0]
    assert any("ollama pull mixtral:8x7b" in line for line in planned["ollama"])
    shown = run("size", "mixtral-8x7b", "--plan", "--gpu", "h100", "--gpus", "2").out
    assert "--tensor-parallel-size 2" in shown
    assert "shape: H100-SXM-2-80G" in shown


def test_machines_offered_stand_where_the_policy_allows(run: Run) -> None:
    """Exoscale's operator is under Swiss law: under `eea` its machines are not offered."""
    places = {m["place"].partition(":")[0] for m in run("size", "nemo", "--json").json["machines"]}
    assert "scaleway" in places
    assert "exoscale" not in places


def test_the_list_fits_eighty_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that wraps is read by nobody."""
    done = run("models", "list")
    assert done.code == 0
    assert max(len(line.rstrip()) for line in done.out.splitlines()) <= 80
    assert "mixtral-8x22b-instruct-v0.1" in done.out


@pytest.mark.parametrize(
    ("words", "there", "absent"),
    [
        (["--family", "codestral"], "codestral-2508", "mistral-large-2402"),
        (["--can", "fim"], "codestral-22b-v0.1", "mixtral-8x7b-instruct-v0.1"),
        (["--licence", "modified"], "mistral-medium-3.5-128b", "codestral-22b-v0.1"),
        (["--state", "current"], "mistral-small-4-119b-2603", "mixtral-8x7b-instruct-v0.1"),
        (["--no-weights"], "mistral-embed-2312", "mistral-small-4-119b-2603"),
        (["--weights"], "mistral-small-4-119b-2603", "mistral-embed-2312"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_the_list_is_narrowed(run: Run, words: list[str], there: str, absent: str) -> None:
    """Each filter keeps what it should, and only that."""
    names = {each["id"] for each in run("models", "list", *words, "--json").json["models"]}
    assert there in names
    assert absent not in names


def test_what_is_not_verified_is_shown_as_such(run: Run) -> None:
    """In the table by a mark, in the page of a model by a word, in JSON by name."""
    assert "675/41?" in run("models", "list", "--family", "mistral-large").out
    shown = run("models", "show", "mistral-large-3")
    assert "(not verified)" in shown.out
    said = run("models", "show", "mistral-large-3", "--json").json
    assert {"context", "parameters_active_b"} <= set(said["not_verified"])


def test_models_stand_side_by_side_within_a_terminal(run: Run) -> None:
    """Three at most, each column folded by itself."""
    done = run("models", "compare", "mixtral-8x7b", "mistral-small-4", "codestral-latest")
    assert done.code == 0
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "never published" in done.out


def test_a_licence_says_what_it_forbids_and_what_our_rule_makes_of_it(run: Run) -> None:
    """Codestral: production is out of the question, and somebody must answer for the rest."""
    said = run("models", "licence", "codestral", "--json").json
    assert said["serve"] == "acknowledge"
    assert said["acknowledgement"] is True
    assert any("production" in line for line in said["licence"]["forbids"])
    shown = run("models", "licence", "mistral-medium-3.5").out
    assert "20 million" in shown
    assert "not legal advice" in shown
    assert run("models", "licence", "mixtral-8x7b", "--json").json["serve"] == "yes"


def test_a_recommendation_fits_can_and_may(run: Run) -> None:
    """Best first; the others with the reason; 1 when there is none."""
    done = run("models", "recommend", "--gpu", "l40s", "--can", "tools", "--json")
    assert done.code == 0
    first, left = done.json["models"][0], done.json["left_out"]
    assert (first["state"], first["serve"]) == ("current", "yes")
    assert {
        "model": "mistral-large-3-675b-instruct-2512",
        "why": "does not fit 1 x NVIDIA L40S",
    } in (left)
    none = run("models", "recommend", "--gpu", "l4", "--can", "tools", "--context", "262144")
    assert none.code == 1
    assert run("models", "recommend", "--gpu", "l4", "--can", "embeddings").code == 1


def test_the_routing_is_shown_drawn_and_counted(run: Run, tmp_path: Path) -> None:
    """Text, SVG and JSON of the same numbers."""
    done = run("models", "moe", "mixtral-8x7b", "--svg", str(tmp_path / "m.svg"))
    assert "2 of 8 experts" in done.out
    assert (tmp_path / "m.svg").read_text().startswith("<svg")
    steps = run("models", "moe", "mixtral-8x7b", "--json").json["batches"]
    assert steps[0] == {"batch": 1, "experts_touched": 2.0, "bytes_read": steps[0]["bytes_read"]}


def test_costs_stand_beside_the_interface_with_their_days(run: Run, tmp_path: Path) -> None:
    """Every price has the day it was read, and what went through a rate is marked."""
    words = ["cost", "ministral-3-8b", "--requests-day", "60000"]
    said: Any = run(*words, "--json").json
    assert said["api"]["price"]["read_on"] == "2026-08-21"
    assert said["api"]["eur_month_regional"] == pytest.approx(1.1 * said["api"]["eur_month"])
    for machine in said["machines"]:
        if machine["price"] is not None:
            assert machine["through_exchange_rate"] is (machine["price"]["currency"] == "USD")
    done = run(*words, "--svg", str(tmp_path / "c.svg"), "--own", "1xl40s", "--own-price", "14000")
    assert "your own:" in done.out
    assert "[low]" in done.out
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    dear = run(*words, "--eur-per-usd", "2", "--json").json
    assert dear["exchange"]["source"] == "given by you"


def test_a_model_that_is_no_longer_sold_is_still_costed(run: Run) -> None:
    """Mixtral has no price at Mistral any more; machines have one."""
    said = run("cost", "mixtral-8x7b", "--dtype", "fp8", "--json").json
    assert said["api"] is None
    assert said["machines"]
    assert all(each["break_even_requests_day"] is None for each in said["machines"])
    assert "no longer sold" in run("cost", "mixtral-8x7b").out


@pytest.mark.parametrize(
    "asked",
    [
        *(f"models {verb} {name}" for verb in ("show", "licence") for name in NAMED),
        "models recommend --gpu h100-sxm --gpus 8 --most 40",
        "models recommend --gpu h100-sxm --gpus 4 --can fim",
        "models moe mistral-large",
        "size mixtral-8x7b",
        "size mistral-small-4 --gpu l40s --gpus 4",
        "cost mistral-small-4",
        "cost ministral-3-8b --own 1xl40s --own-price 14000",
    ],
)
def test_an_answer_fits_eighty_columns(asked: str, run: Run) -> None:
    """A line that a terminal breaks is read wrongly; an address alone is left whole."""
    done = run(*asked.split())
    assert done.code == 0, done.err
    lines = [line.rstrip() for line in done.out.splitlines() if "https://" not in line]
    assert [line for line in lines if len(line) > 80] == []


def test_terms_that_a_role_has_to_acknowledge_are_told_in_a_recommendation(run: Run) -> None:
    """And whoever asks for open licences alone sees what they lose by it."""
    words = ["models", "recommend", "--gpu", "h100-sxm", "--gpus", "4", "--can", "fim"]
    assert re.search(r"^codestral-22b-v0\.1 .* ack\. *$", run(*words).out, re.MULTILINE)
    done = run(*words, "--licence", "open", "--json").json
    assert [each["model"] for each in done["models"]] == ["mistral-7b-instruct-v0.3"]
    why = {each["model"]: each["why"] for each in done["left_out"]}
    assert why["codestral-22b-v0.1"] == "its licence is non-production"
