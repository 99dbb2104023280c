"""`drill disconnect`: cut the host off from every network but loopback, and go on serving.

A site that is sovereign needs nobody outside to answer, to decide, to record and to verify. While
the cut lasts this asks short questions over the gateway's own listener, and then looks for both
records of each answer. The attestations of places end and are renewed meanwhile, so a cut of more
than a minute shows more than a short one.

The kernel ends the cut by itself (`cut.py`), also when this process is killed. Who is connected
from elsewhere is cut off as well: so it wants to be told to.
"""

import time
from collections.abc import Callable
from typing import Any

from sovereign import fleet
from sovereign.drills import client, cut
from sovereign.drills.answered import sizes, without_records
from sovereign.drills.note import Noted, noted
from sovereign.drills.result import Result, recorded
from sovereign.drills.trickle import Trickle
from sovereign.egress import firewall
from sovereign.errors import EngineUnhealthy
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home

NAME, PURPOSE = "disconnect", "drill-disconnect"
ANSWERED_WITHIN_S = 60.0
LIFTED_WITHIN_S, POLL_S = 5.0, 1.0
"""So long after its time the kernel may still say that the cut is on."""


def plan(home: Home, policy: Policy, for_s: int) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    return {
        "drill": NAME,
        "cuts": f"every network but loopback, for {for_s} s; ssh from elsewhere too",
        "asks": client.models(home, policy).get("/v1/chat/completions", "no usable endpoint"),
        "keys": [f"{client.TENANT}: {PURPOSE}"],
        "loads": cut.text(for_s).splitlines(),
    }


def drill(home: Home, policy: Policy, for_s: int, say: Callable[[str], None]) -> Result:
    """Cut this host off for so many seconds and judge what it did meanwhile.

    Raises:
        FirewallUnreadable: this host cannot be cut off by this process. Nothing was done.
        NotDeployed, DrillRunning: nothing was done.
        EngineUnhealthy: the site was not ready before; nothing was cut.
    """
    firewall.need()
    with noted(home, NAME, policy.digest) as note:
        result = Result(NAME, utcnow())
        model = client.models(home, policy).get("/v1/chat/completions")
        if model is None or not client.is_ready(home):
            raise EngineUnhealthy("the site is not ready", next_step="sovereign status")
        secret = client.make_keys(home, note, PURPOSE, ("none",))["none"]
        client.wait_until_known(home, {"none": secret})
        before = sizes(home)
        with Trickle(home.settings.gateway, secret, model) as trickle:
            if not trickle.more(1, ANSWERED_WITHIN_S):
                raise EngineUnhealthy("nothing is answered", next_step="sovereign status")
            _cut(result, note, trickle, for_s, say)
        say(f"{len(trickle.answered)} requests were answered; looking for their records")
        result.cases += len(trickle.answered)
        lacking = without_records(home, before, trickle.answered)
        result.findings += [f"{name} was answered and {lack}" for name, lack in lacking]
        return recorded(home, policy.digest, result)


def _cut(
    result: Result, note: Noted, trickle: Trickle, for_s: int, say: Callable[[str], None]
) -> None:
    """From the first dropped packet until the kernel lets everything pass again."""
    home, before = note.home, _counts(trickle)
    note.cut()
    began = time.monotonic()
    cut.begin(for_s)
    say(f"this host is cut off for {for_s} s")
    _bites(result)
    _verifies(result, home)
    while cut.state().left_s and time.monotonic() < began + for_s + LIFTED_WITHIN_S:
        time.sleep(POLL_S)
    ended, lasted_s = cut.state(), round(time.monotonic() - began, 1)
    answered, unanswered = (now - then for now, then in zip(_counts(trickle), before, strict=True))
    result.cases += 1
    if ended.left_s:
        result.findings.append(f"the cut is on {LIFTED_WITHIN_S:.0f} s after its time")
    else:
        say(f"the kernel has lifted the cut; {answered} requests were answered meanwhile")
    if not answered:
        result.findings.append("nothing was answered while this host was cut off")
    if unanswered:
        result.findings.append(f"{unanswered} requests were not answered while it was cut off")
    result.facts = {
        "cut_s": lasted_s,
        "dropped": ended.dropped,
        "answered while cut off": answered,
        "refused": {str(status): count for status, count in trickle.refused.items()},
    }


def _counts(trickle: Trickle) -> tuple[int, int]:
    """Requests that were answered so far, and that were not."""
    return len(trickle.answered), trickle.silent + sum(trickle.refused.values())


def _bites(result: Result) -> None:
    """A cut that cuts nothing shows nothing."""
    tried = cut.tries()
    result.cases += 1
    result.findings += [f"{to} could be sent to" for to, how in tried.items() if how == "sent"]
    if "refused" not in tried.values() or not cut.state().dropped:
        result.unknown.append("this host has no way to anywhere, so cutting it off shows nothing")


def _verifies(result: Result, home: Home) -> None:
    """Every log, while nobody outside can be asked."""
    verified = fleet.verify(home)
    result.cases += len(verified)
    result.findings += [f"{each.origin}: {f}" for each in verified for f in each.findings]
    result.unknown += [f"{e.origin}: not determined" for e in verified if not e.determined]
