"""A program like an application's, on Mistral's own client: `URL KEY MODEL` in, JSON out.

Run with 3.x by our own Python and with 1.x by that of tests/tools/clients.py, so it imports nothing
of ours. Retries are on, as many as the client makes: a refusal must not be repeated.
"""

import json
import sys
from typing import Any

try:
    from mistralai.client import Mistral  # type: ignore[attr-defined,unused-ignore]  # 2 and 3
    from mistralai.client.errors import (  # type: ignore[import-not-found,unused-ignore]
        HTTPValidationError,
        SDKError,
    )
    from mistralai.client.utils import (  # type: ignore[import-not-found,unused-ignore]
        BackoffStrategy,
        RetryConfig,
    )
except ImportError:
    from mistralai import Mistral  # type: ignore[attr-defined,no-redef,unused-ignore]  # 1.x
    from mistralai.models import (  # type: ignore[import-not-found,import-untyped,no-redef,unused-ignore]
        HTTPValidationError,
        SDKError,
    )
    from mistralai.utils import (  # type: ignore[import-not-found,import-untyped,no-redef,unused-ignore]
        BackoffStrategy,
        RetryConfig,
    )

MESSAGES = [{"role": "user", "content": "Answer in one word. Capital of France?"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "", "parameters": {"type": "object"}},
}


def main(url: str, key: str, model: str) -> dict[str, Any]:
    """Everything an application does, and what it sees."""
    retries = RetryConfig(
        "backoff", BackoffStrategy(20, 50, 1.5, 3000), retry_connection_errors=False
    )
    client: Any = Mistral(api_key=key, server_url=url, retry_config=retries)
    asked: dict[str, Any] = {"model": model, "messages": MESSAGES, "temperature": 0}

    whole = client.chat.complete(**asked, max_tokens=8, random_seed=1)
    streamed = list(client.chat.stream(**asked, max_tokens=8, random_seed=1))
    tooled = client.chat.complete(**asked, max_tokens=4, tools=[TOOL], tool_choice="auto")
    listed = client.models.list()
    return {
        "complete": whole.choices[0].message.content,
        "usage": whole.usage.completion_tokens,
        "stream": "".join(e.data.choices[0].delta.content or "" for e in streamed),
        "stream_usage": [e.data.usage.completion_tokens for e in streamed if e.data.usage],
        "finish": [e.data.choices[0].finish_reason for e in streamed][-1],
        "tools": tooled.choices[0].finish_reason,
        "models": [card.id for card in listed.data],
        "early": stop_early(client, asked),
        "errors": errors(client, url, asked),
    }


def stop_early(client: Any, asked: dict[str, Any]) -> str:
    """Leave a long answer after its first piece; return the record of its decision."""
    long = {**asked, "messages": [{"role": "user", "content": "Count from 1 to 1000, one a line."}]}
    with client.chat.stream(**long, max_tokens=1500) as stream:
        next(iter(stream))
        return str(stream.response.headers["x-sovereign-record"])


def errors(client: Any, url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What is raised for each kind of no: class, status, and our code and record in the body."""
    remote = [
        {"role": "user", "content": [{"type": "image_url", "image_url": "http://192.0.2.1/x"}]}
    ]
    cases = {
        "unknown model": lambda: client.chat.complete(**{**asked, "model": "no-such-model"}),
        "remote image": lambda: client.chat.complete(**{**asked, "messages": remote}),
        "bad value": lambda: client.chat.complete(**asked, n=99),
        "bad key": lambda: Mistral(api_key="sov_no", server_url=url).chat.complete(**asked),
        "streamed": lambda: client.chat.stream(**{**asked, "model": "no-such-model"}),
    }
    return {name: raised(case) for name, case in cases.items()}


def raised(case: Any) -> dict[str, Any]:
    try:
        case()
    except HTTPValidationError as error:
        details: Any = error.data.detail
        detail = details[0]
        return {"class": "HTTPValidationError", "loc": list(detail.loc), "type": detail.type}
    except SDKError as error:
        body = json.loads(error.body)
        return {
            "class": "SDKError",
            "status": error.status_code,
            "code": body["code"],
            "record": body.get("record", ""),
        }
    return {"class": "nothing"}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
