"""The sinks of a managed host, on a made-up root of one, and those that settings declare."""

import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.retention import Item
from sovereign.settings import ControllerSettings, Home, Settings, SinkSettings
from sovereign.sinks import declared, hosts, journal, of_site
from sovereign.sinks.hosts import Host
from sovereign.sinks.journal import seconds_of
from sovereign.sinks.model import NotErased
from tests.retention.site import POLICY

WHEN = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)


def put(path: Path, content: bytes = b"x") -> Path:
    """A file last changed at `WHEN`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (WHEN.timestamp(), WHEN.timestamp()))
    return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A root with one service, whose user is whoever runs this test."""
    root = tmp_path / "root"
    home = root / "var/lib/service"
    home.mkdir(parents=True)
    return Host(True, root, root / "proc", frozenset((os.getuid(),)), (home,))


def found(host: Host) -> set[tuple[str, str, str]]:
    return {
        (item.sink, item.retention_class, item.id)
        for sink in hosts.of_host(host)
        if sink.look().state == "present"
        for item in sink.items()
    }


def test_what_a_service_leaves_on_a_host_is_an_item_of_the_sink_it_belongs_to(host: Host) -> None:
    """Exactly these."""
    for path in (
        *("var/lib/service/.bash_history", "var/lib/service/notes", "var/crash/core.1"),
        *("tmp/left", "dev/shm/left", "var/log/nginx/access.log.2", "var/log/nginx/conf"),
        *("var/log/syslog", "etc/shadow", "home/somebody/.bash_history"),
    ):
        put(host.root / path)
    assert found(host) == {
        ("shell-history", "content", ".bash_history"),
        ("core", "content", "core.1"),
        ("temporary", "temporary", "left"),
        ("proxy-log", "process-log", "access.log.2"),
    }


def test_what_others_leave_in_a_folder_that_everybody_writes_to_is_none_of_ours(
    host: Host,
) -> None:
    """A site does not erase the files of another program on the same host."""
    put(host.root / "tmp/left")
    others = Host(True, host.root, host.proc, frozenset((os.getuid() + 1,)), ())
    assert found(others) == set()


@pytest.mark.parametrize("users", [None, frozenset()])
def test_without_a_user_of_the_services_no_file_counts_as_theirs(
    host: Host, users: frozenset[int] | None
) -> None:
    """An empty set of owners must not mean everybody."""
    put(host.root / "tmp/left")
    nobody = Host(True, host.root, host.proc, users, ())
    assert found(nobody) == set()


def test_on_a_persons_machine_the_hosts_own_sinks_are_absent_and_say_why(tmp_path: Path) -> None:
    """That person's shell and journal are not this site's; nor are they its unknown."""
    seen = [sink.look() for sink in hosts.of_host(Host.of(Home(tmp_path, Settings())))]
    assert {(each.state, each.why) for each in seen} == {("absent", hosts.ONE_MACHINE)}


def test_a_site_with_an_observer_is_one_of_services(tmp_path: Path) -> None:
    """The playbooks set it, and nothing else does."""
    chosen = ControllerSettings(observe_socket="/run/observe.sock")
    assert Host.of(Home(tmp_path, Settings(controller=chosen))).managed


# --- the journal --------------------------------------------------------------------------------


def entries(first: datetime, last: datetime) -> bytes:
    """The header of a journal file, as its format says."""
    head = bytearray(208)
    head[:8] = b"LPKSHHRH"
    struct.pack_into("<QQ", head, 184, *(int(t.timestamp() * 1e6) for t in (first, last)))
    return bytes(head)


def test_a_journal_file_is_as_old_as_its_first_entry_and_not_as_its_last_change(
    host: Host,
) -> None:
    """journald writes into a file for a day; what it began with is what gets too old."""
    first, last = WHEN - timedelta(days=40), WHEN - timedelta(days=1)
    put(host.root / "var/log/journal/machine/system@1.journal", entries(first, last))
    put(host.root / "var/log/journal/machine/empty.journal", bytes(208))
    (item,) = hosts.journal(host).items()
    assert (item.oldest, item.newest, item.retention_class) == (first, last, "process-log")


@pytest.mark.parametrize(
    ("chosen", "faults"),
    [
        ("", 1),
        ("MaxRetentionSec=30day", 0),
        ("MaxRetentionSec=30day 1s", 1),
        ("MaxRetentionSec=1month", 1),
        ("MaxRetentionSec=0", 1),
        ("MaxRetentionSec=soon", 1),
        ("#MaxRetentionSec=30day", 1),
    ],
)
def test_a_journal_that_may_keep_longer_than_the_class_is_a_fault_before_it_does(
    host: Host, chosen: str, faults: int
) -> None:
    """The edge is the class's own, and what cannot be read is no bound."""
    put(host.root / "var/log/journal/machine/system.journal", entries(WHEN, WHEN))
    put(host.root / "etc/systemd/journald.conf", f"[Journal]\n{chosen}\n".encode())
    assert len(hosts.journal(host).faults(30)) == faults


def test_a_later_file_of_settings_wins(host: Host) -> None:
    """As systemd reads them (systemd.conf(5))."""
    put(host.root / "etc/systemd/journald.conf", b"MaxRetentionSec=7day\n")
    put(host.root / "etc/systemd/journald.conf.d/20-b.conf", b"MaxRetentionSec=99day\n")
    put(host.root / "usr/lib/systemd/journald.conf.d/10-a.conf", b"MaxRetentionSec=1day\n")
    assert journal.retention_s(host.root / "etc") == 99 * 86_400


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("30day", 2_592_000), ("2w 1h", 1_213_200), ("90", 90), ("1 fortnight", 0), ("-1d", 0)],
)
def test_spans_are_read_as_systemd_does(span: str, seconds: int) -> None:
    """One unit read wrongly would call months days."""
    assert seconds_of(span) == seconds


# --- what the settings declare ------------------------------------------------------------------


def site(tmp_path: Path, *chosen: SinkSettings) -> Home:
    return Home(tmp_path / "home", Settings(sinks=chosen))


def test_a_declared_sink_is_one_of_the_site_with_the_class_it_was_given(tmp_path: Path) -> None:
    """Backups, exports, spans: wherever this site puts them."""
    put(tmp_path / "srv/backups/monday/dump")
    put(tmp_path / "srv/exports/jean/dupont.zip")
    home = site(
        tmp_path,
        SinkSettings("backups", "folders", str(tmp_path / "srv/backups"), "backup"),
        SinkSettings("exports", "files", str(tmp_path / "srv/exports"), "export", ("*.zip",)),
    )
    named = {sink.name: sink for sink in of_site(home, POLICY)}
    (backup,), (export,) = named["backups"].items(), named["exports"].items()
    assert (backup.id, backup.retention_class) == ("monday", "backup")
    assert (export.id, export.retention_class) == ("jean/dupont.zip", "export")
    assert not named["exports"].plain, "its names are somebody else's"


def test_a_class_that_the_policy_lacks_makes_a_declared_sink_unknown_and_empties_nothing(
    tmp_path: Path,
) -> None:
    """What has no class goes at once; a slip of the pen must not do that to the backups."""
    put(tmp_path / "srv/backups/monday/dump")
    chosen = SinkSettings("backups", "folders", str(tmp_path / "srv/backups"), "backups")
    sink = of_site(site(tmp_path, chosen), POLICY)[-1]
    assert (sink.look().state, list(sink.items())) == ("unknown", [])
    with pytest.raises(NotErased):
        sink.erase(Item("backups", "monday", "backups", WHEN, WHEN))


@pytest.mark.parametrize(
    "path",
    ["/etc", "/srv", "/usr/share/doc", "/var/../etc/x", "/root/x", "{home}", "{home}/audit"],
)
def test_a_folder_of_the_system_or_of_the_site_is_not_taken_for_a_sink(
    tmp_path: Path, path: str
) -> None:
    """One wrong line in a file of settings must not empty a machine."""
    home = site(tmp_path)
    assert declared.fault(home, Path(path.format(home=home.root)))
    assert declared.fault(home, tmp_path), "it holds the site"


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    """A name under /srv may be a way to /etc."""
    (tmp_path / "link").symlink_to("/etc")
    assert declared.fault(site(tmp_path), tmp_path / "link/cron.d")
    assert declared.fault(site(tmp_path), tmp_path / "own/exports") == ""
