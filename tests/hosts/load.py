"""Clients that never stop: `python -m tests.hosts.load URL KEY MODEL` asks until its input ends.

One line for each answer: `whole` or `streamed`, and how it ended. Every question comes over a
connection of its own, as from somebody new, and is asked once: what is lost stays lost.
"""

import json
import sys
import threading
import urllib.error
import urllib.request

ANSWERS_WITHIN_S = 150
ASKING = 3
END = b"data: [DONE]"
_OUT = threading.Lock()


def main(url: str, key: str, model: str) -> None:
    """Ask with `ASKING` clients at a time until the input ends; return when all were answered."""
    over = threading.Event()
    asking = [
        threading.Thread(target=_asks, args=(over, url, key, model, bool(number % 2)))
        for number in range(ASKING)
    ]
    for each in asking:
        each.start()
    sys.stdin.read()
    over.set()
    for each in asking:
        each.join()


def _asks(over: threading.Event, url: str, key: str, model: str, streams: bool) -> None:
    kind = "streamed" if streams else "whole"
    while not over.is_set():
        ended = f"{kind} {_ended(url, key, model, streams)}\n"
        with _OUT:
            sys.stdout.write(ended)
            sys.stdout.flush()


def _ended(url: str, key: str, model: str, streams: bool) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count to a hundred."}],
        "max_tokens": 24,
        "stream": streams,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWERS_WITHIN_S) as answer:
            said = answer.read()
    except urllib.error.HTTPError as refused:
        return f"{refused.code} {json.loads(refused.read()).get('type')}"
    except OSError as lost:
        return f"lost: {lost}"
    if streams:
        return "answered" if END in said else "cut short"
    return "answered" if json.loads(said)["usage"]["completion_tokens"] else "empty"


if __name__ == "__main__":
    main(*sys.argv[1:])
