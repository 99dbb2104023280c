"""A trickle of short chats of the drill's own, while something is done to the site.

Only what was answered whole is kept: its record's name, which the client was given. That is what
the log has promised to hold.
"""

import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException

import msgspec

from sovereign import door
from sovereign.settings import GatewaySettings

EVERY_S = 0.2
WITHIN_S = 60.0
ENDS_WITHIN_S = WITHIN_S + 5.0
QUESTION = "Say one word."


@dataclass(slots=True)
class Trickle:
    """One client that asks again and again until it is stopped."""

    gateway: GatewaySettings
    secret: str
    model: str
    answered: list[str] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    silent: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Trickle":
        self._thread = threading.Thread(target=self._run, name="trickle", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ENDS_WITHIN_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._ask()
            self._stop.wait(EVERY_S)

    def _ask(self) -> None:
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": self.model, "messages": messages, "max_tokens": 2}
        headers = {
            "authorization": f"Bearer {self.secret}",
            "content-type": "application/json",
        }
        try:
            with closing(door.connection(self.gateway, WITHIN_S)) as connection:
                path = "/v1/chat/completions"
                connection.request("POST", path, msgspec.json.encode(body), headers)
                response = connection.getresponse()
                response.read()
        except (OSError, HTTPException):
            self.silent += 1
            return
        if response.status == 200:
            self.answered.append(response.getheader("x-sovereign-record") or "")
        else:
            self.refused[response.status] = self.refused.get(response.status, 0) + 1

    def more(self, count: int, within_s: float) -> bool:
        """Wait until so many more were answered; False when it took too long."""
        wanted, deadline = len(self.answered) + count, time.monotonic() + within_s
        while len(self.answered) < wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(EVERY_S)
        return True
