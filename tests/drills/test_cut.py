"""The cut from all networks: it bites, the kernel ends it, and a killed drill leaves nothing."""

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from sovereign.drills import cut
from sovereign.egress import firewall
from sovereign.settings import Home
from tests.needs import need

TAKES_AT_MOST_S = 120
CUT_S = 8
CABLE = """\
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip address add 192.0.2.2/24 dev v0
ip link set v0 up
ip link set v1 up
exec "$@"
"""
STORY = """\
import json, multiprocessing, os, pathlib, signal, socket, sys, time
from sovereign.drills import cut, note
from sovereign.settings import Home, Settings
home, for_s = Home(pathlib.Path(sys.argv[1]), Settings()), int(sys.argv[2])

def killed():
    with note.noted(home, "disconnect", "0" * 64) as mine:
        mine.cut()
        cut.begin(for_s)
        os.kill(os.getpid(), signal.SIGKILL)

def here():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 2).close()
    return True

def look():
    state = cut.state()
    return {"tried": cut.tries()["192.0.2.1"], "left": state.left_s, "dropped": state.dropped}

told = {"before": look()}
drill = multiprocessing.get_context("fork").Process(target=killed)
drill.start()
drill.join(60)
told |= {"ended": drill.exitcode, "during": look(), "loopback": here(), "then": look()}
deadline = time.monotonic() + 60
while cut.state().left_s and time.monotonic() < deadline:
    time.sleep(0.2)
told["after"], told["standing"] = look(), note.standing(home).state
told["undone"] = note.undo_left(home).drill
cut.lift()
print(json.dumps(told | {"gone": look()}))
"""


@pytest.fixture
def told(home: Home) -> dict[str, Any]:
    """What was seen in a network of its own, while a drill there was killed half-way."""
    need(not firewall.lacking(), "a firewall needs CAP_NET_ADMIN and nft", "root; nftables")
    need(shutil.which("ip") is not None, "it needs ip", "apt install iproute2")
    words = (sys.executable, "-c", STORY, str(home.root), str(CUT_S))
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", CABLE, "cable", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=TAKES_AT_MOST_S,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_kernel_ends_the_cut_of_a_drill_that_was_killed(told: dict[str, Any]) -> None:
    """A host that stays cut off because somebody closed a terminal is an outage we made."""
    assert told["before"] == {"tried": "sent", "left": 0, "dropped": 0}
    assert told["ended"] == -9
    assert told["during"]["tried"] == told["then"]["tried"] == "refused"
    assert 1 <= told["during"]["left"] <= CUT_S
    assert told["then"]["dropped"] > told["during"]["dropped"]
    assert told["loopback"]
    assert (told["after"]["tried"], told["after"]["left"]) == ("sent", 0)
    assert (told["standing"], told["undone"]) == ("left", "disconnect")
    assert told["gone"] == told["before"]


@pytest.mark.parametrize("for_s", [0, cut.AT_MOST_S + 1])
def test_a_cut_has_a_bound(for_s: int) -> None:
    """No slip of the keyboard cuts a host off for a day."""
    with pytest.raises(ValueError, match=str(for_s)):
        cut.begin(for_s)
