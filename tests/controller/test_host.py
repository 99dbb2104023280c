"""What the kernel says of a real process on a real port, and what it will not say."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from sovereign import host
from sovereign.host import EngineProcess
from tests.controller.listening import listening
from tests.engines.running import free_port
from tests.needs import need

NAMES = ["DO_NOT_TRACK", "HF_TOKEN"]


def test_the_environment_is_read_back_from_the_process_that_listens() -> None:
    """What a template says is no evidence; what the kernel says of the process is."""
    with listening("127.0.0.1", environment={"DO_NOT_TRACK": "1", "PASSWORD": "x"}) as (pid, ports):
        seen = host.observe(f"127.0.0.1:{ports[0]}", NAMES)
    assert seen == EngineProcess(pid, {"DO_NOT_TRACK": "1"}, (f"127.0.0.1:{ports[0]}",))


def test_only_the_variables_asked_for_are_taken_out_of_an_environment() -> None:
    """The others may hold secrets, and an observation is written down."""
    with listening("127.0.0.1", environment={"PASSWORD": "x"}) as (_, ports):
        assert host.observe(f"127.0.0.1:{ports[0]}", NAMES).environment == {}


@pytest.mark.parametrize(
    ("bound", "address", "shown"),
    [
        ("0.0.0.0", "127.0.0.1", "0.0.0.0"),  # noqa: S104 - the case under test
        ("::1", "[::1]", "::1"),
        ("::", "[::1]", "::"),
    ],
)
def test_every_address_family_and_the_wildcards_are_seen_as_they_are_bound(
    bound: str, address: str, shown: str
) -> None:
    """An engine asked for loopback that listens on everything is the case that matters."""
    need(socket.has_ipv6 and Path("/proc/net/if_inet6").exists(), "no IPv6 here", "enable IPv6")
    with listening(bound) as (pid, ports):
        seen = host.observe(f"{address}:{ports[0]}", NAMES)
    assert (seen.pid, seen.listeners) == (pid, (f"{shown}:{ports[0]}",))


def test_all_listeners_of_the_process_are_seen_not_only_the_one_asked_about() -> None:
    """A second door that nobody configured is still a door."""
    with listening("127.0.0.1", "127.0.0.2") as (_, ports):
        seen = host.observe(f"127.0.0.1:{ports[0]}", NAMES)
    assert seen.listeners == (f"127.0.0.1:{ports[0]}", f"127.0.0.2:{ports[1]}")


def test_a_worker_that_listens_is_seen_with_the_process_that_started_it() -> None:
    """Engines split into processes; a worker's open port is the engine's."""
    pid = os.getpid()
    with socket.socket() as ours, listening("127.0.0.2") as (_, ports):
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        seen = host.observe(f"127.0.0.1:{ours.getsockname()[1]}", NAMES)
    assert seen.pid == pid
    assert seen.listeners is not None
    assert f"127.0.0.2:{ports[0]}" in seen.listeners


def test_the_same_port_at_another_address_is_another_process() -> None:
    """Somebody else's silence about telemetry must not be taken for the engine's."""
    with (
        listening("127.0.0.1", environment={"DO_NOT_TRACK": "0"}) as (_, ports),
        socket.socket() as ours,
    ):
        ours.bind(("127.0.0.2", ports[0]))
        ours.listen()
        seen = host.observe(f"127.0.0.2:{ports[0]}", NAMES)
        assert seen.pid == os.getpid()
        assert host.observe(f"127.0.0.3:{ports[0]}", NAMES) == EngineProcess()


def test_a_port_nobody_listens_on_shows_nobody() -> None:
    """A connection that is merely open, or was, is no listener."""
    assert host.observe(f"127.0.0.1:{free_port()}", NAMES) == EngineProcess()


def test_a_process_of_another_user_cannot_be_seen_and_is_unknown(tmp_path: Path) -> None:
    """Not seen is not fine: `plan` turns this into environment-unknown."""
    need(os.geteuid() == 0, "only root can become another user", "run the tests as root")
    with listening("127.0.0.1", environment={"DO_NOT_TRACK": "1"}) as (_, ports):
        code = (
            "import os, sys, msgspec; from sovereign import host\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"seen = host.observe('127.0.0.1:{ports[0]}', {NAMES!r})\n"
            "sys.stdout.buffer.write(msgspec.json.encode(seen))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, timeout=60
        )
    assert msgspec.json.decode(done.stdout, type=EngineProcess) == EngineProcess()


def proc_with(folder: Path, *inodes: int) -> Path:
    """A /proc with a listening socket an inode on 127.0.0.1:8081; process 9 holds the first."""
    line = "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 {} 1"
    (folder / "net").mkdir()
    lines = ["  sl  local_address …", *(line.format(inode) for inode in inodes)]
    (folder / "net" / "tcp").write_text("\n".join(lines) + "\n")
    (folder / "9" / "fd").mkdir(parents=True)
    (folder / "9" / "fd" / "3").symlink_to(f"socket:[{inodes[0]}]")
    return folder


def test_what_cannot_be_read_of_a_process_is_none_never_empty(tmp_path: Path) -> None:
    """An unreadable environment must not look like one in which nothing is set."""
    seen = host.observe("127.0.0.1:8081", NAMES, proc_with(tmp_path, 42))
    assert seen == EngineProcess(9, None, ("127.0.0.1:8081",))


def test_a_file_that_was_closed_while_it_was_looked_at_hides_no_other(tmp_path: Path) -> None:
    """A busy engine closes connections all the time; for that it must not be shut for a round."""
    proc = proc_with(tmp_path, 42)
    for number in (*range(3), *range(4, 40)):
        (proc / "9" / "fd" / str(number)).write_text("no link, as one that is gone")
    assert host.observe("127.0.0.1:8081", NAMES, proc).pid == 9


def test_a_port_shared_with_somebody_who_cannot_be_seen_is_unknown(tmp_path: Path) -> None:
    """With SO_REUSEPORT the kernel gives a call to either: the engine, or nobody knows whom."""
    seen = host.observe("127.0.0.1:8081", NAMES, proc_with(tmp_path, 42, 43))
    assert seen == EngineProcess()


def answering(path: Path, *parts: bytes) -> threading.Thread:
    """A socket that gives one answer and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        for part in parts:
            connection.sendall(part)
        connection.close()
        listener.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_the_observer_of_a_managed_host_is_believed_when_its_answer_is_whole(
    tmp_path: Path,
) -> None:
    """The controller has no privilege there; root answers once over a socket."""
    seen = EngineProcess(5, {"DO_NOT_TRACK": "1"}, ("127.0.0.1:8081",))
    raw = msgspec.json.encode(seen)
    thread = answering(tmp_path / "s", raw[:9], raw[9:])
    assert host.ask(str(tmp_path / "s")) == seen
    thread.join(timeout=5)


@pytest.mark.parametrize("answer", [b"", b"{", b'{"pid": "five"}', b"null", b"\xff"])
def test_anything_but_a_whole_answer_is_unknown(tmp_path: Path, answer: bytes) -> None:
    """A broken observer must shut the endpoint, not open it."""
    thread = answering(tmp_path / "s", answer)
    assert host.ask(str(tmp_path / "s")) == EngineProcess()
    thread.join(timeout=5)


def test_no_observer_at_all_is_unknown(tmp_path: Path) -> None:
    """A unit that is not installed, or that is masked."""
    assert host.ask(str(tmp_path / "nobody")) == EngineProcess()
