"""Things go wrong on a running site: it refuses, says why, records it, and comes back."""

import json
import os
import signal
from http.client import HTTPConnection

from tests.journeys.deployed import CHAT, MODEL, Answer, Site, stopped, wait_until

ATTESTED_FOR_S = 30
"""`attestation_valid_s` of the shipped policy; a busy machine gets some more."""
INTERVAL_S = 2
RECOVERS_WITHIN_S = 60
REVOKED_WITHIN_S = 3
"""One second is promised and tested to the tick in tests/gateway; the rest is a busy machine's."""


def test_a_stopped_controller_makes_the_gateway_refuse_when_the_attestation_expires(
    site: Site,
) -> None:
    """Nobody vouches for the place any more, so it is unknown; unknown is refused."""
    with stopped(site.pid("controller")):
        assert site.chat().status == 200
        last: list[Answer] = []

        def refused() -> bool:
            last[:] = [site.chat()]
            return last[0].status != 200

        wait_until(refused, ATTESTED_FOR_S + 10)
        answer = last[0].json
        assert last[0].status == 403
        assert (answer["code"], answer["rule"]) == ("attestation-expired", "attestation-is-fresh")
        record = site.record(answer["record"])
        assert (record["verdict"], record["rule"]) == ("refuse", "attestation-is-fresh")
        ready = site.http("GET", "/readyz")
        assert (ready.status, ready.json["lacking"]) == (503, ["no-usable-endpoint"])
        assert site.http("GET", "/healthz").status == 200
    wait_until(site.is_ready, RECOVERS_WITHIN_S)
    assert site.chat().status == 200


def test_a_killed_engine_is_quarantined_named_and_comes_back(site: Site) -> None:
    """From the first request on the client hears a reason; both logs tell the story after."""
    pid = site.pid("engine")
    with stopped(site.supervisor()):  # or it would be up again before anybody could look
        os.kill(pid, signal.SIGKILL)
        at_once = site.chat()
        assert (at_once.status, at_once.json["code"]) == (503, "engine-unhealthy")
        assert at_once.headers["retry-after"] == "5"
        ending = site.ending(at_once.json["record"])
        assert (ending["outcome"], ending["status"]) == ("engine-unhealthy", 503)
        wait_until(lambda: not site.is_ready(), 3 * INTERVAL_S + 4)
        quarantined = site.chat()
        assert (quarantined.status, quarantined.json["code"]) == (503, "engine-unhealthy")
        decision = site.record(quarantined.json["record"])
        assert (decision["verdict"], decision["rule"]) == ("refuse", "engine-unhealthy")
        (endpoint,) = site.asked("status", code=3)["engines"]
        assert (endpoint["quarantine"], endpoint["usable"]) == ("engine-unhealthy", False)
        wait_until(lambda: bool(told(site, "quarantine")), 10)
        assert told(site, "quarantine")[-1]["code"] == "engine-unhealthy"
    wait_until(site.is_ready, RECOVERS_WITHIN_S)
    assert site.pid("engine") != pid
    assert site.chat().status == 200
    wait_until(lambda: bool(told(site, "release")), 10)


def told(site: Site, kind: str) -> list[dict[str, str]]:
    """The controller's records of this kind."""
    return [r for r in site.records("local/controller/evidence") if r["type"] == kind]


def test_an_engine_that_dies_in_the_middle_of_an_answer_ends_the_stream_with_a_reason(
    site: Site,
) -> None:
    """The client must not take the piece it has for the whole."""
    connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count from 1 to 1000, one a line."}],
        "max_tokens": 1500,
        "stream": True,
    }
    headers = {"authorization": f"Bearer {site.key}"}
    connection.request("POST", CHAT, json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data: ")
    os.kill(site.pid("engine"), signal.SIGKILL)
    rest = response.read()
    connection.close()
    assert b"[DONE]" not in rest
    assert b'"code":"engine-failed"' in rest
    record = response.getheader("x-sovereign-record")
    assert record is not None
    assert record.encode() in rest
    ending = site.ending(record)
    assert (ending["outcome"], ending["status"]) == ("engine-failed", 502)
    wait_until(site.is_ready, RECOVERS_WITHIN_S)


def test_a_revoked_key_is_refused_within_a_second(site: Site) -> None:
    """On the real site, from another process."""
    made = site.asked("key", "create", "--tenant", "leaky", "--purpose", "tests")
    wait_until(lambda: models(site, made["key"]).status == 200, 10)
    site.asked("key", "revoke", made["id"])
    wait_until(lambda: models(site, made["key"]).status == 401, REVOKED_WITHIN_S)
    assert models(site, made["key"]).json["code"] == "key-inactive"


def models(site: Site, key: str) -> Answer:
    return site.http("GET", "/v1/models", key=key)


def test_a_gateway_that_is_killed_is_up_again_and_says_that_it_crashed(site: Site) -> None:
    """An unclean end is visible to an auditor, and costs no acknowledged record."""
    record = site.chat().headers["x-sovereign-record"]
    pid = site.pid("gateway")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: site.pid("gateway") != pid and site.is_ready(), RECOVERS_WITHIN_S)
    assert site.record(record)["type"] == "decision"
    assert site.ending(record)["outcome"] == "answered"
    reopened = [r for r in site.records("local/gateway/event") if r["type"] == "log-reopened"]
    assert reopened[-1]["ended"] == "in-a-crash"
    assert site.run("audit", "verify")[0] == 0
