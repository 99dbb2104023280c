"""What a set may consist of, and what may stand in its files."""

import json
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.engines import digest
from sovereign.errors import WeightsUnsafe
from sovereign.supervisor.engine import packaged
from sovereign.weights import contents
from sovereign.weights.manifest import digest_of, parse
from tests.weights.making import CONFIG, TEMPLATE, TENSORS, published, tensors

SHA = "0" * 64


def listed(*names: str) -> bytes:
    return "".join(f"{SHA}  {name}\n" for name in sorted(names)).encode()


WHOLE = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.mark.parametrize(
    "names",
    [
        WHOLE,
        ("params.json", "consolidated.safetensors", "tokenizer.model.v3", "LICENSE"),
        (*WHOLE, "tekken.json", "chat_template.jinja", "README.md", "vocab.json", "merges.txt"),
        ("Mistral-7B.Q4_K_M.gguf",),
        ("deep/er/model-00001-of-00002.gguf",),
    ],
)
def test_what_publishers_of_these_models_ship_is_taken(names: tuple[str, ...]) -> None:
    """A gate that refuses the real thing is switched off."""
    raw = listed(*names)
    assert parse(raw).digest == digest_of(raw)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((*WHOLE, "pytorch_model.bin"), "run as code"),
        ((*WHOLE, "consolidated.00.pth"), "run as code"),
        ((*WHOLE, "model.PT"), "run as code"),
        ((*WHOLE, "modeling_mistral.py"), "run as code"),
        ((*WHOLE, "model.safetensors.pkl"), "run as code"),
        ((*WHOLE, "weights.onnx"), "no engine here reads"),
        ((*WHOLE, "tool"), "no engine here reads"),
        ((*WHOLE, "../escape.json"), "lead elsewhere"),
        ((*WHOLE, "/etc/passwd.json"), "lead elsewhere"),
        ((*WHOLE, "a/../../b.json"), "lead elsewhere"),
        ((*WHOLE, ".hidden.json"), "lead elsewhere"),
        ((*WHOLE, "a\\b.json"), "lead elsewhere"),
        ((*WHOLE, "a.json", "a.json/b.json"), "a file and a folder"),
        (("config.json", "tokenizer.json"), "no weights"),
        (("model.safetensors", "tokenizer.json"), "what network"),
        (("model.safetensors", "config.json"), "tokenizer is not pinned"),
    ],
)
def test_what_could_run_or_lead_elsewhere_or_is_not_whole_is_refused(
    names: tuple[str, ...], said: str
) -> None:
    """Silence means no, for kinds of files too."""
    with pytest.raises(WeightsUnsafe, match=said):
        parse(listed(*names))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"hello\n",
        listed(*WHOLE)[:-1],
        listed(*WHOLE) + b"\n",
        listed(*WHOLE, "z.json") + f"{SHA}  a.json\n".encode(),
        listed("config.json") * 2,
        listed(*WHOLE).replace(b"  config", b" *config"),
        listed(*WHOLE).upper(),
        b"\xff" * 100,
        b"a" * 2_000_000,
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    """One digest must mean one set, so there is one way to write a manifest."""
    with pytest.raises(WeightsUnsafe):
        parse(raw)


def checked(folder: Path) -> str:
    return contents.check(folder, parse(digest.manifest(folder).encode()))


def test_a_good_set_is_taken_and_its_template_named(tmp_path: Path) -> None:
    """The vocabulary may hold any word: a token called `auto_map` is a token."""
    assert checked(published(tmp_path / "mine")).startswith("sha256:")


def test_the_model_that_is_shipped_passes(tmp_path: Path) -> None:
    """A real GGUF file with a real chat template."""
    model = policies.load().models["smollm2-135m-instruct"]
    (tmp_path / "smol.gguf").symlink_to(packaged(model))
    assert checked(tmp_path).startswith("sha256:")


def config(**more: object) -> bytes:
    return json.dumps({**CONFIG, **more}).encode()


def template(text: object) -> bytes:
    return json.dumps({"chat_template": text}).encode()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", config(auto_map={"AutoModel": "modeling.Evil"}), "code of its own"),
        ("config.json", config(text_config={"auto_map": {"AutoModel": "x"}}), "code of its own"),
        (
            "tokenizer_config.json",
            b'{"auto_map": {"AutoTokenizer": ["x", null]}}',
            "code of its own",
        ),
        ("processor_config.json", b'{"trust_remote_code": true}', "code of its own"),
        ("config.json", b"{", "no JSON"),
        ("config.json", b"[" * 100_000, "no JSON"),
        (TENSORS, b"\x80\x02}q\x00.", "cannot be believed"),
        (TENSORS, tensors(100)[:-1], "cannot be believed"),
        (TENSORS, b"\xff" * 64, "cannot be believed"),
        ("model-2.gguf", b"PK\x03\x04" + bytes(64), "nothing was published"),
        ("chat_template.jinja", b"{{ ''.__class__.__mro__ }}", "beyond a conversation"),
        ("chat_template.jinja", b"{%- include '/etc/passwd' %}", "beyond a conversation"),
        ("chat_template.jinja", b"{{ messages | attr('x') }}", "beyond a conversation"),
        ("chat_template.jinja", b"{{ lipsum.x }}", "beyond a conversation"),
        ("chat_template.jinja", b"\xff\xfe", "no text"),
        ("tokenizer_config.json", template("{{ x.__init__ }}"), "beyond a conversation"),
        (
            "tokenizer_config.json",
            template(
                [
                    {"name": "default", "template": TEMPLATE},
                    {"name": "rag", "template": "{{ a.__b }}"},
                ]
            ),
            "beyond a conversation",
        ),
        ("chat_template.jinja", b"a" * 300_000, "too long"),
    ],
)
def test_code_false_headers_and_templates_that_reach_too_far_are_refused(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """Each is a way in which weights have run code on the machine that loads them."""
    folder = published(tmp_path / "mine", **{name: content})
    with pytest.raises(WeightsUnsafe, match=said):
        checked(folder)


def test_switching_code_off_is_not_asking_for_it(tmp_path: Path) -> None:
    """`trust_remote_code: false` stands in many files."""
    folder = published(tmp_path / "mine", **{"config.json": config(trust_remote_code=False)})
    assert checked(folder)
