"""Cards of models: what is there, what it can do here, and what its names will mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai.types
import pytest
from mistralai.client import models as mistral

from sovereign.gateway.aliases import names
from sovereign.gateway.entitle import Entitling
from sovereign.gateway.models import Shelf, card
from sovereign.registry import Endpoint
from sovereign.settings import AliasSettings, EngineSettings, Settings
from tests.gateway.site import EEA, OPENAI, Reply, Site, site
from tests.simulated.engine import MODEL, engine

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
ALIAS = "codestral-latest"
MOVING = AliasSettings(ALIAS, MODEL, "tiny-mixtral", LATER)
DIALECTS = pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])


def card_of(
    model: str, *aliases: AliasSettings, engine: str = "vllm", id_: str = "far", **settings: Any
) -> dict[str, Any]:
    chosen = Settings(engine=EngineSettings(**settings))
    shelf = Shelf(EEA, names(EEA.models, aliases), chosen, Entitling(EEA))
    endpoint = Endpoint(id_, engine, "127.0.0.1:1", (model,), "this-host")
    return card(shelf, EEA.models[model], [endpoint], NOW)


@pytest.mark.parametrize("model", sorted(EEA.models))
def test_both_official_clients_read_every_card_and_lose_nothing_of_it(model: str) -> None:
    """A card that a client cannot read breaks its list of models as a whole."""
    made = card_of(model)
    found = mistral.BaseModelCard.model_validate(made)
    assert (found.id, found.name, found.aliases) == (model, made["name"], made["aliases"])
    assert found.max_context_length == made["max_context_length"]
    told = found.capabilities.model_dump()
    assert {name: told[name] for name in made["capabilities"]} == made["capabilities"]
    assert openai.types.Model.model_validate(made).id == model


def test_a_card_says_what_the_facts_say() -> None:
    """The model of the day, one that was let go, and one that only chats."""
    small = card_of("mistral-small-4-119b-2603")
    can = {name for name, does in small["capabilities"].items() if does}
    assert can == {"completion_chat", "function_calling", "reasoning", "vision"}
    assert small["aliases"] == ["mistral-small-2603", "mistral-small-latest"]
    assert small["deprecation"] is None
    nemo = card_of("mistral-nemo-instruct-2407")
    assert nemo["deprecation"] == "2026-05-22T00:00:00Z"
    assert nemo["deprecation_replacement_model"] == "ministral-3-8b-instruct-2512"
    plain = card_of(MODEL)
    assert {name for name, does in plain["capabilities"].items() if does} == {"completion_chat"}
    assert plain["default_model_temperature"] is None


@pytest.mark.parametrize(("name", "sees"), [("vllm", True), ("llamacpp", False), ("ollama", False)])
def test_a_model_sees_only_through_an_engine_that_is_given_its_eyes(name: str, sees: bool) -> None:
    """A GGUF file alone has none: who sends a picture must know before."""
    assert card_of("pixtral-12b-2409", engine=name)["capabilities"]["vision"] is sees


def test_the_context_is_what_this_sites_engine_was_started_with() -> None:
    """The facts say what the model could; a prompt of that length would be refused."""
    own = "local-llamacpp"
    assert card_of(MODEL, id_=own, context=2048)["max_context_length"] == 2048
    assert card_of(MODEL, id_="far", context=2048)["max_context_length"] == 8192
    assert card_of(MODEL, id_=own, context=99_999)["max_context_length"] == 8192


def test_a_card_shows_the_names_of_this_site_and_where_they_move() -> None:
    """Before it happens, on the card of the model that will lose the name."""
    move = AliasSettings(ALIAS, MODEL, "tiny-mixtral", NOW + timedelta(seconds=1))
    before = card_of(MODEL, move)
    assert before["aliases"] == [ALIAS]
    assert before["alias_moves"] == {ALIAS: {"next": "tiny-mixtral", "at": "2026-11-25T12:00:01Z"}}
    assert "alias_moves" not in card_of("tiny-mixtral", move)
    done = AliasSettings(ALIAS, MODEL, "tiny-mixtral", NOW)
    assert card_of(MODEL, done)["aliases"] == []
    assert card_of("tiny-mixtral", done)["aliases"] == [ALIAS]
    assert "alias_moves" not in card_of("tiny-mixtral", done)


@asynccontextmanager
async def moved(tmp_path: Path, *aliases: AliasSettings) -> AsyncIterator[tuple[Site, Any]]:
    """A site with aliases of its own, and its engine."""
    async with engine() as it, site(tmp_path, it.address, aliases=aliases) as ours:
        yield ours, it


async def get(ours: Site, name: str, headers: dict[str, str], secret: str = "") -> Reply:
    key = {"authorization": f"Bearer {secret or ours.secret}", **headers}
    return await ours.ask("GET", f"/v1/models/{name}", key)


@DIALECTS
async def test_a_card_is_found_by_its_id_and_by_its_alias(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """And says which model it really is."""
    async with moved(tmp_path, MOVING) as (ours, _):
        for name in (MODEL, ALIAS):
            reply = await get(ours, name, headers)
            assert (reply.status, reply.json["id"]) == (200, MODEL)
            assert list(reply.json["alias_moves"]) == [ALIAS]


@DIALECTS
async def test_a_card_that_is_not_there_is_404_in_the_clients_words(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """One that is served to others is as little there as one that nobody knows."""
    async with moved(tmp_path) as (ours, it):
        bound = ours.key(models=("tiny-mixtral",))
        await ours.seen()
        cases = [("gpt-9", ""), ("tiny-mixtral", ""), (ALIAS, ""), (MODEL, bound)]
        for name, secret in cases:
            reply = await get(ours, name, headers, secret)
            assert (reply.status, reply.error["code"]) == (404, "model-unknown")
            assert ("error" in reply.json) is bool(headers)
        assert (await get(ours, MODEL, headers, "sov_no")).status == 401
        ours.endpoint(it.address, quarantine="telemetry-on", reason="x")
        await ours.seen()
        assert (await get(ours, MODEL, headers)).status == 404


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_says_which_model_it_is_of_and_that_its_name_will_move(
    tmp_path: Path, headers: dict[str, str], stream: bool
) -> None:
    """A program that pins an alias learns from its own answers that it will get another model."""
    async with moved(tmp_path, MOVING) as (ours, it):
        reply = await ours.chat(model=ALIAS, stream=stream, headers=headers)
        assert reply.status == 200
        assert it.asked[0].body["model"] == MODEL
        assert reply.headers["x-sovereign-model"] == MODEL
        said = f"{ALIAS}=tiny-mixtral at {LATER:%Y-%m-%dT%H:%M:%SZ}"
        assert reply.headers["x-sovereign-alias-moves"] == said
        assert ours.kinds("decision")[0]["model"] == MODEL
        by_id = await ours.chat(stream=stream, headers=headers)
        assert by_id.headers["x-sovereign-model"] == MODEL
        assert "x-sovereign-alias-moves" not in by_id.headers


async def test_an_alias_that_has_moved_is_answered_by_the_new_model_or_not_at_all(
    tmp_path: Path,
) -> None:
    """Nothing serves the new one here: the old one is no stand-in."""
    past = AliasSettings(ALIAS, MODEL, "tiny-mixtral", datetime(2026, 1, 1, tzinfo=UTC))
    async with moved(tmp_path, past) as (ours, it):
        assert (await ours.chat(model=ALIAS)).status == 404
        assert ours.kinds("decision")[0]["model"] == "tiny-mixtral"
        ours.endpoint(it.address, models=(MODEL, "tiny-mixtral"))
        await ours.seen()
        reply = await ours.chat(model=ALIAS)
        assert reply.headers["x-sovereign-model"] == "tiny-mixtral"


async def test_a_key_bound_to_a_model_may_call_it_by_every_name(tmp_path: Path) -> None:
    """A binding is to the model, not to a word; and another model behind the word is refused."""
    async with moved(tmp_path, MOVING) as (ours, _):
        bound, other = ours.key(models=(MODEL,)), ours.key(models=("tiny-mixtral",))
        await ours.seen()
        assert (await ours.chat(model=ALIAS, secret=bound)).status == 200
        refused = await ours.chat(model=ALIAS, secret=other)
        assert refused.error["code"] == "model-not-bound"
