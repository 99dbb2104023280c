"""A route, a field or a header that nobody says canaries to is not drilled: this is the list."""

from collections.abc import Iterator

import pytest

from sovereign.drills import canary, push, speech
from sovereign.drills.push import Pusher
from sovereign.drills.words import Canaries
from sovereign.gateway.app import ROUTES
from sovereign.gateway.kinds.table import KINDS
from sovereign.gateway.kinds.wish import MISTRAL_FIELDS, OPENAI_FIELDS
from sovereign.gateway.refusal import STATUS
from sovereign.settings import GatewaySettings
from sovereign.subjects import SOURCES

MODEL = "some-model"


class Heard(Pusher):
    """A pusher that keeps what it would send, and sends nothing."""

    def send(
        self, outcome: str, path: str, body: object, more: object = None, method: str = "POST"
    ) -> str:
        self.canaries.go(outcome)
        HEARD.append((outcome, path, body, more, method))
        return ""

    def _raw(self, outcome: str, route: str, data: bytes, reads: int, within_s: float) -> None:
        self.canaries.go(outcome)
        HEARD.append((outcome, route, data, None, "raw"))


HEARD: list[tuple[str, str, object, object, str]] = []


@pytest.fixture
def canaries() -> Iterator[Canaries]:
    """Everything a drill would say to the gateway as it is, in `HEARD`; and its canaries."""
    it = Canaries()
    keys = {source: f"sov_{source}" for source in SOURCES}
    pusher = Heard(GatewaySettings(), keys, it, {"/v1/chat/completions": MODEL})
    list(pusher.everything(ROUTES, canary.names()))
    yield it
    HEARD.clear()


def test_every_route_that_takes_a_body_has_canaries_for_it() -> None:
    """A new route must not be served before somebody has thought of what it could leak."""
    assert canary.not_covered() == []
    assert {kind.route for kind in KINDS} == set(speech.BODIES) == set(speech.NEEDS)


def test_every_route_is_asked_with_every_method(canaries: Canaries) -> None:
    """A canary in the query of a health check is one too."""
    for route in ROUTES:
        start = route.partition("{")[0]
        asked = {m for _, path, _, _, m in HEARD if path.startswith(start) and "?" in path}
        assert asked >= set(push.METHODS), route


def test_every_field_of_every_body_is_a_canary_once(canaries: Canaries) -> None:
    """A field that was added to the interface is drilled from that day on."""
    assert canary.names() >= MISTRAL_FIELDS | OPENAI_FIELDS
    for route in speech.BODIES:
        for dialect, _ in push.DIALECTS:
            told = {
                body["model"] if name == "model" else name
                for outcome, path, body, _, _ in HEARD
                for name in ("model", *canary.names())
                if path == route
                and isinstance(body, dict)
                and outcome == f"text for {name}{dialect}"
                and canaries.stem in str(body[name])
            }
            assert told == canary.names() - {"model"}, (route, dialect)
        models = [b["model"] for _, p, b, _, _ in HEARD if p == route and isinstance(b, dict)]
        assert any(canaries.stem in model for model in models), route


WANTED = {
    "messages.system",
    "messages.user",
    "messages.part",
    "messages.assistant",
    "messages.name",
    "messages.tool",
    "tools.name",
    "tools.description",
    "tools.parameter",
    "tool_calls.name",
    "tool_calls.args",
    "response_format.schema",
    "schema.name",
    "stop",
    "user",
    "metadata.subject",
    "metadata key",
    "image_url.name",
    "image_url.host",
    "suffix",
    "prompt",
    "input",
    "prompt_cache_key",
    "a field's name",
    "a field's value",
    "file",
    "form content",
    "key",
    "credentials",
    "query",
    "path",
    "raw bytes",
}


def test_every_place_a_client_can_put_text_is_named(canaries: Canaries) -> None:
    """The list that an auditor goes through with a finger."""
    fields = {origin.field for origin in canaries.words.values()}
    assert fields >= WANTED, WANTED - fields
    assert {origin.field for origin in canaries.shorts.values()} == {"tool_calls.id"}


def test_every_canary_is_one_of_a_kind(canaries: Canaries) -> None:
    """Otherwise a find would point at the wrong field."""
    assert len(canaries.words) > 1000
    assert all(word.count(canaries.stem) == 2 for word in canaries.words)


def test_a_route_that_nobody_wrote_a_body_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above must be able to fail, on the live site too."""
    monkeypatch.setitem(ROUTES, "/v1/audio/transcriptions", {"POST": lambda *_: None})
    assert canary.not_covered() == ["/v1/audio/transcriptions"]


def test_a_drill_asks_each_route_for_a_model_that_can_answer_it() -> None:
    """Asking a model that cannot would only ever drill the refusal."""
    refused = {code.removesuffix("-not-enabled") for code in STATUS if "-not-enabled" in code}
    assert set(speech.NEEDS.values()) - {""} == refused | {"chat"}
