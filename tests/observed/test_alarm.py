"""From a gateway in trouble to a bell: real Prometheus, real Alertmanager, webhook and mail."""

import asyncio
import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from sovereign.controller.exposed import GAUGES, Exposed
from sovereign.controller.retain import Retaining
from sovereign.gateway.seen.families import FAMILIES
from sovereign.registry import utcnow
from sovereign.settings import ControllerSettings, Home, Settings
from tests.engines.running import free_port
from tests.gateway.site import EEA, site
from tests.needs import need
from tests.observed import mail, receiver
from tests.observed.prometheus import ALERTS, MONITORING, programs
from tests.observed.test_listeners import admin_of
from tests.simulated.engine import answering, engine
from tests.tools.debian import Unpacked

CANARY = "Xq7-CANARY-9z"
WITHIN_S = 50


@contextmanager
def running(program: str, *words: str, cwd: Path) -> Iterator[None]:
    """One of Debian's programs, until the block ends."""
    there = programs()
    log = (cwd / f"{Path(program).name}.log").open("wb")
    process = subprocess.Popen(
        [*_with_its_files(there), str(there.program(f"usr/bin/{program}")), *words],
        env=there.environment(),
        cwd=cwd,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _with_its_files(there: Unpacked) -> list[str]:
    """Debian's Alertmanager looks for its templates below /usr/share, where nothing of it is: a
    mount that only this process sees puts them there."""
    mount = f"mount -t overlay overlay -o lowerdir={there.root}/usr/share:/usr/share /usr/share"
    become_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = f'{mount} && exec "$@"'
    alone = ["unshare", "--mount", *become_root, "--", "sh", "-c", script, "_"]
    tried = subprocess.run([*alone, "true"], capture_output=True, timeout=20, check=False)
    need(tried.returncode == 0, "no mount namespace can be made", "run as root")
    return alone


def asked(url: str) -> object:
    """An answer of Prometheus' interface."""
    with urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


async def until_true(question: str, port: int) -> None:
    """Wait until a query has a result."""
    deadline = time.monotonic() + WITHIN_S
    url = f"http://127.0.0.1:{port}/api/v1/query?query={quote(question)}"
    while time.monotonic() < deadline:
        try:
            found = await asyncio.to_thread(asked, url)
        except OSError:
            found = {}
        if isinstance(found, dict) and found.get("result"):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"never within {WITHIN_S} s: {question}")


def configured(folder: Path, gateway: int, controller: int, alertmanager: int) -> Path:
    """The example of docs/monitoring with these ports, looking every second."""
    content = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    targets = {"sovereign-gateway": gateway, "sovereign-controller": controller}
    for job in content["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    (at,) = content["alerting"]["alertmanagers"]
    at["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager}"]}]
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)  # what it must last is tested by promtool; a test need not wait
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    return folder / "prometheus.yml"


def alerting(folder: Path, webhook: str, smarthost: str) -> Path:
    """The example of docs/monitoring with this webhook and this mail server, without TLS."""
    content = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    content["global"] |= {"smtp_smarthost": smarthost, "smtp_require_tls": False}
    content["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    (hook,) = (each for each in content["receivers"] if each["name"] == "webhook")
    hook["webhook_configs"][0]["url"] = f"{webhook}/alerts"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(content))
    return folder / "alertmanager.yml"


async def test_an_endpoint_that_is_shut_rings_by_webhook_and_mail_and_says_nothing_of_anybody(
    tmp_path: Path,
) -> None:
    """Every part is the real one; no word of a conversation, a person or a tenant goes along."""
    ports = {name: free_port() for name in ("gateway", "controller", "prometheus", "alert")}
    with ExitStack() as stack:
        hook = stack.enter_context(receiver.receiving())
        box = stack.enter_context(mail.receiving())
        async with engine(answering(CANARY)) as it, site(tmp_path / "home", it.address) as ours:
            admin = admin_of(ours, ports["gateway"])
            admin.start()
            listen = ControllerSettings(metrics_listen=f"127.0.0.1:{ports['controller']}")
            home = Home(ours.home.root, Settings(controller=listen))
            exposed = Exposed(home, EEA, Retaining(home, EEA, ours.trail), utcnow)
            exposed.note_round(utcnow(), 0.1)
            prometheus = configured(tmp_path, ports["gateway"], ports["controller"], ports["alert"])
            alertmanager = alerting(tmp_path, hook.url, box.address)
            at = {
                name: f"--web.listen-address=127.0.0.1:{ports[name]}"
                for name in ("prometheus", "alert")
            }
            stack.enter_context(
                running(
                    "prometheus-alertmanager",
                    f"--config.file={alertmanager}",
                    f"--storage.path={tmp_path / 'alerts'}",
                    "--cluster.listen-address=",
                    at["alert"],
                    cwd=tmp_path,
                )
            )
            stack.enter_context(
                running(
                    "prometheus",
                    f"--config.file={prometheus}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    at["prometheus"],
                    cwd=tmp_path,
                )
            )
            secret = ours.key(subject="header", tenant="canary-tenant", purpose="canary-purpose")
            await ours.seen()
            headers = {"x-sovereign-subject": CANARY, "user-agent": CANARY}
            message = [{"role": "user", "content": CANARY}]
            assert (await ours.chat(secret=secret, headers=headers, messages=message)).status == 200
            await ours.chat(model=CANARY)
            await until_true(
                'sovereign_gateway_requests_total{code="answered"} == 1', ports["prometheus"]
            )
            await until_true("sovereign_controller_round_seconds", ports["prometheus"])
            assert hook.heard == []
            ours.endpoint(it.address, quarantine="telemetry-on", reason=f"{CANARY} is set")
            await ours.seen()
            heard = await asyncio.to_thread(hook.wait, 1, WITHIN_S)
            letters = await asyncio.to_thread(box.wait, 1, WITHIN_S)
            for question in dashboards():
                url = f"http://127.0.0.1:{ports['prometheus']}/api/v1/query?query={quote(question)}"
                await asyncio.to_thread(asked, url)  # a query it cannot parse is a 400
            exposed.close()
            await admin.stop()
    told = json.loads(heard[0].body)["alerts"][0]
    assert told["labels"]["alertname"] == "endpoint-quarantined"
    assert told["labels"]["reason"] == "telemetry-on"
    assert told["annotations"]["runbook"] == "docs/runbooks/endpoint-quarantined.md"
    mailed = letters[0]
    assert (mailed.sender, mailed.to) == ("alerts@site.example", ["operators@site.example"])
    assert "endpoint-quarantined" in mailed.content
    assert "docs/runbooks/endpoint-quarantined.md" in mailed.content
    forms = {
        CANARY.encode(),
        base64.b64encode(CANARY.encode()),
        b"canary-tenant",
        b"canary-purpose",
    }
    sent = [each.body for each in heard] + [each.content.encode() for each in letters]
    stored = [p.read_bytes() for p in (tmp_path / "tsdb").rglob("*") if p.is_file()]
    for what in (*sent, *stored):
        assert not any(form.lower() in what.lower() for form in forms)


def dashboards() -> list[str]:
    """Every query of the dashboard, as Grafana would send it."""
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) >= 20
    return [query.replace("$__rate_interval", "1m") for query in queries]


def test_the_dashboard_asks_only_for_metrics_that_there_are() -> None:
    """A picture of a metric that was renamed is an empty one, and looks like quiet."""
    known = {each.name for each in (*FAMILIES, *GAUGES)}
    for query in dashboards():
        for name in re.findall(r"\b(?:sovereign|gen_ai)_[a-z_]+(?=[\[{ )]|$)", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            labels = {"gen_ai_request_model", "gen_ai_operation_name", "gen_ai_token_type"}
            assert name in known or base in known or name in labels, name


def test_the_alerts_ask_only_for_metrics_that_there_are() -> None:
    """The same for what is meant to wake somebody."""
    known = {each.name for each in (*FAMILIES, *GAUGES)}
    text = "\n".join(
        rule["expr"]
        for group in yaml.safe_load(ALERTS.read_text())["groups"]
        for rule in group["rules"]
    )
    for name in set(re.findall(r"\bsovereign_[a-z_]+", text)):
        assert name in known or name.removesuffix("_bucket") in known, name
