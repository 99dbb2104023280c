"""What a policy promises about a host, as things that can be seen on it.

Each promise takes the host as testinfra sees it and the policy, and raises AssertionError where
the two differ. Expected values come out of the policy and the engine's contract, never out of the
playbooks: a role that says one thing and does another is what this is for.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Network, collapse_addresses
from typing import Any

from testinfra.host import Host as Seen

from playbooks.variables import allowed_dependencies, kept_days, time_servers
from sovereign.engines import ENGINES
from sovereign.engines.environment import parse, unmet
from sovereign.policy import Policy
from tests.hosts.playing import SITE

Promise = Callable[[Seen, Policy], None]
SERVICES = {
    "sovereign-engine": "sovereign-engine",
    "sovereign-gateway": "sovereign-gateway",
    "sovereign-controller": "sovereign-controller",
}
"""Unit and the user it runs as."""

ENGINE_PORT, GATEWAY_PORT = 8081, 8080
EXPOSURE_MAX = 15
"""In tenths, as `systemd-analyze security` counts; sshd as Debian ships it stands at 96."""
_IP_ANY = {"0.0.0.0/0", "::/0"}


def journal_forgets_on_time(seen: Seen, policy: Policy) -> None:
    """What processes print is gone when the class process-log says, across reboots."""
    said = seen.check_output("systemd-analyze cat-config systemd/journald.conf")
    in_force = dict(line.split("=", 1) for line in said.splitlines() if _is_setting(line))
    assert in_force["MaxRetentionSec"] == f"{kept_days(policy)}day"
    assert in_force["MaxFileSec"] == "1day"
    assert in_force["Storage"] == "persistent"
    assert in_force["ForwardToSyslog"] == "no"
    started = seen.check_output(
        "systemctl show -p ExecMainStartTimestamp --value --timestamp=unix systemd-journald"
    )
    written = seen.file("/etc/systemd/journald.conf.d/sovereign.conf").mtime
    assert int(started.removeprefix("@")) >= int(written.timestamp()), "it has not read this yet"
    assert seen.file("/var/log/journal").is_directory


def _is_setting(line: str) -> bool:
    return "=" in line and not line.startswith("#")


def opens_exactly_what_is_declared(seen: Seen, policy: Policy) -> None:
    """The loaded ruleset and the declared destinations are the same set, both ways, by user."""
    allowed = set(allowed_dependencies(policy, datetime.now(UTC)))
    declared = {
        (to.get("unit", "host"), to["dependency"], to["address"], to.get("protocol", "tcp"), port)
        for to in SITE["egress_allowed"]
        for port in (to["port"],)
        if to["dependency"] in allowed
    }
    chains = _egress(seen)
    assert {chain: told for chain, (told, _) in chains.items() if told} == {"output": "drop"}
    opened = {
        ("host" if chain == "output" else chain, *_destination(rule))
        for chain, (_, rules) in chains.items()
        for rule in rules
        if rule.get("comment", "").startswith("to ")
    }
    assert opened == declared
    others = [rule.get("comment", "") for rule in chains["output"][1]]
    assert {each for each in others if not each.startswith("to ")} == {
        "answers",
        "this host itself",
        "ssh, whatever is known of the connection",
        "neighbours",
        "an address of its own",
        *USERS,
        "",  # whoever is left goes where all is dropped
    }
    for chain in (*USERS, "output"):
        assert chains[chain][1][-1]["expr"] == [{"goto": {"target": "refuse"}}], chain


USERS = ("engine", "gateway", "controller")


def _egress(seen: Seen) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """By chain: its policy, if it is a base chain, and its rules."""
    listed = json.loads(seen.check_output("nft --json list table inet sovereign_egress"))
    found = listed["nftables"]
    rules = [entry["rule"] for entry in found if "rule" in entry]
    return {
        chain["name"]: (chain.get("policy", ""), [r for r in rules if r["chain"] == chain["name"]])
        for chain in (entry["chain"] for entry in found if "chain" in entry)
    }


def _destination(rule: dict[str, Any]) -> tuple[str, str, str, int]:
    matches = {
        (match["left"]["payload"]["protocol"], match["left"]["payload"]["field"]): match["right"]
        for match in (part["match"] for part in rule["expr"] if "match" in part)
    }
    address = next(right for (_, field), right in matches.items() if field == "daddr")
    protocol, port = next((p, right) for (p, field), right in matches.items() if field == "dport")
    return rule["comment"].removeprefix("to "), _network(address), protocol, port


def _network(address: Any) -> str:
    """nft prints a single address bare and a network as an object."""
    if isinstance(address, dict):
        return f"{address['prefix']['addr']}/{address['prefix']['len']}"
    return f"{address}/{128 if ':' in address else 32}"


def is_told_the_time_by_whom_the_policy_names(seen: Seen, policy: Policy) -> None:
    """Chrony asks whom the site declares and the policy allows; no pool, and no stranger."""
    allowed = time_servers(policy, datetime.now(UTC))
    declared = {each["address"] for each in SITE["clock_servers"] if each["dependency"] in allowed}
    service = seen.service("chrony")
    assert service.is_enabled
    sources = seen.check_output(_ASK_CHRONY).splitlines()
    assert {line.split(",")[2] for line in sources} == declared
    said = seen.check_output("grep -v '^#' /etc/chrony/chrony.conf")
    assert not {"pool", "sourcedir", "confdir", "include"} & set(said.split())
    assert {"makestep 1 3", "maxchange 1000 3 -1", "port 0"} <= set(said.splitlines())


_ASK_CHRONY = (
    "set -e; pid=/run/chrony/chronyd.pid; started=; "
    "test -e $pid || { chronyd -x; started=yes; }; "
    "chronyc -n -c sources; test -z $started || kill $(cat $pid)"
)
"""In the lab a guest may not set its clock, so chrony is run for a moment without doing so."""


def serves_as_users_without_power(seen: Seen, policy: Policy) -> None:
    """Each process runs as its own user, without a capability, a shell or a core dump."""
    del policy
    for unit, user in SERVICES.items():
        service = seen.service(unit)
        assert service.is_running, unit
        assert service.is_enabled, unit
        known = seen.user(user)
        assert known.exists
        assert known.shell == "/usr/sbin/nologin"
        pid = _main_pid(seen, unit)
        status = _status(seen, pid)
        assert status["Uid"].split() == [str(known.uid)] * 4, unit
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, unit
        assert status["NoNewPrivs"] == "1", unit
        assert status["Seccomp"] == "2", unit
        limits = seen.check_output(f"grep '^Max core file size' /proc/{pid}/limits")
        assert limits.split()[4:6] == ["0", "0"], unit


def is_shut_in_a_sandbox(seen: Seen, policy: Policy) -> None:
    """A process that is taken over can write one folder and talk to whom it must."""
    del policy
    may_write = {
        "sovereign-engine": {"/var/lib/sovereign/engine"},
        "sovereign-gateway": {"/var/lib/sovereign/audit/gateway"},
        "sovereign-controller": {"/var/lib/sovereign/audit", "/var/lib/sovereign/controller"},
    }
    may_meet = {
        "sovereign-engine": {"127.0.0.0/8", "::1/128"},
        "sovereign-gateway": {
            *("127.0.0.0/8", "::1/128"),
            *_together(f"{_gateway_address(seen)}/32", *SITE["gateway_clients"]),
        },
        "sovereign-controller": {
            *("127.0.0.0/8", "::1/128", f"{_gateway_address(seen)}/32"),
            *(to["address"] for to in SITE["egress_allowed"] if to.get("unit") == "controller"),
        },
    }
    for unit in SERVICES:
        has = _properties(seen, unit)
        assert has["ProtectSystem"] == "strict", unit
        assert has["ProtectHome"] == "yes", unit
        assert has["ProtectProc"] == "invisible", unit
        assert has["PrivateTmp"] == has["PrivateDevices"] == "yes", unit
        assert has["MemoryDenyWriteExecute"] == has["LockPersonality"] == "yes", unit
        assert has["RestrictNamespaces"] == "yes", unit
        assert has["UMask"] == ("0027" if unit == "sovereign-engine" else "0007"), unit
        assert set(has["ReadWritePaths"].split()) == may_write[unit], unit
        assert set(has["IPAddressDeny"].split()) == _IP_ANY, unit
        assert set(has["IPAddressAllow"].split()) == may_meet[unit], unit
        assert set(has["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
        seen.check_output(f"systemd-analyze security --threshold={EXPOSURE_MAX} {unit}")
        assert "ptrace" not in has["SystemCallFilter"].split(), unit


def _together(*networks: str) -> set[str]:
    """As systemd keeps them: a network within another is not said again."""
    return {str(each) for each in collapse_addresses(map(IPv4Network, networks))}


def _gateway_address(seen: Seen) -> str:
    """Where the gateway of this host listens."""
    url = json.loads(seen.check_output("sovereign status --json"))["gateway"]["url"]
    return str(url).rpartition("/")[2].rpartition(":")[0]


def keeps_engines_silent(seen: Seen, policy: Policy) -> None:
    """The running engine's own environment says what its contract demands, and no more."""
    del policy
    environ = seen.run(f"cat /proc/{_main_pid(seen, 'sovereign-engine')}/environ").stdout_bytes
    found = parse(environ)
    assert unmet(ENGINES["llamacpp"].required_environment(), found) == ()
    assert "SOVEREIGN_HOME" not in found


def listens_where_it_was_told(seen: Seen, policy: Policy) -> None:
    """The engine answers this host alone; the gateway and ssh are all that others can reach."""
    del policy
    lines = seen.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    bound = {line.split()[3] for line in lines}
    assert f"127.0.0.1:{ENGINE_PORT}" in bound
    reachable = {address for address in bound if not address.startswith(("127.", "[::1]"))}
    assert {address.rpartition(":")[2] for address in reachable} == {"22", str(GATEWAY_PORT)}


def keeps_secrets_apart(seen: Seen, policy: Policy) -> None:
    """A private key is its writer's alone, and no writer can change a pinned key."""
    del policy
    assert seen.file("/var/lib/sovereign/keys").mode == 0o711
    for writer in ("gateway", "controller"):
        for stream in ("event", "security", "evidence"):
            key = seen.file(f"/var/lib/sovereign/keys/{writer}-{stream}.key")
            assert (key.user, key.mode) == (f"sovereign-{writer}", 0o600)
            pin = seen.file(f"/var/lib/sovereign/trust/{writer}-{stream}.vkey")
            assert (pin.user, pin.mode) == ("root", 0o644)
    tried = "runuser -u sovereign-engine -- cat"
    for secret in ("keys/gateway-event.key", "gateway/keys.sqlite", "audit/gateway/event/journal"):
        assert seen.run(f"{tried} /var/lib/sovereign/{secret}").rc != 0, secret
    observer = seen.file("/run/sovereign/observe.sock")
    assert (observer.user, observer.group, observer.mode) == ("root", "sovereign-controller", 0o660)


def lets_what_is_due_be_erased(seen: Seen, policy: Policy) -> None:
    """The controller can erase from every log and has looked; it can sign for no gateway."""
    assert any(kept.max_days != "unlimited" for kept in policy.retention.values())
    audit, may = "/var/lib/sovereign/audit", "runuser -u sovereign-controller -- test"
    files = "-type f ! -name '*.checkpoint' ! -perm -0660"  # these are a writer's own memory
    closed = f"find {audit} -mindepth 1 \\( -type d ! -perm -2770 -o {files} \\)"
    assert seen.check_output(closed) == ""
    assert seen.check_output(f"find {audit} -mindepth 1 ! -group sovereign-audit") == ""
    for folder in ("gateway/event", "operator/security", "controller/evidence"):
        assert seen.run(f"{may} -w {audit}/{folder}/tile/entries").rc == 0, folder
    assert seen.run(f"{may} -r /var/lib/sovereign/keys/operator-event.key").rc == 0
    assert seen.run(f"{may} -r /var/lib/sovereign/keys/gateway-event.key").rc != 0
    evidence = seen.check_output("sovereign audit tail -n 1000 --json")
    assert "retention-run" in {json.loads(line)["type"] for line in evidence.splitlines()}


def _main_pid(seen: Seen, unit: str) -> int:
    return int(seen.check_output(f"systemctl show -p MainPID --value {unit}"))


def _status(seen: Seen, pid: int) -> dict[str, str]:
    lines = seen.check_output(f"cat /proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _properties(seen: Seen, unit: str) -> dict[str, str]:
    lines = seen.check_output(f"systemctl show {unit}").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


PROMISES: tuple[Promise, ...] = (
    journal_forgets_on_time,
    opens_exactly_what_is_declared,
    is_told_the_time_by_whom_the_policy_names,
    serves_as_users_without_power,
    is_shut_in_a_sandbox,
    keeps_engines_silent,
    listens_where_it_was_told,
    keeps_secrets_apart,
    lets_what_is_due_be_erased,
)
