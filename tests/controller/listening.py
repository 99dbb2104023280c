"""A real child process that listens where it is told, to be looked at from outside."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_CODE = """
import socket, sys
held = []
for host in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    port = held[0].getsockname()[1] if held and host.endswith("!") else 0
    one.bind((host.rstrip("!"), port))
    one.listen()
    held.append(one)
print(*[one.getsockname()[1] for one in held], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(
    *hosts: str, environment: Mapping[str, str] | None = None, parent: bool = False
) -> Iterator[tuple[int, list[int]]]:
    """Listen on a free port of each host (`!`: on the first one's port); give pid and ports.

    With `parent` a process that listens nowhere itself has started the one that does, and its
    pid is given.
    """
    command = [sys.executable, "-c", _CODE, *hosts]
    if parent:
        start = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
        command = [sys.executable, "-c", start, *command]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        yield child.pid, [int(port) for port in child.stdout.readline().split()]
    finally:
        child.stdin.close()
        child.wait(timeout=10)
        child.stdout.close()
