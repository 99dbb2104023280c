"""Make a Mixtral of 9 million random weights as a GGUF file, for llama.cpp and Ollama.

Its text is noise; its shape (a mixture of experts, Mistral's tokenizer of version 3) is that of the
models this project is for. The tokenizer comes out of the `mistral_common` package. `markers` says
which tokens of it the file names as those of fill in the middle: llama.cpp's `/infill` wants three.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

TOKENIZER = "mistral_instruct_tokenizer_240323.model.v3"
MARKERS: Mapping[str, str] = MappingProxyType(
    {"pre": "[PREFIX]", "suf": "[SUFFIX]", "mid": "[MIDDLE]"}
)
HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, EXPERTS, USED = 128, 2, 4, 2, 256, 8, 2
CONTEXT = 4096
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def write(out: Path, markers: Mapping[str, str] = MARKERS, *, pools: bool = False) -> Path:
    """Write the file; the same arguments give the same weights. `pools`: as one of vectors."""
    import gguf
    import sentencepiece

    tokens = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer()))
    writer = gguf.GGUFWriter(str(out), "llama")
    writer.add_name("tiny-mixtral")
    _measures(writer, tokens.vocab_size())
    _vocabulary(writer, tokens)
    if pools:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    for name, text in markers.items():
        writer.add_uint32(f"tokenizer.ggml.fim_{name}_token_id", tokens.piece_to_id(text))
    _weights(writer, tokens.vocab_size())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def tokenizer() -> Path:
    """The file of the tokenizer, inside the installed package."""
    spec = find_spec("mistral_common")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / TOKENIZER


def _measures(writer: Any, vocabulary: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(1)  # mostly 16 bit floats


def _vocabulary(writer: Any, tokens: Any) -> None:
    from gguf import TokenType

    def kind(i: int) -> int:
        if tokens.is_unknown(i):
            return TokenType.UNKNOWN
        if tokens.is_control(i):
            return TokenType.CONTROL
        return TokenType.BYTE if tokens.is_byte(i) else TokenType.NORMAL

    every = range(tokens.vocab_size())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([tokens.id_to_piece(i).encode() for i in every])
    writer.add_token_scores([tokens.get_score(i) for i in every])
    writer.add_token_types([kind(i) for i in every])
    writer.add_bos_token_id(tokens.bos_id())
    writer.add_eos_token_id(tokens.eos_id())
    writer.add_unk_token_id(tokens.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)


def _weights(writer: Any, vocabulary: int) -> None:
    import numpy as np

    chance = np.random.default_rng(20_261_125)

    def drawn(name: str, *shape: int, kind: Any = np.float16) -> None:
        writer.add_tensor(name, (chance.standard_normal(shape) * 0.05).astype(kind))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(HIDDEN, np.float32))

    head_dim = HIDDEN // HEADS
    drawn("token_embd.weight", vocabulary, HIDDEN)
    ones("output_norm.weight")
    drawn("output.weight", vocabulary, HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        ones(block + "attn_norm.weight")
        ones(block + "ffn_norm.weight")
        drawn(block + "attn_q.weight", HEADS * head_dim, HIDDEN)
        drawn(block + "attn_k.weight", KV_HEADS * head_dim, HIDDEN)
        drawn(block + "attn_v.weight", KV_HEADS * head_dim, HIDDEN)
        drawn(block + "attn_output.weight", HIDDEN, HEADS * head_dim)
        drawn(block + "ffn_gate_inp.weight", EXPERTS, HIDDEN, kind=np.float32)
        drawn(block + "ffn_gate_exps.weight", EXPERTS, FEED_FORWARD, HIDDEN)
        drawn(block + "ffn_up_exps.weight", EXPERTS, FEED_FORWARD, HIDDEN)
        drawn(block + "ffn_down_exps.weight", EXPERTS, HIDDEN, FEED_FORWARD)
