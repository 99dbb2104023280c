"""One event per line on standard error, with named fields and never any content.

The event name is the same word as the error or the record it belongs to. Nobody passes a
body, a prompt, a header or a secret; and because libraries log as they like, `tame` lets
only their templates and the class of an exception through, not the values filled in.
"""

import json
import logging
import sys
from datetime import UTC, datetime

TEMPLATE_MAX_CHARS = 160


def emit(event: str, **fields: str | int | None) -> None:
    """Write one line. Values are short strings and numbers that the caller vouches for."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"at": at, "event": event, **fields}, separators=(",", ":"))
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class _ContentFree(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        plain = isinstance(record.msg, str) and bool(record.args)
        template = str(record.msg) if plain else "(message withheld)"
        emit(
            "library-log",
            logger=record.name,
            level=record.levelname,
            template=template[:TEMPLATE_MAX_CHARS],
            exception=kind,
        )


def tame() -> None:
    """Route every library's log through `emit`, warnings and worse only."""
    root = logging.getLogger()
    root.handlers = [_ContentFree()]
    root.setLevel(logging.WARNING)
