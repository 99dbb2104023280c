"""The catalogue: the whole line-up, each figure with its source, and one home for each fact."""

from datetime import date
from pathlib import Path

import pytest

from infra.offers import FOLDER, Facts, Read
from sovereign import catalogue
from sovereign import policy as policies
from sovereign.catalogue import Wanted, state
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy
from sovereign.policy.shapes import Lifecycle, Model
from sovereign.policy.yamlfile import read_as

SEED = {
    "mistral-large": {"1.0", "2.0", "2.1", "3"},
    "mistral-medium": {"1.0", "3", "3.1", "3.5"},
    "mistral-small": {"1.0", "2.0", "3.0", "3.1", "3.2", "4"},
    "codestral": {"22B v0.1", "2501", "Codestral", "Mamba"},
    "mixtral-8x7b": {"Instruct v0.1", "base"},
    "mixtral-8x22b": {"Instruct v0.1", "base"},
    "mistral-7b": {"v0.1", "v0.2", "v0.3"},
}
"""The seven lines of models that everybody names, and the versions each has had."""
SIZES = {"bf16", "fp8", "fp4"}
ABILITIES = {
    *("chat", "tools", "fim", "vision", "reasoning"),
    *("json", "embeddings", "moderation"),
}
NOW = date(2026, 11, 24)


@pytest.mark.parametrize("family", SEED)
def test_each_of_the_seven_lines_is_there_with_all_its_versions(eea: Policy, family: str) -> None:
    """Who comes with a name of last year finds what became of it."""
    names = [e.name for e in catalogue.entries(eea) if e.family == family]
    for version in SEED[family]:
        assert any(name.endswith(version) or version in name for name in names), version


def test_every_figure_has_a_source_a_day_and_a_mark(eea: Policy) -> None:
    """A number without them is an opinion."""
    for entry in catalogue.entries(eea):
        assert entry.source, entry.id
        assert entry.checked_on <= NOW, entry.id
        if entry.price is not None:
            assert entry.price.source.startswith("https://"), entry.id
            assert entry.price.read_on <= NOW, entry.id
        fields = set(entry.__struct_fields__) | {"ollama"}
        assert set(entry.figures) <= fields, entry.id
    for a in eea.catalogue.architectures.values():
        assert a.source, a.id
        assert set(a.figures) <= set(a.__struct_fields__), a.id


def test_abilities_and_formats_are_words_that_filters_know(eea: Policy) -> None:
    """A typing error in a list would hide a model from whoever looks for it."""
    for entry in catalogue.entries(eea):
        assert catalogue.abilities(entry) <= ABILITIES, entry.id
    for model in eea.models.values():
        assert set(model.capabilities) <= {"chat", "tools", "fim"}, model.id
        assert set(model.min_gpu_memory_gb) | set(model.recipe_memory_gb) <= SIZES, model.id


def test_what_is_retired_says_since_when_or_that_nobody_knows(eea: Policy) -> None:
    """A date in the past and `current` would contradict each other."""
    for entry in catalogue.entries(eea):
        retired = entry.lifecycle.retired_on
        if entry.status == "current":
            assert retired is None or retired > entry.checked_on, entry.id
        if entry.status == "retired-upstream" and retired is not None:
            assert retired <= entry.checked_on, entry.id


@pytest.mark.parametrize(
    ("deprecated", "retired", "today", "expected"),
    [
        (None, None, date(2026, 1, 1), "current"),
        (None, date(2026, 9, 30), date(2026, 9, 29), "deprecated"),
        (None, date(2026, 9, 30), date(2026, 9, 30), "retired"),
        (date(2026, 5, 22), date(2026, 7, 31), date(2026, 5, 21), "current"),
        (date(2026, 5, 22), date(2026, 7, 31), date(2026, 5, 22), "deprecated"),
        (date(2026, 5, 22), date(2026, 7, 31), date(2026, 8, 1), "retired"),
    ],
)
def test_a_model_is_retired_from_its_day_on(
    eea: Policy, deprecated: date | None, retired: date | None, today: date, expected: str
) -> None:
    """Announced, then gone: the table need not be touched on the day."""
    import msgspec

    model = eea.models["mistral-small-4-119b-2603"]
    life = Lifecycle(deprecated, retired)
    assert state(msgspec.structs.replace(model, lifecycle=life), today) == expected


def test_a_replacement_can_be_had_or_is_sold(eea: Policy) -> None:
    """Being sent from one retired model to another helps nobody."""
    for entry in catalogue.entries(eea):
        instead = catalogue.replacement(eea, entry)
        if instead is not None and entry.id != "leanstral-2603":
            assert state(instead, NOW) == "current", (entry.id, instead.id)


def test_every_name_finds_its_model(eea: Policy) -> None:
    """Ids, aliases, short names, repositories and tags, in any case."""
    for model in eea.models.values():
        for name in (model.id, *model.aliases, *model.short, model.sources.repository):
            if name:
                assert catalogue.find(eea, name.upper()) is model, name
    assert catalogue.find(eea, "mistral:7b").id == "mistral-7b-instruct-v0.3"
    assert catalogue.find(eea, "codestral-latest").id == "codestral-2508"


def test_a_name_that_only_mistral_serves_is_no_name_of_ours(eea: Policy) -> None:
    """codestral-latest means other weights than Codestral 22B; a gateway must not mix them."""
    ours = {name for m in eea.models.values() for name in (m.id, *m.aliases)}
    assert not ours & {"codestral-latest", "mistral-embed", "mistral-medium-2508"}


def test_a_list_is_narrowed_by_everything_at_once(eea: Policy) -> None:
    """Open, supported, with weights, and able to use tools."""
    wanted = Wanted(able=("tools",), terms="open", state="current", weights=True)
    found = catalogue.select(eea, wanted, NOW)
    assert found
    for entry in found:
        assert isinstance(entry, Model)
        assert entry.licence_terms == "open"
        assert "tools" in catalogue.abilities(entry)
        assert state(entry, NOW) == "current"


def test_every_licence_says_what_it_permits_forbids_and_asks(eea: Policy) -> None:
    """And each kind of terms that we rule on has a text, and the other way round."""
    texts = eea.catalogue.licences.values()
    assert {text.terms for text in texts} == set(eea.licences)
    for text in texts:
        assert text.forbids, text.name
        assert text.requires, text.name
        assert text.source.startswith("https://"), text.name
    for model in eea.models.values():
        assert catalogue.licence(eea, model).terms == model.licence_terms, model.id


def test_the_seed_of_every_price_is_dated_and_of_every_card_marked(eea: Policy) -> None:
    """Prices rose by half within a year: an undated one is shown as such."""
    for shape in eea.gpus.shapes:
        if shape.price is not None:
            assert shape.price.read_on is None or shape.price.read_on <= NOW, shape.id
            assert float(shape.price.amount) > 0, shape.id
    for card in eea.gpus.gpus:
        assert card.memory_mib / 1024 < card.memory_gb * 1.01, card.id
        assert card.memory_mib * 2**20 > card.memory_gb * 0.93e9, card.id
        assert card.tflops_fp8 in (0, *range(card.tflops_16bit, card.tflops_16bit * 3)), card.id


def test_the_planner_and_the_catalogue_know_the_same_machines(eea: Policy) -> None:
    """Two files hold Scaleway's shapes; until one is made from the other, they must agree."""
    facts = read_as(FOLDER / "scaleway.yaml", Facts)
    ours = {s.id: s for s in eea.gpus.shapes if s.provider == facts.provider}
    cards = {card.id: card for card in eea.gpus.gpus}
    for theirs in facts.shapes:
        shape = ours[theirs.id]
        card = cards[shape.gpu]
        assert (shape.gpus, card.name) == (theirs.gpus, theirs.gpu), theirs.id
        assert card.memory_gb * shape.gpus == theirs.gpu_memory_gb, theirs.id
        assert set(shape.zones) == set(theirs.zones), theirs.id
        price = shape.price
        read = price and Read(price.amount, "EUR", price.read_on or NOW, price.source)
        assert read == theirs.price, theirs.id


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("models", "architecture: mixtral-8x7b\n", "architecture: mixtral-9x7b\n", "architecture"),
        ("models", "licence: Modified MIT\n", "licence: MIT\n", "licence"),
        ("models", "replacement: codestral-2508\n", "replacement: codestral\x31\n", "replacement"),
        ("models", "short: [codestral, ", "short: [nemo, codestral, ", "two models"),
        ("models", "aliases: [codestral-latest]", "aliases: [codestral]", "two models"),
        ("models", "layers: 88", "layers: 0", "layers"),
        ("gpus", "gpu: l4\n", "gpu: l5\n", "gpu"),
        ("gpus", "zones: [GRA9, GRA11]", "zones: [GRA99]", "zone"),
        ("gpus", "aliases: [h100, ", "aliases: [a100, h100, ", "two GPUs"),
        ("gpus", "id: L4-2-24G", "id: L4-1-24G", "stands twice"),
        ("gpus", 'amount: "2.8665"', "amount: 2.8665", "reads as"),
    ],
)
def test_facts_that_do_not_hold_together_are_not_loaded(
    copy: Path, file: str, old: str, new: str, says: str
) -> None:
    """A slip of the pen is found when the file is read, and not when a bill comes."""
    path = copy / "facts" / f"{file}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(PolicyUnreadable, match=says):
        policies.load(copy)


def test_a_figure_has_the_mark_of_its_entry_unless_it_has_its_own(eea: Policy) -> None:
    """Large 3 is sure of its licence and not of its context."""
    large = catalogue.find(eea, "mistral-large-3")
    assert catalogue.sureness(large, "context") == "low"
    assert catalogue.sureness(large, "licence") == "medium"
    assert "294,912" in catalogue.doubt(large, "context")
    assert catalogue.doubt(large, "licence") == ""
