"""Reading a request: every field is known, or it is refused with its name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway.kinds import messages, wish
from sovereign.gateway.refusal import Denied

MESSAGES = [{"role": "user", "content": "hello"}]


def body(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": MESSAGES, **fields})


def refusal(raw: bytes, dialect: str = "mistral") -> Denied:
    with pytest.raises(Denied) as caught:
        wish.read(raw, dialect)
    return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 1), ("stream_options", {}), ("max_completion_tokens", 1), ("user", "u")],
)
def test_mistrals_dialect_refuses_openais_fields_with_422_and_their_name(
    field: str, value: object
) -> None:
    """Mistral's API is strict; a client that relies on that must not be surprised here."""
    denied = refusal(body(**{field: value}))
    assert (denied.status, denied.code, denied.param) == (422, "field-unknown", field)
    assert wish.read(body(**{field: value}), "openai").model == "m"


@pytest.mark.parametrize(
    ("field", "value"), [("random_seed", 1), ("safe_prompt", True), ("prompt_mode", "reasoning")]
)
def test_openais_dialect_refuses_mistrals_fields(field: str, value: object) -> None:
    """The same strictness in the other direction."""
    assert refusal(body(**{field: value}), "openai").code == "field-unknown"
    assert wish.read(body(**{field: value}), "mistral").model == "m"


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
        (body(n=True), "field-invalid"),
        (body(stream="yes"), "field-invalid"),
        (body(stream=1), "field-invalid"),
        (body(temperature="hot"), "field-invalid"),
        (body(temperature=True), "field-invalid"),
        (body(max_tokens=1.5), "field-invalid"),
        (body(metadata="me"), "field-invalid"),
        (body(tools={}), "field-invalid"),
        (body(stop=7), "field-invalid"),
        (body(stop=["a", 7]), "field-invalid"),
        (body(tool_choice=7), "field-invalid"),
        (body(min_tokens=-1), "field-invalid"),
        (body(min_tokens=5, max_tokens=4), "field-invalid"),
        (body(reasoning_effort=7), "field-invalid"),
        (body(prompt_logprobs="all"), "field-invalid"),
        (body(messages=[{"role": "user", "content": ["bare"]}]), "field-invalid"),
        (body(messages=[{"role": "user", "content": [{"text": "no type"}]}]), "field-invalid"),
        (body(messages=[{"role": "user", "content": [{"type": "odd"}]}]), "field-invalid"),
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


@pytest.mark.parametrize("kind", sorted(messages.PARTS_OF_ADDRESSES))
@pytest.mark.parametrize("said", ["named", "nested", "disguised"])
def test_every_other_part_that_an_engine_would_fetch_is_refused(kind: str, said: str) -> None:
    """vLLM fetches video and sound by the same mechanism as images, and looks at the key when the
    type is missing."""
    part: dict[str, object] = {"type": kind, kind: {"url": "http://x/y"}}
    if said == "nested":
        part = {"type": "thinking", "thinking": [part]}
    if said == "disguised":
        part = {"type": "text", "text": "hello", kind: {"url": "http://x/y"}}
    denied = refusal(body(messages=[{"role": "user", "content": [part]}]))
    assert (denied.status, denied.code) == (403, "remote-content-refused")


def test_an_image_is_refused_when_it_is_too_long_by_one_character() -> None:
    """The edge where a picture becomes a load."""
    start = "data:image/png;base64,"
    for extra, fits in ((0, True), (1, False)):
        url = start + "A" * (messages.DATA_URL_MAX_CHARS - len(start) + extra)
        raw = body(
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]
        )
        if fits:
            assert wish.read(raw, "mistral")
        else:
            assert refusal(raw).code == "field-invalid"


def nested(levels: int) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"prediction":' + (
        b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    )


def test_a_body_may_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    """What is deeper would be decided on, and then break whoever copies it for the engine."""
    assert wish.read(nested(wish.DEPTH_MAX), "mistral")
    assert refusal(nested(wish.DEPTH_MAX + 1)).code == "body-unreadable"
    assert refusal(nested(900)).code == "body-unreadable"


def test_many_brackets_side_by_side_are_not_depth() -> None:
    """A long conversation is flat."""
    assert wish.read(body(guardrails=[[] for _ in range(1000)]), "mistral")


def test_null_is_as_if_a_field_had_not_been_sent() -> None:
    """Both official clients send null for what their user left out."""
    nothing = dict.fromkeys(("stream", "n", "temperature", "tools", "stop", "metadata"))
    assert wish.read(body(**nothing), "mistral").stream is False


@given(st.binary(max_size=300))
def test_no_bytes_at_all_can_do_more_than_be_refused(raw: bytes) -> None:
    """Garbage ends in one kind of exception, never in another."""
    status = 200
    try:
        wish.read(raw, "mistral")
    except Denied as denied:
        status = denied.status
    assert status in (200, 400, 403, 422)


def test_no_refusal_repeats_what_the_client_wrote_in_a_message() -> None:
    """An error text ends up in logs of other people's making."""
    word = "CANARY-in-content"
    for raw in (body(messages=[{"role": 1, "content": word}]), body(n=99, stop=word)):
        assert word not in refusal(raw).message


def test_who_says_two_of_openais_words_speaks_its_dialect_whatever_its_headers_say() -> None:
    """Load generators and scripts name themselves nowhere; one such word may be a mistake."""
    both = {"max_completion_tokens": 4, "stream_options": {"include_usage": True}}
    said = wish.read(body(ignore_eos=True, **both), "mistral")
    assert (said.dialect, said.wants_usage) == ("openai", True)
    assert refusal(body(random_seed=1, **both)).code == "field-unknown"
    for field, value in both.items():
        assert refusal(body(**{field: value})).param == field
