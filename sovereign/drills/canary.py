"""`drill canary`: say words nobody else uses to a live site, and look for them wherever it writes.

 1. note and make keys of the drill's own          a kill from here on: they expire within the hour,
                                                   and the next drill, or `drill undo`, revokes them
 2. push canaries through every route (`push.py`)
 3. wait until sums, logs and metrics are written
 4. plant the control (`control.py`), search every place (`places.py`, `pages.py`)
 5. record the verdict, revoke the keys, remove the control

It passes only when every place could be searched to its end, the control was found in every
spelling, and nothing else was. What was found is told by place, spelling, field and outcome; what
stands around it never is.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sovereign.drills import client, control, database, pages, places, processes, speech
from sovereign.drills.note import Noted, noted
from sovereign.drills.places import Finding, Looked, Search
from sovereign.drills.push import Pushed, Pusher, plain
from sovereign.drills.result import Result, recorded
from sovereign.drills.seek import Seeker
from sovereign.drills.words import Canaries, Origin, pieces
from sovereign.errors import EngineUnhealthy, ProcessFailed
from sovereign.gateway.app import ROUTES, SUMS_EVERY_S
from sovereign.gateway.kinds.reading import Body
from sovereign.gateway.kinds.wish import MISTRAL_FIELDS, OPENAI_FIELDS
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.subjects import SOURCES

NAME = "canary"
PURPOSE = "drill-canary"
BACK_WITHIN_S = 180.0
SETTLES_S = SUMS_EVERY_S + 5.0
"""The gateway sums refusals up once a minute; all else is written within a second or two."""
PIECE_CHARS, PIECES_MAX = 24, 2
"""Long enough that no two texts share a piece of a model's answer by chance."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a drill is run. `also` are files or folders with what was sent elsewhere."""

    settle_s: float = SETTLES_S
    also: tuple[Path, ...] = ()
    engine_restart: bool = False


def names() -> frozenset[str]:
    """Every field that a body of any route may have."""
    found = MISTRAL_FIELDS | OPENAI_FIELDS
    return found.union(*(kind.__struct_fields__ for kind in Body.__subclasses__()))


def plan(home: Home, policy: Policy) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    return {
        "drill": NAME,
        "keys": [f"{client.TENANT}: subject in {source}" for source in SOURCES],
        "routes": {route: _kind_of(route) for route in ROUTES},
        "models": client.models(home, policy),
        "fields": sorted(names()),
        "folders": [str(folder) for folder in places.folders(home)],
        "processes": [f"{p.name} {p.pid}" for p in processes.of_site(home)],
    }


def _kind_of(route: str) -> str:
    return "canaries in every field" if route in speech.BODIES else "methods, queries and headers"


def drill(home: Home, policy: Policy, wanted: Wanted, say: Say) -> Result:
    """Run the drill on the site as it is.

    Raises:
        NotDeployed: there is no site here.
        DrillRunning: another drill runs.
        EngineUnhealthy: the gateway does not answer, or nothing usable stands behind it. What was
            made is undone.
    """
    with noted(home, NAME, policy.digest) as note:
        result = Result(NAME, utcnow())
        canaries, asked = Canaries(), client.models(home, policy)
        if not asked:
            raise EngineUnhealthy("no usable endpoint", next_step="sovereign status")
        keys = client.make_keys(home, note, PURPOSE, SOURCES)
        say(f"{len(keys)} keys of tenant {client.TENANT}, for an hour at most")
        client.wait_until_known(home, keys)
        pushed = push(home, keys, canaries, asked, say)
        if wanted.engine_restart:
            say("the engine ends in the middle of an answer")
            restart_engine(home, keys, canaries, asked)
        say(f"waiting {wanted.settle_s:.0f} s for what is written late")
        time.sleep(wanted.settle_s)
        looked, lost = search(home, canaries, pushed.wrote, result, note, wanted.also, say)
        judge(result, pushed, looked, lost)
        return recorded(home, policy.digest, result)


def push(
    home: Home, keys: Mapping[str, str], canaries: Canaries, asked: Mapping[str, str], say: Say
) -> Pushed:
    """Push canaries through every route."""
    pusher = Pusher(home.settings.gateway, keys, canaries, asked)
    for step in pusher.everything(ROUTES, names()):
        say(step)
    return pusher.pushed


def restart_engine(
    home: Home, keys: Mapping[str, str], canaries: Canaries, asked: Mapping[str, str]
) -> None:
    """End the engine while it answers, and wait until a supervisor has brought it back.

    Raises:
        ProcessFailed: no engine of ours runs here, or it did not come back in time.
    """
    pid = client.pids(home).get("engine", 0)
    if not pid:
        raise ProcessFailed("the engine is not ours to restart", next_step="sovereign status")
    pusher = Pusher(home.settings.gateway, keys, canaries, asked)
    end = partial(os.kill, pid, signal.SIGTERM)
    pusher.broken_off("the engine ends in the answer", next(iter(asked)), end)
    client.wait_for_another(home, "engine", pid, BACK_WITHIN_S)


def search(
    home: Home,
    canaries: Canaries,
    wrote: Mapping[str, str],
    result: Result,
    note: Noted,
    also: Sequence[Path],
    say: Say,
) -> tuple[list[Looked], list[str]]:
    """Search every place for every word; also what of the control was not found."""
    folder = note.folder(control.FOLDER)
    planted = control.plant(folder, canaries)
    looked = look(home, canaries, wrote, result, also, say)
    return looked, control.judge(looked, folder, planted, home.root.resolve())


def look(
    home: Home,
    canaries: Canaries,
    wrote: Mapping[str, str],
    result: Result,
    also: Sequence[Path],
    say: Say,
) -> list[Looked]:
    """Search every place there is, one after the other."""
    kept = Search(seeker_of(canaries, wrote), result.started_at, say)
    there = processes.of_site(home)
    say(f"searching {len(there)} processes and {', '.join(map(str, places.folders(home)))}")
    return [
        places.files(kept, home),
        places.output(home, there),
        places.shown_by_the_kernel(kept, there, processes.missing(there)),
        places.held_open(kept, home, there),
        places.temporary(kept, home, there),
        places.journal(kept, there),
        pages.metrics(kept, home),
        database.shared(kept, home),
        pages.elsewhere(kept, home, also),
        places.dumps(there),
    ]


def seeker_of(canaries: Canaries, wrote: Mapping[str, str]) -> Seeker:
    """Searches for the canaries, and for pieces of what the model wrote."""
    cut = pieces(wrote, PIECE_CHARS, PIECES_MAX)

    def whose(needle: str, spelling: str, around: bytes) -> Origin | None:
        if needle in cut:
            return Origin(control.WRITTEN, cut[needle])
        return canaries.origin(needle, spelling, around)

    return Seeker(canaries.needles(), cut, whose)


def judge(result: Result, pushed: Pushed, looked: Sequence[Looked], lost: Sequence[str]) -> None:
    """Fill in a result: what was found, what could not be told, and the facts of both."""
    result.cases = len(pushed.cases)
    result.findings = [shown(each) for sink in looked for each in sorted(sink.findings)]
    result.unknown = [
        *lost,
        *(f"{sink.sink}: {lack}" for sink in looked for lack in sink.unreadable),
        *(f"no answer: {each}" for each in pushed.silent),
        *unanswered(pushed),
        *(f"nothing is said to {route}" for route in not_covered()),
    ]
    statuses = Counter(str(case.status) if case.status else "hung up" for case in pushed.cases)
    result.facts = {
        "statuses": dict(sorted(statuses.items())),
        "sinks": [
            {
                "sink": each.sink,
                "items": each.items,
                "bytes": each.bytes,
                "unchanged": each.unchanged,
                "absent": each.absent,
                "unreadable": each.unreadable[: places.UNREADABLE_SHOWN],
                "findings": len(each.findings),
            }
            for each in looked
        ],
        "control": "found" if not lost else "not found",
    }


def unanswered(pushed: Pushed) -> list[str]:
    """Where an answer was to be had and was not given, it was not drilled either.

    A route whose model cannot do what is asked never answers; at least one must.
    """
    answered = {(case.route, case.outcome) for case in pushed.cases if case.status == 200}
    routes = [route for route in speech.BODIES if any(at == route for at, _ in answered)]
    if not routes:
        return [f"no request was answered with 200: may tenant {client.TENANT} use a model?"]
    return [
        f"{route}: not answered with 200: {outcome}"
        for route in routes
        for outcome in sorted(plain(route))
        if (route, outcome) not in answered
    ]


def not_covered() -> list[str]:
    """Routes that take a body and for which nobody wrote one."""
    return [r for r, methods in ROUTES.items() if "POST" in methods and r not in speech.BODIES]


def shown(finding: Finding) -> str:
    """A finding in a line: where, how it is spelled, and in which field of what it went in."""
    find = finding.find
    went = f"from {find.field}" + (f", sent as: {find.outcome}" if find.outcome else "")
    return f"{finding.sink}: {finding.where}: as {find.spelling}, {went}"
