"""What tells one kind of call from another. Everything they share is told in `story.py`.

A kind is a route, what a model must be able to do to answer it, and four functions: read what
the client wants, put it in an engine's words, make the client's answer out of a whole one, and
out of a stream. The kinds there are stand in `kinds.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sovereign.engines import ChatContext, Dialect, Engine, Upstream
from sovereign.gateway.choose import Choice
from sovereign.gateway.kinds.wish import Wish
from sovereign.policy.shapes import Model

NONSENSE = (ValueError, RecursionError, AttributeError, LookupError, TypeError)
"""What reading an answer raises when an engine answered something else than it was asked for."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was asked of an engine, for whoever reads its answer."""

    wish: Wish
    dialect: Dialect
    model: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer as the client gets it. `usage` and `finish` are as the engine said them."""

    body: bytes
    usage: object
    finish: object


class Stream(Protocol):
    """An answer on its way: an engine's bytes in, the client's out."""

    @property
    def usage(self) -> object:
        """What the engine said it used, so far."""
        ...

    @property
    def finish(self) -> object:
        """How the engine said the answer ended; "" while it has not."""
        ...

    @property
    def done(self) -> bool:
        """True once the engine has said that there is no more."""
        ...

    @property
    def failed(self) -> bool:
        """True once the engine has reported an error."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the engine, return those that may go out now; never the end marker.

        Raises:
            One of `NONSENSE`: the engine's stream is not of the kind it was asked for.
        """
        ...

    def rest(self) -> bytes:
        """What was held back and must go out before the end marker."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call.

    Args:
        name: the word for it in records and metrics.
        route: where it is asked, by POST.
        needs: what the facts must say that a model can do to answer it; "" is nothing.
        read: a body and a dialect in, what the client wants out; raises `Denied`.
        translate: the request to the engine. It may wait, but only for a computation of our own.
        whole: an engine's whole answer in, the client's out; raises one of `NONSENSE`.
        relay: the way an engine's stream becomes the client's.
        speaks: the dialect of a route that only one of them has; None where clients tell it.
    """

    name: str
    route: str
    needs: Callable[[Wish], str]
    read: Callable[[bytes, Dialect], Wish]
    translate: Callable[[Engine, Wish, ChatContext, Model], Awaitable[Upstream]]
    whole: Callable[[bytes, Sent], Whole]
    relay: Callable[[Sent], Stream]
    speaks: Dialect | None = None


def able(needed: str, models: Mapping[str, Model], choice: Choice) -> Choice:
    """The same choice, or the refusal that its model cannot do what is needed.

    What a model can do is a fact of policies/facts/models.yaml; nothing is tried out.
    """
    if choice.code or not needed or needed in models[choice.model].capabilities:
        return choice
    code = f"{needed}-not-enabled"
    because = f"the facts do not name {needed} among what {choice.model} can do"
    return Choice(choice.model, None, code, code, because, choice.asked_at)
