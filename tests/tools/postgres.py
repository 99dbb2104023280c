"""A real PostgreSQL of Debian, unpacked and never installed, started in a folder of its own.

It refuses to run as root, so root runs it as `nobody`, in a folder that is theirs. It listens on a
free port of loopback, trusts whoever connects, and can be killed, stopped as by a debugger, and
started again over the same data.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from tests.engines.running import free_port
from tests.needs import need
from tests.tools.debian import Unpacked, unpacked

_BIN = "/usr/lib/postgresql/15/bin"
_USER = "nobody"
STARTS_WITHIN_S = 30


class Postgres:
    """A server and its data. `url` is how it is reached, also while it is down."""

    def __init__(self, found: Unpacked, folder: Path) -> None:
        self._found = found
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://sovereign@127.0.0.1:{self._port}/postgres"

    def _words(self, program: str, *words: str) -> list[str]:
        command = [str(self._found.program(f"{_BIN}/{program}")), *words]
        if os.geteuid() != 0:
            return command
        setpriv = shutil.which("setpriv")
        need(setpriv, "this machine has no setpriv", "apt install util-linux")
        who = pwd.getpwnam(_USER)
        ids = (f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups")
        return [str(setpriv), *ids, *command]

    def create(self) -> None:
        """Make the data folder."""
        if os.geteuid() == 0:
            who = pwd.getpwnam(_USER)
            os.chown(self._folder, who.pw_uid, who.pw_gid)
        share = self._found.root / "usr/share/postgresql/15"
        words = ("-D", str(self._folder / "data"), "-U", "sovereign", "-A", "trust", "-N")
        done = subprocess.run(
            self._words("initdb", *words, "-L", str(share), "--locale=C", "-E", "UTF8"),
            cwd=self._folder,
            env=self._found.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "8MB",
            "dynamic_shared_memory_type": "mmap",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._words("postgres", "-D", str(self._folder / "data"), *words),
                cwd=self._folder,
                env=self._found.environment(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-1000:]
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.05)

    def _answers(self) -> bool:
        from psycopg import OperationalError, connect

        try:
            connect(self.url, connect_timeout=2).close()
        except OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        if self._process is None:
            return
        self.signal(signal.SIGCONT)
        for child in self._children():
            _signal(child, signal.SIGKILL)
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started."""
        assert self._process is not None
        for pid in (self._process.pid, *self._children()):
            _signal(pid, number)

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in found.split()]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # one of its helpers may end at any moment
        os.kill(pid, number)


def _where_all_can_read(found: Unpacked, folder: Path) -> Unpacked:
    """The same programs, by links: the cache may lie in a folder that only root can enter."""
    if os.geteuid() != 0:
        return found
    try:
        shutil.copytree(found.root, folder, symlinks=True, copy_function=os.link)
    except OSError:  # it is on another disk
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(found.root, folder, symlinks=True)
    return Unpacked(folder)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; killed, and its folder removed, when the block ends."""
    cached = unpacked("postgresql-15")
    folder = Path(mkdtemp(prefix="postgres-"))
    folder.chmod(0o755)
    it = Postgres(_where_all_can_read(cached, folder / "programs"), folder)
    try:
        it.create()
        it.start()
        yield it
    finally:
        it.kill()
        shutil.rmtree(folder, ignore_errors=True)
