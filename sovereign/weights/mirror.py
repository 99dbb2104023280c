"""A set below a URL, its manifest beside it as `FOLDER.sha256`: a web server, or a bucket.

A bucket is asked by path (`https://HOST/BUCKET/PREFIX`), and every question is signed (AWS
Signature Version 4, which the object stores in the EEA speak) when the environment has a key.
Stored files are asked for with an unsigned payload, because there is none.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from sovereign.errors import BadInput
from sovereign.weights.asking import Asker
from sovereign.weights.manifest import MANIFEST_MAX_BYTES, SUFFIX
from sovereign.weights.sources import Opened

KEY, SECRET, SESSION, REGION = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "AWS_REGION",
)
BUCKET_GATE = f"a bucket that is not public is asked with {KEY}, {SECRET} and {REGION}"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class MirrorSource:
    """The folder below `url`; what `asker` may not ask for is refused."""

    url: str
    place: str
    label: str
    asker: Asker

    def manifest(self) -> bytes:
        """The file beside the folder.

        Raises:
            WeightsUnfetched: there is none.
        """
        return self.asker.all(f"{self.url.rstrip('/')}{SUFFIX}", MANIFEST_MAX_BYTES)

    def size(self, name: str) -> int | None:
        """As the mirror says."""
        return self.asker.size(self._at(name))

    def open(self, name: str, start: int) -> Opened:
        """The bytes from `start` on, or from the beginning."""
        return self.asker.open(self._at(name), start)

    def _at(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{quote(name)}"


@dataclass(frozen=True, slots=True)
class BucketKey:
    """What a bucket knows us by."""

    key: str
    secret: str
    region: str
    session: str = ""

    def sign(self, method: str, url: str, now: datetime) -> dict[str, str]:
        """The headers that sign a question without a body, at `now`."""
        parts = urlsplit(url)
        headers = {
            "host": parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80"),
            "x-amz-content-sha256": _EMPTY,
            "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
            **({"x-amz-security-token": self.session} if self.session else {}),
        }
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        path = quote(parts.path, safe="/%-._~") or "/"
        whole = f"{method}\n{path}\n{parts.query}\n{lines}\n{names}\n{_EMPTY}"
        scope = f"{now:%Y%m%d}/{self.region}/s3/aws4_request"
        hashed = hashlib.sha256(whole.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashed}"
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        said = f"Credential={self.key}/{scope}, SignedHeaders={names}"
        signature = _hmac(key, text).hex()
        del headers["host"]
        return {
            **headers,
            "Authorization": f"AWS4-HMAC-SHA256 {said}, Signature={signature}",
        }


def bucket_asker(
    judge: Callable[[str], object], environment: Mapping[str, str] = os.environ
) -> Asker:
    """Who asks a bucket: with the key of the environment, or without one.

    Raises:
        BadInput: there is a key, and not the rest of it.
    """
    if not environment.get(KEY):
        return Asker(judge, gate=BUCKET_GATE)
    lacking = [name for name in (SECRET, REGION) if not environment.get(name)]
    if lacking:
        raise BadInput(f"{lacking[0]} is not set, and {KEY} is", accepted=BUCKET_GATE)
    known = BucketKey(
        environment[KEY], environment[SECRET], environment[REGION], environment.get(SESSION, "")
    )

    def proof(method: str, url: str) -> dict[str, str]:
        return known.sign(method, url, datetime.now(UTC))

    return Asker(judge, proof, BUCKET_GATE)


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
