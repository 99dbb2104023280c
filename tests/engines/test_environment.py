"""Reading a process's environment back, and saying what is wrong with it."""

from pathlib import Path

import pytest

from sovereign.engines import ENGINES, Found, LaunchSpec
from sovereign.engines.contract import EnvRule
from sovereign.engines.environment import parse, unmet
from sovereign.errors import BadInput

RULES = (EnvRule("QUIET", "1", "why"), EnvRule("DEBUG", None, "why"))


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"QUIET": "1"}, ()),
        ({}, ("QUIET must be '1', found unset",)),
        ({"QUIET": "true"}, ("QUIET must be '1', found another value",)),
        ({"QUIET": "1", "DEBUG": ""}, ("DEBUG must be unset, found another value",)),
    ],
)
def test_a_switch_counts_only_in_its_exact_spelling(
    environ: dict[str, str], found: tuple[str, ...]
) -> None:
    """vLLM reports usage unless the value is exactly 1; `true` is not off."""
    assert unmet(RULES, environ) == found


def test_a_foreign_value_is_never_repeated() -> None:
    """An environment may hold secrets, and findings go into a log."""
    assert "hunter2" not in str(unmet(RULES, {"QUIET": "hunter2", "DEBUG": "hunter2"}))


def test_what_a_process_left_of_its_environment_is_read_without_complaint() -> None:
    """A program that rewrites its title leaves words without an equals sign, or only zeros."""
    assert parse(b"A=1\0B=x=y\0debris\0=C\0\0D=\0") == {"A": "1", "B": "x=y", "D": ""}
    assert parse(b"\0" * 40) == {}
    assert unmet(RULES, parse(b"\0" * 40)) == ("QUIET must be '1', found unset",)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_starts_with_exactly_what_its_adapter_says(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No proxy, token or debug switch of the caller is handed on."""
    for variable in ("HTTPS_PROXY", "HF_TOKEN", "OLLAMA_DEBUG", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(variable, "inherited")
    spec = LaunchSpec(
        found=Found(Path("/opt/engine/bin/engine"), "1"),
        model=tmp_path / "m",
        served_name="m",
        host="127.0.0.1",
        port=1,
        context=1,
        state_dir=tmp_path / "state",
    )
    environ = ENGINES[name].environment(spec)
    assert "inherited" not in environ.values()
    assert environ["HOME"] == str(tmp_path / "state")
    assert environ["PATH"].startswith("/opt/engine/bin:")
    assert unmet(ENGINES[name].required_environment(), environ) == ()


@pytest.mark.parametrize(
    "wrong", [{"served_name": "--help"}, {"served_name": ""}, {"port": 0}, {"context": 0}]
)
def test_what_a_program_would_read_as_an_option_is_refused(
    wrong: dict[str, object], tmp_path: Path
) -> None:
    """A name goes onto a command line; a leading dash would be an order."""
    values: dict[str, object] = {
        "found": Found(tmp_path, "1"),
        "model": tmp_path,
        "served_name": "m",
        "host": "127.0.0.1",
        "port": 1,
        "context": 1,
        "state_dir": tmp_path,
    }
    with pytest.raises(BadInput):
        LaunchSpec(**{**values, **wrong})  # type: ignore[arg-type]  # that is the point
