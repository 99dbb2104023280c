"""Notice that another policy is in force, answer nothing more under the old one, and end.

Much of a gateway is made out of its policy: who may be an issuer, how much may be used, what an
alias means. So it is not changed under way, which would leave a mixture: this process lets what
runs come to its end and ends itself, and is started anew under the policy in force. From the
moment a change is seen every call is refused with a 503 that says when to come back.

A policy in force that does not load is a reason to refuse, not to end: whoever puts a good one in
force, or the old one back, is noticed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from sovereign import eventlog
from sovereign.errors import SovereignError
from sovereign.gateway.refusal import Denied
from sovereign.policy.following import LOOK_EVERY_S, Following

CODE = "policy-superseded"
ENDS_WITHIN_S = 20.0
"""How long calls that run may take to come to their end."""
POLL_S = 0.05


@dataclass(slots=True)
class Superseding:
    """Watches for one gateway. `end` is called once, when nothing runs any more."""

    following: Following
    end: Callable[[], None] = field(default=lambda: None)
    is_superseded: bool = False
    unreadable: bool = False

    def refuse(self) -> None:
        """Let a call go on only under the policy in force.

        Raises:
            Denied: another one is, or nobody can tell.
        """
        if self.is_superseded or self.unreadable:
            raise Denied(CODE, "another policy is in force; this gateway is being started anew")

    async def run(self, running: Callable[[], int]) -> None:
        """Look until another policy is in force, wait for the calls that run, and end.

        Args:
            running: how many calls run.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if await self._look():
                break
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ENDS_WITHIN_S
        while True:
            await asyncio.sleep(POLL_S)
            if not running() or loop.time() > deadline:
                break
        self.end()

    async def _look(self) -> bool:
        try:
            fresh = await asyncio.to_thread(self.following.look)
        except (SovereignError, OSError) as error:
            if not self.unreadable:
                eventlog.emit(CODE, exception=type(error).__name__)
            self.unreadable = True
            return False
        self.unreadable = False
        if fresh is not None:
            eventlog.emit(CODE, policy=fresh.digest)
            self.is_superseded = True
        return self.is_superseded
