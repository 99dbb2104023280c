"""The OpenAPI documents say what the gateway does: a fuzzer that believes them finds nothing."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from docs.observed import openapi_page
from sovereign.gateway.app import ROUTES
from sovereign.gateway.kinds.table import KINDS
from sovereign.gateway.refusal import STATUS
from sovereign.gateway.seen import openapi
from sovereign.gateway.seen.openapi_asked import BODIES
from sovereign.gateway.server import listening
from tests.docs.reading import DOCS
from tests.gateway import site as sites
from tests.gateway.site import EEA, OPENAI, site, until
from tests.simulated.engine import Exchange, answering, engine

MODEL = "tiny-mixtral"
SEED = 20_261_125
EXAMPLES = 12
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance", "negative_data_rejection"),
    *("unsupported_method", "ignored_auth"),
)
ENDED = {"stop": True, "stop_type": "word", "tokens_evaluated": 10, "tokens_predicted": 4}
VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5e-05]}],
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
POLICY = replace(
    EEA,
    models={
        **EEA.models,
        MODEL: msgspec.structs.replace(
            EEA.models[MODEL], capabilities=("chat", "tools", "fim", "embeddings")
        ),
    },
)


async def scripted(exchange: Exchange) -> None:
    """An engine that can do everything, well."""
    if exchange.path == "/v1/chat/completions":
        await answering()(exchange)
    elif exchange.path == "/v1/embeddings":
        await exchange.answer(VECTORS)
    elif not exchange.body.get("stream"):
        await exchange.answer({"content": "a, b):", **ENDED})
    else:
        await exchange.head(kind="text/event-stream")
        await exchange.event({"content": "a, b):", "stop": False})
        await exchange.event({"content": "", **ENDED})


@asynccontextmanager
async def served(root: Path) -> AsyncIterator[tuple[int, str]]:
    """The port of a gateway on a real socket, and a key it knows."""
    async with engine(scripted) as it, site(root, it.address) as ours:
        ours.endpoint(it.address, models=(MODEL,))
        await ours.seen()
        config = listening(ours.gateway)
        config.lifespan = "off"  # the site runs it
        config.timeout_graceful_shutdown = 1
        config.port = 0
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        try:
            yield server.servers[0].sockets[0].getsockname()[1], ours.secret
        finally:
            server.should_exit = True
            await running


def with_the_model(document: Any) -> Any:
    """The document, for a site that serves one model: most names of models are of none."""
    if isinstance(document, dict):
        return {
            name: {"const": MODEL}
            if name == "model" and "minLength" in value
            else with_the_model(value)
            for name, value in document.items()
        }
    return [with_the_model(each) for each in document] if isinstance(document, list) else document


async def fuzzed(root: Path, document: Any, dialect: str) -> tuple[int, str]:
    """What schemathesis says of a gateway and this document: its exit status, its words."""
    file = root / "openapi.json"
    file.write_text(json.dumps(with_the_model(document)))
    headers = OPENAI if dialect == "openai" else {}
    async with served(root / "home") as (port, secret):
        words = ["run", str(file), "--url", f"http://127.0.0.1:{port}"]
        words += ["--header", f"Authorization: Bearer {secret}"]
        for name, value in headers.items():
            words += ["--header", f"{name}: {value}"]
        words += ["--checks", ",".join(CHECKS), "--seed", str(SEED), "-n", str(EXAMPLES)]
        words += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]
        words += ["--workers", "1", "--no-color", "--warnings", "off", "--request-timeout", "20"]
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *words,
            cwd=root,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize("dialect", openapi.DIALECTS)
async def test_a_fuzzer_that_believes_the_document_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    """No error of ours, no status or answer that is not in it, nothing accepted that it forbids.

    Whether all it allows is accepted is not asked: an order of messages is more than a schema says.
    """
    monkeypatch.setattr(sites, "EEA", POLICY)
    status, said = await fuzzed(tmp_path, openapi.document(dialect), dialect)
    assert status == 0, said[-6000:]
    assert "No issues found" in said


async def test_a_document_that_lies_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above must be able to fail: here a card lacks a field that it does not have."""
    monkeypatch.setattr(sites, "EEA", POLICY)
    document = openapi.document("mistral")
    document["paths"] = {"/v1/models": document["paths"]["/v1/models"]}
    document["components"]["schemas"]["ModelCard"]["required"].append("colour")
    status, said = await fuzzed(tmp_path, document, "mistral")
    assert status == 1
    assert "colour" in said


@pytest.mark.parametrize("dialect", openapi.DIALECTS)
def test_the_document_has_exactly_the_routes_and_methods_of_the_gateway(dialect: str) -> None:
    """A route that is not in it is one that nobody tests from outside."""
    paths = openapi.document(dialect)["paths"]
    told = {route: {method.upper() for method in methods} for route, methods in paths.items()}
    assert told == {route: set(methods) for route, methods in ROUTES.items()}
    assert BODIES.keys() | {"chat"} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("dialect", openapi.DIALECTS)
def test_every_code_stands_at_its_status(dialect: str) -> None:
    """A client is written after these; a new code must find its place here."""
    told: dict[str, set[int]] = {}
    for methods in openapi.document(dialect)["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                for code in _codes(response["content"].get("application/json", {})):
                    if status != "4XX":
                        told.setdefault(code, set()).add(int(status))
    wanted = {code: {status} for code, status in STATUS.items() if code != "method-unknown"}
    assert {code: told[code] for code in wanted} == wanted


def _codes(content: dict[str, Any]) -> list[str]:
    schema = content.get("schema", {})
    error = schema.get("properties", {}).get("error", schema)
    return list(error.get("properties", {}).get("code", {}).get("enum", ()))


@pytest.mark.parametrize("dialect", openapi.DIALECTS)
def test_the_page_is_the_document(dialect: str) -> None:
    """It is generated; this notices one that was forgotten."""
    page = DOCS / f"formats/openapi-{dialect}.json"
    assert page.read_text() == openapi_page(dialect)
