"""Build somebody else's witness, log and verifier of cosignatures into the cache.

`witness/main.go` is a few lines around other people's Go modules: the formats module signs and
verifies cosignatures (Ed25519 and ML-DSA-44), the merkle module checks proofs, and Tessera
brings a log that publishes only what a witness has cosigned. None shares a line with ours.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools import tessera
from tests.tools.cached import built

VERSION = "formats-0.1.1-tessera-1.0.4-b"
SOURCE = Path(__file__).with_name("witness")
_BUILD_TAKES_AT_MOST_S = 900
_RUN_TAKES_AT_MOST_S = 120


def missing() -> list[str]:
    """Return what stands in the way of a build here, empty if nothing."""
    return tessera.missing()


def program() -> Path:
    """Return the path of the program, building it if it is not in the cache."""
    return built("witness-peers", VERSION, _build) / "peers"


def cosign(skey: str, checkpoint: bytes) -> bytes:
    """The checkpoint with one more line, signed by the formats module."""
    return _run(["cosign", skey], checkpoint)


def verify(vkey: str, checkpoint: bytes) -> int | None:
    """The time of the key's cosignature as the formats module sees it, None when it sees none."""
    done = _started(["verify", vkey], checkpoint)
    return int(done.stdout) if done.returncode == 0 else None


def satisfied(policy: Path, checkpoint: bytes) -> bool:
    """Whether a policy file (tlog-policy) is content with a cosigned checkpoint."""
    return _started(["satisfied", str(policy)], checkpoint).returncode == 0


def append(folder: Path, skey: str, count: int, witness: str, url: str) -> bytes:
    """Add entries to a Tessera log; return the checkpoint it published with the cosignature."""
    return _run(["log", str(folder), skey, str(count), witness, url], b"")


@contextmanager
def serving(skey: str, log_vkey: str) -> Iterator[str]:
    """A witness in Go; gives its URL."""
    words = [str(program()), "serve", skey, log_vkey]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _run(words: list[str], given: bytes) -> bytes:
    done = _started(words, given)
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def _started(words: list[str], given: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [str(program()), *words],
        input=given,
        check=False,
        capture_output=True,
        timeout=_RUN_TAKES_AT_MOST_S,
    )


def _build(folder: Path, _place: Path) -> None:
    ours = Path(sys.executable).with_name("go")
    go = str(ours) if ours.is_file() else (shutil.which("go") or "")
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(shutil.copytree(SOURCE, Path(workshop) / "source"))
        done = subprocess.run(
            [go, "build", "-mod=readonly", "-trimpath", "-o", str(folder / "peers"), "."],
            cwd=work,
            env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            check=False,
            capture_output=True,
            text=True,
            timeout=_BUILD_TAKES_AT_MOST_S,
        )
    if done.returncode != 0:
        raise RuntimeError(f"go build failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    print(program())
