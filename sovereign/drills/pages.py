"""Places where a word could have stayed that are not files of this machine: pages and targets.

The metrics of the gateway and of the controller are read where they are shown. What was sent to a
tracing target is there and not here: whoever runs the drill names an export of it, or nobody
knows.
"""

from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sovereign import host
from sovereign.door import ON_LOOPBACK
from sovereign.drills import processes
from sovereign.drills.places import Looked, Search
from sovereign.settings import Home

WITHIN_S = 10.0
PAGE_MAX_BYTES = 64 << 20


def metrics(search: Search, home: Home) -> Looked:
    """Every page of metrics this site has, as a scraper sees it."""
    looked = Looked("metrics")
    chosen = {
        "gateway.admin_listen": home.settings.gateway.admin_listen,
        "controller.metrics_listen": home.settings.controller.metrics_listen,
    }
    there = {name: listen for name, listen in chosen.items() if listen}
    if not there:
        looked.absent = "no page of metrics is set"
    ours = {process.pid for process in processes.of_site(home)}
    for name, listen in there.items():
        if host.observe(listen, []).pid not in ours:
            looked.lacks(f"{name} {listen}", "no process of this site was seen to listen there")
            continue
        try:
            search.parts(looked, name, [_page(listen)])
        except (OSError, HTTPException, ValueError) as error:
            looked.lacks(f"{name} {listen}", type(error).__name__)
    return looked


def _page(listen: str) -> bytes:
    address, _, port = listen.rpartition(":")
    at = ON_LOOPBACK.get(address, address).strip("[]")
    with closing(HTTPConnection(at, int(port), timeout=WITHIN_S)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"it answers {response.status}")
        return response.read(PAGE_MAX_BYTES)


def elsewhere(search: Search, home: Home, also: Sequence[Path]) -> Looked:
    """What this site sends away: only an export of it, brought here, can be searched."""
    looked = Looked("sent elsewhere")
    target = home.settings.tracing.endpoint
    if not target and not also and not home.settings.endpoints:
        looked.absent = "nothing is sent elsewhere"
    for given in also:
        before = looked.items
        for path in sorted(given.rglob("*")) if given.is_dir() else [given]:
            if path.is_file():
                search.file(looked, path, str(path))
        if looked.items == before:
            looked.lacks(str(given), "there is nothing to read")
    if target and not also:
        looked.lacks("tracing.endpoint", "give an export of what the target kept: --also PATH")
    for each in home.settings.endpoints:
        if not also and host.observe(each.address, []).pid is None:
            looked.lacks(f"endpoint {each.id}", "it runs elsewhere; bring what it wrote: --also")
    return looked
