"""Have others vouch for where this host is, again and again, in a thread of its own.

A run waits for anchors and for a metadata service, so a round never waits for it: it reads what the
last run left. Due is a run in the second half of what stands, a minute after one that did not
suffice, and at once when the policy or the place changed. A host without a key of its own is never
run: that is a site whose operator's word is all there is, and the policy says whether that will do.
"""

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTime
from datetime import datetime, timedelta

from sovereign import eventlog
from sovereign.attestation import kept, running, site
from sovereign.attestation.judge import why
from sovereign.attestation.papers import Attestation
from sovereign.attestation.standing import standing
from sovereign.audit.trail import Trail
from sovereign.errors import SovereignError
from sovereign.policy import THIS_HOST, Policy
from sovereign.settings import Home

AGAIN_AFTER = timedelta(minutes=1)
RECORDED_WITHIN_S = 10.0
Run = Callable[[Home, Policy, Callable[[], datetime]], Attestation]


class Attesting:
    """Knows when a run is due. One at a time."""

    def __init__(
        self,
        home: Home,
        policy: Policy,
        trail: Trail,
        clock: Callable[[], datetime],
        run: Run = running.run_here,
    ) -> None:
        self._home = home
        self._policy = policy
        self._trail = trail
        self._clock = clock
        self._run = run
        self._tried_at: datetime | None = None
        self._thread: threading.Thread | None = None

    def start_when_due(self, now: datetime) -> None:
        """Run in a thread of its own when it is time. Returns at once."""
        running_still = self._thread is not None and self._thread.is_alive()
        if running_still or not self.is_due(now):
            return
        self._tried_at = now
        self._thread = threading.Thread(target=self.run, name="attest", daemon=True)
        self._thread.start()

    def is_due(self, now: datetime) -> bool:
        """Whether this host has a key to answer with, and what stands is not good enough."""
        home, policy = self._home, self._policy
        if home.settings.place == THIS_HOST or not site.host_key_path(home).exists():
            return False
        tried = self._tried_at
        if tried is not None and tried <= now < tried + AGAIN_AFTER:
            return False
        host, place = site.host_of(home), home.settings.place
        stands, placed = kept.newest(home, host), standing(home, policy, host, place, now)
        if stands is None or (placed is not None and placed.verdict != "vouched"):
            return True
        changed = (stands.policy, stands.claim.place) != (policy.digest, place)
        half = stands.at + (stands.expires_at - stands.at) / 2
        return changed or not stands.at <= now < half

    def run(self) -> None:
        """One run. What goes wrong is told, and tried again.

        What vouches is kept once it is recorded; what speaks against the place is kept all the
        same, for refusing is the safe side.
        """
        host = site.host_of(self._home)
        try:
            outcome = self._run(self._home, self._policy, self._clock)
            note = kept.signed(outcome, running.signing_key(self._home))
            if outcome.verdict == "contradicts":
                kept.keep(self._home, outcome, note)
                reason = why(outcome.verdict, outcome.suffices, outcome.vouchers, outcome.findings)
                eventlog.emit("attestation-disagrees", host=host, reason=reason)
            recorded = self._trail.record("place-attested", **running.fields(outcome, note))
            recorded.result(RECORDED_WITHIN_S)
            kept.keep(self._home, outcome, note)
        except (SovereignError, OSError, NotInTime) as error:
            eventlog.emit("attestation-failed", host=host, exception=type(error).__name__)
