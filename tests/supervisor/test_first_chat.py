"""The first chat counts when its record stands in the log here, and for nothing less."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sovereign.audit import trail
from sovereign.audit.record import written
from sovereign.audit.trail import Trail
from sovereign.errors import BadInput, EngineUnhealthy, ResidencyRefused
from sovereign.registry import utcnow
from sovereign.settings import FILE_NAME, GatewaySettings, Home, Settings
from sovereign.supervisor import deployment
from sovereign.supervisor.deployment import Choices, Deployed, Deployment
from tests.controller.seen import POLICY

ANSWER = b'{"choices":[{"message":{"content":"Paris"}}]}'.decode()


@pytest.fixture
def decided(tmp_path: Path) -> tuple[Deployment, str]:
    """A home whose gateway's log holds one decision about key_1; the decision's name."""
    home = Home(tmp_path, Settings())
    trail.create(home.audit, home.keys, home.trust, "gateway", "local")
    with Trail.open(home.audit, home.keys, "gateway", "local", utcnow) as log:
        names = ("tenant", "purpose", "basis", "data", "verb", "model", "verdict", "rule")
        fields = {**dict.fromkeys(names, "x"), "policy": POLICY.digest, "request": 1}
        record = log.record("decision", key="key_1", asked_at=written(utcnow()), **fields).result()
    return Deployment(home, Choices(), POLICY, Deployed(key_id="key_1"), secret="s"), record.name


def asked(
    it: Deployment, record: str, monkeypatch: pytest.MonkeyPatch, within_s: float = 0.3
) -> str:
    monkeypatch.setattr(deployment, "PUBLISHED_WITHIN_S", within_s)
    monkeypatch.setattr(deployment, "_wait_for_gateway", lambda _: None)
    monkeypatch.setattr(deployment, "_call_with_key", lambda *_: (200, record, ANSWER))
    return deployment.ask_once(it)


def test_a_record_that_stands_in_the_log_is_kept(
    decided: tuple[Deployment, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is what a user proves first."""
    it, record = decided
    assert "Paris" in asked(it, record, monkeypatch, within_s=10)
    assert deployment._deployed(it.home).record == record


@pytest.mark.parametrize(
    "record",
    ["local/gateway/event#99", "other/gateway/event#1", "local/gateway/event#0", "x", "#", "a#²"],
)
def test_a_record_that_is_not_ours_is_an_error_and_is_not_kept(
    decided: tuple[Deployment, str], monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    """Any program can send a header."""
    it, _ = decided
    with pytest.raises(EngineUnhealthy) as refusal:
        asked(it, record, monkeypatch)
    assert "not in the log here" in refusal.value.message
    assert deployment._deployed(it.home).record == ""


def test_a_record_about_another_key_is_not_ours(
    decided: tuple[Deployment, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision has to be the one about this chat."""
    it, record = decided
    it.deployed.key_id = "key_2"
    with pytest.raises(EngineUnhealthy):
        asked(it, record, monkeypatch)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("192.0.2.10:80", "http://192.0.2.10:80"),
        ("0.0.0.0:8080", "http://HOST:8080"),
        ("[::]:8080", "http://HOST:8080"),
    ],
)
def test_where_every_interface_listens_the_address_is_the_readers_to_fill_in(
    listen: str, url: str
) -> None:
    """Nobody can connect to 0.0.0.0 from elsewhere."""
    chosen = Settings(gateway=GatewaySettings(listen))
    it = Deployment(Home(Path("/x"), chosen), Choices(), POLICY, Deployed())
    assert it.base_url == url


def test_weights_that_are_not_there_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Otherwise the next plain `make deploy` would fail over a wish of yesterday."""
    root = tmp_path / "home"
    with pytest.raises(BadInput) as refusal:
        deployment.begin(root, Choices(weights=str(tmp_path / "nothing.gguf")))
    assert "engine.weights" in refusal.value.message
    assert not root.exists()


@pytest.mark.parametrize(("under", "refused"), [("US", True), ("DE", False)])
def test_a_declared_place_that_the_policy_refuses_is_refused_at_once(
    tmp_path: Path, under: str, refused: bool
) -> None:
    """Found by asking, not by waiting a minute for an endpoint that nobody will vouch for."""
    (tmp_path / FILE_NAME).write_text("version: 1\nplace: own:lab\n")
    (tmp_path / "own-places.yaml").write_text(
        "version: 1\nproviders:\n- {id: own, entity: Example, seat: DE, source: declared,"
        f" under: {under}, checked_on: {utcnow():%Y-%m-%d}, confidence: medium, parents: [],"
        " zones: [{zone: lab, region: lab, country: DE, gpus: true}]}\n"
    )
    before = sorted(tmp_path.iterdir())
    if not refused:
        assert deployment.begin(tmp_path, Choices()).home.settings.place == "own:lab"
        return
    with pytest.raises(ResidencyRefused) as refusal:
        deployment.begin(tmp_path, Choices(listen="127.0.0.1:1"))
    assert refusal.value.rule == "personal-data-stays-in-eea"
    assert refusal.value.because
    assert "US" in refusal.value.found
    assert sorted(tmp_path.iterdir()) == before
    assert "127.0.0.1:1" not in (tmp_path / FILE_NAME).read_text()


def test_a_model_of_vectors_is_asked_for_one(
    decided: tuple[Deployment, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chat would be refused, and the deployment with it."""
    it, record = decided
    name = it.home.settings.engine.model
    fact = msgspec.structs.replace(POLICY.models[name], capabilities=("embeddings",))
    it.policy = replace(POLICY, models={**POLICY.models, name: fact})
    asked_for: list[object] = []

    def call(*words: object) -> tuple[int, str, str]:
        asked_for.extend(words[1:3])
        return 200, record, '{"data":[{"embedding":[0.5,0.25]}]}'

    monkeypatch.setattr(deployment, "PUBLISHED_WITHIN_S", 10)
    monkeypatch.setattr(deployment, "_wait_for_gateway", lambda _: None)
    monkeypatch.setattr(deployment, "_call_with_key", call)
    assert deployment.ask_once(it) == "answered with a vector of 2 numbers"
    assert asked_for == ["POST", "/v1/embeddings"]
