"""What an engine is to the rest of the project: eleven verbs and the values they take and give.

This module decides nothing. It names the values that cross the border between the engines and
their callers (`sovereign serve engine`, the gateway, the controller, a playbook), and the
`Engine` protocol that one class per engine file fulfils.

  find                  where the program is, or `EngineMissing` with how to get it
  prepare               once before a start: turn weights into what the program wants on disk
  command, environment  pure: how the process is started
  required_environment  pure: what must read back from the running process
  probe                 ask for one token, or one vector; the only health we believe
  chat, fim, complete, embed
                        pure: a client's body in, the engine's body out

Rules that always hold:
  * An engine listens where it is told and nowhere else, and sends nothing outwards.
  * Nothing of a conversation reaches an engine's output.
  * The client's choice of model, salt and subject never reaches the engine: the caller's
    `ChatContext` says them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sovereign.errors import BadInput

Dialect = Literal["mistral", "openai"]
Answers = Literal["chat", "texts", "infill", "generate", "vectors"]
"""The shapes in which engines answer: a chat; OpenAI's text completion; llama.cpp's own; Ollama's
own; OpenAI's embeddings. `said.py` reads the three of one text."""

SLOTS = 2
"""Conversations at a time for an engine that has a fixed number of slots. It is started with one
more, which is the probe's."""

_SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@dataclass(frozen=True, slots=True)
class Found:
    """An engine program on this machine. `version` is what its package says of itself.

    `library` is one that the program needs and the system lacks; None when it lacks none.
    """

    program: Path
    version: str
    library: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Everything that starts one engine process with one model.

    Args:
        found: the program, as `find` gave it.
        model: a GGUF file (llama.cpp, Ollama) or a folder of safetensors (vLLM).
        served_name: the name under which the engine answers; a client's name is replaced by it.
        host: address to listen on. Whether it may be other than loopback is not decided here.
        port: 1 to 65535.
        context: tokens one conversation may span, prompt and answer together.
        slots: conversations answered at the same time, beside a probe; the others wait (vLLM
            batches instead).
        state_dir: a folder of this engine's own. Its HOME, caches and prepared models live there.
        embeds: the model makes vectors of texts, and nothing else is asked of it.
        thinks: the model reasons before it answers, and its thoughts are to be told apart.
        gpus: cards to split every matrix over. llama.cpp and Ollama use those they find.
    """

    found: Found
    model: Path
    served_name: str
    host: str
    port: int
    context: int
    state_dir: Path
    slots: int = SLOTS
    embeds: bool = False
    thinks: bool = False
    gpus: int = 1

    def __post_init__(self) -> None:
        """Refuse what would be read as an option, or not at all, by the program started."""
        if not _SERVED_NAME.fullmatch(self.served_name):
            raise BadInput(
                "a model cannot be served under this name",
                found=repr(self.served_name),
                accepted="letters, digits, . _ : / - and a letter or digit first, at most 128",
            )
        if not 0 < self.port < 65536:
            raise BadInput("not a port", found=str(self.port), accepted="1 to 65535")
        if self.context < 1 or self.slots < 1:
            raise BadInput(
                "an engine needs room for a token and a conversation",
                found=f"context {self.context}, slots {self.slots}",
                accepted="at least 1 each",
            )

    @property
    def base_url(self) -> str:
        """Where the started engine answers; no path, no trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EnvRule:
    """One variable of the running engine's own process. `must_be` None means it must be unset."""

    name: str
    must_be: str | None
    because: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of asking for one token.

    `reason` is empty when `ok`, else one of the words in `sovereign.engines.probe.REASONS`, with a
    status code behind `status`. `model` is the name the engine answered as, empty if none.
    Nothing the engine generated is kept.
    """

    ok: bool
    latency_ms: int
    reason: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatContext:
    """What the gateway, not the client, says about a call.

    `tenant_salt` separates prefix caches: one opaque string a tenant, up to 128 letters and
    digits, never the tenant's name. `thinks` is True for a model that reasons before it answers:
    only such a one is told how much, and what it thought before. `calls` is False for a model that
    was not taught to call tools.
    """

    served_name: str
    dialect: Dialect
    tenant_salt: str
    thinks: bool = False
    calls: bool = True


@dataclass(frozen=True, slots=True)
class Upstream:
    """The request to send to the engine. `dropped` names the client's fields that had no effect;
    `answers` is the shape in which the engine will answer it."""

    path: str
    body: dict[str, Any]
    dropped: tuple[str, ...] = field(default=())
    answers: Answers = "chat"
    begun: str = ""
    """The beginning of an answer that the client gave and expects to see again, where the engine
    only says what follows it."""
    gathered: bool = False
    """It asks for a stream, out of which a whole answer is to be put together."""


class Engine(Protocol):
    """One inference engine. Instances hold no state; every verb may be called from any thread."""

    @property
    def name(self) -> str:
        """The word in settings, records and `ENGINES`."""
        ...

    @property
    def turns(self) -> int | None:
        """Conversations the gateway may have it answer at a time; None for one that batches."""
        ...

    @property
    def routes_allowed(self) -> frozenset[str]:
        """The engine's paths that the gateway may call. Everything else it serves stays shut."""
        ...

    @property
    def ends_with_a_stream(self) -> bool:
        """True when it hangs up after each streamed answer, whatever its headers say: a request
        that is sent over such a connection is lost."""
        ...

    @property
    def streams_only(self) -> bool:
        """Only while it streams does it notice at once that nobody waits any more, so that whole
        answers are asked of it as streams (`gathered.py`)."""
        ...

    @property
    def takes_ids(self) -> bool:
        """A prompt may be given as token ids, so that no text can be mistaken for a marker."""
        ...

    def find(self) -> Found:
        """Return the program on this machine.

        Raises:
            EngineMissing: it is not here; `next_step` says how to get it. Nothing was started.
        """
        ...

    def prepare(self, spec: LaunchSpec) -> None:
        """Make `spec.state_dir` ready for a start. Repeating it changes nothing; nothing is
        left running.

        Raises:
            BadInput: the weights are not of a kind this engine can serve.
            EngineUnhealthy: the program refused them.
        """
        ...

    def command(self, spec: LaunchSpec) -> list[str]:
        """Return the argument list that starts the engine; the first word is an absolute path."""
        ...

    def environment(self, spec: LaunchSpec) -> dict[str, str]:
        """Return the engine's whole environment. Nothing of the caller's own is added to it."""
        ...

    def required_environment(self) -> tuple[EnvRule, ...]:
        """Return what must read back from /proc/PID/environ of the engine's own process.

        Not of the shell, supervisor or unit that started it: a wrapper may have changed it.
        """
        ...

    def probe(self, base_url: str, model: str, timeout_s: float) -> Probe:
        """Ask for one token, or for one vector of a model that only makes those.

        Never raises for what the engine does; see `Probe.reason`.
        """
        ...

    def chat(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        """Translate a client's parsed chat body into this engine's. `body` is not changed."""
        ...

    def fim(self, body: Mapping[str, Any], ctx: ChatContext, ids: Sequence[int]) -> Upstream:
        """Translate a client's parsed body of a fill in the middle. `body` is not changed.

        Args:
            ids: the whole prompt as token ids, markers and all; empty where the facts name no
                tokenizer, or this engine does not take ids.

        Raises:
            BadInput: this engine cannot fill in without `ids`.
        """
        ...

    def complete(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        """Translate a client's parsed body of a text to go on from. `body` is not changed."""
        ...

    def embed(self, body: Mapping[str, Any], ctx: ChatContext) -> Upstream:
        """Translate a client's parsed body of texts to make vectors of. `body` is not changed."""
        ...

    def model_digest(self, path: Path) -> str:
        """Return `sha256:…` over the weights at `path`, a file or a folder."""
        ...
