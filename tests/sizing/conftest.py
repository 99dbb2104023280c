"""The shipped catalogue, and questions about it in few words."""

from collections.abc import Callable

import pytest

from sovereign import catalogue
from sovereign import policy as policies
from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture, Gpu
from sovereign.sizing.cards import card_of
from sovereign.sizing.fit import Asked
from sovereign.sizing.formats import kv_format, weight_format
from sovereign.sizing.memory import Load

Ask = Callable[..., Asked]


@pytest.fixture(scope="session")
def policy() -> Policy:
    return policies.load()


@pytest.fixture(scope="session")
def architecture(policy: Policy) -> Callable[[str], Architecture]:
    """The measures of a model, by any of its names."""

    def of(name: str) -> Architecture:
        return policy.catalogue.architectures[catalogue.with_weights(policy, name).architecture]

    return of


@pytest.fixture(scope="session")
def card(policy: Policy) -> Callable[[str], Gpu]:
    return lambda name: card_of(policy.gpus, name)


@pytest.fixture(scope="session")
def ask(policy: Policy, architecture: Callable[[str], Architecture]) -> Ask:
    """A question: model, format, context, conversations."""

    def of(
        name: str, dtype: str = "bf16", context: int = 8192, concurrency: int = 1, kv: str = "auto"
    ) -> Asked:
        fmt = weight_format(dtype)
        return Asked(
            architecture(name),
            fmt,
            kv_format(kv, fmt),
            Load(context, concurrency),
            catalogue.with_weights(policy, name).context,
        )

    return of
