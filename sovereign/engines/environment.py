"""The environment of an engine process: what it starts with, and whether it reads back.

Pure. Reading /proc is the controller's work; here its bytes become names and values, and
`unmet` says which rules they break.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from sovereign.engines.contract import EnvRule

# Programs that an engine starts (a C compiler for vLLM, `git` for none) are found here.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Said to every engine, whichever of them listens: consoledonottrack.com, Hugging Face's hub.
SILENCE = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

SILENCE_RULES = (
    EnvRule("DO_NOT_TRACK", "1", "the common switch against usage reports"),
    EnvRule("HF_HUB_OFFLINE", "1", "weights come from a digest we checked, never from a hub"),
    EnvRule("HF_TOKEN", None, "an engine that never fetches needs no one's token"),
)

# A proxy in the environment would be a way out that no firewall rule names.
NO_PROXY_RULES = tuple(
    EnvRule(name, None, "a proxy is a way out of this host")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
)


def clean(home: Path, program: Path) -> dict[str, str]:
    """Return an environment with nothing in it but what every engine needs."""
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(program.parent), _PATH]),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **SILENCE,
    }


def parse(environ: bytes) -> dict[str, str]:
    """Return names and values out of the bytes of /proc/PID/environ.

    Words without `=` are left out: a program that rewrites its title leaves such debris.
    """
    pairs = (word.partition(b"=") for word in environ.split(b"\0"))
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, equals, value in pairs
        if equals and name
    }


def unmet(rules: Iterable[EnvRule], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Say for each broken rule what was found and what must be, in the order of `rules`.

    Only values we set ourselves are ever repeated; a foreign value is called `another value`,
    because an environment may hold secrets.
    """
    return tuple(_sentence(rule, environ) for rule in rules if _broken(rule, environ))


def _broken(rule: EnvRule, environ: Mapping[str, str]) -> bool:
    return environ.get(rule.name) != rule.must_be


def _sentence(rule: EnvRule, environ: Mapping[str, str]) -> str:
    found = "another value" if rule.name in environ else "unset"
    wanted = "unset" if rule.must_be is None else repr(rule.must_be)
    return f"{rule.name} must be {wanted}, found {found}"
