"""A mixture of experts as a GGUF file of a few megabytes, with random weights, made in a second.

Its measures are those of no model there is, so that a prediction for it cannot come out of a
table. The vocabulary is bytes and made-up pieces: it is loaded, and says nothing.
"""

from pathlib import Path

import gguf
import numpy as np

HIDDEN, LAYERS, HEADS, KV_HEADS, WIDTH, EXPERTS, USED = 256, 3, 8, 2, 640, 6, 2
VOCABULARY, CONTEXT = 4096, 8192


def write(path: Path) -> Path:
    """Write the file; the same bytes every time."""
    writer = gguf.GGUFWriter(path, "llama")
    _keys(writer)
    _vocabulary(writer)
    _tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _keys(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _vocabulary(writer: gguf.GGUFWriter) -> None:
    special = ["<unk>", "<s>", "</s>"]
    raw = [f"<0x{value:02X}>" for value in range(256)]
    made_up = [f"piece{number}" for number in range(VOCABULARY - len(special) - len(raw))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * len(raw) + [gguf.TokenType.NORMAL] * len(made_up)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*special, *raw, *made_up])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors(writer: gguf.GGUFWriter) -> None:
    draw = np.random.default_rng(20_261_124)

    def put(name: str, *shape: int, kind: type = np.float16) -> None:
        writer.add_tensor(name, (draw.standard_normal(shape) * 0.05).astype(kind))

    put("token_embd.weight", VOCABULARY, HIDDEN)
    put("output_norm.weight", HIDDEN, kind=np.float32)
    put("output.weight", VOCABULARY, HIDDEN)
    narrow = HIDDEN // HEADS * KV_HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            put(f"{block}{norm}.weight", HIDDEN, kind=np.float32)
        put(f"{block}attn_q.weight", HIDDEN, HIDDEN)
        put(f"{block}attn_k.weight", narrow, HIDDEN)
        put(f"{block}attn_v.weight", narrow, HIDDEN)
        put(f"{block}attn_output.weight", HIDDEN, HIDDEN)
        put(f"{block}ffn_gate_inp.weight", EXPERTS, HIDDEN, kind=np.float32)
        put(f"{block}ffn_gate_exps.weight", EXPERTS, WIDTH, HIDDEN)
        put(f"{block}ffn_up_exps.weight", EXPERTS, WIDTH, HIDDEN)
        put(f"{block}ffn_down_exps.weight", EXPERTS, HIDDEN, WIDTH)
