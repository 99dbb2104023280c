"""The course of one call: when it came to which point, and what became of it, in closed words.

The story marks it on its way, at the price of an attribute each; whoever looks at the gateway
from outside, metrics and traces, reads it when the call is over. Nothing of the client is ever
here: no header, no path, no name it chose, no tenant. A model is one the policy knows, an endpoint
one of the registry, a code one of ours.
"""

from time import perf_counter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sovereign.gateway.choose import Choice

NONE = "none"
"""What stands where a call never came to have a model, an endpoint or a route."""
ANSWERED, GONE, INTERRUPTED = "answered", "client-gone", "interrupted"
OUTCOMES = (ANSWERED, GONE, INTERRUPTED)
"""How a call can end besides the codes it can be refused with."""
TOKENS_MAX = 2**31
State = Literal["reading", "recording", "waiting", "asking", "answering"]
STATES: tuple[State, ...] = ("reading", "recording", "waiting", "asking", "answering")


class Course:
    """One call's moments, in seconds of `perf_counter`; 0.0 for one that did not come.

    came       the head of the request is here
    decided    an endpoint was chosen, or why none may answer
    recorded   the decision is on the disk
    waits      it stands in line for a turn of the engine
    asked      the request goes to the engine
    first      the first byte of the answer's body leaves
    ending     the completion is being recorded
    ended      it is on the disk

    `status` is the HTTP status that left, 0 while none did; `code` how it ended, "" while it runs.
    """

    decided = recorded = waits = asked = first = ending = ended = 0.0
    code = record = engine = place = rule = ""
    kind = model = endpoint = NONE
    left: tuple[str, ...] = ()
    streams = False
    status = tokens_in = tokens_out = 0
    finish: object = ""

    def __init__(self) -> None:
        self.came = perf_counter()

    @property
    def state(self) -> State:
        """What a call that is not over is doing."""
        if self.first:
            return "answering"
        if self.asked:
            return "asking"
        if self.waits:
            return "waiting"
        return "recording" if self.decided else "reading"

    def was_decided(self, kind: str, choice: "Choice", *, streams: bool) -> None:
        """An endpoint was chosen, or none: by whom it would be answered, and under which rule.

        Where nothing could be sent to the one chosen before, that one is among those `left`.
        """
        if self.endpoint != NONE:
            self.left = (*self.left, self.endpoint)
        self.decided = perf_counter()
        self.kind, self.model, self.rule = kind, choice.model, choice.rule
        self.streams = streams
        endpoint = choice.endpoint
        if endpoint is not None:
            self.endpoint, self.engine, self.place = endpoint.id, endpoint.engine, endpoint.place

    def was_recorded(self, record: str) -> None:
        """The decision is on the disk under this name."""
        self.recorded = perf_counter()
        self.record = record

    def waits_for_turn(self) -> None:
        """It stands in line for a turn."""
        self.waits = perf_counter()

    def was_asked(self) -> None:
        """It has its turn, and the request goes to the engine."""
        self.asked = perf_counter()

    def ends(self, usage: object, finish: object) -> None:
        """The completion is being recorded; whoever says so first is right. Both are as the engine
        said them."""
        if self.ending:
            return
        self.ending = perf_counter()
        if isinstance(usage, dict):
            self.tokens_in = _count(usage.get("prompt_tokens"))
            self.tokens_out = _count(usage.get("completion_tokens"))
        self.finish = finish

    def has_ended(self) -> None:
        """The completion is on the disk."""
        self.ended = self.ended or perf_counter()


def _count(found: object) -> int:
    """A count an engine reported; anything that is not a sensible one counts as 0."""
    return found if type(found) is int and 0 <= found <= TOKENS_MAX else 0
