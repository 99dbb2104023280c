"""What is true, what we allow, what the law asks: one loader, one frozen `Policy`, one digest."""

from sovereign.policy.loader import DEFAULT_PROFILE, default_root, load
from sovereign.policy.model import THIS_HOST, Place, Policy, Rule

__all__ = ["DEFAULT_PROFILE", "THIS_HOST", "Place", "Policy", "Rule", "default_root", "load"]
