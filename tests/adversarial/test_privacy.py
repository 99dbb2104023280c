"""Nothing a client says is kept: canaries through every outcome, then a search of every byte.

Two words that nobody else uses go into every place where a client can put text: prompts, system
prompts, tool names, stop words, schemas, subjects, metadata, field names, values, model names,
header values, paths, bodies that are no JSON or too large. They meet every outcome a call can
have. Then every file of the site, and everything its commands and processes printed, is searched
for them: as text, in both byte orders of UTF-16, in hex, in base64 at each of its three offsets,
reversed. What the model generated is searched for, too.
"""

import base64
import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.deployed import CHAT, MODEL, Answer, Site, site_at, stopped, wait_until

OPENAI = {"x-stainless-lang": "python", "user-agent": "OpenAI/Python 3.0"}
RECOVERS_WITHIN_S = 60
GENERATED_AT_LEAST_CHARS = 16
CANARY = "zirkon4f8c21d09ab7"
"""The same in every run, so that what the model makes of it is the same too."""


@dataclass
class Run:
    """A deployed site through which everything below was pushed."""

    site: Site
    canary: str
    keys: dict[str, str] = field(default_factory=dict)
    reached: dict[str, Answer] = field(default_factory=dict)
    generated: list[str] = field(default_factory=list)

    def word(self, where: str) -> str:
        """The canary, marked with where it went in, so that a find can be understood."""
        return f"{self.canary}-{where}"

    def body(self, **more: Any) -> dict[str, Any]:
        """A chat with a canary wherever text may stand and the gateway lets it through."""
        w = self.word
        return {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": w("system")},
                {"role": "user", "content": [{"type": "text", "text": w("part")}]},
                {"role": "assistant", "content": w("assistant")},
                {"role": "user", "name": w("name"), "content": w("prompt")},
            ],
            "max_tokens": 4,
            "stop": [w("stop")],
            "metadata": {"subject": w("subject-metadata"), w("key"): w("value")},
            "tools": [tool(w("tool"), w("tool-description"), w("tool-parameter"))],
            **more,
        }

    def send(
        self, name: str, body: Any, headers: dict[str, str] | None = None, path: str = CHAT
    ) -> Answer:
        """One request with canaries in its headers as well; the answer is kept under `name`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = {
            "authorization": f"Bearer {self.site.key}",
            "cookie": self.word("cookie"),
            "x-request-id": self.word("request-id"),
            "x-sovereign-subject": self.word("subject-header"),
            "referer": f"https://intranet.example/{self.word('referer')}",
            **(headers or {}),
        }
        connection = HTTPConnection("127.0.0.1", self.site.port, timeout=90)
        try:
            connection.request("POST", path, raw, asked)
            response = connection.getresponse()
            named = {n.lower(): v for n, v in response.getheaders()}
            self.reached[name] = Answer(response.status, named, response.read())
        except OSError as error:
            raise AssertionError(f"{name}: {error!r}{self.site.process_logs()}") from error
        finally:
            connection.close()
        return self.reached[name]


def tool(name: str, description: str, parameter: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything is pushed once; the tests below look at what is left, first on the running site
    and then on the one that was taken down."""
    with site_at(tmp_path_factory.mktemp("private") / "home") as site:
        it = Run(site, CANARY)
        for source in ("header", "user", "metadata"):
            words = ("--tenant", "acme", "--purpose", "tests", "--subject", source)
            it.keys[source] = site.asked("key", "create", *words)["key"]
        time.sleep(1)  # the gateway looks for keys twice a second
        answered(it)
        refused(it)
        left(it)
        engine_trouble(it)
        malformed(it)
        log_unwritable(it)
        yield it


def answered(it: Run) -> None:
    """Success: whole and streamed, each source of a subject, each dialect."""
    it.send("whole", it.body())
    it.send("streamed", it.body(stream=True))
    schema = {"type": "object", "properties": {it.word("schema"): {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    it.send("schema", it.body(response_format=form, tools=None))
    for source, secret in it.keys.items():
        headers = {"authorization": f"Bearer {secret}", **OPENAI}
        it.send(f"subject-{source}", it.body(user=it.word("subject-user")), headers)
    said = it.body(tools=None, stop=None, max_tokens=60, temperature=0)
    said["messages"] = [{"role": "user", "content": f"Repeat this word: {it.word('repeat')}"}]
    for stream in (False, True):
        answer = it.send(f"generated-{stream}", {**said, "stream": stream})
        it.generated.append(text_of(answer))


def text_of(answer: Answer) -> str:
    """What the model wrote."""
    if b"data: " not in answer.body[:6]:
        return str(answer.json["choices"][0]["message"]["content"])
    events = [e.removeprefix("data: ") for e in answer.body.decode().split("\n\n") if e]
    chunks = [json.loads(e) for e in events if e != "[DONE]"]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)


def refused(it: Run) -> None:
    """Every refusal a client can bring about by what it writes."""
    w = it.word
    image = [{"type": "image_url", "image_url": f"http://{w('host')}.example/{w('image')}"}]
    it.send("model-unknown", it.body(model=w("model")))
    it.send("field-unknown", {**it.body(), w("field"): w("field-value")})
    it.send("field-unknown-openai", {**it.body(), w("field"): w("field-value")}, OPENAI)
    it.send("field-invalid", it.body(temperature=w("temperature")))
    it.send("field-invalid-role", it.body(messages=[{w("role"): w("role")}]))
    it.send("remote", it.body(messages=[{"role": "user", "content": image}]))
    it.send("unreadable", b'{"model": "' + w("broken").encode() + b'" "messages": [')
    it.send("not-utf8", b'{"model": "' + w("latin").encode() + b'\xff\xfe"}')
    it.send("too-deep", b'{"tools":' + b"[" * 300 + f'"{w("deep")}"'.encode() + b"]" * 300 + b"}")
    it.send("too-large", it.body(messages=[{"role": "user", "content": w("large") * 200_000}]))
    it.send("key-unknown", it.body(), {"authorization": f"Bearer sov_{w('key')}"})
    it.send("route-unknown", it.body(), path=f"/v1/{w('path')}?{w('query')}={w('query')}")
    it.send("method-unknown", it.body(), path=f"/healthz?{w('query')}")
    no_subject = {"authorization": f"Bearer {it.keys['metadata']}"}
    it.send("subject-missing", it.body(metadata={w("no-subject"): w("no-subject")}), no_subject)
    for number, words in enumerate(refused_by_engines(it)):
        it.send(f"engine-refused-{number}", it.body(**words))


def refused_by_engines(it: Run) -> list[dict[str, Any]]:
    """What llama.cpp stumbles over, and would quote in a message."""
    w = it.word
    return [
        {"messages": [{"role": w("odd-role"), "content": w("odd-role")}]},
        {"tool_choice": w("tool-choice")},
        {"tools": [{"type": w("tool-type")}]},
        {"response_format": {"type": w("format")}, "tools": None},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": w("t")}}}},
        {"messages": [{"role": "user", "content": w("context") * 2000}], "tools": None},
    ]


def left(it: Run) -> None:
    """The client hangs up: in the middle of its body, before the answer, and in a stream."""
    body = it.body(stream=True, max_tokens=1500, tools=None, stop=None)
    body["messages"] = [{"role": "user", "content": f"Count to 1000. {it.word('left')}"}]
    raw = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {it.site.key}\r\n"
        f"content-length: {len(raw)}\r\n\r\n"
    ).encode()
    for sent, reads in ((head + raw[:-9], 0), (head + raw, 0), (head + raw, 3)):
        with socket.create_connection(("127.0.0.1", it.site.port), timeout=30) as client:
            client.sendall(sent)
            for _ in range(reads):
                client.recv(1000)


def engine_trouble(it: Run) -> None:
    """The engine is silent, dies in the middle of an answer, and is not there."""
    site = it.site
    raw = json.dumps(it.body(stream=True, max_tokens=1500, tools=None, stop=None)).encode()
    with stopped(site.pid("engine")), socket.create_connection(("127.0.0.1", site.port)) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {site.key}\r\n"
        client.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
        time.sleep(1)  # long enough to be handed on to an engine that does not move
    wait_until(lambda: it.send("again", it.body()).status == 200, RECOVERS_WITHIN_S)
    with stopped(site.supervisor()):
        os.kill(site.pid("engine"), signal.SIGKILL)
        it.send("engine-unhealthy", it.body())
        it.send("engine-unhealthy-streamed", it.body(stream=True), OPENAI)
    wait_until(site.is_ready, RECOVERS_WITHIN_S)
    wait_until(lambda: it.send("again", it.body()).status == 200, RECOVERS_WITHIN_S)


def malformed(it: Run) -> None:
    """What is no HTTP, or not enough of it."""
    w = it.word("raw").encode()
    for data in (
        w + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + w + b"\r\n\r\n",
        b"GET /" + w * 3000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + w * 5000 + b"\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked"
        b"\r\n\r\n" + w,
        b"GET /healthz HTTP/1.1\r\nconnection: upgrade\r\nupgrade: " + w + b"\r\n\r\n",
    ):
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", it.site.port), timeout=5) as client,
        ):
            client.sendall(data)
            client.recv(65_536)


def log_unwritable(it: Run) -> None:
    """The disk takes no more: a limit on the size of files, put on the running gateway, is as
    good as a full one, and it hits root as well."""
    import resource

    pid = it.site.pid("gateway")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    it.send("log-unwritable", it.body())
    it.send("log-unwritable-streamed", it.body(stream=True), OPENAI)
    it.reached["alive"] = it.site.http("GET", "/healthz")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


WANTED = {
    "whole": 200,
    "streamed": 200,
    "schema": 200,
    "subject-header": 200,
    "subject-user": 200,
    "subject-metadata": 200,
    "generated-False": 200,
    "generated-True": 200,
    "model-unknown": 404,
    "field-unknown": 422,
    "field-unknown-openai": 422,
    "field-invalid": 422,
    "field-invalid-role": 422,
    "remote": 403,
    "unreadable": 400,
    "not-utf8": 400,
    "too-deep": 400,
    "too-large": 413,
    "key-unknown": 401,
    "route-unknown": 404,
    "method-unknown": 405,
    "subject-missing": 403,
    "again": 200,
    "engine-unhealthy": 503,
    "engine-unhealthy-streamed": 503,
    "log-unwritable": 503,
    "log-unwritable-streamed": 503,
    "alive": 200,
}


def test_every_outcome_was_reached(run: Run) -> None:
    """A canary that met no outcome proves nothing about it."""
    found = {name: a.status for name, a in run.reached.items() if "engine-refused" not in name}
    assert found == WANTED
    engines = [a.status for name, a in run.reached.items() if "engine-refused" in name]
    assert len(engines) == 6
    assert any(400 <= status < 500 for status in engines)
    assert [e["outcome"] for e in endings(run)].count("client-gone") >= 3


def endings(run: Run) -> list[dict[str, Any]]:
    return [r for r in run.site.records("local/gateway/event") if r["type"] == "completion"]


def spellings(word: str) -> dict[str, bytes]:
    """A word as it may lie in a file. Base64 is cut to what does not depend on its neighbours."""
    raw = word.encode()
    found = {
        "text": raw,
        "upper case": raw.upper(),
        "UTF-16, little": word.encode("utf-16-le"),
        "UTF-16, big": word.encode("utf-16-be"),
        "hex": raw.hex().encode(),
        "hex, upper case": raw.hex().upper().encode(),
        "reversed": raw[::-1],
    }
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw)
        found[f"base64 at {offset}"] = coded[4 if offset else 0 : len(coded) // 4 * 4 - 4]
    return found


def test_every_spelling_would_be_found() -> None:
    """The search must be able to find, whatever stands around the word."""
    word = "zirkon0123456789"
    for before in (b"", b"a", b"ab", b"abc"):
        coded = base64.b64encode(before + word.encode() + b"xyz")
        assert any(s in coded for s in spellings(word).values())
    for name, spelling in spellings(word).items():
        assert len(spelling) >= 12, name


def finds(data: bytes, words: list[str]) -> list[str]:
    return [
        f"{word} as {name}" for word in words for name, s in spellings(word).items() if s in data
    ]


def searched(site: Site, words: list[str]) -> tuple[list[str], int]:
    """Where any of the words lies below the home, and how many files were looked at."""
    found, count = [], 0
    for path in sorted(p for p in site.home.rglob("*") if p.is_file()):
        count += 1
        found += [f"{path.relative_to(site.home)}: {f}" for f in finds(path.read_bytes(), words)]
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                dump = "\n".join(db.iterdump())
            found += [f"{path.name}, dumped: {f}" for f in finds(dump.encode(), words)]
        if finds(str(path.name).encode(), words):
            found.append(f"the name {path.name}")
    return found, count


def pieces(run: Run) -> list[str]:
    """What the model wrote, cut so that it is found even if only a part was kept."""
    cut = []
    for text in run.generated:
        clean = text.strip()
        assert len(clean) >= GENERATED_AT_LEAST_CHARS, "the model wrote too little to search for"
        cut += [
            clean[at : at + GENERATED_AT_LEAST_CHARS]
            for at in range(0, len(clean) - GENERATED_AT_LEAST_CHARS + 1, GENERATED_AT_LEAST_CHARS)
        ]
    return cut


def test_nothing_a_client_said_is_in_any_file_of_the_running_site(run: Run) -> None:
    """Logs, journals, databases, process output, everything: DESIGN's "ever" is meant."""
    found, count = searched(run.site, [run.canary, *pieces(run)])
    assert found == []
    assert count > 40, "the audit logs, databases and process logs are that many files"


def test_a_word_that_was_kept_would_be_found(run: Run) -> None:
    """In a log of a process, in the middle of a database, and in a name."""
    logs = run.site.home / "logs"
    text, named = logs / "planted.log", logs / f"{run.canary}.log"
    database = logs / "planted.sqlite"
    try:
        text.write_bytes(b"\0" * 5000 + base64.b64encode(run.word("planted").encode()))
        named.write_bytes(b"")
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("CREATE TABLE kept (word TEXT)")
            db.execute("INSERT INTO kept VALUES (?)", (run.canary,))
        found, _ = searched(run.site, [run.canary])
    finally:
        for path in (text, named, database):
            path.unlink(missing_ok=True)
    assert {f.partition(":")[0].partition(",")[0] for f in found} == {
        "logs/planted.log",
        "logs/planted.sqlite",
        "planted.sqlite",
        f"the name {named.name}",
    }


def test_no_process_of_the_site_shows_it_to_the_rest_of_the_machine(run: Run) -> None:
    """Arguments and environments can be read by others; memory is the engine's to have."""
    for name in ("engine", "gateway", "controller"):
        for kind in ("cmdline", "environ"):
            data = Path(f"/proc/{run.site.pid(name)}/{kind}").read_bytes()
            assert finds(data, [run.canary]) == []


def test_no_command_prints_it(run: Run) -> None:
    """What operators see, paste into tickets and mail around."""
    site = run.site
    for words in (
        ("status", "--json"),
        ("audit", "tail", "--json", "-n", "1000"),
        ("audit", "status", "--json"),
        ("audit", "verify", "--json"),
        ("key", "list", "--json"),
        ("report", "--json"),
    ):
        site.run(*words)
    assert len(site.out) >= 6
    assert finds("\n".join(site.out).encode(), [run.canary, *pieces(run)]) == []


def test_no_secret_of_a_key_is_in_any_file(run: Run) -> None:
    """They are stored hashed; a file that leaks must not open the door."""
    assert searched(run.site, [run.site.key, *run.keys.values()])[0] == []


def test_the_records_hold_only_what_the_tables_name(run: Run) -> None:
    """And the subjects in them are sealed, each text another: nothing links two records."""
    records = run.site.records("local/gateway/event", 1000)
    subjects = [r["subject"] for r in records if "subject" in r]
    assert len(set(subjects)) == len(subjects) >= 3
    assert all(subject.startswith("sealed1.") for subject in subjects)
    assert {r["model"] for r in records if r["type"] == "decision"} == {MODEL, "unknown"}


def test_nothing_of_it_is_there_after_the_site_was_taken_down(run: Run) -> None:
    """Closing a log writes its last files; a core dump would be written now."""
    assert run.site.run("down")[0] == 0
    found, _ = searched(run.site, [run.canary, *pieces(run)])
    assert found == []
    assert run.site.run("audit", "verify")[0] == 0
