"""Ask the gateway of a configured host for a chat, from the lab's network."""

import json
import sys
from typing import Any

from tests.hosts.playing import GATEWAY_PORT
from tests.tools.lab import Host, Lab

DEFAULT_MODEL = "smollm2-135m-instruct"


def new_key(host: Host) -> str:
    """A key that the gateway has had the time to learn of: it reads them once a second."""
    made = host.read("sovereign key create --tenant lab --purpose testing --json && sleep 2")
    return str(json.loads(made)["key"])


def chat(
    lab: Lab, host: Host, key: str, model: str = DEFAULT_MODEL, certificate: str = ""
) -> dict[str, Any]:
    """What came back: `status`, `headers` and `answer`. With a certificate it is asked over TLS."""
    done = lab.call(*client(host, key, model, certificate))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def chat_status(lab: Lab, host: Host, key: str, model: str = DEFAULT_MODEL) -> int:
    """The status of a chat; 0 while nothing listens, 503 while the engine is not vouched for."""
    done = lab.call(*client(host, key, model))
    return int(json.loads(done.stdout)["status"]) if done.returncode == 0 else 0


def client(
    host: Host, key: str, model: str = DEFAULT_MODEL, certificate: str = ""
) -> tuple[str, ...]:
    """The command that asks."""
    url = f"{'https' if certificate else 'http'}://{host.address}:{GATEWAY_PORT}"
    more = (certificate,) if certificate else ()
    return (sys.executable, "-m", "tests.hosts.chat", url, key, model, *more)


def records_of(host: Host, decision: str) -> dict[str, dict[str, Any]]:
    """The decision of this name and the completion that belongs to it, by type."""
    origin, _, index = decision.partition("#")
    shown = host.read(f"sovereign audit tail --log {origin} -n 100 --json")
    found = map(json.loads, shown.splitlines())
    return {
        fields["type"]: fields
        for fields in found
        if fields["record"] == decision or fields.get("decision") == int(index)
    }
