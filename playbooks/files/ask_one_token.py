"""Ask the gateway of this host for one token, as a client does, and say so.

Run on the host, by the release in force: `python -I ask_one_token.py TENANT PURPOSE`. Its key is
for this one question: it is revoked when the answer is there, and ends after a day by itself. Exit
0 when a token came, 1 when not.
"""

import json
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sovereign import door, settings
from sovereign.settings import Home

COMMAND = "/usr/local/bin/sovereign"
ANSWERS_WITHIN_S = 30
KNOWN_WITHIN_S = 10
"""A gateway reads new keys once a second."""


def main(tenant: str, purpose: str) -> int:
    """Make a key, ask, revoke the key."""
    home = settings.load(Path("/etc/sovereign"))
    bound = ("--tenant", tenant, "--purpose", purpose, "--days", "1")
    made = json.loads(_sovereign("key", "create", *bound, "--json"))
    try:
        status, tokens = _answered(home, made["key"])
    finally:
        _sovereign("key", "revoke", made["id"])
    print(json.dumps({"status": status, "tokens": tokens}))
    return 0 if status == 200 and tokens > 0 else 1


def _answered(home: Home, secret: str) -> tuple[int, int]:
    """Status and tokens of the answer. While the key is not known yet it is asked again."""
    until = time.monotonic() + KNOWN_WITHIN_S
    while (answer := _asked(home, secret))[0] == 401 and time.monotonic() < until:
        time.sleep(0.5)
    return answer


def _asked(home: Home, secret: str) -> tuple[int, int]:
    question = {
        "model": home.settings.engine.model,
        "messages": [{"role": "user", "content": "1"}],
        "max_tokens": 1,
    }
    head = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    try:
        with closing(door.connection(home.settings.gateway, ANSWERS_WITHIN_S)) as connection:
            connection.request("POST", "/v1/chat/completions", json.dumps(question), head)
            answer = connection.getresponse()
            said: dict[str, Any] = json.loads(answer.read())
            return answer.status, int(said.get("usage", {}).get("completion_tokens", 0))
    except (OSError, HTTPException, ValueError) as error:
        print(f"no answer: {type(error).__name__}", file=sys.stderr)
        return 0, 0


def _sovereign(*words: str) -> str:
    done = subprocess.run([COMMAND, *words], check=True, stdout=subprocess.PIPE, timeout=60)
    return done.stdout.decode()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
