"""Headers of weights, true and hostile. Every file here is made by the test."""

import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.engines.llamacpp import packaged_model
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture
from sovereign.sizing.found import Found, believed, disagreements, own_format
from sovereign.sizing.memory import weights
from sovereign.sizing.parameters import total
from sovereign.sizing.reading import read

Of = Callable[[str], Architecture]

MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
PARAMS: dict[str, Any] = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "vocab_size": 32000,
    "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}
LATENT: dict[str, Any] = {
    "text_config": {
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "kv_lora_rank": 256,
        "q_lora_rank": 1024,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 128,
        "num_experts_per_tok": 4,
        "n_shared_experts": 1,
        "moe_intermediate_size": 2048,
        "intermediate_size": 12288,
        "first_k_dense_replace": 0,
        "vocab_size": 131072,
        "max_position_embeddings": 1048576,
    },
    "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24},
}


def put(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def safetensors(path: Path, header: Any, data: int, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data))
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "BF16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(("name", "value"), [("config.json", MIXTRAL), ("params.json", PARAMS)])
def test_both_kinds_of_config_say_what_the_table_says(
    name: str, value: Any, tmp_path: Path, architecture: Of
) -> None:
    """Two spellings of one model; the table is checked by the file an engine will load."""
    put(tmp_path, name, value)
    found = read(tmp_path)
    assert disagreements(architecture("mixtral-8x7b"), found, 32768) == ()
    assert total(believed(found, None)) == total(architecture("mixtral-8x7b"))


def test_a_latent_cache_is_read_from_inside_a_model_that_sees(
    tmp_path: Path, architecture: Of
) -> None:
    """Small 4 keeps its text model in a part of its own; kv heads mean nothing there."""
    put(tmp_path, "config.json", LATENT)
    found = read(tmp_path)
    assert disagreements(architecture("mistral-small-4"), found) == ()
    assert "kv_heads" not in found.figures


def test_a_disagreement_is_named_and_the_file_is_believed(tmp_path: Path, architecture: Of) -> None:
    """The table may be wrong, or the file is another model."""
    put(tmp_path, "config.json", MIXTRAL | {"num_hidden_layers": 16, "vocab_size": 32768})
    table = architecture("mixtral-8x7b")
    found = read(tmp_path)
    assert [(d.figure, d.table, d.file) for d in disagreements(table, found)] == [
        ("layers", 32, 16),
        ("vocabulary", 32000, 32768),
    ]
    assert believed(found, table).layers == 16


def test_a_state_is_read_from_its_own_names(tmp_path: Path, architecture: Of) -> None:
    """Codestral Mamba has no attention, and other words for what it has."""
    mamba = {
        "model_type": "mamba2",
        "num_heads": 128,
        "head_dim": 64,
        "vocab_size": 32768,
        "hidden_size": 4096,
        "state_size": 128,
        "num_hidden_layers": 64,
        "conv_kernel": 4,
        "expand": 2,
        "n_groups": 8,
        "tie_word_embeddings": False,
    }
    put(tmp_path, "config.json", mamba)
    assert disagreements(architecture("codestral-mamba"), read(tmp_path)) == ()
    assert total(believed(read(tmp_path), None)) == 7_285_403_648


def test_a_config_and_tensors_that_do_not_add_up_are_told_apart(tmp_path: Path) -> None:
    """A bare folder whose tensors are another model's: the bytes are taken from the tensors."""
    put(tmp_path, "config.json", MIXTRAL)
    safetensors(tmp_path / "model.safetensors", {"a": entry([4, 8], 0, 64)}, 64)
    found = read(tmp_path)
    (differ,) = disagreements(believed(found, None), found)
    assert (differ.figure, differ.table, differ.file) == ("parameters", 46_702_792_704, 32)


def test_a_window_is_read_as_number_list_or_null(tmp_path: Path) -> None:
    """Mistral writes a list that repeats over the layers."""
    for value, window in ((4096, 4096), ([None, 32768, 32768], 32768), (None, 0)):
        put(tmp_path, "params.json", PARAMS | {"sliding_window": value})
        assert read(tmp_path).figures["sliding_window"] == window


def test_tensors_are_counted_and_shards_added_up(tmp_path: Path) -> None:
    """Scales are no parameters, and a folder that holds the weights twice is counted once."""
    put(tmp_path, "config.json", MIXTRAL)
    safetensors(tmp_path / "model-1.safetensors", {"a": entry([4, 8], 0, 64)}, 64)
    safetensors(
        tmp_path / "model-2.safetensors",
        {
            "__metadata__": {"format": "pt"},
            "b": entry([16], 0, 16, "F8_E4M3"),
            "b_scale": entry([4], 16, 32, "F32"),
        },
        32,
    )
    safetensors(tmp_path / "consolidated.safetensors", {"all": entry([48], 0, 96)}, 96)
    found = read(tmp_path)
    assert (found.parameters, found.weight_bytes) == (48, 96)
    assert found.by_type == {"BF16": 64, "F8_E4M3": 16, "F32": 16}


def test_packed_types_leave_the_count_unknown_and_the_bytes_as_they_are(
    tmp_path: Path, architecture: Of
) -> None:
    """Eight numbers of 4 bits in one of 32 would be counted as one."""
    path = safetensors(tmp_path / "x.safetensors", {"a": entry([4], 0, 16, "I32")}, 16)
    found = read(path)
    assert (found.parameters, found.weight_bytes) == (None, 16)
    a = architecture("smollm2")
    fmt = own_format(found, a)
    assert fmt is not None
    assert weights(a, fmt).likely == pytest.approx(16)
    assert own_format(Found(("config.json",)), a) is None


def test_an_index_gives_the_size_where_the_files_are_elsewhere(tmp_path: Path) -> None:
    """The first thing one downloads; a shard that is missing later is named."""
    put(tmp_path, "config.json", MIXTRAL)
    index = {"metadata": {"total_size": 93405585408}, "weight_map": {"a": "model-1.safetensors"}}
    put(tmp_path, "model.safetensors.index.json", index)
    assert read(tmp_path).weight_bytes == 2 * 46_702_792_704
    safetensors(tmp_path / "model-2.safetensors", {"a": entry([4], 0, 8)}, 8)
    with pytest.raises(BadInput) as refused:
        read(tmp_path)
    assert "model-1.safetensors is not there" in refused.value.found


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ({"a": entry([4], 0, 8)}, 8, 2**63),
        ({"a": entry([4], 0, 8)}, 8, 10**8),
        ({"a": entry([2**40, 2**40], 0, 8)}, 8, None),
        ({"a": entry([4], 0, 8), "b": entry([4], 4, 12)}, 12, None),
        ({"a": entry([4], 0, 8), "b": entry([4], 16, 24)}, 24, None),
        ({"a": entry([4], 0, 8)}, 9, None),
        ({"a": entry([4], 0, 8)}, 7, None),
        ({"a": entry([4], 0, 9)}, 9, None),
        ({"a": entry([4], 8, 0)}, 8, None),
        ({"a": entry([-4], 0, 8)}, 8, None),
        ({"a": entry([4], 0, 8, "F99")}, 8, None),
        ({"a": entry([1] * 9, 0, 2)}, 2, None),
        ({"a": {"dtype": "BF16", "shape": 4, "data_offsets": [0, 8]}}, 8, None),
        ({"a": {"dtype": [], "shape": [4], "data_offsets": [0, 8]}}, 8, None),
        ({"a": {"dtype": "BF16", "shape": [4.0], "data_offsets": [0, 8]}}, 8, None),
        ({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [True, 8]}}, 8, None),
        ({"a": 1}, 0, None),
        (b'{"a": 1, "a": 1}', 0, None),
        (b"[]", 0, None),
        (b"\xff\xfe", 0, None),
        (b"[" * 100_000, 0, None),
        (b'{"a": ' + b"9" * 9000 + b"}", 0, None),
        (b"", 0, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_safetensors_header_is_refused(
    header: Any, data: int, length: int | None, tmp_path: Path
) -> None:
    """Sizes that overflow, tensors over each other, numbers that are none: before any engine."""
    path = safetensors(tmp_path / "x.safetensors", header, data, length)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert refused.value.accepted


@pytest.mark.parametrize(
    "value",
    [
        MIXTRAL | {"num_hidden_layers": 10**18},
        MIXTRAL | {"num_hidden_layers": -1},
        MIXTRAL | {"num_hidden_layers": "32"},
        MIXTRAL | {"num_hidden_layers": 32.5},
        MIXTRAL | {"num_hidden_layers": 0},
        MIXTRAL | {"vocab_size": 2**31},
        MIXTRAL | {"num_experts_per_tok": 9},
        MIXTRAL | {"num_key_value_heads": 5},
        {"vocab_size": 1},
        "{}",
        "[1]",
        "{",
        '{"vocab_size": NaN}',
    ],
    ids=lambda value: str(value)[-60:],
)
def test_a_config_that_cannot_be_is_refused(value: Any, tmp_path: Path) -> None:
    """A memory figure out of such a file would be nonsense with two digits."""
    put(tmp_path, "config.json", value)
    with pytest.raises(BadInput):
        believed(read(tmp_path), None)


def test_a_config_too_large_is_not_read(tmp_path: Path) -> None:
    """A file of gigabytes must not fill the memory of who looks at it."""
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(5 * 1024**2)
    with pytest.raises(BadInput, match=r"config\.json"):
        read(tmp_path)


def test_what_is_no_weights_is_refused_by_what_is_accepted(tmp_path: Path) -> None:
    """A pickle is not opened at all."""
    (tmp_path / "model.pt").write_bytes(b"\x80\x02}q\x00.")
    for path in (tmp_path / "model.pt", tmp_path / "absent", tmp_path):
        with pytest.raises(BadInput) as refused:
            read(path)
        assert "GGUF" in refused.value.accepted


# --- GGUF ---


def text(said: str) -> bytes:
    return struct.pack("<Q", len(said)) + said.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def u32(name: str, value: int) -> bytes:
    return key(name, 4, struct.pack("<I", value))


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


def gguf(
    path: Path,
    keys: list[bytes],
    tensors: list[bytes],
    data: int,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> Path:
    many = counts or (len(tensors), len(keys))
    raw = b"GGUF" + struct.pack("<IQQ", version, *many) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(raw + bytes(-len(raw) % 32 + data))
    return path


KEYS = [
    key("general.architecture", 8, text("llama")),
    u32("llama.block_count", 2),
    u32("llama.embedding_length", 64),
    u32("llama.attention.head_count", 4),
    u32("llama.attention.head_count_kv", 2),
    u32("llama.feed_forward_length", 128),
    u32("llama.expert_count", 8),
    u32("llama.expert_used_count", 2),
    u32("llama.context_length", 4096),
    key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text("a") + text("b") + text("c")),
]


def test_the_header_of_the_model_that_comes_with_us_is_what_the_table_says(
    architecture: Of,
) -> None:
    """A real file: 134,515,008 parameters in 96,576,768 bytes."""
    found = read(packaged_model())
    assert disagreements(architecture("smollm2"), found, 8192) == ()
    assert (found.parameters, found.weight_bytes) == (134_515_008, 96_576_768)
    fmt = own_format(found, architecture("smollm2"))
    assert fmt is not None
    assert fmt.engine == "llama.cpp"


def test_experts_and_vocabulary_are_read_from_a_gguf(tmp_path: Path) -> None:
    """Old mixtures have one width, that of the experts; the vocabulary may be only its list."""
    path = gguf(tmp_path / "m.gguf", KEYS, [tensor("a", [64, 2], 8, 0)], 136)
    found = read(path)
    assert found.figures == {
        "layers": 2,
        "hidden": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "experts": 8,
        "experts_per_token": 2,
        "expert_feed_forward": 128,
        "vocabulary": 3,
        "tied_embeddings": True,
    }
    assert (found.parameters, found.weight_bytes, found.context) == (128, 136, 4096)


def test_a_model_in_parts_is_read_whole_by_any_of_them(tmp_path: Path) -> None:
    """Files of hubs end at 50 GB; the first part has the keys, and all have tensors."""
    one = gguf(tmp_path / "m-00001-of-00002.gguf", KEYS, [tensor("a", [64], 0, 0)], 256)
    split = [key("split.no", 2, struct.pack("<H", 1))]
    with pytest.raises(BadInput) as refused:
        read(one)
    assert "m-00002-of-00002.gguf is not there" in refused.value.found
    two = gguf(
        tmp_path / "m-00002-of-00002.gguf", split, [tensor("output.weight", [64], 0, 0)], 256
    )
    for path in (one, two, tmp_path):
        found = read(path)
        assert (found.parameters, found.weight_bytes) == (128, 512)
        assert found.figures["layers"] == 2
        assert found.figures["tied_embeddings"] is False
    gguf(tmp_path / "other.gguf", KEYS, [], 0)
    with pytest.raises(BadInput, match="nothing to read"):
        read(tmp_path)  # two models in one folder: which of them is meant?


@pytest.mark.parametrize(
    ("keys", "tensors", "data", "more"),
    [
        (KEYS, [], 0, {"version": 1}),
        (KEYS, [], 0, {"counts": (2**40, len(KEYS))}),
        (KEYS, [], 0, {"counts": (0, 2**40)}),
        (KEYS, [], 0, {"counts": (5, len(KEYS))}),
        ([key("x", 8, struct.pack("<Q", 2**62))], [], 0, {}),
        ([key("x", 9, struct.pack("<IQ", 4, 2**60))], [], 0, {}),
        ([key("x", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1))], [], 0, {}),
        ([key("x", 77, b"")], [], 0, {}),
        (KEYS, [tensor("a", [2**33, 2**33], 0, 0)], 8, {}),
        (KEYS, [tensor("a", [64], 99, 0)], 64, {}),
        (KEYS, [tensor("a", [33], 2, 0)], 64, {}),
        (KEYS, [tensor("a", [64], 0, 0), tensor("b", [64], 0, 128)], 512, {}),
        (KEYS, [tensor("a", [64], 0, 0)], 255, {}),
        (KEYS, [tensor("a", [64], 0, 2**63)], 256, {}),
        (KEYS, [tensor("a", [1] * 9, 0, 0)], 256, {}),
        ([*KEYS, u32("general.alignment", 0)], [tensor("a", [64], 0, 0)], 256, {}),
        ([*KEYS, u32("llama.block_count", 2**31 + 1)], [], 0, {}),
    ],
)
def test_a_hostile_gguf_header_is_refused(
    keys: list[bytes], tensors: list[bytes], data: int, more: dict[str, Any], tmp_path: Path
) -> None:
    """Lengths beyond the file, arrays of arrays, tensors over each other or behind the end."""
    path = gguf(tmp_path / "m.gguf", keys, tensors, data, **more)
    with pytest.raises(BadInput):
        read(path)


def test_a_gguf_cut_anywhere_is_refused_and_never_worse(tmp_path: Path) -> None:
    """A download that stopped half way ends in a sentence, wherever it stopped."""
    whole = gguf(tmp_path / "m.gguf", KEYS, [tensor("a", [64], 0, 0)], 256).read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(4, len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadInput):
            read(cut)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["gguf", "safetensors", "config"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_any_bytes_are_read_or_refused_and_never_anything_else(
    kind: str, edits: list[tuple[int, int]]
) -> None:
    """Whatever a file of strangers holds, it ends in figures or in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "gguf":
            path = gguf(Path(folder) / "m.gguf", KEYS, [tensor("a", [64, 2], 8, 0)], 136)
        elif kind == "safetensors":
            header = {"a": entry([4, 8], 0, 64), "b": entry([2], 64, 68)}
            path = safetensors(Path(folder) / "m.safetensors", header, 68)
        else:
            path = put(Path(folder), "config.json", MIXTRAL)
        raw = bytearray(path.read_bytes())
        for at, value in edits:
            raw[at % len(raw)] = value
        path.write_bytes(raw)
        with suppress(BadInput):
            assert total(believed(read(path), None)) > 0


def test_the_table_knows_a_vision_tower_that_a_gguf_does_not_hold(
    policy: Policy, architecture: Of, tmp_path: Path
) -> None:
    """llama.cpp keeps it in a file of its own; that is no disagreement."""
    a = architecture("mistral-small-3.2")
    text_only = total(a) - a.vision_parameters_m * 1_000_000
    rest = [tensor("a", [text_only], 24, 0)]
    path = tmp_path / "m.gguf"
    gguf(path, [key("general.architecture", 8, text("llama"))], rest, 0)
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + text_only)  # a hole: it takes no space on the disk
    found = read(path)
    assert found.parameters == text_only
    assert "parameters" not in {d.figure for d in disagreements(a, found)}
