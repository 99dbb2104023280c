"""The plain Pulumi program: declares the stack that the engine has selected.

`python -m infra plan` runs the same `declare` inside its own process.
"""

import sys
from pathlib import Path

import pulumi

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infra import engine, offers, resolve, stack
from sovereign import policy, settings

HOME = settings.load()
NAME = pulumi.get_stack()
ASKED = stack.load(NAME)
POLICY = policy.load(HOME.policies, ASKED.profile, HOME.own_places)
engine.declare(resolve.site(NAME, ASKED, POLICY, offers.shop(ASKED.cloud)))
