"""The real gateway, but it forgets: `python -m tests.bench.forgetful HOME`.

Some completions are never recorded, and the client is answered all the same. It is what a
gateway would be that gained its speed by writing less than it promises.
"""

import sys
from pathlib import Path
from typing import Any

from sovereign import settings
from sovereign.audit.trail import Recorded
from sovereign.cli.output import policy_of
from sovereign.gateway import server
from sovereign.gateway.records import Recording

FORGOTTEN_EVERY = 7
_record = Recording.completion


async def forget_some(self: Recording, decision: int, *rest: Any) -> Recorded:
    """Record a completion, unless the index of its decision is one to be forgotten."""
    if decision % FORGOTTEN_EVERY == 0:
        return Recorded("", 0)
    return await _record(self, decision, *rest)


if __name__ == "__main__":
    setattr(Recording, "completion", forget_some)  # noqa: B010 - replaced, which types forbid
    home = settings.load(Path(sys.argv[1]))
    server.serve(home, policy_of(home))
