"""Make a Mixtral of 10 million random weights, which vLLM serves on a CPU in seconds.

Its text is noise; its shape (a mixture of experts, Mistral's tokenizer, safetensors) is that of
the models this project is for. The tokenizer comes out of the `mistral_common` package. Needs
torch, so a test runs it as a script with the Python beside vLLM:

    PYTHON -I tests/tools/tiny_mixtral.py OUT [--hidden 128] [--heads 4] [--kv-heads 2]

`--hidden 64` makes the fixture "healthy but broken": heads of 16, which vLLM's attention on a CPU
accepts at the start and cannot compute at the first request.
"""

import argparse
import shutil
from pathlib import Path

TOKENIZER = "mistral_instruct_tokenizer_240323.model.v3"
VOCABULARY = 32_768


def main() -> None:
    """Write a model folder at the path given; the same arguments give the same weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    asked = parser.parse_args()
    write(asked.out, asked.hidden, asked.heads, asked.kv_heads)


def write(out: Path, hidden: int, heads: int, kv_heads: int) -> None:
    """Draw the weights and save them with their tokenizer."""
    import mistral_common
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(20_261_124)
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
        sliding_window=None,
        bos_token_id=1,
        eos_token_id=2,
        dtype=torch.bfloat16,
    )
    MixtralForCausalLM(config).to(torch.bfloat16).save_pretrained(out)
    tokenizer = Path(mistral_common.__file__).parent / "data" / TOKENIZER
    shutil.copy(tokenizer, out / "tokenizer.model.v3")


if __name__ == "__main__":
    main()
