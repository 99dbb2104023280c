"""Read config.json, as the Hugging Face library writes it, and params.json, as Mistral does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sovereign.sizing.found import Found
from sovereign.sizing.reading.bounds import (
    CONFIG_MAX_BYTES,
    Figures,
    completed,
    experts_own_width,
    figures,
    json_object,
    number,
    refuse,
)

_HF = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden",
    "vocab_size": "vocabulary",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "feed_forward",
    "sliding_window": "sliding_window",
    "num_local_experts": "experts",
    "n_routed_experts": "experts",
    "num_experts": "experts",
    "num_experts_per_tok": "experts_per_token",
    "n_shared_experts": "shared_experts",
    "moe_intermediate_size": "expert_feed_forward",
    "first_k_dense_replace": "dense_layers",
    "q_lora_rank": "q_lora_rank",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_dim",
    "qk_rope_head_dim": "qk_rope_dim",
    "v_head_dim": "v_head_dim",
}
_MAMBA = {
    "num_heads": "heads",
    "state_size": "state_size",
    "n_groups": "state_groups",
    "conv_kernel": "state_convolution",
}
_PARAMS = {
    "n_layers": "layers",
    "dim": "hidden",
    "vocab_size": "vocabulary",
    "n_heads": "heads",
    "n_kv_heads": "kv_heads",
    "head_dim": "head_dim",
    "hidden_dim": "feed_forward",
    "sliding_window": "sliding_window",
    "q_lora_rank": "q_lora_rank",
    "kv_lora_rank": "kv_lora_rank",
    "qk_nope_head_dim": "qk_nope_dim",
    "qk_rope_head_dim": "qk_rope_dim",
    "v_head_dim": "v_head_dim",
}
_PARAMS_MOE = {
    "num_experts": "experts",
    "num_experts_per_tok": "experts_per_token",
    "num_shared_experts": "shared_experts",
    "expert_hidden_dim": "expert_feed_forward",
    "first_k_dense_replace": "dense_layers",
}


def config_json(path: Path) -> Found:
    """Of a model that sees, the part about text is read.

    Raises:
        BadInput: it is no JSON object, too large, or a number in it cannot be.
    """
    whole = json_object(path, _bounded(path))
    inner = whole.get("text_config")
    text = {**whole, **inner} if isinstance(inner, dict) else whole
    found = experts_own_width(figures(path, text, _HF))
    if text.get("state_size"):
        found |= _mamba(path, text)
    tied = text.get("tie_word_embeddings")
    if isinstance(tied, bool):
        found["tied_embeddings"] = tied
    context = number(path, "max_position_embeddings", text.get("max_position_embeddings"))
    return Found((path.name,), completed(found), context=context)


def _mamba(path: Path, text: Mapping[str, Any]) -> Figures:
    """Mamba 2 names its inner width by how much wider than the blocks it is."""
    found = figures(path, text, _MAMBA)
    wide = (number(path, "expand", text.get("expand")) or 2) * (text.get("hidden_size") or 0)
    return found | {"state_inner": wide, "kv_heads": 0}


def params_json(path: Path) -> Found:
    """Experts stand in an object of their own there.

    Raises:
        BadInput: as in `config_json`.
    """
    whole = json_object(path, _bounded(path))
    moe = whole.get("moe")
    found = figures(path, whole, _PARAMS)
    if isinstance(moe, dict):
        found = experts_own_width(found | figures(path, moe, _PARAMS_MOE))
    tied = whole.get("tied_embeddings")
    if isinstance(tied, bool):
        found["tied_embeddings"] = tied
    wanted = whole.get("max_position_embeddings", whole.get("max_seq_len"))
    return Found((path.name,), completed(found), context=number(path, "context", wanted))


def _bounded(path: Path) -> bytes:
    size = path.stat().st_size
    if size > CONFIG_MAX_BYTES:
        refuse(path, f"{size} bytes", f"at most {CONFIG_MAX_BYTES}")
    return path.read_bytes()
