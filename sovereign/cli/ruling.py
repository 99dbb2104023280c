"""What `sovereign audit verify` judges erasures and legal holds by: the policy, and now."""

from pathlib import Path
from typing import Annotated

import typer

from sovereign import fleet
from sovereign.audit.erasures import Rules
from sovereign.audit.log import utcnow
from sovereign.cli.output import policy_of
from sovereign.settings import Home

PoliciesOption = Annotated[
    Path | None,
    typer.Option("--policies", help="Policy folder to judge erasures by; this site's has its own."),
]


def rules(home: Home, policies: Path | None) -> Rules:
    """The retention classes of a policy, to be judged by now.

    Raises:
        PolicyUnreadable: it cannot be loaded. Nothing was judged.
    """
    from sovereign.sinks import rules_of  # where there is no policy it is not needed, and slow

    return rules_of(policy_of(home, root=policies), utcnow())


def of_site(home: Home, policies: Path | None) -> tuple[fleet.Result, ...]:
    """Every log of a site and every hold, judged by its policy now."""
    from sovereign import holds  # slow: it imports what encrypts

    judged = rules(home, policies)
    return (*fleet.verify(home, judged), *holds.verify(home, judged.now))
