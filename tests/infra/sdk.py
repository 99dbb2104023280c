"""What Scaleway's real SDK says of its types, read out of the installed package's source.

The SDK is generated out of the real provider's schema, so it is the closest thing to the
cloud that can be had without an account.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TOKEN = re.compile(r"super\(\w+, __self__\)\.__init__\(\s*'(scaleway:[^']+)'")
_GETTER = re.compile(r'@pulumi\.getter(?:\(name="(\w+)"\))?\s+def (\w+)\(self\)')


@cache
def sources() -> dict[str, str]:
    """Type token to the source of the module that defines it; old spellings left out."""
    found: dict[str, str] = {}
    for path in _package().rglob("*.py"):
        text = path.read_text()
        for token in _TOKEN.findall(text):
            if not token.startswith("scaleway:index/"):
                found[token] = text
    return found


@cache
def old_spellings() -> list[str]:
    """Types the SDK keeps under the names they had before, `scaleway:index/…`."""
    found = [token for path in _package().rglob("*.py") for token in _TOKEN.findall(_text(path))]
    return sorted(token for token in found if token.startswith("scaleway:index/"))


def inputs(token: str) -> dict[str, bool]:
    """The inputs of a type as they travel, each with whether it is required."""
    return _arguments(sources()[token], rf"\nclass {token.rpartition(':')[2]}Args:")


def nested(module: str, name: str) -> dict[str, bool]:
    """The same for a class in a module's `_inputs.py`, such as `ServerRootVolumeArgs`."""
    return _arguments(_text(_package() / module / "_inputs.py"), rf"\nclass {name}:")


def _arguments(text: str, head: str) -> dict[str, bool]:
    body = re.split(head, text)[1].split("\nclass ")[0]
    signature = body[: body.index('"""')]
    names = {word: sent or word for sent, word in _GETTER.findall(body)}
    return {
        sent: re.search(rf"\n +{word}: .*= None[,)]", signature) is None
        for word, sent in names.items()
    }


def _package() -> Path:
    spec = find_spec("pulumiverse_scaleway")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def _text(path: Path) -> str:
    return path.read_text()
