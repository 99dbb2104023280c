"""`drill kill`: kill the processes of the site, one after the other, while it is being used.

Each is killed without a warning under a trickle of the drill's own requests, and its supervisor
must bring it back. Then the logs must verify, and hold both records of every request that was
answered. Requests of others that run at that moment are cut off: so it wants to be told to.

There is nothing to undo but the drill's key: what was killed is started by its supervisor,
whether this drill lives on or not.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from sovereign import fleet
from sovereign.drills import client
from sovereign.drills.answered import sizes, without_records
from sovereign.drills.note import noted
from sovereign.drills.result import Result, recorded
from sovereign.drills.trickle import Trickle
from sovereign.errors import EngineUnhealthy, ProcessFailed
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor.watch import CHILDREN

NAME, PURPOSE = "kill", "drill-kill"
BACK_WITHIN_S = 240.0
BETWEEN = 3
"""So many requests are answered before, between and after."""


def plan(home: Home, policy: Policy) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    running = client.pids(home)
    return {
        "drill": NAME,
        "kills": {name: running.get(name, "not running") for name in CHILDREN},
        "asks": client.models(home, policy).get("/v1/chat/completions", "no usable endpoint"),
        "keys": [f"{client.TENANT}: {PURPOSE}"],
    }


def drill(home: Home, policy: Policy, say: Callable[[str], None]) -> Result:
    """Kill each process once and judge what the logs hold.

    Raises:
        NotDeployed, DrillRunning: nothing was done.
        EngineUnhealthy, ProcessFailed: the site was not ready before; nothing was killed.
    """
    with noted(home, NAME, policy.digest) as note:
        result = Result(NAME, utcnow())
        model = client.models(home, policy).get("/v1/chat/completions")
        if model is None or not client.is_ready(home):
            raise EngineUnhealthy("the site is not ready", next_step="sovereign status")
        running = client.pids(home)
        absent = [name for name in CHILDREN if name not in running]
        if absent:
            raise ProcessFailed(
                f"no process of {', '.join(absent)} was seen", next_step="sovereign status"
            )
        secret = client.make_keys(home, note, PURPOSE, ("none",))["none"]
        client.wait_until_known(home, {"none": secret})
        before = sizes(home)
        with Trickle(home.settings.gateway, secret, model) as trickle:
            trickle.more(BETWEEN, BACK_WITHIN_S)
            kills = [_killed(result, home, name, trickle, say) for name in CHILDREN]
        say(f"{len(trickle.answered)} requests were answered; looking for their records")
        lacking = without_records(home, before, trickle.answered)
        result.findings += [f"{name} was answered and {lack}" for name, lack in lacking]
        verified = fleet.verify(home)
        result.findings += [f"{each.origin}: {f}" for each in verified for f in each.findings]
        result.unknown += [f"{e.origin}: not determined" for e in verified if not e.determined]
        result.facts = {
            "kills": kills,
            "answered": len(trickle.answered),
            "refused": {str(status): count for status, count in trickle.refused.items()},
            "no answer": trickle.silent,
        }
        return recorded(home, policy.digest, result)


def _killed(
    result: Result, home: Home, name: str, trickle: Trickle, say: Callable[[str], None]
) -> dict[str, Any]:
    pid = client.pids(home).get(name, 0)
    say(f"killing {name}, process {pid}")
    result.cases += 1
    os.kill(pid, signal.SIGKILL)
    try:
        back_s = client.wait_for_another(home, name, pid, BACK_WITHIN_S)
    except ProcessFailed as error:
        result.findings.append(error.message)
        return {"process": name, "back_s": -1}
    if not trickle.more(BETWEEN, BACK_WITHIN_S):
        result.findings.append(f"nothing was answered after {name} came back")
    return {"process": name, "back_s": round(back_s, 1)}
