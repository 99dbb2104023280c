"""Scan the log of a folder in several processes, and hand what they see over in order.

A worker is this module run as a program (`python -m sovereign.audit.workers`): it reads one
order from its input, goes over every n-th range of bundles, and writes what it saw of each range
to its output, bundle by bundle. The pipe between them is the only bound that is needed: a worker
whose sights nobody takes waits. It ends with its last range, or when its reader is gone.
"""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from sovereign.audit.folder import Folder
from sovereign.audit.scan import Sight, Task, scan

RANGE = 256
"""Bundles in one range: 65,536 entries, and about 12 KB of what was seen when all is well."""
WORTH_IT = 2 * RANGE
"""Bundles from which on other processes are started; below, starting them takes longer."""
WORKERS_MAX = 8
SIGHT_MAX_BYTES = 32 * 1024 * 1024
"""More than what was seen of a bundle can be: a record to be told of for each of its entries."""
_END_WITHIN_S = 10.0
_LENGTH_BYTES = 4
_PACKAGES = Path(__file__).resolve().parents[2]


class Order(msgspec.Struct, frozen=True):
    """Go over the ranges `begin`, `begin + step`, … of the log of `task` in `folder`."""

    folder: bytes
    task: Task
    begin: int
    step: int


_SIGHT = msgspec.msgpack.Decoder(Sight)
_ORDER = msgspec.msgpack.Decoder(Order)
_ENCODER = msgspec.msgpack.Encoder()


def cores() -> int:
    """How many processes may run at once here, at most `WORKERS_MAX`."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


def scan_folder(folder: Folder, task: Task, *, processes: int) -> Generator[Sight, None, None]:
    """See every bundle of a log, in order, with so many processes beside this one.

    A process that does not start, or ends early, is made up for here: what is seen is the same.

    Raises:
        OSError: a file cannot be read, so nothing can be said.
    """
    workers = _start(folder, task, processes) if processes > 1 else []
    try:
        for number in range(-(-task.bundles // RANGE)):
            first = number * RANGE
            last = min(task.bundles, first + RANGE)
            if workers:
                for sight in workers[number % len(workers)].take(first, last):
                    yield sight
                    first = sight.index + 1
            yield from scan(folder, task, first, last)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    def __init__(self, process: subprocess.Popen[bytes], order: Order) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._output: IO[bytes] = process.stdout
        try:
            process.stdin.write(_ENCODER.encode(order))
            process.stdin.close()
        except OSError:
            self.stop()

    def take(self, first: int, last: int) -> Iterator[Sight]:
        """What it saw of its next range, as far as it has come; afterwards it says no more."""
        for index in range(first, last):
            sight = None if self._output.closed else self._next()
            if sight is None or sight.index != index:
                self.stop()
                return
            yield sight

    def _next(self) -> Sight | None:
        length = int.from_bytes(self._output.read(_LENGTH_BYTES), "big")
        if not 0 < length <= SIGHT_MAX_BYTES:
            return None
        said = self._output.read(length)
        try:
            return _SIGHT.decode(said) if len(said) == length else None
        except msgspec.MsgspecError:
            return None

    def stop(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._output.close()
        with suppress(subprocess.TimeoutExpired):  # its disk does not answer; it dies when it does
            self._process.wait(_END_WITHIN_S)


def _start(folder: Folder, task: Task, processes: int) -> list[_Worker]:
    workers: list[_Worker] = []
    if not sys.executable:
        return workers
    order = Order(os.fsencode(folder.root.absolute()), task, 0, processes)
    for begin in range(processes):
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "sovereign.audit.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_PACKAGES,
            )
        except OSError:  # no memory, no more processes allowed, no interpreter to be found
            for worker in workers:
                worker.stop()
            return []
        workers.append(_Worker(process, msgspec.structs.replace(order, begin=begin)))
    return workers


def work(order: bytes, output: IO[bytes]) -> None:
    """Carry an order out, range by range."""
    wanted = _ORDER.decode(order)
    task, folder = wanted.task, Folder(Path(os.fsdecode(wanted.folder)))
    for number in range(wanted.begin, -(-task.bundles // RANGE), wanted.step):
        first = number * RANGE
        for sight in scan(folder, task, first, min(task.bundles, first + RANGE)):
            said = _ENCODER.encode(sight)
            output.write(len(said).to_bytes(_LENGTH_BYTES, "big") + said)
        output.flush()


def main() -> None:
    """Work until there is no more, or nobody listens; what cannot be read ends it."""
    try:
        work(sys.stdin.buffer.read(), sys.stdout.buffer)
    except OSError:
        os._exit(1)  # whoever asked reads the same file, and says why it cannot


if __name__ == "__main__":
    main()
