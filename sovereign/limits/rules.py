"""Which limits cover a call, and in whose name each of them counts.

A `Rule` is a limit of the policy with its amount as a whole number: requests, tokens, calls at a
time, or picoeuros. Its holder is whoever has the allowance: a key, a tenant, a model or the site.
"""

from dataclasses import dataclass
from typing import Literal

from sovereign.limits.gcra import Rate
from sovereign.limits.money import euros, pico
from sovereign.policy.shapes import Limit

Counts = Literal["requests", "tokens", "concurrent", "spend"]
MINUTE_NS = 60 * 10**9
SITE = "site"


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit as it is kept. `every` is "" for what is counted at one time.

    `rate` is what is counted every minute, as the algorithm wants it; of others it means nothing.
    """

    id: str
    counts: Counts
    per: str
    at_most: int
    every: str
    burst: int
    refuses: bool
    because: str
    tenants: frozenset[str]
    keys: frozenset[str]
    models: frozenset[str]
    rate: Rate

    @classmethod
    def of(cls, limit: Limit) -> "Rule":
        """The rule that a limit of the policy says."""
        most = pico(limit.at_most) if isinstance(limit.at_most, str) else limit.at_most
        return cls(
            id=limit.id,
            counts=limit.counts,
            per=limit.per,
            at_most=most,
            every=limit.every or "",
            burst=limit.burst or most,
            refuses=limit.when_unreachable == "refuse",
            because=limit.because,
            tenants=frozenset(limit.tenants),
            keys=frozenset(limit.keys),
            models=frozenset(limit.models),
            rate=Rate(most, MINUTE_NS, limit.burst or most),
        )

    @property
    def is_own(self) -> bool:
        """Whether the allowance is that of the key or its tenant, so that they may see it.

        What is left of a model's or the site's would tell what others do.
        """
        return self.per in ("key", "tenant")

    @property
    def bound(self) -> str:
        """The bound in words: `600 requests a minute`, `25.00 EUR a month`."""
        much = f"{euros(self.at_most)} EUR" if self.counts == "spend" else f"{self.at_most}"
        what = {"requests": " requests", "tokens": " tokens", "spend": ""}.get(self.counts)
        return f"{much} calls at a time" if what is None else f"{much}{what} a {self.every}"

    def covers(self, tenant: str, key: str, model: str) -> bool:
        """Whether a call counts; `model` is "" for one that the policy does not know."""
        return (
            (not self.tenants or tenant in self.tenants)
            and (not self.keys or key in self.keys)
            and (not self.models or model in self.models)
        )

    def holder(self, tenant: str, key: str, model: str) -> str:
        """In whose name it counts. A key of an identity provider may be that of several tenants."""
        return {"key": f"{tenant}/{key}", "tenant": tenant, "model": model}.get(self.per, SITE)
