"""The sinks that lie below the site's own folders, besides the audit logs.

Output of its processes and engines, what was half made when something was killed, core files,
sums of use, and what a killed drill left. What `sovereign audit restore` puts aside (`*.lost`) is
none of them: it is the last that is left of a log, and goes when a person says so.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sovereign.policy.kept import FOLDER
from sovereign.settings import Home
from sovereign.sinks import safely
from sovereign.sinks.files import Files, by_day, changed
from sovereign.sinks.folders import Aged, Folders
from sovereign.sinks.model import Sink
from sovereign.sinks.safely import Entry

PROCESS_LOG, ENGINE_LOG = "process-log", "engine-log"
TEMPORARY, CORE, USAGE, DRILL = "temporary", "core", "usage", "drill"
HALF_MADE_FILES, HALF_MADE_FOLDERS = ("*.new",), (".staged-*", "*.restoring", ".*.part")
"""Names that our own programs give to what they have not finished."""
CORES = ("core", "core.[0-9]*", "*.core")
ENGINE_LOGS = ("*.log", "*.log.[0-9]*")
USED = "used.json"
DRILLS, DRILLS_OWN = "drills", ("lock", "note.json")
"""The folder of drills beside the keys' file, and what is always in it."""


def of_home(home: Home) -> Iterator[Sink]:
    """Each of them, in the order in which a run takes them."""
    yield process_logs(home)
    yield engine_logs(home)
    yield from cores(home)
    yield from temporary(home)
    yield usage(home)
    yield drills(home)


def process_logs(home: Home) -> Files:
    """What the site's processes printed, a file a day."""
    return Files(PROCESS_LOG, PROCESS_LOG, home.logs, ("*.log",), age=by_day)


def engine_logs(home: Home) -> Files:
    """What an engine writes into its own folder, as Ollama does into `logs`."""
    return Files(ENGINE_LOG, PROCESS_LOG, home.models, ENGINE_LOGS, deep=True, plain=False)


def cores(home: Home) -> Iterator[Files]:
    """Core files below the site: the memory of a process, with what was said to it."""
    for root in sorted({home.root, home.run, home.logs, home.models}):
        yield Files(CORE, "content", root, CORES, deep=root == home.models, plain=False)


def temporary(home: Home) -> Iterator[Sink]:
    """What was half made in the folders in which our programs finish something by a rename."""
    versions = home.root / FOLDER
    for root in (home.run, home.trust, versions):
        yield Files(TEMPORARY, TEMPORARY, root, HALF_MADE_FILES, plain=False)
    for root in sorted({home.root, home.audit.parent, versions}):
        yield Folders(TEMPORARY, TEMPORARY, root, names=HALF_MADE_FOLDERS, plain=False)


def usage(home: Home) -> Files:
    """The sums of use of one month, which name tenants and keys."""
    return Files(USAGE, "limits", home.run, (USED,), age=_from_its_month)


def _from_its_month(_: Path, entry: Entry) -> datetime:
    return changed(entry).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def drills(home: Home) -> Folders:
    """What a drill put here for itself; one that was killed leaves it, with made-up content."""
    return Folders(DRILL, TEMPORARY, home.keystore.parent / DRILLS, _drill, plain=False)


def _drill(root: Path, entry: Entry) -> Aged | None:
    """As old as the last that was put into it."""
    if not entry.is_folder:
        return None
    inside = (changed(each) for each in safely.walked(root, entry.path))
    newest = max(inside, default=changed(entry))
    return Aged(newest, newest)
