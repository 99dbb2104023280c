"""The token ids of a fill in the middle, by Mistral's own tokenizers.

`[SUFFIX]` and `[PREFIX]` are control tokens. Written as text they would be taken for text by one
engine, and the same words in somebody's code for control tokens by the next; as ids they are what
they are, and so is the code. The tokenizers come out of the installed `mistral_common`: nothing is
fetched, whatever the environment says.

Loading one takes 0.1 to 3 s, and encoding about 0.3 ms for 1 KB. Both are computation only; callers
in an event loop run the first, and long texts, in a thread, where most of it lets others run.
"""

import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sovereign.errors import BadInput

if TYPE_CHECKING:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

TOKENIZERS = {
    "v2-spm": "mistral_instruct_tokenizer_240216.model.v2",
    "v3-spm": "mistral_instruct_tokenizer_240323.model.v3",
    "v3-tekken": "tekken_240718.json",
    "v7-spm": "mistral_instruct_tokenizer_241114.model.v7",
}
"""What `fim_tokenizer` in the facts may say of a model, and the file inside `mistral_common`. The
second has no ids for the markers and is refused; a fact is a fact."""

MARKERS = ("[SUFFIX]", "[PREFIX]")
_UNKNOWN = 0
_loading = threading.Lock()
_loaded: set[str] = set()


def is_loaded(name: str) -> bool:
    """True when `encoded` has nothing to load for this tokenizer any more."""
    return name in _loaded


def encoded(name: str, prompt: str, suffix: str) -> tuple[int, ...]:
    """Return `BOS [SUFFIX] suffix [PREFIX] prompt` as ids; an empty suffix leaves out its text.

    Raises:
        BadInput: this tokenizer has no ids for the markers, so a model that uses it cannot fill in.
    """
    from mistral_common.protocol.fim.request import FIMRequest

    with _loading:  # SentencePiece and tiktoken may be shared; their loading may not be done twice
        tokenizer = _tokenizer(name)
        _loaded.add(name)
    request = FIMRequest(prompt=prompt, suffix=suffix or None)
    return tuple(tokenizer.encode_fim(request).tokens)


@cache
def _tokenizer(name: str) -> "MistralTokenizer[Any, Any, Any, Any, Any]":
    """Load one out of the package, and refuse it when a marker has the id of the unknown."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.from_file(str(_file(name)))
    known = tokenizer.instruct_tokenizer.tokenizer
    lacking = [marker for marker in MARKERS if known.get_special_token(marker) == _UNKNOWN]
    if lacking:
        raise BadInput(
            f"the tokenizer {name} cannot mark what is to be filled in",
            found=f"{' and '.join(lacking)} have the id of the unknown token",
            accepted="a tokenizer from v3 on; see fim_tokenizer in policies/facts/models.yaml",
        )
    return tokenizer


def _file(name: str) -> Path:
    spec = find_spec("mistral_common")
    if name not in TOKENIZERS or spec is None or not spec.submodule_search_locations:
        raise BadInput(
            "no such tokenizer is installed",
            found=name,
            accepted=", ".join(TOKENIZERS),
        )
    return Path(spec.submodule_search_locations[0]) / "data" / TOKENIZERS[name]
