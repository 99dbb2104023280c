"""What the clouds' real SDKs say of their types, read out of the installed packages' source.

An SDK is generated out of the real provider's schema, so it is the closest thing to the
cloud that can be had without an account.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TOKEN = re.compile(r"super\(\w+, __self__\)\.__init__\(\s*'((?:scaleway|hcloud):[^']+)'")
PACKAGES = {"scaleway": "pulumiverse_scaleway", "hcloud": "pulumi_hcloud"}
_GETTER = re.compile(r'@pulumi\.getter(?:\(name="(\w+)"\))?\s+def (\w+)\(self\)')


@cache
def sources() -> dict[str, str]:
    """Type token to the source of the module that defines it; old spellings left out."""
    found: dict[str, str] = {}
    for cloud in PACKAGES:
        for path in _package(cloud).rglob("*.py"):
            text = path.read_text()
            for token in _TOKEN.findall(text):
                if not token.startswith("scaleway:index/"):
                    found[token] = text
    return found


@cache
def old_spellings() -> list[str]:
    """Types the SDK keeps under the names they had before, `scaleway:index/…`."""
    paths = _package("scaleway").rglob("*.py")
    found = [token for path in paths for token in _TOKEN.findall(_text(path))]
    return sorted(token for token in found if token.startswith("scaleway:index/"))


def inputs(token: str) -> dict[str, bool]:
    """The inputs of a type as they travel, each with whether it is required."""
    return _arguments(sources()[token], rf"\nclass {token.rpartition(':')[2]}(?:Init)?Args:")


def nested(cloud: str, module: str, name: str) -> dict[str, bool]:
    """The same for a class in a module's `_inputs.py`, such as `ServerRootVolumeArgs`."""
    folder = _package(cloud) / ("" if module == "index" else module)
    return _arguments(_text(folder / "_inputs.py"), rf"\nclass {name}:")


def _arguments(text: str, head: str) -> dict[str, bool]:
    body = re.split(head, text)[1].split("\nclass ")[0]
    signature = body.partition('"""')[0]
    names = {word: sent or word for sent, word in _GETTER.findall(body)}
    return {
        sent: re.search(rf"\n +{word}: .*= None(?:[,)]|$)", signature) is None
        for word, sent in names.items()
    }


def _package(cloud: str) -> Path:
    spec = find_spec(PACKAGES[cloud])
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def _text(path: Path) -> str:
    return path.read_text()
