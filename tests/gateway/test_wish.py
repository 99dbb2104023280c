"""Reading a request: every field is known, or it is refused with its name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway import wish
from sovereign.gateway.refusal import Denied

MESSAGES = [{"role": "user", "content": "hello"}]


def body(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": MESSAGES, **fields})


def refusal(raw: bytes, dialect: str = "mistral") -> Denied:
    with pytest.raises(Denied) as caught:
        wish.read(raw, dialect)
    return caught.value


@pytest.mark.parametrize("field", ["seed", "stream_options", "max_completion_tokens", "user"])
def test_mistrals_dialect_refuses_openais_fields_with_422_and_their_name(field: str) -> None:
    """Mistral's API is strict; a client that relies on that must not be surprised here."""
    denied = refusal(body(**{field: 1}))
    assert (denied.status, denied.code, denied.param) == (422, "field-unknown", field)
    assert wish.read(body(**{field: 1}), "openai").model == "m"


@pytest.mark.parametrize("field", ["random_seed", "safe_prompt", "prompt_mode"])
def test_openais_dialect_refuses_mistrals_fields(field: str) -> None:
    """The same strictness in the other direction."""
    assert refusal(body(**{field: 1}), "openai").code == "field-unknown"
    assert wish.read(body(**{field: 1}), "mistral").model == "m"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "body-unreadable"),
        (b"{", "body-unreadable"),
        (b"[]", "body-unreadable"),
        (b"\xff\xfe", "body-unreadable"),
        (b'{"a":' * 5000, "body-unreadable"),
        (body(model=""), "field-invalid"),
        (body(model=7), "field-invalid"),
        (body(messages=[]), "field-invalid"),
        (body(messages="hello"), "field-invalid"),
        (body(messages=[{"content": "no role"}]), "field-invalid"),
        (body(messages=[{"role": "user", "content": 7}]), "field-invalid"),
        (body(n=0), "field-invalid"),
        (body(n=17), "field-invalid"),
        (body(stream="yes"), "field-invalid"),
    ],
)
def test_what_cannot_be_understood_is_refused_before_anything_is_decided(
    raw: bytes, code: str
) -> None:
    """A refusal names what was wrong; nothing is sent anywhere."""
    denied = refusal(raw)
    assert denied.code == code
    assert 400 <= denied.status < 500


@pytest.mark.parametrize("url", ["http://x/y.png", "https://x", "HTTPS://x", "file:///etc", "//x"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_an_image_the_engine_would_have_to_fetch_is_refused(url: str, wrapped: bool) -> None:
    """Fetching on a client's behalf is an exit from the EEA and a way into the network."""
    part = {"type": "image_url", "image_url": {"url": url} if wrapped else url}
    denied = refusal(body(messages=[{"role": "user", "content": [part]}]))
    assert (denied.status, denied.code) == (403, "remote-content-refused")


def test_an_image_within_the_request_passes() -> None:
    """A data: URL carries its own bytes."""
    part = {"type": "image_url", "image_url": "data:image/png;base64,AA=="}
    assert wish.read(body(messages=[{"role": "user", "content": [part]}]), "mistral")


@given(st.binary(max_size=300))
def test_no_bytes_at_all_can_do_more_than_be_refused(raw: bytes) -> None:
    """Garbage ends in one kind of exception, never in another."""
    try:
        wish.read(raw, "mistral")
    except Denied as denied:
        assert denied.status in (400, 403, 422)


def test_no_refusal_repeats_what_the_client_wrote_in_a_message() -> None:
    """An error text ends up in logs of other people's making."""
    secret = "CANARY-in-content"
    for raw in (body(messages=[{"role": 1, "content": secret}]), body(n=99, stop=secret)):
        assert secret not in refusal(raw).message
