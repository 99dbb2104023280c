"""The ruleset in a real kernel: a network namespace of its own, users of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from sovereign.egress import firewall
from tests.needs import need

TAKES_AT_MOST_S = 120
SAID = """\
version: 1
users: {engine: "64001", gateway: "64002", controller: "64003"}
destinations:
  - {dependency: debian-packages, address: 192.0.2.1/32, port: 3128, protocol: udp}
  - {dependency: debian-packages, address: "2001:db8::1", port: 3128, protocol: udp, unit: gateway}
"""
SENDS = """\
import os, socket, sys
os.setuid(int(sys.argv[1]))
sent = []
for family, host, port in ((2, "192.0.2.1", 3128), (10, "2001:db8::1", 3128), (2, "192.0.2.1", 53)):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b"x", (host, port))
            sent.append(True)
        except PermissionError:
            sent.append(False)
print(sent)
"""
TELLS = """\
import pathlib, sys
from sovereign import policy
from sovereign.evidence.checks import Site, answer
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
it = policy.load(None, "eea")
for place in ("this-host", "scaleway:fr-par-2"):
    home = Home(pathlib.Path("."), Settings(place=place))
    print(answer(Site(home, it, utcnow()), "egress_closed").state.value)
"""
SCRIPT = """\
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip address add 192.0.2.2/24 dev v0
ip -6 address add 2001:db8::2/64 dev v0 nodad
ip link set v0 up
ip link set v1 up
ours() { "$PYTHON" -m sovereign egress "$@" || echo "exit $?" >&2; }
tells() { "$PYTHON" tells.py; }
ours check --json > before.json
tells > before.told
ours ruleset | nft --file -
ours check --json > after.json
for uid in 0 64001 64002 64003; do python3 sends.py $uid > $uid.txt; done
ours report --json > report.json
tells > after.told
nft add rule inet sovereign_egress output ip daddr 203.0.113.9 accept
ours check --json > opened.json
tells > opened.told
"""


def test_the_kernel_lets_each_user_out_as_planned_and_tells_who_tried_else(tmp_path: Path) -> None:
    """Rules that load and do not bite look the same in a listing."""
    programs = ("nft", "ip", "unshare")
    need(not firewall.lacking(), "a firewall needs CAP_NET_ADMIN and nft", "root; nftables")
    need(all(map(shutil.which, programs)), "it needs ip and unshare", "apt install iproute2")
    (tmp_path / "egress.yaml").write_text(SAID)
    (tmp_path / "sends.py").write_text(SENDS)
    (tmp_path / "tells.py").write_text(TELLS)
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", SCRIPT],
        cwd=tmp_path,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": sys.executable,
            "SOVEREIGN_HOME": str(tmp_path),
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=TAKES_AT_MOST_S,
    )
    assert done.returncode == 0, done.stderr
    read = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert not read["before"]["enforced"]
    assert read["after"] == {"enforced": True, "ruleset": [], "gaps": []}
    assert read["opened"]["ruleset"] == ["- \t\tip daddr 203.0.113.9 accept"]
    told = {path.stem: path.read_text().split() for path in tmp_path.glob("*.told")}
    assert told == {"before": ["unknown", "fail"], "after": ["pass"] * 2, "opened": ["fail"] * 2}
    sent = {uid: json.loads((tmp_path / f"{uid}.txt").read_text().lower()) for uid in _UIDS}
    assert sent == _UIDS
    flows = read["report"]["flows"]
    seen = {f["unit"] for f in flows if f["verdict"] == "declared-and-seen"}
    undeclared = {(f["user"], f["to"]) for f in flows if f["verdict"] == "seen-and-undeclared"}
    assert seen == {"host", "gateway"}
    assert {("64001", "192.0.2.1:53/udp"), ("64001", "[2001:db8::1]:3128/udp")} <= undeclared
    assert ("64002", "[2001:db8::1]:3128/udp") not in undeclared


_UIDS = {
    "0": [True, False, False],
    "64001": [False, False, False],
    "64002": [False, True, False],
    "64003": [False, False, False],
}
"""By user: the mirror over IPv4, the gateway's over IPv6, and what nobody declared."""
