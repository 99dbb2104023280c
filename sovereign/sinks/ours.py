"""The sinks that lie below the site's own folders, besides the audit logs."""

from sovereign.settings import Home
from sovereign.sinks.files import Files, by_day

PROCESS_LOG = "process-log"


def process_logs(home: Home) -> Files:
    """What the site's processes printed, a file a day."""
    return Files(PROCESS_LOG, PROCESS_LOG, home.logs, ("*.log",), age=by_day)
