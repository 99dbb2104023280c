"""A client in the lab: `python -m tests.hosts.chat URL KEY MODEL [CERTIFICATE]` says the answer.

With a certificate it talks TLS, and to whoever shows that certificate alone.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request

QUESTION = "The capital of France is"


def main(url: str, key: str, model: str, certificate: str = "") -> None:
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
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False  # it is asked by its address
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=120) as answer:
            _show(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as refused:
        _show(refused.code, dict(refused.headers), refused.read())


def _show(status: int, headers: dict[str, str], body: bytes) -> None:
    print(json.dumps({"status": status, "headers": headers, "answer": json.loads(body)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
