"""Kill the writer at any moment, again and again: what it acknowledged is there, and nothing else.

One log goes through all the kills. `KILLS=200` in the environment makes it two hundred, which is
what is promised; without it there are as many as a busy machine does in half a minute.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sovereign.audit import log, tiles
from sovereign.audit.disk import RealDisk
from sovereign.audit.folder import Folder
from sovereign.audit.log import Log, utcnow
from sovereign.audit.verify import verify
from tests.audit.killed_writer import chance
from tests.audit.scenario import KEY, completion
from tests.docs.reading import ROOT

KILLS = int(os.environ.get("KILLS", "25"))
SEED = int(os.environ.get("KILLS_SEED", "20261124"))
STARTS_WITHIN_S = 30.0
LIVES_UP_TO_S = 0.08
"""After its first acknowledgement: several publications and settlements, or none."""
REOPENS_WITHIN_S = 10.0
"""The promise is one second on a quiet machine, which `bench audit` measures; this finds a hang."""


@dataclass
class Heard:
    """What the client of one writer heard before its end."""

    announced: list[range] = field(default_factory=list)
    acknowledged: dict[int, int] = field(default_factory=dict)
    failed: bool = False
    first: threading.Event = field(default_factory=threading.Event)

    def listen(self, output: "subprocess.Popen[bytes]") -> None:
        assert output.stdout is not None
        for line in output.stdout:
            if not line.endswith(b"\n"):
                return
            word, rest = chr(line[0]), line[1:].split()
            if word == "+":
                self.announced.append(range(int(rest[0]), int(rest[1])))
            elif word == "=":
                self.acknowledged[int(rest[0])] = int(rest[1])
                self.first.set()
            else:
                self.failed = True


def killed(folder: Path, first: int, seed: int, lives_s: float) -> Heard:
    """Start a writer, listen, and kill it some time after its first acknowledgement."""
    heard = Heard()
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.audit.killed_writer", str(folder), str(first), str(seed)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    listener = threading.Thread(target=heard.listen, args=[writer])
    listener.start()
    try:
        assert heard.first.wait(STARTS_WITHIN_S), "the writer acknowledged nothing"
        threading.Event().wait(lives_s)
    finally:
        writer.kill()
        writer.wait(STARTS_WITHIN_S)
        listener.join(STARTS_WITHIN_S)
    assert writer.returncode == -signal.SIGKILL, "it was to be killed, and ended by itself"
    assert not heard.failed
    return heard


def reopened(folder: Path) -> int:
    """Open what is left, as the next writer does, and close it; its size."""
    began = time.monotonic()
    target = Log(RealDisk(folder), KEY, utcnow)
    assert time.monotonic() - began < REOPENS_WITHIN_S
    size = target.size
    target.close()
    return size


def numbers_of(folder: Path, start: int, end: int) -> dict[int, int]:
    """Index and number of each of our records from `start` up to `end`, as the files have it."""
    read, found = Folder(folder), {}
    for bundle in range(start // 256, -(-end // 256)):
        width = min(256, end - 256 * bundle)
        raw = read(tiles.bundle_path(bundle, width)) or read(tiles.bundle_path(bundle))
        assert raw is not None
        for offset, each in enumerate(tiles.unpack(raw)[:width]):
            content = msgspec.json.decode(each)
            if 256 * bundle + offset >= start and content["type"] == "completion":
                number = content["decision"]
                assert completion(number).items() <= content.items(), "not as it was appended"
                found[256 * bundle + offset] = number
    return found


def test_no_kill_loses_what_was_acknowledged_or_leaves_what_nobody_appended(tmp_path: Path) -> None:
    """The client counted acknowledgements; the log must agree with her to the last record."""
    log.create(RealDisk(tmp_path), KEY, utcnow)
    size, number = 1, 0
    kept: list[bytes] = []
    acknowledged = in_log = 0
    for kill in range(KILLS):
        where = f"kill {kill} of {KILLS}, KILLS_SEED={SEED}"
        heard = killed(tmp_path, number, SEED + kill, LIVES_UP_TO_S * chance(SEED, kill))
        served = (tmp_path / "checkpoint").read_bytes()
        now = reopened(tmp_path)
        there = numbers_of(tmp_path, size, now)
        lost = {n: i for n, i in heard.acknowledged.items() if there.get(i) != n}
        assert lost == {}, f"{where}: acknowledged and not there"
        invented = {n for n in there.values() if not any(n in burst for burst in heard.announced)}
        assert invented == set(), f"{where}: there and never appended"
        assert len(set(there.values())) == len(there), f"{where}: there twice"
        kept.append(served)
        size, number = now, max(burst.stop for burst in heard.announced)
        acknowledged, in_log = acknowledged + len(heard.acknowledged), in_log + len(there)
    report = verify(Folder(tmp_path), KEY.verifier, kept=kept, receipts=())
    assert (report.findings, report.size) == ((), size)
    assert 0 < acknowledged <= in_log < size
    # One that hits just after everything was settled leaves nothing to tell it from a clean end.
    assert KILLS / 2 < _crashes(tmp_path, size) <= KILLS, "kills went unnoticed"


def _crashes(folder: Path, size: int) -> int:
    """How many times the log says that its writer's end was a crash."""
    read, found = Folder(folder), 0
    for bundle in range(-(-size // 256)):
        width = min(256, size - 256 * bundle)
        raw = read(tiles.bundle_path(bundle, width)) or read(tiles.bundle_path(bundle)) or b""
        found += raw.count(b'"ended":"in-a-crash"')
    return found
