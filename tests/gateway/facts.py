"""The shipped policy with a fact changed: what a model can do is written down, never tried out."""

import shutil
from pathlib import Path

from sovereign import policy as policies
from sovereign.policy import Policy
from tests.gateway.site import SHIPPED


def with_capability(folder: Path, model: str, capability: str) -> Policy:
    """The policy of the site, where the facts name one capability more for this model."""
    changed = folder / "policies"
    shutil.copytree(SHIPPED, changed)
    facts = changed / "facts" / "models.yaml"
    entry = f"  - id: {model}\n    name: "
    before, after = facts.read_text().split(entry)
    assert after.count("capabilities: [") > 0
    more = after.replace("capabilities: [", f"capabilities: [{capability}, ", 1)
    facts.write_text(f"{before}{entry}{more}")
    return policies.load(changed, "eea")
