"""A client in the lab: `python -m tests.hosts.chat URL KEY MODEL` prints what came back."""

import json
import sys
import urllib.error
import urllib.request

QUESTION = "The capital of France is"


def main(url: str, key: str, model: str) -> None:
    """Ask one question; print status, headers and answer as JSON."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 16,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            _show(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as refused:
        _show(refused.code, dict(refused.headers), refused.read())


def _show(status: int, headers: dict[str, str], body: bytes) -> None:
    print(json.dumps({"status": status, "headers": headers, "answer": json.loads(body)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
