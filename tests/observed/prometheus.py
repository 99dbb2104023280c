"""Prometheus' and Alertmanager's own programs, as Debian ships them."""

import subprocess
from pathlib import Path

from tests.tools.debian import Unpacked, unpacked

MONITORING = Path(__file__).resolve().parents[2] / "docs/monitoring"
ALERTS = MONITORING / "alerts.yml"


def programs() -> Unpacked:
    """A folder with prometheus, promtool, prometheus-alertmanager and amtool in it."""
    return unpacked("prometheus", "prometheus-alertmanager")


def run(program: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of them to its end, with this on its standard input."""
    there = programs()
    return subprocess.run(
        [str(there.program(f"usr/bin/{program}")), *words],
        input=given,
        env=there.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
