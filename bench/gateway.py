"""The gateway beside a bare pass-through and beside no proxy at all, in one go.

    load ──────────────────────────────→ mock engine      none
    load ──→ uvicorn + aiohttp ────────→ mock engine      bare
    load ──→ `sovereign serve gateway` ─→ mock engine     ours: keys, place, durable records, usage

The proxy that is measured has one core to itself; load and mock engine share another. Each phase
visits all three in turn, forwards and then backwards, so that a machine that slows down slows all.

Afterwards the gateway is stopped and its log is read: every answer that came back must name a
decision that allowed it and have a completion, and the log must verify. If not, there are no
figures, because a gateway that forgets is quick.
"""

import re
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen

import msgspec
import uvloop

from bench import load
from bench.figures import CheckFailed, Figures, Result, Target, milliseconds, ratios
from bench.home import MODEL, Command, Prepared, prepare
from bench.load import Answers
from bench.processes import READY_WITHIN_S, Cores, cores, cpu_s, end, pinned, said, started
from bench.upstream import CHUNK_EVERY_S, CHUNKS
from sovereign import fleet
from sovereign.settings import Home

CONNECTIONS = 32
PROMPT_BYTES = 1024
RECORD = re.compile(rb"\r\nx-sovereign-record: ([^\r\n]+)", re.IGNORECASE)
POLL_S = 0.05
OUTPUT_SHOWN_CHARS = 500
EVERY_UNRECORDED_MAX = 5
"""Unrecorded answers that a failure names; more would say nothing more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each phase is, for each of the three, and how often all is gone through."""

    warm_s: float
    throughput_s: float
    latency_s: float
    streamings: int
    rounds: int


FULL = Plan(warm_s=1, throughput_s=5, latency_s=4, streamings=2, rounds=2)
QUICK = Plan(warm_s=0.5, throughput_s=2, latency_s=2, streamings=1, rounds=1)

TARGETS = (
    Target("ours.rps", "at least", 4000),
    Target("ours.p50_ms", "at most", 0.8),
    Target("ours.ttft_over_none_ms", "at most", 5),
    Target("ours.chunk_p99_ms", "at most", 3),
)


@dataclass(slots=True)
class Heard:
    """Everything that one of the three answered, by phase.

    `many_cpu_s` is the processor time that its process used to answer `many`.
    """

    warm: Answers = field(default_factory=Answers)
    many: Answers = field(default_factory=Answers)
    one: Answers = field(default_factory=Answers)
    streams: Answers = field(default_factory=Answers)
    many_cpu_s: float = 0.0

    def all_heads(self) -> list[bytes]:
        """The head of every answer, whatever phase it was in."""
        return [h for a in (self.warm, self.many, self.one, self.streams) for h in a.heads]

    def figures(self) -> dict[str, float]:
        """What the JSON holds of it."""
        return {
            "rps": self.many.per_s,
            "cpu_us": self.many_cpu_s / len(self.many.heads) * 1_000_000,
            "p50_ms": milliseconds(self.one.whole_s, 0.50),
            "p99_ms": milliseconds(self.one.whole_s, 0.99),
            "ttft_p50_ms": milliseconds(self.streams.first_s, 0.50),
            "chunk_p99_ms": milliseconds(self.streams.transit_s, 0.99),
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """Where to send, and what; `pid` is the process that stands there."""

    pid: int
    port: int
    whole: bytes
    stream: bytes


def serve_gateway(home: Home) -> list[str]:
    """The gateway's own entry, as a supervisor or systemd starts it."""
    return [sys.executable, "-m", "sovereign", "serve", "gateway", "--home", str(home.root)]


def run(folder: Path, *, quick: bool) -> Result:
    """Measure all three; `folder` names the disk that the gateway's log is written to."""
    return measure(folder, QUICK if quick else FULL, serve_gateway)


def measure(folder: Path, plan: Plan, command: Command) -> Result:
    """Measure all three, with a gateway that `command` starts.

    Raises:
        CheckFailed: an answer is missing or wrong, one is not in the log with both its records,
            or the log does not verify.
    """
    work = Path(tempfile.mkdtemp(prefix="work-gateway-", dir=folder))
    try:
        return _measure(work, plan, command, cores())
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure(work: Path, plan: Plan, command: Command, where: Cores) -> Result:
    with ExitStack() as running:
        module = [sys.executable, "-m"]
        mock = running.enter_context(
            started([*module, "bench.upstream"], core=where.others, output=work / "upstream.log")
        )
        upstream = f"127.0.0.1:{said(mock)}"
        bare = running.enter_context(
            started(
                [*module, "bench.bare", upstream], core=where.measured, output=work / "bare.log"
            )
        )
        bare_port = int(said(bare))
        prepared = prepare(work / "home", port=_free_port(), upstream=upstream)
        ours = running.enter_context(
            started(command(prepared.home), core=where.measured, output=work / "gateway.log")
        )
        subjects = {
            "none": _subject(mock.pid, int(upstream.rpartition(":")[2]), prepared),
            "bare": _subject(bare.pid, bare_port, prepared),
            "ours": _subject(ours.pid, _port(prepared.home), prepared),
        }
        _wait_until_ready(ours, prepared.home, work / "gateway.log")
        with pinned(where.others):
            heard = uvloop.run(_go_through(subjects, plan))
        if end(ours) != 0:
            raise _ended(ours, work / "gateway.log")
    checks = account(prepared.home, heard["ours"].all_heads())
    return _result({name: each.figures() for name, each in heard.items()}, plan, where, checks)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _port(home: Home) -> int:
    return int(home.settings.gateway.listen.rpartition(":")[2])


def _subject(pid: int, port: int, prepared: Prepared) -> Subject:
    headers = {
        "authorization": f"Bearer {prepared.secret}",
        "x-sovereign-subject": "person-1",
        "user-agent": "mistral-client-python/3.0.0",
    }
    question = "What does a gateway write down about a question, and what must it not? " * 20
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question[:PROMPT_BYTES]}],
        "max_tokens": 256,
        "temperature": 0.2,
    }
    whole, stream = msgspec.json.encode(body), msgspec.json.encode({**body, "stream": True})
    return Subject(
        pid, port, load.request(port, whole, headers), load.request(port, stream, headers)
    )


def _wait_until_ready(ours: Popen[bytes], home: Home, output: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if ours.poll() is not None:
            raise _ended(ours, output)
        connection = HTTPConnection("127.0.0.1", _port(home), timeout=READY_WITHIN_S)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(POLL_S)
    raise CheckFailed(f"the gateway was not ready within {READY_WITHIN_S:g} s: {_last(output)}")


def _ended(ours: Popen[bytes], output: Path) -> CheckFailed:
    return CheckFailed(f"the gateway ended with status {ours.returncode}: {_last(output)}")


def _last(output: Path) -> str:
    return output.read_text(errors="replace")[-OUTPUT_SHOWN_CHARS:]


async def _go_through(subjects: Mapping[str, Subject], plan: Plan) -> dict[str, Heard]:
    heard = {name: Heard() for name in subjects}
    for name, subject in subjects.items():
        await _many(subject, heard[name].warm, plan.warm_s)
    for number in range(plan.rounds):
        names = list(subjects)[:: -1 if number % 2 else 1]
        for name in names:
            before_s = cpu_s(subjects[name].pid)
            await _many(subjects[name], heard[name].many, plan.throughput_s)
            heard[name].many_cpu_s += cpu_s(subjects[name].pid) - before_s
        for name in names:
            await _one(subjects[name], heard[name].one, plan.latency_s)
        for _ in range(plan.streamings):
            for name in names:
                await _streams(subjects[name], heard[name].streams)
    return heard


async def _many(subject: Subject, into: Answers, seconds: float) -> None:
    into.add(await load.ask(subject.port, subject.whole, connections=CONNECTIONS, seconds=seconds))


async def _one(subject: Subject, into: Answers, seconds: float) -> None:
    into.add(await load.ask(subject.port, subject.whole, connections=1, seconds=seconds))


async def _streams(subject: Subject, into: Answers) -> None:
    lasting_s = CHUNKS * CHUNK_EVERY_S
    into.add(
        await load.listen(subject.port, subject.stream, connections=CONNECTIONS, seconds=lasting_s)
    )


def account(home: Home, heads: Iterable[bytes]) -> dict[str, int]:
    """Find both records of every answer in the log of a stopped gateway, and verify the log.

    Raises:
        CheckFailed: an answer names no record, one that another names too, or one that is not a
            decision that allowed it and was completed; or a log does not verify.
    """
    named = [match[1].decode() if (match := RECORD.search(head)) else "" for head in heads]
    for result in fleet.verify(home):
        if result.findings or not result.determined:
            raise CheckFailed(f"the log {result.origin} does not verify: {result.findings}")
    allowed, completed = _recorded(home)
    counted = Counter(named)
    faulty = [n for n, times in counted.items() if times > 1 or n not in allowed & completed]
    if faulty:
        shown = ", ".join(name or "(no record named)" for name in faulty[:EVERY_UNRECORDED_MAX])
        raise CheckFailed(
            f"{len(faulty)} of {len(named)} answers are not in the log with both records: {shown}"
        )
    return {
        "answers": len(named),
        "decisions": len(allowed),
        "completions": len(completed),
        "answers_without_both_records": 0,
    }


def _recorded(home: Home) -> tuple[set[str], set[str]]:
    """Names of the decisions that allowed something, and of those whose completion is there."""
    allowed, completed = set(), set()
    for member in fleet.members(home):
        for index, found in fleet.records(member, 0, fleet.size_of(member) or 0):
            if found["type"] == "decision" and found["verdict"] == "allow":
                allowed.add(f"{member.origin}#{index}")
            elif found["type"] == "completion" and found["outcome"] == "answered":
                completed.add(f"{member.origin}#{found['decision']}")
    return allowed, completed


def _result(
    figures: Mapping[str, dict[str, float]], plan: Plan, where: Cores, checks: dict[str, int]
) -> Result:
    ours, none = figures["ours"], figures["none"]
    ours["ttft_over_none_ms"] = ours["ttft_p50_ms"] - none["ttft_p50_ms"]
    pairs: Figures = {f"ours/{peer}": ratios(ours, figures[peer]) for peer in ("bare", "none")}
    notes = {}
    if not where.apart:
        notes["cores"] = "one core only: what measures takes time from what is measured"
    settings = {
        **asdict(plan),
        "connections": CONNECTIONS,
        "chunks": CHUNKS,
        "chunk_every_s": CHUNK_EVERY_S,
        "prompt_bytes": PROMPT_BYTES,
        "core_measured": where.measured,
        "core_others": where.others,
    }
    return Result(figures, pairs, TARGETS, checks, settings, notes)
