"""Fresh Debian 12 hosts on one machine: systemd as PID 1, sshd, an own network and firewall.

A lab is a network namespace that holds a bridge and has no way out but a proxy with a list of
names: the Debian mirror that this machine itself uses. Each host is a `systemd-nspawn` guest on an
overlay of one base, with an own network namespace and an own cgroup. The base is built once a
version by mmdebstrap (about 75 s) and kept in the cache.

What such a host cannot show: auditd, disk encryption, sysctls outside `net.*`, memory limits.

    python -m tests.tools.lab       build the base into the cache
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.tools.cached import built

VERSION = "1"
"""Grows with `PACKAGES` or the way the base is built."""

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "procps", "kmod"),
    *("openssh-server", "sudo", "ca-certificates", "iproute2", "nftables"),
    *("python3", "python3-apt"),
)
"""What a cloud's image of Debian 12 brings, as far as a playbook can tell."""

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "socat": "socat",
    "tinyproxy": "tinyproxy",
    "zstd": "zstd",
}
"""Program: Debian package."""

NET = "198.51.100"
"""TEST-NET-2 (RFC 5737): never routed, and in here nothing is."""
PROXY_PORT = 3128
GATE = f"{NET}.1"
_FIRST_HOST = 11
_SSH_WITHIN_S = 60.0
_BASE_TAKES_AT_MOST_S = 900
_HALT_WITHIN_S = 15.0
_CGROUPS = Path("/sys/fs/cgroup")
_CAPABILITIES = "CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON,CAP_SYSLOG,CAP_IPC_LOCK"
"""NET_ADMIN for nftables; without BPF (and the system call) IPAddressDeny= is silently ignored.
With adjtimex a guest sees how well its clock is kept; without SYS_TIME it cannot set it."""


def missing() -> list[str]:
    """Return what stands in the way of a lab here, empty if nothing."""
    lacking = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    return lacking if os.geteuid() == 0 else ["root", *lacking]


# --- the base ------------------------------------------------------------------------------------


def base_tarball() -> Path:
    """Return the packed base, building it if it is not in the cache."""
    return built("debian12-host", VERSION, _build_base) / "debian12.tar.zst"


def _build_base(folder: Path, _place: Path) -> None:
    main, security = _mirrors()
    plain = folder / "debian12.tar"
    clean = (
        'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf; '
        'chroot "$1" systemctl mask getty@tty1.service apt-daily.timer apt-daily-upgrade.timer'
    )
    _done(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")),
        f"--customize-hook={clean}",
        *("bookworm", str(plain)),
        f"deb {main} bookworm main",
        f"deb {main} bookworm-updates main",
        f"deb {security} bookworm-security main",
        timeout_s=_BASE_TAKES_AT_MOST_S,
    )
    _done("zstd", "-q", "-T0", "-3", "--rm", str(plain), "-o", str(folder / "debian12.tar.zst"))


def _mirrors() -> tuple[str, str]:
    """The addresses of Debian and of its security updates, as this machine's own apt has them."""
    listed = _done("apt-get", "indextargets", "--format", "$(REPO_URI)").split()
    found = {uri.rstrip("/").rpartition("/")[2]: uri.rstrip("/") for uri in reversed(listed)}
    if not {"debian", "debian-security"} <= found.keys():
        raise RuntimeError(f"apt on this machine names no Debian mirror, only {sorted(found)}")
    return found["debian"], found["debian-security"]


# --- the lab -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Host:
    """A host that answers ssh. `root` is its whole file system, seen from outside."""

    name: str
    address: str
    root: Path
    lab: "Lab"

    def run(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as root; the caller judges how it ended."""
        return subprocess.run(
            ["ssh", "-F", str(self.lab.ssh_config), self.address, command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def reboot(self) -> None:
        """Boot again on the same disk; return once it answers."""
        self.run("systemctl reboot")
        self.lab.guests[self.name].wait(timeout=_HALT_WITHIN_S)
        _hang_up(self)
        _boot(self.lab, self)
        _wait_for_ssh(self)

    def read(self, command: str) -> str:
        """As `run`, for a command that must work; return what it printed."""
        done = self.run(command)
        assert done.returncode == 0, f"{self.name}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout


class Lab:
    """A network of hosts. Made by `lab`, which also takes it away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"sovlab-{secrets.token_hex(3)}"
        self.base = folder / "base"
        self.key = folder / "id"
        self.ssh_config = folder / "ssh_config"
        self.guests: dict[str, subprocess.Popen[bytes]] = {}
        self._hosts = 0

    def inside(self, *command: str) -> list[str]:
        """The same command, run in the lab's network instead of this machine's."""
        return ["ip", "netns", "exec", self.name, *command]

    def call(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in the lab's network; the caller judges how it ended."""
        return subprocess.run(
            self.inside(*command), check=False, capture_output=True, text=True, timeout=timeout_s
        )

    @contextmanager
    def host(self, name: str) -> Iterator[Host]:
        """A fresh host, gone without a trace afterwards."""
        number = _FIRST_HOST + self._hosts
        self._hosts += 1
        place = self.folder / name
        host = Host(name, f"{NET}.{number}", place / "root", self)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, place, ignore_errors=True)
            _overlay(self, host, place, undo)
            _cable(self, host, f"v{number}", undo)
            _dress(self, host)
            undo.callback(_remove_cgroups, _cgroups(self, host))
            _boot(self, host)
            undo.callback(_halt, self, host)
            undo.callback(_hang_up, host)
            _wait_for_ssh(host)
            yield host


@contextmanager
def lab() -> Iterator[Lab]:
    """Unpack the base, make the network and its one way out; afterwards nothing is left of it.

    Its folder lies directly in the temporary folder: the path of a socket may have 108 bytes.
    """
    with ExitStack() as undo:
        it = Lab(Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="lab-"))))
        it.base.mkdir()
        _done("tar", "-C", str(it.base), "--zstd", "-xpf", str(base_tarball()))
        # Lists younger than apt's cache_valid_time would pass for fresh, and they are empty.
        os.utime(it.base / "var/lib/apt/lists", (0, 0))
        _done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(it.key))
        it.ssh_config.write_text(_ssh_config(it))
        _done("ip", "netns", "add", it.name)
        undo.callback(_done, "ip", "netns", "del", it.name)
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "add", "br0", "type", "bridge"),
            ("addr", "add", f"{GATE}/24", "dev", "br0"),
            ("link", "set", "br0", "up"),
        ):
            _done("ip", "-n", it.name, *words)
        _proxy(it, undo)
        yield it


def _ssh_config(it: Lab) -> str:
    through = " ".join(it.inside("socat", "-", "TCP:%h:%p"))
    return f"""\
Host *
  User root
  IdentityFile {it.key}
  IdentitiesOnly yes
  BatchMode yes
  LogLevel ERROR
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 4
  ControlMaster auto
  ControlPath {it.folder}/c-%C
  ControlPersist 30
  ProxyCommand {through}
"""


def _proxy(it: Lab, undo: ExitStack) -> None:
    """The only way out: the Debian mirror, by name, over a socket that crosses the namespaces."""
    names = sorted({uri.split("/")[2].split(":")[0] for uri in _mirrors()})
    allowed = it.folder / "proxy.allow"
    allowed.write_text("".join(f"^{name}$\n".replace(".", r"\.") for name in names))
    port = _free_port()
    (it.folder / "proxy.conf").write_text(
        f'Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nFilter "{allowed}"\n'
        "FilterDefaultDeny Yes\nFilterExtended On\nConnectPort 443\nAllow 127.0.0.1\n"
        f'LogFile "{it.folder}/proxy.log"\n'
    )
    crossing = it.folder / "proxy.sock"
    _start(undo, it.folder, "tinyproxy", "-d", "-c", str(it.folder / "proxy.conf"))
    _start(undo, it.folder, "socat", f"UNIX-LISTEN:{crossing},fork", f"TCP:127.0.0.1:{port}")
    listen = f"TCP-LISTEN:{PROXY_PORT},bind={GATE},fork,reuseaddr"
    _start(undo, it.folder, *it.inside("socat", listen, f"UNIX-CONNECT:{crossing}"))


def _start(undo: ExitStack, folder: Path, *command: str) -> None:
    with (folder / "proxy.out").open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    undo.callback(_end_group, process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a helper and what it forked for running connections."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- one host, step by step ----------------------------------------------------------------------


def _overlay(it: Lab, host: Host, place: Path, undo: ExitStack) -> None:
    for name in ("upper", "work", "root"):
        (place / name).mkdir(parents=True)
    layers = f"lowerdir={it.base},upperdir={place / 'upper'},workdir={place / 'work'}"
    _done("mount", "-t", "overlay", "overlay", "-o", layers, str(host.root))
    undo.callback(_done, "umount", str(host.root))


def _cable(it: Lab, host: Host, link: str, undo: ExitStack) -> None:
    space = f"{it.name}-{host.name}"
    _done("ip", "netns", "add", space)
    undo.callback(_done, "ip", "netns", "del", space)
    ends = ("type", "veth", "peer", "name", "eth0", "netns", space)
    _done("ip", "-n", it.name, "link", "add", link, *ends)
    _done("ip", "-n", it.name, "link", "set", link, "master", "br0", "up")
    for words in (
        ("link", "set", "lo", "up"),
        ("addr", "add", f"{host.address}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("route", "add", "default", "via", GATE),
    ):
        _done("ip", "-n", space, *words)


def _dress(it: Lab, host: Host) -> None:
    """What a cloud's first boot does: a name, a key to log in with, host keys, an apt proxy."""
    etc = host.root / "etc"
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{host.address} {host.name}\n")
    ssh = host.root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(it.key.with_suffix(".pub"), ssh / "authorized_keys")
    _done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{etc}/ssh/ssh_host_ed25519_key")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():  # this machine may reach its mirror through a certificate of its own
        shutil.copy(bundle, etc / "ssl/certs/ca-certificates.crt")
    proxy = f"http://{GATE}:{PROXY_PORT}"
    (etc / "apt/apt.conf.d/99proxy").write_text(
        f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n'
    )


def _boot(it: Lab, host: Host) -> None:
    """Start the guest in a cgroup of its own; two in one would end each other's units."""
    groups = _cgroups(it, host)
    for group in groups:
        group.mkdir(exist_ok=True)
    enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
    command = [
        *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
        *("--console=pipe", "-M", host.name, "-D", str(host.root)),
        f"--network-namespace-path=/run/netns/{it.name}-{host.name}",
        *("--resolv-conf=off", "--timezone=off", f"--capability={_CAPABILITIES}"),
        "--system-call-filter=bpf keyctl add_key request_key adjtimex clock_adjtime",
    ]
    with (host.root.parent / "console.log").open("ab") as console:
        it.guests[host.name] = subprocess.Popen(
            ["bash", "-c", f'{enter}; exec "$@"', "boot", *command],
            env={
                **os.environ,
                "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
            },
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def _cgroups(it: Lab, host: Host) -> list[Path]:
    """The guest's own group: in one tree (v2), or in v1 beside v2, each written to separately."""
    both = [_CGROUPS / "unified", _CGROUPS / "systemd"]
    roots = both if both[0].is_dir() else [_CGROUPS]
    return [root / f"{it.name}.{host.name}" for root in roots]


def _remove_cgroups(groups: Sequence[Path]) -> None:
    for group in groups:
        for folder in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            group.rmdir()


def _halt(it: Lab, host: Host) -> None:
    """Power the guest off: SIGTERM asks its systemd, SIGKILL is for one that does not listen."""
    guest = it.guests[host.name]
    guest.terminate()
    try:
        guest.wait(timeout=_HALT_WITHIN_S)
    except subprocess.TimeoutExpired:
        guest.kill()
        guest.wait()


def _wait_for_ssh(host: Host) -> None:
    console = host.root.parent / "console.log"
    until = time.monotonic() + _SSH_WITHIN_S
    while host.run("true").returncode != 0:
        assert time.monotonic() < until, f"{host.name} does not answer\n{console.read_text()}"
        time.sleep(0.1)


def _hang_up(host: Host) -> None:
    """End the connection that ssh keeps for the next command."""
    subprocess.run(
        ["ssh", "-F", str(host.lab.ssh_config), "-O", "exit", host.address],
        check=False,
        capture_output=True,
        timeout=10,
    )


def _free_port() -> int:
    from tests.engines.running import free_port

    return free_port()


def _done(*command: str, timeout_s: float = 120) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    print(base_tarball())
