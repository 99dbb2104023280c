"""Ask witnesses and time-stamping authorities about our logs, when their word gets old.

What is due is read from what was kept of them, so a restart asks nobody again: a token of a
qualified authority costs money. Each is asked where the policy lets operational data go and
nowhere else, for a checkpoint tells how much a site does. Nobody is waited for: the controller
runs this in a thread of its own, and whoever does not answer is tried again a minute later,
while the age of their last word tells in `sovereign audit verify`.

A witness that has signed more of a log than there is, or another history, is asked for what it
signed. If our own key signed that too, it is kept: it is the proof that our copy was cut short,
put back or forked, and every later verification finds it.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from sovereign import eventlog, fleet
from sovereign.audit import remembered
from sovereign.audit.keys import rotation
from sovereign.audit.scan import Read
from sovereign.audit.tiles import CHECKPOINT
from sovereign.audit.witnesses import cosigned, submit, timestamp
from sovereign.audit.witnesses.cosignature import CosignerKey
from sovereign.audit.witnesses.submit import Outcome, Post
from sovereign.audit.witnesses.timestamp import NotStamped
from sovereign.errors import SovereignError
from sovereign.outside import Reading, standing, standings
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import TimeAuthority, Witness
from sovereign.residency import Question, decide
from sovereign.settings import Home

AGAIN_AFTER = timedelta(minutes=1)
"""After this a witness or authority that gave no good answer is asked again."""
EARLY = timedelta(seconds=5)
"""A round comes every few seconds; a word is renewed rather before it is due than after."""
DATA = "operational"
"""The class of a checkpoint: it says how many records there are, and nothing of any."""
WITNESSED = ".witnessed"
"""Beside the pinned keys, the newest checkpoint that a witness has signed of each log."""
CONFLICTS = ("witness-ahead", "witness-refused")

NewestOf = Callable[[str, str], bytes | None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking one witness or authority about one log. `code` is "" when all is well."""

    origin: str
    who: str
    size: int
    code: str = ""
    reason: str = ""


class Cosigning:
    """Knows who is due. One run at a time; safe to call from any thread."""

    def __init__(
        self,
        home: Home,
        policy: Policy,
        post: Post = submit.http_post,
        newest_of: NewestOf = submit.newest_of,
    ) -> None:
        self._home = home
        self._policy = policy
        self._post = post
        self._newest_of = newest_of
        self._failed_at: dict[tuple[str, str], datetime] = {}
        self._alerted_at: datetime | None = None
        self._running = threading.Lock()

    @property
    def is_configured(self) -> bool:
        """Whether there is anybody to ask."""
        audit = self._policy.audit
        return bool(audit.witnesses.known or audit.timestamps.authorities)

    def start_when_due(self, now: datetime) -> None:
        """Ask, in a thread of its own, everybody whose word is due. Returns at once."""
        if not self.is_configured or self._running.locked():
            return
        thread = threading.Thread(target=self._run_quietly, args=(now,), name="cosign", daemon=True)
        thread.start()

    def _run_quietly(self, now: datetime) -> None:
        try:
            self.run(now)
            self.alert(now)
        except (SovereignError, OSError) as error:
            eventlog.emit("cosign-failed", exception=type(error).__name__)

    def alert(self, now: datetime) -> None:
        """Tell what is not as the policy asks, under the word of the finding, once a minute."""
        if self._alerted_at is not None and now < self._alerted_at + AGAIN_AFTER:
            return
        seen = standings(self._home, self._policy, now)
        for code, logs in Counter(f.code for each in seen for f in each.findings).items():
            self._alerted_at = now
            eventlog.emit(code, logs=logs)

    def run(
        self, now: datetime, *, only_due: bool = True, stamps: bool = True, witnesses: bool = True
    ) -> tuple[Asked, ...]:
        """Ask and keep the answers; what each came to.

        Raises:
            OSError: an answer could not be kept, or the logs could not be read.
        """
        with self._running:
            asked: list[Asked] = []
            for member in fleet.members(self._home):
                if member.vkey is None or not member.folder.is_dir():
                    continue
                last = self._last(member, now) if only_due else {}
                if witnesses:
                    asked += self._ask_all(member, last, now)
                if stamps:
                    asked += self._certify_all(member, last, now)
            self._note(asked, now)
            return tuple(asked)

    def _last(self, member: fleet.Member, now: datetime) -> dict[str, datetime]:
        """When each last said something that still holds."""
        seen = standing(self._home, self._policy, member, now)
        if seen is None:
            return {}
        return {each.id: each.at for each in (*seen.witnesses.said, *seen.timestamps.said)}

    def _ask_all(
        self, member: fleet.Member, last: dict[str, datetime], now: datetime
    ) -> list[Asked]:
        """All about the same checkpoint, so that their lines stand under one text."""
        rules = self._policy.audit.witnesses
        read = fleet.reader(member.folder)
        signed = read(CHECKPOINT)

        def at_once(path: str) -> bytes | None:
            return signed if path == CHECKPOINT else read(path)

        asked = [
            self._ask(member, each, at_once, now)
            for each in rules.known
            if self._is_due(member, each.id, last, rules.interval_s, now)
        ]
        if not all(each.code for each in asked):
            cosigned.keep_merged(self._folder(member))
        return asked

    def _certify_all(
        self, member: fleet.Member, last: dict[str, datetime], now: datetime
    ) -> list[Asked]:
        rules = self._policy.audit.timestamps
        return [
            self._certify(member, each, now)
            for each in rules.authorities
            if self._is_due(member, each.id, last, rules.interval_s, now)
        ]

    def _is_due(
        self,
        member: fleet.Member,
        who: str,
        last: dict[str, datetime],
        interval_s: int,
        now: datetime,
    ) -> bool:
        failed = self._failed_at.get((member.origin, who))
        if failed is not None and now < failed + AGAIN_AFTER:
            return False
        at = last.get(who)
        return at is None or now >= at + timedelta(seconds=interval_s) - EARLY

    def _ask(self, member: fleet.Member, witness: Witness, at_once: Read, now: datetime) -> Asked:
        refused = self._refused(witness, now)
        if refused:
            return Asked(member.origin, witness.id, 0, "residency-refused", refused)
        assert member.vkey is not None
        read, key = fleet.reader(member.folder), CosignerKey.parse(witness.key)
        try:
            newest = rotation.newest(read, member.vkey)
            outcome = submit.ask(at_once, newest, key, witness.url, self._post)
            if outcome.code == CONFLICTS[0]:  # or another run of ours was there meanwhile
                outcome = submit.ask(read, newest, key, witness.url, self._post)
        except SovereignError as error:  # this log's own files; the others are asked all the same
            return Asked(member.origin, witness.id, 0, error.code, error.message)
        if not outcome.code:
            self._keep(member, witness, outcome.signed)
        elif outcome.code in CONFLICTS:
            outcome = self._with_proof(member, witness, outcome)
        return Asked(member.origin, witness.id, outcome.size, outcome.code, outcome.reason)

    def _with_proof(self, member: fleet.Member, witness: Witness, outcome: Outcome) -> Outcome:
        """Keep what the witness has signed, if our key did too and our log does not contain it."""
        try:
            signed = self._newest_of(witness.url, member.origin)
        except SovereignError:
            return outcome
        reading = Reading.of(member)
        if signed is None or reading.keys.read_kept(signed) is None or reading.holds(signed):
            return outcome
        self._keep(member, witness, signed)
        reason = f"{outcome.reason}; what it signed is kept, see sovereign audit verify"
        return Outcome(b"", outcome.size, "witness-ahead", reason)

    def _keep(self, member: fleet.Member, witness: Witness, signed: bytes) -> None:
        """Beside the log, and where its writer looks before it takes the log up again."""
        assert member.vkey is not None
        cosigned.keep_note(self._folder(member), witness.id, signed)
        newest = rotation.newest(fleet.reader(member.folder), member.vkey)
        try:
            remembered.keep(member.kept.with_suffix(WITNESSED), signed, newest)
        except OSError as error:
            if error.errno not in remembered.NOT_OURS_TO_WRITE:
                raise

    def _folder(self, member: fleet.Member) -> Path:
        return cosigned.folder_of(self._home.trust, member.writer, member.stream)

    def _certify(self, member: fleet.Member, authority: TimeAuthority, now: datetime) -> Asked:
        refused = self._refused(authority, now)
        if refused:
            return Asked(member.origin, authority.id, 0, "residency-refused", refused)
        signed = fleet.reader(member.folder)(CHECKPOINT) or b""
        tree = Reading.of(member).keys.read(signed)
        if tree is None:
            reason = "the log has no checkpoint that its key signed"
            return Asked(member.origin, authority.id, 0, "tile-missing", reason)
        query = timestamp.query(signed)
        reply = self._post(authority.url, query.der, timestamp.QUERY_TYPE)
        if reply.status != 200:
            reason = f"{reply.status}" if reply.status else "no answer"
            return Asked(member.origin, authority.id, tree.size, "authority-silent", reason)
        try:
            timestamp.check(reply.body, signed, authority.anchor, query.nonce)
        except NotStamped as error:
            return Asked(member.origin, authority.id, tree.size, "authority-refused", str(error))
        cosigned.keep_stamp(self._folder(member), authority.id, tree.size, signed, reply.body)
        return Asked(member.origin, authority.id, tree.size)

    def _refused(self, who: Witness | TimeAuthority, now: datetime) -> str:
        """Why the policy does not let a checkpoint go there; "" when it does."""
        here = who.place == THIS_HOST
        parts = urlsplit(who.url)
        listener = f"{parts.hostname}:{parts.port or 0}" if here else ""
        verb = "process" if here else "send"
        answer = decide(self._policy, Question(who.place, DATA, verb, now, listener))
        return "" if answer.allowed else f"{answer.rule}: {answer.found}"

    def _note(self, asked: list[Asked], now: datetime) -> None:
        """One event line for each that did not do what it was asked; the policy judges the rest."""
        told = Counter((each.who, each.code, each.reason) for each in asked if each.code)
        for (who, code, reason), logs in told.items():
            eventlog.emit(code, asked=who, logs=logs, reason=reason)
        for each in asked:
            key = (each.origin, each.who)
            if each.code:
                self._failed_at[key] = now
            else:
                self._failed_at.pop(key, None)
