"""What a drill says to each route: canaries wherever a client can put text.

`BODIES` has a row for every route that takes a body. A route of the gateway that has none is not
drilled, and then the drill does not pass: a test compares the two.

Pure: words in, bodies out. Which answer they get is for the site to say.
"""

from collections.abc import Callable, Iterator
from typing import Any

Word = Callable[[str], str]
"""Draws a canary for a field, by its name."""
Body = dict[str, Any]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPj/HwADAgH/"
    "q842iQAAAABJRU5ErkJggg=="
)
"""A picture of one pixel, PNG in base64."""
NESTS = 300
"""Deeper than any body may nest."""


def chat(word: Word, model: str) -> Body:
    """A chat with a canary in every text of every kind of message; every model can answer it."""
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": word("messages.system")},
            {"role": "user", "content": [{"type": "text", "text": word("messages.part")}]},
            {"role": "assistant", "content": word("messages.assistant")},
            {"role": "user", "content": word("messages.user")},
        ],
        "max_tokens": 1,
        "stop": [word("stop")],
        "metadata": {"subject": word("metadata.subject"), word("metadata key"): word("metadata")},
    }


def tool(word: Word) -> Body:
    """A tool whose name, description and parameters are canaries."""
    named = {word("tools.parameter"): {"type": "string", "description": word("tools.property")}}
    function = {
        "name": word("tools.name"),
        "description": word("tools.description"),
        "parameters": {"type": "object", "properties": named},
    }
    return {"type": "function", "function": function}


def fim(word: Word, model: str) -> Body:
    """Code before and after a gap."""
    return {
        "model": model,
        "prompt": f"def {word('prompt')}(",
        "suffix": f"return {word('suffix')}",
        "max_tokens": 1,
        "stop": [word("stop")],
    }


def completion(word: Word, model: str) -> Body:
    """A text to be gone on with."""
    return {"model": model, "prompt": word("prompt"), "max_tokens": 1, "stop": [word("stop")]}


def embedding(word: Word, model: str) -> Body:
    """Texts to be made into numbers."""
    return {"model": model, "input": [word("input"), word("input, second")]}


BODIES: dict[str, Callable[[Word, str], Body]] = {
    "/v1/chat/completions": chat,
    "/v1/fim/completions": fim,
    "/v1/completions": completion,
    "/v1/embeddings": embedding,
}
SMALL: dict[str, Body] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
    "/v1/fim/completions": {"prompt": "x", "suffix": "y", "max_tokens": 1},
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/embeddings": {"input": "x"},
}
"""The least that each route answers: what is special about a request is then all there is to it."""
NEEDS = {
    "/v1/chat/completions": "chat",
    "/v1/fim/completions": "fim",
    "/v1/completions": "",
    "/v1/embeddings": "embeddings",
}
"""What a model must be able to do to answer there; one that cannot is asked all the same."""
STREAMED = frozenset(BODIES) - {"/v1/embeddings"}
"""Routes that answer with a text, whole or streamed."""


def variants(route: str, word: Word, short: Word, model: str) -> Iterator[tuple[str, Body]]:
    """Bodies that a site may answer or refuse, by what is special about each.

    `short` draws a canary for the id of a tool call, which has 9 characters.
    """
    yield "an unknown model", {**BODIES[route](word, model), "model": word("model")}
    unknown = {word("a field's name"): word("a field's value")}
    yield "an unknown field", {"model": model, **SMALL[route], **unknown}
    if route == "/v1/chat/completions":
        yield from _chats(word, short, model)


def _chats(word: Word, short: Word, model: str) -> Iterator[tuple[str, Body]]:
    plain = {"model": model, "max_tokens": 1}

    def one(**message: Any) -> Body:
        return {**plain, "messages": [{"role": "user", **message}]}

    called = {"name": word("tool_calls.name"), "arguments": f'{{"x": "{word("tool_calls.args")}"}}'}
    schema = {"type": "object", "properties": {word("response_format.schema"): {"type": "string"}}}
    format_ = {
        "type": "json_schema",
        "json_schema": {"name": word("schema.name"), "schema": schema},
    }
    url = f"data:image/png;name={word('image_url.name')};base64,{PIXEL}"
    part = {"type": "image_url", "image_url": url}
    yield "a name", one(name=word("messages.name"), content=word("messages.user"))
    yield "a data: URL", one(content=[{"type": "text", "text": word("beside")}, part])
    remote = f"https://{word('image_url.host')}.example/{word('image_url.path')}"
    yield "a remote image", one(content=[{"type": "image_url", "image_url": {"url": remote}}])
    yield "an unknown part", one(content=[{"type": word("part.type"), "text": word("part.text")}])
    yield "a role nobody knows", {**plain, "messages": [{"role": word("role"), "content": "x"}]}
    yield "a schema", {**one(content=word("messages.user")), "response_format": format_}
    yield (
        "a schema of nothing",
        {
            **one(content="x"),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "form", "schema": {"type": word("schema.type")}},
            },
        },
    )
    yield (
        "tool calls",
        {
            **plain,
            "messages": [
                {"role": "user", "content": word("messages.user")},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": short("tool_calls.id"), "type": "function", "function": called}
                    ],
                },
                {
                    "role": "tool",
                    "tool_call_id": short("tool_calls.id"),
                    "content": word("messages.tool"),
                },
            ],
            "tools": [tool(word)],
        },
    )
    yield "a tool that is none", {**one(content="x"), "tools": [{"type": word("tools.type")}]}


def fields(route: str, names: frozenset[str], word: Word, model: str) -> Iterator[tuple[str, Body]]:
    """A small body once for each field there is, the field a canary and nothing else."""
    for name in sorted(names - {"model"}):
        yield name, {"model": model, **SMALL[route], name: word(name)}


def broken(word: Word, model: str) -> Iterator[tuple[str, bytes]]:
    """Bodies that are no JSON object."""
    yield "no JSON", f'{{"model": "{word("body")}" "messages": [{{'.encode()
    yield "no UTF-8", b'{"model": "' + word("body").encode() + b'\xff\xfe"}'
    yield (
        "too deep",
        b'{"tools":' + b"[" * NESTS + f'"{word("body")}"'.encode() + b"]" * NESTS + b"}",
    )
    yield "a list", f'["{word("body")}"]'.encode()
    yield "a text", f'"{word("body")}"'.encode()
    yield "a number nobody can hold", f'{{"max_tokens": 1e999, "x": "{word("body")}"}}'.encode()


def form(word: Word) -> tuple[str, bytes]:
    """A form with a file in it: its content type, and its body."""
    boundary = word("multipart boundary")
    lines = [
        f"--{boundary}",
        f'content-disposition: form-data; name="{word("form name")}"; filename="{word("file")}"',
        "",
        word("form content"),
        f"--{boundary}--",
        "",
    ]
    return f"multipart/form-data; boundary={boundary}", "\r\n".join(lines).encode()


def headers(word: Word) -> dict[str, str]:
    """Headers that a client or a proxy may send, a canary in each; none changes the answer."""
    named = ("x-request-id", "x-correlation-id", "idempotency-key", "x-api-key", "openai-project")
    return {
        **{name: word(f"header {name}") for name in named},
        "cookie": f"session={word('header cookie')}",
        "referer": f"https://intranet.example/{word('header referer')}",
        "origin": f"https://{word('header origin')}.example",
        "x-forwarded-for": word("header x-forwarded-for"),
        "forwarded": f'for="{word("header forwarded")}"',
        "tracestate": f"vendor={word('header tracestate')}",
        "baggage": f"user={word('header baggage')}",
        "user-agent": f"drill/{word('header user-agent')}",
        f"x-{word('header name')}": word("header of any name"),
    }


def story(route: str, word: Word, model: str) -> Body:
    """A body that makes a model write something of its own, the same each time."""
    name = word("prompt of a story")
    asked = f"Tell me what you think of {name}, in two sentences."
    body = {"model": model, "max_tokens": 64, "temperature": 0}
    if route == "/v1/chat/completions":
        return {**body, "messages": [{"role": "user", "content": asked}]}
    if route == "/v1/fim/completions":
        return {**body, "prompt": f"# {asked}\ndef story():\n", "suffix": "\n    return text\n"}
    return {**body, "prompt": f"Once upon a time there was a man called {name} who said that"}
