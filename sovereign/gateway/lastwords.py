"""What ends a stream that cannot be ended well: one event, and no end marker behind it.

The status is out already, so the event must be understood by whoever only reads chunks (its
choices finish with `error`) and by whoever looks for errors (it has an `error`, which OpenAI's
clients raise). Pure.
"""

import msgspec

from sovereign.gateway.refusal import Denied

FINISH = "error"


def event(kind: str, model: str, choices: int, denied: Denied) -> bytes:
    """The last event of a stream of this kind, which had this many choices.

    Nothing the engine said is in it: `denied` is raised here with a sentence of our own.
    """
    said = {"text": ""} if kind == "completion" else {"delta": {"content": ""}}
    chunk = {
        "id": denied.record,
        "object": "text_completion" if kind == "completion" else "chat.completion.chunk",
        "created": 0,
        "model": model,
        "choices": [{"index": i, **said, "finish_reason": FINISH} for i in range(choices)],
        "error": {
            "object": "error",
            "message": denied.message,
            "type": denied.code,
            "param": None,
            "code": denied.code,
            "record": denied.record,
        },
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
