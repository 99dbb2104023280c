"""Read what weights say of themselves: config.json, params.json, safetensors and GGUF headers.

The only modules of this room that open files. Nothing of a tensor's content is read, nothing is
executed, and a pickle is not opened at all. `bounds.py` has what every header must keep to.
"""

import re
from pathlib import Path

from sovereign.errors import BadInput
from sovereign.sizing.found import Found
from sovereign.sizing.reading.bounds import ACCEPTED, FILES_MAX, refuse
from sovereign.sizing.reading.config import config_json, params_json
from sovereign.sizing.reading.gguf import gguf
from sovereign.sizing.reading.safetensors import index, safetensors

INDEX = "model.safetensors.index.json"
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")


def read(path: Path) -> Found:
    """Return what the weights at `path`, a folder or one file, say of themselves.

    Raises:
        BadInput: there is nothing to read, or a header says what cannot be. Nothing was loaded.
    """
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise BadInput(f"{path}: there is no such file or folder", accepted=ACCEPTED)
    config, tensors = _config(path), _tensors(path)
    if tensors is not None:
        return _joined(config, tensors)
    if config is None:
        raise BadInput(f"{path}: nothing to read", accepted=ACCEPTED)
    return config


def _file(path: Path) -> Found:
    if path.name == "params.json":
        return params_json(path)
    if path.suffix == ".json":
        return config_json(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"GGUF":
        return gguf(_parts_with(path))
    if path.suffix == ".safetensors":
        return safetensors([path])
    raise BadInput(f"{path}: not a file of weights we read", accepted=ACCEPTED)


def _config(folder: Path) -> Found | None:
    if (folder / "config.json").is_file():
        return config_json(folder / "config.json")
    if (folder / "params.json").is_file():
        return params_json(folder / "params.json")
    return None


def _tensors(folder: Path) -> Found | None:
    """The tensors of a folder; from the index alone where the files themselves are elsewhere."""
    files = sorted(folder.glob("*.safetensors"))
    listed = folder / INDEX
    named, size = index(listed) if listed.is_file() else (frozenset[str](), None)
    if files:
        chosen = _one_set(files)
        missing = sorted(named - {file.name for file in files})
        if missing and not chosen[0].name.startswith("consolidated"):
            refuse(listed, f"{missing[0][:80]} is not there", "every file that it names")
        return safetensors(chosen)
    if size is not None:
        return Found((INDEX,), weight_bytes=size)
    models = {tuple(_parts_with(file)) for file in folder.glob("*.gguf")}
    return gguf(models.pop()) if len(models) == 1 else None


def _parts_with(file: Path) -> list[Path]:
    """The file, or all parts of the split model that it is one of; a missing part is refused."""
    match = _PART.fullmatch(file.name)
    if not match or not 1 <= int(match[3]) <= FILES_MAX:
        return [file]
    parts = [
        file.with_name(f"{match[1]}-{number:05d}-of-{match[3]}.gguf")
        for number in range(1, int(match[3]) + 1)
    ]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        refuse(file, f"{missing[0]} is not there", "every part of a split model")
    return parts


def _one_set(files: list[Path]) -> list[Path]:
    """A folder may hold the weights twice, as model-*.safetensors and consolidated.*: take one."""
    consolidated = [file for file in files if file.name.startswith("consolidated")]
    chosen = [file for file in files if file not in consolidated] or consolidated
    if len(chosen) > FILES_MAX:
        refuse(files[0].parent, f"{len(chosen)} files", f"at most {FILES_MAX}")
    return chosen


def _joined(config: Found | None, tensors: Found) -> Found:
    if config is None:
        return tensors
    return Found(
        read=(*config.read, *tensors.read),
        figures={**tensors.figures, **config.figures},
        context=config.context or tensors.context,
        parameters=tensors.parameters,
        weight_bytes=tensors.weight_bytes,
        by_type=tensors.by_type,
        engine=tensors.engine,
    )
