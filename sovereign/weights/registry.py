"""An artefact of an OCI registry: one manifest, and a blob for each file, named by its SHA-256.

    GET /v2/NAME/manifests/REFERENCE     a tag, or the digest of the manifest
    GET /v2/NAME/blobs/sha256:…          a file; its name is the title that the manifest gives it

The registry's digests are hashes of the files, so the set's manifest is told without reading one.
A registry that asks who asks says how (`WWW-Authenticate`): by name and password, or by a token of
a server that is declared like a mirror.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from sovereign.errors import BadInput, WeightsDiffer, WeightsUnfetched
from sovereign.weights.asking import Asker
from sovereign.weights.manifest import FILES_MAX
from sovereign.weights.sources import Opened

USER, PASSWORD = (
    "REGISTRY_USER",
    "REGISTRY_PASSWORD",
)
GATE = f"set {USER} and {PASSWORD} to who may pull it"
TITLE = "org.opencontainers.image.title"
TYPES = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_MAX_BYTES = 4 * 1024 * 1024
"""What the distribution specification bids registries take at least, and most take at most."""
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_REFERENCE = re.compile(r"sha256:[0-9a-f]{64}|[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """The artefact `name` at `reference`, of the registry at `base`."""

    base: str
    name: str
    reference: str
    place: str
    label: str
    asker: Asker
    _blobs: dict[str, tuple[str, int]] = field(default_factory=dict)

    def manifest(self) -> bytes:
        """Told from the titles and digests of the blobs.

        Raises:
            WeightsUnfetched: the registry does not give it, or what it gives is none.
            WeightsDiffer: it is not the one that the reference names.
        """
        blobs = self._told()
        return "".join(f"{blobs[name][0]}  {name}\n" for name in sorted(blobs)).encode()

    def size(self, name: str) -> int | None:
        """As the manifest says."""
        found = self._told().get(name)
        return found[1] if found else None

    def open(self, name: str, start: int) -> Opened:
        """The bytes from `start` on, from wherever the registry keeps them."""
        found = self._told().get(name)
        if found is None:
            raise WeightsUnfetched(f"{name[:80]} is not in the artefact", found=self.reference)
        return self.asker.open(f"{self.base}/v2/{self.name}/blobs/sha256:{found[0]}", start)

    def _told(self) -> dict[str, tuple[str, int]]:
        if not self._blobs:
            self._blobs.update(_titled(self._read()))
        return self._blobs

    def _read(self) -> Any:
        url = f"{self.base}/v2/{self.name}/manifests/{self.reference}"
        raw = self.asker.all(url, MANIFEST_MAX_BYTES, {"Accept": TYPES})
        found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if self.reference.startswith("sha256:") and found != self.reference:
            raise WeightsDiffer(
                "the registry's manifest is not the one that was asked for",
                found=found,
                accepted=self.reference,
                next_step="look at the registry, or fetch from another mirror",
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise _no_artefact("no JSON") from None


def of(given: str, place: str, label: str, asker: Asker) -> RegistrySource:
    """The source that `https://HOST/NAME:TAG` or `https://HOST/NAME@sha256:…` names.

    Raises:
        BadInput: it names none.
    """
    path = urlsplit(given).path.lstrip("/")
    name, _, reference = path.partition("@") if "@" in path else path.partition(":")
    if not _NAME.fullmatch(name) or not _REFERENCE.fullmatch(reference) or len(name) > 255:
        raise BadInput(
            "that names no artefact of a registry",
            found=path[:120],
            accepted="NAME:TAG or NAME@sha256:…, in small letters",
        )
    base = given.partition(f"/{path}")[0]
    return RegistrySource(base, name, reference, place, label, asker)


def registry_asker(
    judge: Callable[[str], object], given: str, environment: Mapping[str, str] = os.environ
) -> Asker:
    """Who asks the registry for what `given` names: as it says that one has to, once it was asked.

    Raises:
        WeightsUnfetched: it did not answer, or asks for what we have not got.
    """
    source = of(given, "", "", Asker(judge))
    known = _basic(environment)
    asker = Asker(judge, lambda _method, _url: known, GATE)
    wanted = _challenge(asker, source.base)
    if wanted.get("realm") and wanted["scheme"] == "bearer":
        known = {"Authorization": f"Bearer {_token(judge, wanted, source.name, known)}"}
        return Asker(judge, lambda _method, _url: known, GATE)
    return asker


def _basic(environment: Mapping[str, str]) -> dict[str, str]:
    if not environment.get(USER):
        return {}
    pair = f"{environment[USER]}:{environment.get(PASSWORD, '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _challenge(asker: Asker, base: str) -> dict[str, str]:
    """How the registry wants to be told who asks; without `realm` it does not."""
    said = asker.challenge(f"{base}/v2/")
    scheme, _, rest = said.partition(" ")
    found = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    return {**found, "scheme": scheme.lower()}


def _token(
    judge: Callable[[str], object], wanted: Mapping[str, str], name: str, known: Mapping[str, str]
) -> str:
    asked = {"service": wanted.get("service", ""), "scope": f"repository:{name}:pull"}
    realm = Asker(judge, lambda _method, _url: known, GATE)
    raw = realm.all(f"{wanted['realm']}?{urlencode(asked)}", MANIFEST_MAX_BYTES)
    try:
        said = json.loads(raw)
        token = said.get("token") or said["access_token"]
    except (ValueError, RecursionError, KeyError, AttributeError):
        raise _no_artefact("no token") from None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        raise _no_artefact("no token")
    return token


def _titled(said: Any) -> dict[str, tuple[str, int]]:
    layers = said.get("layers") if isinstance(said, dict) else None
    if not isinstance(layers, list) or not 0 < len(layers) <= FILES_MAX:
        raise _no_artefact("no list of layers")
    found: dict[str, tuple[str, int]] = {}
    for each in layers:
        notes = each.get("annotations") if isinstance(each, dict) else None
        title = notes.get(TITLE) if isinstance(notes, dict) else None
        digest = _DIGEST.fullmatch(str(each.get("digest"))) if title else None
        size = each.get("size") if title else None
        if not isinstance(title, str) or digest is None or not isinstance(size, int):
            raise _no_artefact("a layer without a title, a SHA-256 or a size")
        if title in found or size < 0:
            raise _no_artefact("a title twice, or a size below nothing")
        found[title] = (digest[1], size)
    return found


def _no_artefact(found: str) -> WeightsUnfetched:
    return WeightsUnfetched(
        "the registry does not say what files the artefact has",
        found=found,
        accepted=f"a manifest whose layers each have {TITLE}",
        next_step="push the folder as an artefact (oras push does), then run it again",
    )
