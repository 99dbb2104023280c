"""Whether a core dump of a process could be written: it would hold its memory (core(5))."""

from pathlib import Path

HONOURS_THE_LIMIT = "systemd-coredump"
"""The one handler of core dumps that is known to store none where the limit is 0."""


def could_dump(pid: int, proc: Path = Path("/proc")) -> str:
    """Why a core dump of this process could be written, "" when it cannot.

    A limit of 0 forbids files, but the kernel does not ask it where `core_pattern` is a pipe; a
    process whose dumps may hold no memory at all (`coredump_filter` 0) is safe there too.

    Raises:
        OSError: it may not be seen.
    """
    pattern = (proc / "sys/kernel/core_pattern").read_text().strip()
    if not pattern:
        return ""
    if int((proc / str(pid) / "coredump_filter").read_text(), 16) == 0:
        return ""
    lines = (proc / str(pid) / "limits").read_text().splitlines()
    limits = next(x for x in lines if x.startswith("Max core file size")).split()[4:6]
    if limits != ["0", "0"]:
        return f"its limit on core files is {limits[0]}, and it may raise it to {limits[1]}"
    if pattern.startswith("|") and HONOURS_THE_LIMIT not in pattern:
        return "core_pattern is a pipe, which is not bound by the limit of 0"
    return ""
