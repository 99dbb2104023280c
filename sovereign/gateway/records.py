"""The gateway's records, each in one place: what a decision, a completion, a sum holds.

Only names, numbers and sealed pseudonyms. There is no field a prompt or an answer could go to.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from sovereign.audit import record
from sovereign.audit.trail import Recorded, Trail
from sovereign.errors import LogUnwritable
from sovereign.gateway.choose import Choice
from sovereign.gateway.refusal import Denied
from sovereign.keystore import Key

COUNT_MAX = 2**53 - 1
FINISHES = frozenset(("stop", "length", "tool_calls", "error", "model_length", "abort"))


class Recording:
    """Writes through one trail and turns a log that cannot be written into a refusal."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._requests = 0

    async def decision(
        self,
        key: Key,
        subject: str,
        choice: Choice,
        policy: str,
        kind: str,
        after: int | None = None,
    ) -> Recorded:
        """Record what was decided about one request of a kind; returns once it is acknowledged.

        `after` is the index of the decision before, of a request that could not be sent under it.

        Raises:
            Denied: the log cannot be written, so nothing may be answered.
        """
        self._requests += 1
        fields: dict[str, str | int] = {
            "request": self._requests,
            "tenant": key.tenant,
            "key": key.id,
            "purpose": key.purpose,
            "basis": key.basis,
            "data": key.data,
            "verb": "process",
            "call": kind,
            "model": choice.model,
            "asked_at": record.written(choice.asked_at),
            "verdict": "refuse" if choice.code else "allow",
            "rule": choice.rule,
            "policy": policy,
        }
        if subject:
            fields["subject"] = subject
        if after is not None:
            fields["after"] = after
        if choice.endpoint is not None:
            fields["endpoint"] = choice.endpoint.id
            fields["engine"] = choice.endpoint.engine
            fields["place"] = choice.endpoint.place
            if choice.endpoint.address:
                fields["listener"] = choice.endpoint.address  # what `choose` asked about
        try:
            return await self._trail.arecord("decision", **fields)
        except LogUnwritable:
            raise Denied("log-unwritable", "the audit log cannot be written") from None

    def completion(
        self,
        decision: int,
        outcome: str,
        status: int,
        usage: Mapping[str, Any],
        finish: object,
        latency_us: int,
    ) -> "asyncio.Future[Recorded]":
        """Record how a decided request ended, by the index of its decision; done, or failed with
        `LogUnwritable`, once it is acknowledged, or never will be.

        `usage` and `finish` are as an engine said them: what is not a sensible count or one of
        `FINISHES` is not written down.

        Raises:
            LogUnwritable: the log takes no more.
        """
        return self._trail.later(
            "completion",
            decision=decision,
            outcome=outcome,
            status=status,
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
            latency_us=latency_us,
            finish=finish if isinstance(finish, str) and finish in FINISHES else "none",
        )

    async def refusals(self, sums: list[dict[str, str | int]]) -> None:
        """Record the sums of one minute."""
        for fields in sums:
            await self._trail.arecord("refusals", **fields)


class Ending:
    """The end of one decided request, recorded once: the first to say how it ended is right.

    A client that hangs up while "answered" is being written changes nothing any more.
    """

    def __init__(self, recording: Recording, decision: Recorded, started: float) -> None:
        """`started` is the `time.monotonic()` from which the latency counts."""
        self.decision = decision.index
        self._recording = recording
        self._decision = decision
        self._started = started
        self._written: asyncio.Future[Recorded] | None = None

    async def record(
        self, outcome: str, status: int, usage: object = None, finish: object = ""
    ) -> None:
        """Return once an ending is acknowledged; being cancelled does not undo it.

        Raises:
            Denied: the log cannot be written, so nothing more may be answered.
        """
        try:
            if self._written is None:
                latency_us = round((time.monotonic() - self._started) * 1_000_000)
                used = usage if isinstance(usage, dict) else {}
                self._written = self._recording.completion(
                    self._decision.index, outcome, status, used, finish, latency_us
                )
            await asyncio.shield(self._written)
        except LogUnwritable:
            raise Denied(
                "log-unwritable", "the audit log cannot be written", record=self._decision.name
            ) from None


def _count(found: object) -> int:
    """A count an engine reported; anything that is not a sensible one is recorded as 0."""
    return found if type(found) is int and 0 <= found <= COUNT_MAX else 0
