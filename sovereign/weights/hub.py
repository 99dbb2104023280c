"""A repository of a hub at a pinned commit: the HTTP interface that Hugging Face's hub has.

    GET /api/models/OWNER/NAME/tree/COMMIT?recursive=true   what files there are, in pages (`Link`)
    GET /OWNER/NAME/resolve/COMMIT/FILE                      a file; large ones are redirected to a
                                                             store, which is declared like a mirror

A hub has no manifest in our form. It is worked out: the list names the SHA-256 of large files, and
small ones are read, compared with the commit's git object, and hashed. What a set may not consist
of (pickles, modules) is left out, so the manifest of a commit is the same for everybody.

The list is the hub's word. The pin is not, and every byte is hashed against it.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from sovereign.errors import BadInput, WeightsDiffer, WeightsUnfetched
from sovereign.weights.asking import Asker, address_of, body
from sovereign.weights.manifest import FILES_MAX, is_taken
from sovereign.weights.sources import Opened

NAMED_BY = "HF_TOKEN"
"""The variable of the environment with the token that says who asks."""
DEFAULT = "https://huggingface.co"
GATE = f"accept the publisher's terms on the hub, then set {NAMED_BY} to a token that may read it"
PAGES_MAX = 40
PAGE_MAX_BYTES = 16 * 1024 * 1024
SMALL_MAX_BYTES = 64 * 1024 * 1024
"""A file that git itself holds; hubs keep larger ones elsewhere, by SHA-256."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the repository. `sha256` is "" where only git's name for it is known."""

    name: str
    size: int
    sha256: str
    git: str


@dataclass(frozen=True, slots=True)
class HubSource:
    """`repository` (OWNER/NAME) at `commit`, of the hub at `base`."""

    base: str
    repository: str
    commit: str
    place: str
    label: str
    asker: Asker
    _files: dict[str, Listed] = field(default_factory=dict)

    def manifest(self) -> bytes:
        """Worked out from the commit's list; small files are read for it.

        Raises:
            WeightsUnfetched: the hub does not let us have it, or has another idea of a list.
            WeightsDiffer: a small file is not the one of the commit.
        """
        files = self._listed()
        lines = (f"{files[name].sha256 or self._hash(files[name])}  {name}\n" for name in files)
        return "".join(lines).encode()

    def size(self, name: str) -> int | None:
        """As the list says."""
        found = self._listed().get(name)
        return found.size if found else None

    def open(self, name: str, start: int) -> Opened:
        """The bytes from `start` on, from wherever the hub keeps them."""
        return self.asker.open(self._at(name), start)

    def _at(self, name: str) -> str:
        return f"{self.base}/{self.repository}/resolve/{self.commit}/{quote(name)}"

    def _listed(self) -> dict[str, Listed]:
        if not self._files:
            found = [each for page in self._pages() for each in _entries(page)]
            for each in sorted(found, key=lambda each: each.name):
                self._files[each.name] = each
        return self._files

    def _pages(self) -> list[Any]:
        url = f"{self.base}/api/models/{self.repository}/tree/{self.commit}?recursive=true"
        pages: list[Any] = []
        while url:
            if len(pages) == PAGES_MAX:
                raise _no_list("pages without an end")
            answer = self.asker.ask("GET", url)
            following = _NEXT.search(answer.getheader("link", ""))
            raw = b""
            for piece in body(answer):
                raw += piece
                if len(raw) > PAGE_MAX_BYTES:
                    raise _no_list("a page without an end")
            pages.append(_json(raw))
            after = urljoin(url, following[1]) if following else ""
            if after and address_of(after) != address_of(url):
                raise _no_list("a page at another address")
            url = after
        return pages

    def _hash(self, each: Listed) -> str:
        """The SHA-256 of a small file, which is the one that the commit names."""
        if each.size > SMALL_MAX_BYTES:
            raise _no_list("a large file without a SHA-256")
        raw = self.asker.all(self._at(each.name), each.size)
        git = hashlib.sha1(b"blob %d\0%b" % (len(raw), raw), usedforsecurity=False).hexdigest()
        if git != each.git:
            raise WeightsDiffer(
                f"{each.name} is not the file of the commit",
                found=f"git object {git}",
                accepted=each.git,
                next_step="look at the hub, or fetch from another mirror",
            )
        return hashlib.sha256(raw).hexdigest()


def of(given: str, place: str, label: str, asker: Asker) -> HubSource:
    """The source that `https://HOST/OWNER/NAME@COMMIT` names.

    Raises:
        BadInput: it names none, or a branch, which is another thing tomorrow.
    """
    repository, _, commit = urlsplit(given).path.lstrip("/").partition("@")
    if not _REPOSITORY.fullmatch(repository) or not _COMMIT.fullmatch(commit):
        raise BadInput(
            "that names no commit of a hub's repository",
            found=f"{repository}@{commit}"[:120],
            accepted="OWNER/NAME@COMMIT, with all 40 digits: a branch can be moved",
        )
    base = given.partition(f"/{repository}@")[0]
    return HubSource(base, repository, commit, place, label, asker)


def hub_asker(judge: Callable[[str], object], environment: Mapping[str, str] = os.environ) -> Asker:
    """Who asks a hub: with the token of the environment, or without one."""
    token = environment.get(NAMED_BY, "")
    known = {"Authorization": f"Bearer {token}"} if token else {}
    return Asker(judge, lambda _method, _url: known, GATE)


def _entries(page: Any) -> list[Listed]:
    if not isinstance(page, list) or len(page) > FILES_MAX:
        raise _no_list("no list")
    found = []
    for each in page:
        if not isinstance(each, dict) or each.get("type") not in ("file", "directory"):
            raise _no_list("an entry that is none")
        if each["type"] == "file" and is_taken(str(each.get("path"))):
            found.append(_entry(each))
    return found


def _entry(said: dict[str, Any]) -> Listed:
    large, size, git = said.get("lfs"), said.get("size"), said.get("oid")
    sha256 = large.get("oid") if isinstance(large, dict) else ""
    whole = isinstance(size, int) and size >= 0 and isinstance(git, str)
    if not whole or (large and not _SHA256.fullmatch(str(sha256))):
        raise _no_list("a file without size or hash")
    return Listed(str(said["path"]), int(said["size"]), str(sha256 or ""), str(git))


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise _no_list("no JSON") from None


def _no_list(found: str) -> WeightsUnfetched:
    return WeightsUnfetched(
        "the hub does not say what files the commit has",
        found=found,
        next_step="look at the hub, or fetch from another mirror",
    )
