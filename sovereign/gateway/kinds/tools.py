"""Check what a chat says of tools and of the form of its answer, enough for a clear no.

A schema is the engine's to understand; here stands what every engine and Mistral's interface need:
functions with a name, an object of parameters, bounds. Tools that Mistral's own platform runs for
its customers (web search, code, images, documents, connectors) are not served here: they would run
somewhere else.
"""

import re
from typing import Any

import msgspec

from sovereign.gateway.refusal import Denied

TOOLS_MAX = 128
TOOLS_MAX_BYTES = 262_144
"""All tools of a request as JSON. An engine compiles a grammar out of them."""
STOPS_MAX = 64
STOP_MAX_CHARS = 1024
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES = ("auto", "none", "any", "required")
FORMATS = ("text", "json_object", "json_schema")


def check(body: dict[str, Any], dialect: str) -> None:
    """Check the fields `tools`, `tool_choice`, `response_format` and `stop`, where they are there.

    Raises:
        Denied: one of them could only be misunderstood, or is out of bounds.
    """
    tools = body.get("tools")
    names = _check_tools(tools, dialect) if tools else frozenset[str]()
    if body.get("tool_choice") is not None:
        _check_choice(body["tool_choice"], names)
    if body.get("response_format") is not None:
        _check_format(body["response_format"])
    stop = body.get("stop")
    if stop is not None:
        _check_stops(stop if isinstance(stop, list) else [stop])


def _check_tools(tools: list[Any], dialect: str) -> frozenset[str]:
    """Check the tools; return the names of their functions."""
    if len(tools) > TOOLS_MAX:
        raise _invalid("tools", f"at most {TOOLS_MAX} tools")
    names = [_check_tool(tool, dialect) for tool in tools]
    if len(set(names)) < len(names):
        raise _invalid("tools", "each function's `name` once")
    if len(msgspec.json.encode(tools)) > TOOLS_MAX_BYTES:
        raise _invalid("tools", f"at most {TOOLS_MAX_BYTES} bytes of tools")
    return frozenset(names)


def _check_tool(tool: object, dialect: str) -> str:
    kind = tool.get("type", "function") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or kind != "function":
        raise _invalid(
            "tools", "each tool must be of the type `function`; others run elsewhere, not here"
        )
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not NAME.fullmatch(name):
        raise _invalid("tools", "each tool's function needs a `name` of 1 to 64 of a-z A-Z 0-9 _ -")
    parameters = function.get("parameters")
    if not isinstance(parameters, dict) and (parameters is not None or dialect == "mistral"):
        raise _invalid("tools", "`parameters` of a tool's function must be an object")
    if not isinstance(function.get("description"), str | None):
        raise _invalid("tools", "`description` of a tool's function must be a text")
    return name


def _check_choice(choice: object, names: frozenset[str]) -> None:
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise _invalid(
                "tool_choice", f"`tool_choice` must be one of {list(_CHOICES)} or a function"
            )
        if choice in ("any", "required") and not names:
            raise _invalid("tool_choice", "`tool_choice` asks for a tool, and there are no `tools`")
        return
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(choice, dict) or choice.get("type", "function") != "function":
        raise _invalid("tool_choice", "`tool_choice` must be a word or of the type `function`")
    if not isinstance(name, str) or name not in names:
        raise _invalid("tool_choice", "`tool_choice` must name a function that stands in `tools`")


def _check_format(wanted: dict[str, Any]) -> None:
    kind = wanted.get("type", "text")
    if kind not in FORMATS:
        raise _invalid("response_format", f"its `type` must be one of {list(FORMATS)}")
    if kind != "json_schema":
        return
    schema = wanted.get("json_schema")
    if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
        raise _invalid("response_format", "`json_schema` must be an object with a `name`")
    if not isinstance(schema.get("schema"), dict):
        raise _invalid("response_format", "`json_schema` needs a `schema`, an object")
    if not isinstance(schema.get("strict"), bool | None):
        raise _invalid("response_format", "`strict` must be true or false")


def _check_stops(stops: list[str]) -> None:
    if len(stops) > STOPS_MAX or any(len(stop) > STOP_MAX_CHARS for stop in stops):
        raise _invalid("stop", f"at most {STOPS_MAX} texts of {STOP_MAX_CHARS} characters")


def _invalid(param: str, message: str) -> Denied:
    return Denied("field-invalid", message, param=param)
