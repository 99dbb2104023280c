"""The life of one host: configured, used, looked at, rebooted, retired. In this order."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from testinfra.host import Host as Seen

from sovereign import policy as policies
from sovereign.audit.writers import UP
from sovereign.policy import Policy
from tests.hosts.asking import DEFAULT_MODEL, chat, chat_status, new_key, records_of
from tests.hosts.conftest import Configured
from tests.hosts.playing import GATEWAY_PORT, SITE, Site
from tests.hosts.spec import (
    PROMISES,
    Promise,
    journal_forgets_on_time,
    opens_exactly_what_is_declared,
)
from tests.hosts.updating import another_release, load
from tests.tools.lab import GATE, PROXY_PORT, Host, Lab


def test_check_mode_works_on_a_bare_host_and_changes_nothing(lab: Lab, site: Site) -> None:
    """An operator wants to read what would happen before letting it happen."""
    with lab.host("bare") as host:
        before = host.read(_EVERY_FILE)
        run = site.play("configure", host, "--check")
        assert run.exit_code == 0, run.output[-3000:]
        assert run.recap["bare"]["failed"] == 0
        assert run.recap["bare"]["changed"] > 0
        assert host.read(_EVERY_FILE) == before


_EVERY_FILE = (
    "find /etc /opt /usr /var/lib -xdev -newer /etc/hostname -type f "
    "! -path '/var/lib/systemd/*' ! -path '/etc/.updated' ! -path '/var/lib/private/*' | sort"
)


def test_a_fresh_host_is_made_to_serve(configured: Configured) -> None:
    """This is what `make configure` is for; it ends only once a chat would be answered."""
    run = configured.first
    assert run.exit_code == 0, run.output[-3000:]
    assert run.recap["serves"]["failed"] == run.recap["serves"]["unreachable"] == 0
    assert run.recap["serves"]["changed"] > 0


def test_the_second_run_changes_nothing(configured: Configured, site: Site) -> None:
    """A playbook that always changes something hides the day when something really changed."""
    run = site.play("configure", configured.host)
    assert run.exit_code == 0, run.output[-3000:]
    assert run.recap["serves"]["changed"] == 0, run.output[-6000:]


def test_a_chat_from_the_network_is_answered_and_recorded(lab: Lab, configured: Configured) -> None:
    """Everything else is means; this is the end."""
    answer = chat(lab, configured.host, new_key(configured.host))
    assert answer["status"] == 200, answer
    assert answer["headers"]["x-sovereign-place"] == "own:lab"
    assert answer["answer"]["choices"][0]["message"]["content"].strip()
    assert answer["answer"]["usage"]["completion_tokens"] > 0
    record = answer["headers"]["x-sovereign-record"]
    assert record.startswith("serves.lab/gateway/event#")
    assert records_of(configured.host, record).keys() == {"decision", "completion"}


def test_a_chat_without_a_key_is_refused(lab: Lab, configured: Configured) -> None:
    """A gateway on a network is found by strangers within the hour."""
    assert chat(lab, configured.host, "sov_nobody")["status"] == 401


def test_the_controller_sees_that_the_gateway_answers(configured: Configured) -> None:
    """Else a gateway that works and records nothing could not be told from one that is down."""
    shown = configured.host.read(
        "sovereign audit tail --log serves.lab/controller/evidence -n 500 --json"
    )
    seen = [r["state"] for r in map(json.loads, shown.splitlines()) if r["type"] == "writer-seen"]
    assert seen[-1:] == [UP]


def test_every_log_of_the_host_verifies(configured: Configured) -> None:
    """The host is configured to prove things; that includes having been configured."""
    done = configured.host.run("sovereign audit verify --json")
    assert done.returncode == 0, done.stdout + done.stderr
    origins = {log["origin"] for log in json.loads(done.stdout)["logs"]}
    assert origins == {
        f"serves.lab/{writer}/{stream}"
        for writer in ("gateway", "controller", "operator")
        for stream in ("event", "security", "evidence")
    }


def test_every_control_is_met_on_the_host_but_those_that_nobody_can_answer_yet(
    configured: Configured,
) -> None:
    """`unknown` is what a host says of what nobody has drilled and nobody has said; nothing else
    is. Root reads the real journal, so its age is known, too."""
    done = configured.host.run("sovereign report --json")
    controls = json.loads(done.stdout)["controls"]
    asked = [each for each in controls if each["state"] != "not_applicable"]  # nobody witnesses
    unmet = {each["check"]: each for each in asked if each["state"] != "pass"}
    assert {each["state"] for each in unmet.values()} == {"unknown"}
    assert set(unmet) == {"canary_drilled", "disconnect_drilled", "restore_drilled"}, unmet
    assert done.returncode == 3


def test_the_controller_in_its_sandbox_sees_everything_that_ages(configured: Configured) -> None:
    """What it cannot see it can neither erase on time nor report; the journal is the largest."""
    evidence = "sovereign audit tail --log serves.lab/controller/evidence -n 500 --json"
    found = map(json.loads, configured.host.read(evidence).splitlines())
    runs = [each["unseen"] for each in found if each["type"] == "retention-run"]
    assert runs[-1] == 0, configured.host.read(
        "journalctl -u sovereign-controller -o cat | grep unseen"
    )
    tried = "runuser -u sovereign-controller -- test -w /var/log/journal"
    assert configured.host.run(tried).returncode != 0


def test_the_host_says_everything_of_itself_but_of_gpus_it_does_not_have(
    configured: Configured,
) -> None:
    """A clock or a disk that nobody can see would be found wrong by its consequences."""
    done = configured.host.run("sovereign controller host --json")
    verdicts = {each["what"]: each["verdict"] for each in json.loads(done.stdout)}
    assert {what for what, verdict in verdicts.items() if verdict == "unknown"} == {"gpus"}
    assert verdicts.keys() == {"disk", "clock", "swap", "core dumps", "gpus"}


def test_what_the_site_says_of_itself_is_in_force_on_the_host(
    lab: Lab, configured: Configured
) -> None:
    """Settings that land in a file and nowhere else would be found out by a client."""
    host = configured.host
    answer = chat(lab, host, new_key(host), "small-latest")
    assert (answer["status"], answer["headers"]["x-sovereign-model"]) == (200, DEFAULT_MODEL)
    (issuer,) = json.loads(host.read("sovereign issuer list --json"))["issuers"]
    assert issuer["id"] == "corp"


def test_the_host_answers_for_its_place_with_a_key_that_is_pinned(configured: Configured) -> None:
    """Whoever vouches for a place vouches for a key; without one nothing binds it to a machine."""
    host = configured.host
    shown = json.loads(host.run("sovereign attest run --json").stdout)
    signals = {each["signal"]: each["verdict"] for each in shown["findings"]}
    assert signals["host-key"] == "proves", shown
    key = host.read("stat -c '%U %a' /var/lib/sovereign/host.key /var/lib/sovereign/trust/hosts/*")
    assert key.splitlines() == ["sovereign-controller 600", "root 644"]


def test_looking_at_a_host_finds_it_well_and_changes_nothing(
    configured: Configured, site: Site
) -> None:
    """Whoever is on call at night must be able to look without fear."""
    run = site.play("verify", configured.host)
    assert run.exit_code == 0, run.output[-3000:]
    assert run.recap["serves"]["changed"] == 0


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_host_is_what_the_policy_says(promise: Promise, seen: Seen, policy: Policy) -> None:
    """An auditor asks the host, not the playbook that was meant for it."""
    promise(seen, policy)


def test_the_spec_fails_when_the_policy_keeps_process_logs_for_less_long(
    seen: Seen, site: Site, tmp_path: Path
) -> None:
    """A spec that passes whatever the policy says would prove nothing."""
    stricter = _edited(site, tmp_path, "rules/retention.yaml", "max_days: 30", "max_days: 29")
    with pytest.raises(AssertionError):
        journal_forgets_on_time(seen, stricter)


def test_the_spec_fails_when_the_policy_no_longer_names_a_dependency(
    seen: Seen, site: Site, tmp_path: Path
) -> None:
    """A hole that was declared once must not outlive its declaration."""
    stricter = _edited(
        site, tmp_path, "rules/dependencies.yaml", "id: debian-packages", "id: something-else"
    )
    with pytest.raises(AssertionError):
        opens_exactly_what_is_declared(seen, stricter)


def test_the_spec_fails_when_the_host_is_opened_by_hand(configured: Configured, seen: Seen) -> None:
    """The usual way a firewall rots: one rule, for one afternoon."""
    host, add = configured.host, "ip daddr 203.0.113.9 tcp dport 443 accept comment '\"to x\"'"
    try:
        host.read(f"nft add rule inet sovereign_egress output {add}")
        with pytest.raises(AssertionError):
            opens_exactly_what_is_declared(seen, policies.load(None, "eea"))
    finally:
        host.read("systemctl reload egress.service")


def test_what_is_not_declared_cannot_be_reached(lab: Lab, configured: Configured) -> None:
    """Rules that are loaded and do not bite look the same in a listing."""
    other = PROXY_PORT + 1
    listener = subprocess.Popen(
        lab.inside("socat", f"TCP-LISTEN:{other},bind={GATE},fork,reuseaddr", "/dev/null")
    )
    try:
        assert _reaches(lab.call(sys.executable, "-c", _CONNECT, GATE, str(other)))
        connect = f"python3 -c '{_CONNECT}' {GATE}"
        before = _dropped(configured.host)
        assert _reaches(configured.host.run(f"{connect} {PROXY_PORT}"))
        assert not _reaches(configured.host.run(f"{connect} {other}"))
        assert _dropped(configured.host) > before
        engine = f"runuser -u sovereign-engine -- {connect}"
        assert not _reaches(configured.host.run(f"{engine} {PROXY_PORT}")), "that is the host's"
        tried = {(f["unit"], f["to"], f["outcome"]) for f in _undeclared(configured.host)}
        assert {
            ("host", f"{GATE}:{other}/tcp", "dropped"),
            ("engine", f"{GATE}:{PROXY_PORT}/tcp", "dropped"),
        } <= tried
    finally:
        listener.terminate()
        listener.wait(timeout=10)


_CONNECT = (
    "import socket, sys; to, port, *by = sys.argv[1:]; "
    "socket.create_connection((to, int(port)), 2, (by[0], 0) if by else None)"
)


def _reaches(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == 0


def _undeclared(host: Host) -> list[dict[str, str]]:
    """What the host itself says was tried and never declared."""
    done = host.run("sovereign egress report --json")
    assert done.returncode == 1, done.stdout + done.stderr
    flows: list[dict[str, str]] = json.loads(done.stdout)["flows"]
    return [each for each in flows if each["verdict"] == "seen-and-undeclared"]


def _dropped(host: Host) -> int:
    listed = json.loads(host.read("nft --json list table inet sovereign_egress"))["nftables"]
    parts = [part for entry in listed for part in entry.get("rule", {}).get("expr", ())]
    return sum(part["counter"]["packets"] for part in parts if "counter" in part)


def test_only_declared_networks_reach_the_gateway(lab: Lab, configured: Configured) -> None:
    """ssh shows that the stranger's packets arrive; the gateway's unit is what drops them."""
    stranger, host = "203.0.113.7", configured.host.address
    add = lab.call("ip", "address", "add", f"{stranger}/32", "dev", "lo")
    assert add.returncode == 0, add.stderr
    connect = (sys.executable, "-c", _CONNECT, host)
    assert _reaches(lab.call(*connect, str(GATEWAY_PORT)))
    assert _reaches(lab.call(*connect, "22", stranger))
    assert not _reaches(lab.call(*connect, str(GATEWAY_PORT), stranger))


def test_a_site_cannot_outweigh_the_policy(configured: Configured, site: Site) -> None:
    """A site that could set how long things are kept would be its own policy."""
    only = ("configure", configured.host, "--tags", "logging")
    for run in (
        site.play(*only, logging_kept_days=3650),
        site.play(*only, "--extra-vars", "logging_kept_days=3650"),
    ):
        assert run.exit_code == 0, run.output[-3000:]
        assert run.recap["serves"]["changed"] == 0


def test_a_destination_that_the_policy_refuses_is_not_opened(
    configured: Configured, site: Site
) -> None:
    """A site may say where a dependency is, never that one is allowed."""
    elsewhere = {"dependency": "public-resolver", "address": "8.8.8.8/32", "port": 53}
    run = site.play("configure", configured.host, "--tags", "egress", egress_allowed=[elsewhere])
    assert run.exit_code == 1
    assert "public-resolver is no dependency" in run.output


def test_a_running_clock_is_not_told_to_follow_others_without_consent(
    configured: Configured, site: Site
) -> None:
    """A clock that steps ends attestations and makes data overdue; the tag is a control's own."""
    host, other = configured.host, [{"dependency": "time-ptb", "address": "192.0.2.7"}]
    host.read("systemd-run --quiet --unit=openntpd sleep 300")  # a unit of that name is one
    try:
        run = site.play("configure", host, "--tags", "ISO-27001-8.17", clock_servers=other)
    finally:
        host.read("systemctl stop openntpd")
    assert run.exit_code == 1
    assert "clock_replace_running=true" in run.output
    assert "192.0.2.7" not in host.read("cat /etc/chrony/chrony.conf")


def test_a_running_ruleset_is_not_replaced_without_consent(
    configured: Configured, site: Site
) -> None:
    """A change of the firewall may cut off whoever makes it."""
    declared = SITE["egress_allowed"]
    more = [*declared, {"dependency": "time-ptb", "address": "192.0.2.5/32", "port": 123}]
    run = site.play("configure", configured.host, "--tags", "egress", egress_allowed=more)
    assert run.exit_code == 1
    assert "egress_replace_running=true" in run.output
    assert "192.0.2.5" not in configured.host.read("nft list table inet sovereign_egress")


def test_a_host_that_is_cut_off_from_everybody_goes_on_serving_and_comes_back(
    lab: Lab, configured: Configured
) -> None:
    """Offline operation is a promise until somebody pulls the cable; the kernel puts it back."""
    host, said = configured.host, "/run/disconnect.json"
    new_key(host)  # a drill adds keys to those of a site, and makes no store of them
    ssh = (sys.executable, "-c", _CONNECT, host.address, "22")
    drill = f"sovereign drill disconnect --for-s {_CUT_S} --yes --json"
    host.read(f"systemd-run --quiet --unit=disconnect -p StandardOutput=file:{said} {drill}")
    cut_off = _until(lambda: not _reaches(lab.call(*ssh)))
    assert cut_off, host.read(f"journalctl --unit disconnect --no-pager; cat {said}")
    assert _until(lambda: _reaches(lab.call(*ssh))), "it stayed cut off"
    assert _until(lambda: host.run("systemctl is-active disconnect").returncode != 0)
    told = json.loads(host.read(f"cat {said}"))
    assert (told["verdict"], told["findings"], told["unknown"]) == ("pass", [], [])
    assert told["cut_s"] >= _CUT_S
    assert min(told["dropped"], told["answered while cut off"]) > 0
    assert host.run("nft list table inet sovereign_drill_cut").returncode != 0
    assert host.run("sovereign egress check").returncode == 0, "its own rules are as they were"


_CUT_S = 10


def _until(true: Callable[[], bool], within_s: float = 90) -> bool:
    """False when it was not true in time."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def test_a_host_is_updated_under_load_and_no_request_is_lost(
    lab: Lab, configured: Configured, site: Site, tmp_path: Path
) -> None:
    """Whoever must stop a service to update it puts off the update that closes the hole."""
    host, before = configured.host, _release_of(configured.host)
    other = another_release(tmp_path / "other", "sovereign/__init__.py", "# another release")
    with load(lab, host, new_key(host)) as endings:
        run = replace(site, release=other).play("update", host)
    assert run.exit_code == 0, run.output[-6000:]
    assert _release_of(host) == other.stem != before
    assert endings.keys() == {"whole answered", "streamed answered"}, endings
    assert host.run("sovereign audit verify").returncode == 0
    again = replace(site, release=other).play("update", host)
    assert (again.exit_code, again.recap["serves"]["changed"]) == (0, 0), again.output[-3000:]


def test_a_release_that_gives_no_answer_is_rolled_back_and_no_request_is_lost(
    lab: Lab, configured: Configured, site: Site, tmp_path: Path
) -> None:
    """The update that goes wrong is the one that is made at night, alone."""
    host, before = configured.host, _release_of(configured.host)
    broken = another_release(
        tmp_path / "broken", "sovereign/gateway/server.py", "def serve(*_: object) -> None: 1 / 0"
    )
    with load(lab, host, new_key(host)) as endings:
        run = replace(site, release=broken).play("update", host)
    assert run.exit_code == 1
    assert f"serves by {before} again" in run.output
    assert _release_of(host) == before
    assert endings.keys() == {"whole answered", "streamed answered"}, endings
    assert chat_status(lab, host, new_key(host)) == 200


def _release_of(host: Host) -> str:
    return host.read("basename $(readlink /opt/sovereign/current)").strip()


def test_it_serves_again_after_a_reboot(lab: Lab, configured: Configured) -> None:
    """Half of all configuration lives only until the power goes."""
    configured.host.reboot()
    key = new_key(configured.host)
    until = time.monotonic() + _SERVES_AGAIN_WITHIN_S
    while (status := chat_status(lab, configured.host, key)) != 200:
        assert time.monotonic() < until, status
        time.sleep(0.5)
    assert "policy drop" in configured.host.read("nft list table inet sovereign_egress")


_SERVES_AGAIN_WITHIN_S = 60.0


def test_a_host_is_not_retired_by_a_slip(configured: Configured, site: Site) -> None:
    """What cannot be undone is asked for twice."""
    run = site.play("retire", configured.host)
    assert run.exit_code == 1
    assert "retire_consent=true" in run.output
    configured.host.read("systemctl is-active sovereign-gateway")


def test_a_retired_host_keeps_its_logs_and_neither_keys_nor_weights(
    configured: Configured, site: Site, tmp_path: Path
) -> None:
    """What a host proved must outlive it; what it could do must not."""
    host = configured.host
    run = site.play("retire", host, retire_consent=True, retire_export_to=str(tmp_path))
    assert run.exit_code == 0, run.output[-3000:]
    assert host.read("find / -xdev -name '*.key' -path '*sovereign*'") == ""
    assert host.read("find / -xdev -name '*.gguf'") == ""
    assert host.read("find / -xdev -name 'keys.sqlite'") == ""
    assert host.run("pgrep -u sovereign-gateway,sovereign-engine,sovereign-controller").returncode
    assert host.run("nft list table inet sovereign_egress").returncode != 0
    assert set(host.read(_OUR_FILES).split()) == LEFT_BEHIND
    _verifies_elsewhere(tmp_path)


_OUR_FILES = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /var/log \\) -prune -o "
    "\\( -ipath '*sovereign*' -o -name '*egress*' \\) -print | grep -v ^/var/lib/sovereign/.*/"
)
LEFT_BEHIND = {
    "/etc/security/limits.d/sovereign.conf",
    "/etc/sysctl.d/60-sovereign.conf",
    "/etc/systemd/coredump.conf.d/sovereign.conf",
    "/etc/systemd/journald.conf.d/sovereign.conf",
    "/etc/sysusers.d/sovereign.conf",
    "/var/lib/sovereign",
    "/var/lib/sovereign/audit",
    "/var/lib/sovereign/cosigned",
    "/var/lib/sovereign/policies",
    "/var/lib/sovereign/trust",
}
"""The logs and who may read them, a journal that still forgets on time, and no core dumps."""


def _verifies_elsewhere(folder: Path) -> None:
    """The archive that was carried away holds every log, and each verifies under its pin."""
    (archive,) = folder.glob("*.tar.gz")
    subprocess.run(["tar", "-C", str(folder), "-xzf", str(archive)], check=True)
    pins = sorted((folder / "trust").glob("*.vkey"))
    assert len(pins) == 9
    for pin in pins:
        writer, _, stream = pin.stem.rpartition("-")
        log = folder / "audit" / writer / stream
        done = subprocess.run(
            [sys.executable, "-m", "sovereign", "audit", "verify", str(log), "--vkey", str(pin)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_retiring_again_finds_nothing_to_do(configured: Configured, site: Site) -> None:
    """An interrupted retirement is finished by asking for it again."""
    run = site.play(
        "retire", configured.host, retire_consent=True, retire_export_to=str(site.folder)
    )
    assert run.exit_code == 0, run.output[-3000:]


def _edited(site: Site, folder: Path, name: str, old: str, new: str) -> Policy:
    """The policy with one line changed."""
    copy = Path(shutil.copytree(site.policies, folder / "policies"))
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    return policies.load(copy, "eea")
