"""A gateway with one fault on purpose: `python leaking.py FAULT serve gateway --home HOME`.

The real command line, with one thing done wrong in it that somebody could do by mistake. Each
fault is a leak that the canary drill must find; `bug` is a mistake that must leak nothing.
"""

import base64
import gzip
import os
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from sovereign import cli, eventlog
from sovereign.cli import services
from sovereign.gateway.app import Gateway
from sovereign.gateway.call import Call
from sovereign.gateway.records import Recording
from sovereign.gateway.seen import exposition

LAST = {"said": ""}
CHILDREN_MAX = 3
KEPT: list[Any] = []
"""Children, which would be garbage otherwise."""


def home() -> Path:
    return Path(sys.argv[sys.argv.index("--home") + 1])


def log_line(said: str) -> None:
    eventlog.emit("request", said=said)


def temporary_file(said: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="upload-", delete=False) as file:
        file.write(said)


def argument(said: str) -> None:
    if len(KEPT) < CHILDREN_MAX:
        KEPT.append(
            subprocess.Popen([sys.executable, "-c", "input()", said], stdin=subprocess.PIPE)
        )


def environment(said: str) -> None:
    if len(KEPT) < CHILDREN_MAX:
        command = [sys.executable, "-c", "input()"]
        env = {**os.environ, "SAID": said}
        KEPT.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=env))


def deleted_file(said: str) -> None:
    handle, path = tempfile.mkstemp()
    os.write(handle, said.encode())
    Path(path).unlink()


def packed_file(said: str) -> None:
    (home() / "logs/gateway.1.gz").write_bytes(gzip.compress(said.encode("utf-16")))


def database(said: str) -> None:
    """A row that is deleted again: nobody who asks the database sees it."""
    with closing(sqlite3.connect(home() / "cache.sqlite")) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE IF NOT EXISTS cache (body TEXT)")
        db.execute("INSERT INTO cache VALUES (?)", (base64.b64encode(said.encode()).decode(),))
        db.commit()
        db.execute("DELETE FROM cache")
        db.commit()


def remember(said: str) -> None:
    LAST["said"] = said


def bug(said: str) -> None:
    """A mistake of ours in the middle of a request, with its text in the exception."""
    raise ValueError(f"cannot handle {said}")


ON_BODY: dict[str, Callable[[str], None]] = {
    "none": lambda _: None,
    "log-line": log_line,
    "exception-text": bug,
    "bug": bug,
    "metric-label": remember,
    "record-field": remember,
    "temporary-file": temporary_file,
    "argument": argument,
    "environment": environment,
    "deleted-file": deleted_file,
    "packed-file": packed_file,
    "database": database,
    "core-limit": lambda _: None,
    "answer-in-a-log": lambda _: None,
}


def install(fault: str) -> None:
    """Put the fault into the gateway."""
    read, write, deny = Call.body, Call.write, Gateway._deny
    decide, render = Recording.decision, exposition.Exposition.render

    async def body(self: Call, **bounds: Any) -> bytes:
        raw = await read(self, **bounds)
        ON_BODY[fault](text_in(raw))
        return raw

    async def answer(self: Call, data: bytes, *, more: bool) -> None:
        eventlog.emit("answer", text=data.decode(errors="replace"))
        await write(self, data, more=more)

    async def told(self: Gateway, *words: Any) -> None:
        traceback.print_exc()
        await deny(self, *words)

    async def decision(
        self: Recording, key: Any, subject: str, choice: Any, *w: Any, **k: Any
    ) -> Any:
        choice = replace(choice, rule=LAST["said"][:250])
        return await decide(self, key, subject, choice, *w, **k)

    def page(self: exposition.Exposition, taken: Any) -> bytes:
        return render(self, taken) + f'asked_total{{prompt="{LAST["said"]}"}} 1\n'.encode()

    patch.object(Call, "body", body).start()
    if fault == "answer-in-a-log":
        patch.object(Call, "write", answer).start()
    if fault == "exception-text":
        patch.object(Gateway, "_deny", told).start()
    if fault == "record-field":
        patch.object(Recording, "decision", decision).start()
    if fault == "metric-label":
        patch.object(exposition.Exposition, "render", page).start()
    if fault == "core-limit":
        patch.object(services, "_forbid_dumps").start()


def text_in(raw: bytes) -> str:
    """The last thing a person said in a body, or the body."""
    try:
        return str(msgspec.json.decode(raw)["messages"][-1]["content"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return raw.decode(errors="replace")[:2000]


if __name__ == "__main__":
    install(sys.argv.pop(1))
    cli.main()
