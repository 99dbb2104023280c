"""The checks that controls name: each looks at the site itself and answers with a verdict.

A check reads what runs and what is stored, never what a template says should be. What it
cannot see it calls unknown, with the reason; it never guesses.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from sovereign import dependencies, fleet, holds, host, outside
from sovereign.attestation import standing
from sovereign.audit.trail import WRITERS
from sovereign.audit.witnesses import witnessed
from sovereign.egress import firewall
from sovereign.egress import site as ways_out
from sovereign.egress.ruleset import TABLE
from sovereign.engines import ENGINES
from sovereign.errors import SovereignError
from sovereign.evidence import drilled
from sovereign.evidence.verdict import State, Verdict
from sovereign.keystore import Keystore
from sovereign.policy import THIS_HOST, Policy
from sovereign.registry import Registry
from sovereign.residency import Question, decide, is_loopback
from sovereign.rights.book import Book
from sovereign.rights.requests import term_of
from sovereign.settings import Home
from sovereign.sinks import journal
from sovereign.sinks import standing as kept


@dataclass(frozen=True, slots=True)
class Site:
    """What a check may look at."""

    home: Home
    policy: Policy
    now: datetime


Check = Callable[[Site], Verdict]
JOURNAL = (
    "the host's journal cannot be read here; its bound is MaxRetentionSec, "
    "which python -m playbooks verify reads back"
)


def log_verifies(site: Site) -> Verdict:
    """Every audit log verifies under the key pinned outside it."""
    results = fleet.verify(site.home)
    if not results:
        return Verdict(State.UNKNOWN, f"no audit log under {site.home.audit}")
    bad = [f"{r.origin}: {r.findings[0]}" for r in results if r.findings]
    if bad:
        return Verdict(State.FAIL, "; ".join(bad))
    unclear = [r.origin for r in results if not r.determined]
    if unclear:
        return Verdict(State.UNKNOWN, f"not determined: {', '.join(unclear)}")
    writers = {member.writer for member in fleet.members(site.home)}
    absent = [writer for writer in WRITERS if writer not in writers]
    if absent:
        return Verdict(State.UNKNOWN, f"no log of {', '.join(absent)}")
    return Verdict(State.PASS, f"{sum(r.size for r in results)} records in {len(results)} logs")


def logs_witnessed(site: Site) -> Verdict:
    """Every log was seen by as many others, and certified as lately, as the policy asks."""
    seen = outside.standings(site.home, site.policy, site.now)
    if not seen:
        return Verdict(State.UNKNOWN, f"no log with a pinned key under {site.home.audit}")
    bad = [str(finding) for each in seen for finding in each.findings]
    if bad:
        return Verdict(State.FAIL, f"{len(bad)} of {2 * len(seen)}: {'; '.join(bad[:3])}")
    both = [standing for each in seen for standing in (each.witnesses, each.timestamps)]
    states = {standing.state for standing in both}
    if witnessed.State.MET in states:
        oldest = min(standing.at for standing in both if standing.at is not None)
        return Verdict(
            State.PASS, f"{_asked(seen[0])}; the oldest word is of {oldest:%F %H:%M} UTC"
        )
    if witnessed.State.OWN_ONLY in states:
        return Verdict(State.MANUAL_PENDING, f"{_asked(seen[0])}: say who else could tell")
    return Verdict(
        State.NOT_APPLICABLE, "nobody outside is asked: rules/audit.yaml lists no witness"
    )


def _asked(seen: outside.Outside) -> str:
    """The state of witnesses and time stamps of one log; the policy is the same for all."""
    return f"witnesses {seen.witnesses.state.value}, time stamps {seen.timestamps.state.value}"


def places_fresh(site: Site) -> Verdict:
    """Every endpoint in use is vouched for now, at a place the policy allows."""
    endpoints = Registry(site.home.registry).snapshot().endpoints
    if not endpoints:
        return Verdict(State.UNKNOWN, "the registry names no endpoint; is the controller running?")
    faults = []
    for endpoint in endpoints:
        question = Question(endpoint.place, "personal", "process", site.now, endpoint.address)
        answer = decide(site.policy, question)
        if not answer.allowed and not endpoint.quarantine:
            faults.append(f"{endpoint.id}: {answer.rule}: {answer.found}")
    if faults:
        return Verdict(State.FAIL, "; ".join(faults))
    stale = [e.id for e in endpoints if not e.quarantine and not e.is_fresh(site.now)]
    if stale:
        return Verdict(State.UNKNOWN, f"no attestation in force for {', '.join(stale)}")
    shut = [f"{e.id} ({e.quarantine})" for e in endpoints if e.quarantine]
    in_use = [f"{e.id} at {e.place}" for e in endpoints if not e.quarantine]
    return Verdict(State.PASS, "; ".join(in_use + [f"quarantined: {name}" for name in shut]))


def places_vouched(site: Site) -> Verdict:
    """Whoever the policy asks for vouches for the place of every host, and nobody contradicts."""
    named = {each.id for each in Registry(site.home.registry).snapshot().endpoints}
    if not named:
        return Verdict(State.UNKNOWN, "the registry names no endpoint; is the controller running?")
    stands = standing.of_site(site.home, site.policy, site.now)
    told = {name: f"{name}: {each.reason}" for name, each in sorted(stands.items())}
    for verdict, state in (("disagrees", State.FAIL), ("unproven", State.UNKNOWN)):
        found = [told[name] for name in told if stands[name].verdict == verdict]
        if found:
            return Verdict(state, "; ".join(found))
    if stands:
        return Verdict(State.PASS, "; ".join(told.values()))
    return Verdict(
        State.NOT_APPLICABLE,
        "only its operator says where it is: rules/attestation.yaml asks for nobody else",
    )


def dependencies_placed(site: Site) -> Verdict:
    """Everything that requests touch is at a place that is known and allowed."""
    judged = dependencies.judge(site.policy, dependencies.of_site(site.home, site.policy), site.now)
    refused = [each for each in judged if each.verdict == "refuse"]
    if refused:
        told = [f"{e.dependency.id}: {e.decision.rule}" for e in refused if e.decision]
        return Verdict(State.FAIL, "; ".join(told[:5]))
    unsaid = sorted(each.dependency.kind for each in judged if each.verdict == "unknown")
    if unsaid:
        return Verdict(State.UNKNOWN, f"nobody has said where: {', '.join(unsaid)}")
    allowed = sum(each.verdict == "allow" for each in judged)
    return Verdict(State.PASS, f"{allowed} dependencies, each where it may be")


def retention_met(site: Site) -> Verdict:
    """Nothing of any sink is past its time, nothing is kept that nobody declared, and what is held
    is still there.
    """
    unread = [m.origin for m in fleet.members(site.home) if fleet.size_of(m) is None]
    seen = kept.of_home(site.home, site.policy, site.now)
    count, wrong = sum(each.items for each in seen.standings), list(kept.found(seen))
    for held in holds.verify(site.home, site.now):
        count += held.size > held.erased
        wrong += [str(finding) for finding in held.findings]
    if wrong:
        return Verdict(State.FAIL, "; ".join(wrong[:5]))
    unknown = [f"how much is in {', '.join(unread)} cannot be told"] if unread else []
    unknown += kept.unclear(seen)
    if count == 0:
        unknown.append("no sink could be read")
    if site.home.settings.controller.observe_socket and not _reads_journal(seen):
        unknown.append(JOURNAL)
    if unknown:
        return Verdict(State.UNKNOWN, "; ".join(unknown))
    return Verdict(State.PASS, f"{count} items in every sink, none overdue")


def _reads_journal(seen: kept.Site) -> bool:
    """Whether the output of a managed host's processes was looked at where it is kept."""
    return any(each.sink == journal.NAME and each.items for each in seen.standings)


def telemetry_off(site: Site) -> Verdict:
    """The running engine's own environment has every switch as the adapter demands."""
    process, engine = _engine_process(site)
    if process.environment is None:
        return Verdict(State.UNKNOWN, "the engine's process could not be read")
    rules = ENGINES[engine].required_environment()
    wrong = [r.name for r in rules if process.environment.get(r.name) != r.must_be]
    if wrong:
        return Verdict(State.FAIL, f"not as demanded: {', '.join(wrong)}")
    return Verdict(State.PASS, f"{len(rules)} variables read from process {process.pid}")


def ports_closed(site: Site) -> Verdict:
    """The engine listens on loopback only, and the gateway where its place lets it."""
    process, _ = _engine_process(site)
    if process.listeners is None:
        return Verdict(State.UNKNOWN, "the engine's listening sockets could not be read")
    open_ones = [bound for bound in process.listeners if not is_loopback(bound)]
    if open_ones:
        return Verdict(State.FAIL, f"the engine listens on {', '.join(open_ones)}")
    chosen = site.home.settings
    if chosen.place == "this-host" and not is_loopback(chosen.gateway.listen):
        return Verdict(State.FAIL, f"undeclared gateway listener {chosen.gateway.listen}")
    return Verdict(State.PASS, f"the engine listens on {', '.join(process.listeners)} only")


def egress_closed(site: Site) -> Verdict:
    """The kernel lets out exactly what is declared and allowed, and drops everything else.

    On a host of no declared place nobody was to close it with our rules; whether somebody else's
    do, cannot be told.
    """
    lacking = firewall.lacking()
    if lacking:
        return Verdict(State.UNKNOWN, f"the firewall cannot be read: it lacks {lacking[0]}")
    out = ways_out.of(site.home, site.policy, site.now)
    differs = ways_out.differences(out)
    if differs is None:
        state = State.UNKNOWN if site.home.settings.place == THIS_HOST else State.FAIL
        return Verdict(state, f"no table {TABLE} is loaded")
    if differs:
        return Verdict(
            State.FAIL, f"{len(differs)} lines differ from the plan; sovereign egress check"
        )
    dropped = len(firewall.tries("denied"))
    found = [f"{len(out.plan.openings)} openings, {dropped} other destinations tried and dropped"]
    shut = sorted({gap.dependency for gap in out.plan.gaps})
    found += [f"not opened: {', '.join(shut)}"] if shut else []
    found += [] if out.users else ["services run as one user and are not told apart"]
    return Verdict(State.PASS, "; ".join(found))


def canary_drilled(site: Site) -> Verdict:
    """The newest canary drill passed, lately, with this version."""
    return _drilled(site, "canary", site.policy.audit.drills.canary_days)


def disconnect_drilled(site: Site) -> Verdict:
    """The newest drill that cut the site off from everybody passed, lately."""
    return _drilled(site, "disconnect", site.policy.audit.drills.disconnect_days)


def restore_drilled(site: Site) -> Verdict:
    """The newest drill that put the logs back from a copy passed, lately."""
    return _drilled(site, "restore", site.policy.audit.drills.restore_days)


def _drilled(site: Site, drill: str, days: int) -> Verdict:
    return drilled.verdict(drill, days, drilled.newest(site.home, drill), site.now)


def requests_answered(site: Site) -> Verdict:
    """No request of a person waits for longer than the law lets it."""
    term, known = term_of(site.policy), Book(site.home).look()
    still = [each for each in known.requests.values() if each.is_open]
    late = [each.id for each in still if each.standing(term, site.now) == "late"]
    if late:
        return Verdict(State.FAIL, f"{len(late)} late: {', '.join(late[:5])}")
    doubts = known.doubts(site.now)
    if doubts:
        return Verdict(State.UNKNOWN, "; ".join(doubts[:3]))
    first = min((each.due_at(term) for each in still), default=None)
    when = f", the first is due {first:%F %H:%M} UTC" if first else ""
    return Verdict(State.PASS, f"{len(known.requests)} received, {len(still)} open{when}")


def restrictions_stand(site: Site) -> Verdict:
    """What people had restricted is what the gateway refuses: the log and the key store agree."""
    known = Book(site.home).look()
    every = Keystore(site.home.keystore).known().restricted.values()
    stored = {each.id for several in every for each in several}
    lost, unsaid = sorted(known.restricted - stored), sorted(stored - known.restricted)
    if known.gaps:
        return Verdict(State.UNKNOWN, "; ".join(known.gaps[:3]))
    wrong = [f"{name} is not in the key store" for name in lost]
    wrong += [f"{name} is in no record" for name in unsaid]
    if wrong:
        return Verdict(State.FAIL, "; ".join(wrong[:5]))
    return Verdict(State.PASS, f"{len(stored)} restrictions, each with its record")


def _engine_process(site: Site) -> tuple[host.EngineProcess, str]:
    chosen = site.home.settings
    if chosen.controller.observe_socket:
        return host.ask(chosen.controller.observe_socket), chosen.engine.name
    names = [rule.name for rule in ENGINES[chosen.engine.name].required_environment()]
    return host.observe(chosen.engine.listen, names), chosen.engine.name


CHECKS: dict[str, Check] = {
    "log_verifies": log_verifies,
    "logs_witnessed": logs_witnessed,
    "places_fresh": places_fresh,
    "places_vouched": places_vouched,
    "dependencies_placed": dependencies_placed,
    "retention_met": retention_met,
    "telemetry_off": telemetry_off,
    "ports_closed": ports_closed,
    "egress_closed": egress_closed,
    "canary_drilled": canary_drilled,
    "disconnect_drilled": disconnect_drilled,
    "restore_drilled": restore_drilled,
    "requests_answered": requests_answered,
    "restrictions_stand": restrictions_stand,
}
"""Every check a file under `policies/controls/` may name; a test compares the two sets."""


def answer(site: Site, name: str) -> Verdict:
    """Run one check. A check that fails to run, or that nobody wrote, is unknown."""
    check = CHECKS.get(name)
    if check is None:
        return Verdict(State.UNKNOWN, f"there is no check called {name}")
    try:
        return check(site)
    except SovereignError as error:
        return Verdict(State.UNKNOWN, f"{error.code}: {error.message}")
    except OSError as error:
        return Verdict(State.UNKNOWN, f"could not be read: {error.strerror}")
    except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
        return Verdict(State.UNKNOWN, f"could not be read: {type(error).__name__}")
