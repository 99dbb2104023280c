"""Streams in, streams out: usage where the client expects it, and never the end too early."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway.relay import Relay


def chunk(**fields: object) -> bytes:
    return b"data: " + msgspec.json.encode({"id": "1", "object": "x", **fields}) + b"\n\n"


def delta(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = (
    chunk(**delta("Par"))
    + chunk(**delta("is"))
    + chunk(**delta("", "stop"))
    + chunk(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


def events(data: bytes) -> list[dict[str, object]]:
    return [msgspec.json.decode(event[5:]) for event in data.split(b"\n\n") if event]


def relayed(
    dialect: str, *, wants_usage: bool, cut: list[int] | None = None
) -> tuple[Relay, bytes]:
    relay = Relay(dialect, wants_usage=wants_usage)
    edges = sorted({0, len(STREAM), *(c % len(STREAM) for c in cut or [])})
    out = b"".join(relay.feed(STREAM[a:b]) for a, b in pairwise(edges))
    return relay, out + relay.rest()


def test_mistrals_clients_get_usage_on_the_chunk_that_finishes() -> None:
    """Their SDK reads usage from the last chunk with a choice; a chunk without one breaks it."""
    relay, out = relayed("mistral", wants_usage=True)
    assert relay.done
    assert [e.get("usage") for e in events(out)] == [None, None, USAGE]
    assert all(e["choices"] for e in events(out))


@pytest.mark.parametrize(("wants_usage", "chunks"), [(True, 4), (False, 3)])
def test_openais_clients_get_the_usage_chunk_only_when_they_asked(
    wants_usage: bool, chunks: int
) -> None:
    """We always ask the engine for it, to meter; the client sees only what it asked for."""
    relay, out = relayed("openai", wants_usage=wants_usage)
    assert len(events(out)) == chunks
    assert relay.usage == USAGE


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from(["mistral", "openai"]))
def test_it_does_not_matter_where_the_network_cuts_the_stream(cut: list[int], dialect: str) -> None:
    """Packets end anywhere, also in the middle of a word."""
    assert relayed(dialect, wants_usage=True, cut=cut)[1] == relayed(dialect, wants_usage=True)[1]


def test_the_end_marker_is_never_relayed() -> None:
    """It may leave only after the completion is on disk, which is the caller's to know."""
    assert b"[DONE]" not in relayed("mistral", wants_usage=True)[1]


def test_an_engines_error_in_the_stream_is_noticed_and_not_passed_on() -> None:
    """Its text may hold parts of the prompt."""
    relay = Relay("mistral", wants_usage=True)
    assert relay.feed(chunk(error={"message": "CANARY"}, code=500)) == b""
    assert relay.failed


def test_words_that_look_like_fields_in_the_text_change_nothing() -> None:
    """A model may write JSON about itself."""
    text = '"finish_reason":null "usage":{'
    relay = Relay("mistral", wants_usage=True)
    out = relay.feed(chunk(**delta(text)))
    assert events(out)[0]["choices"][0]["delta"]["content"] == text  # type: ignore[index]
