"""The one file a site is described in: what it may say, and that it comes back as it was."""

from pathlib import Path

import msgspec
import pytest

from sovereign import settings as files
from sovereign.errors import DeclarationMissing, SettingsUnreadable
from sovereign.settings import (
    ControllerSettings,
    EngineSettings,
    GatewaySettings,
    Home,
    PathSettings,
    Settings,
)

DIGEST = f"sha256:{0:064x}"
ODD = Settings(
    site="a-site.example",
    profile="immune",
    place="own:no",
    policies="/a folder/with: colon",
    engine=EngineSettings("vllm", "tiny-mixtral", "/wei ghts/#1", DIGEST, "[::1]:65535", 99),
    gateway=GatewaySettings("0.0.0.0:1", concurrency_max=1),
    controller=ControllerSettings(1, 3600, "/run/s"),
    paths=PathSettings(audit="/no", keys="yes", logs="0x1f", run="2026-11-24"),
)


def written(folder: Path, text: str) -> Path:
    (folder / files.FILE_NAME).write_text(text)
    return folder


@pytest.mark.parametrize("chosen", [Settings(), ODD])
def test_what_is_written_is_read_back_as_the_same(tmp_path: Path, chosen: Settings) -> None:
    """`make deploy` writes the file and the processes read it; YAML must not come in between."""
    assert files.load(written(tmp_path, files.render(chosen))).settings == chosen


def test_a_home_without_a_file_has_every_default(tmp_path: Path) -> None:
    """The first command on a new machine."""
    assert files.load(tmp_path) == Home(tmp_path, Settings())


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("version: 1\nsitte: x\n", 2, "sitte"),
        ("version: 1\ngateway:\n  listen: localhost:80\n", 3, "localhost"),
        ('version: 1\ngateway:\n  listen: "127.0.0.1:0"\n', 3, "127.0.0.1:0"),
        ('version: 1\ngateway:\n  listen: "127.0.0.1:65536"\n', 3, "65536"),
        ("version: 1\nengine: {name: gpt}\n", 2, "gpt"),
        ("version: 2\n", 1, "2"),
        ("version: 1\nsite: Upper\n", 2, "Upper"),
        ("version: 1\ncontroller: {interval_s: 0}\n", 2, "0"),
        ("version: 1\nplace: NO\n", 2, "NO"),
    ],
)
def test_what_is_not_a_setting_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    """A typing error that is ignored would be a rule somebody believes in."""
    with pytest.raises(SettingsUnreadable) as refusal:
        files.load(written(tmp_path, text))
    words = "\n".join(refusal.value.lines())
    assert f"{files.FILE_NAME}:{line}" in words or f"line {line}" in words, words
    assert said in words
    assert refusal.value.accepted


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """Falling back to defaults would serve with settings nobody chose."""
    with pytest.raises(SettingsUnreadable):
        files.load(tmp_path, tmp_path / "other.yaml")


def test_an_empty_path_is_derived_from_the_home_and_a_given_one_is_taken(tmp_path: Path) -> None:
    """A managed host spreads the same layout over /etc and /var."""
    assert Home(tmp_path, Settings()).audit == tmp_path / "audit"
    assert Home(tmp_path, ODD).audit == Path("/no")


@pytest.mark.parametrize(
    ("chosen", "refused"),
    [
        (Settings(), False),
        (Settings(gateway=GatewaySettings(listen="[::1]:8080")), False),
        (Settings(gateway=GatewaySettings(listen="0.0.0.0:8080")), True),
        (Settings(gateway=GatewaySettings(listen="[::]:8080")), True),
        (Settings(gateway=GatewaySettings(listen="192.168.1.4:8080")), True),
        (Settings(engine=EngineSettings(listen="192.168.1.4:8081")), True),
        (Settings(place="own:lab", gateway=GatewaySettings(listen="0.0.0.0:8080")), False),
    ],
)
def test_a_listener_others_can_reach_needs_a_declared_place(
    chosen: Settings, refused: bool
) -> None:
    """`this-host` is admitted because nobody else can reach it; beyond loopback it is nowhere."""
    if not refused:
        files.refuse_undeclared(chosen)
        return
    with pytest.raises(DeclarationMissing) as refusal:
        files.refuse_undeclared(chosen)
    assert "places declare" in refusal.value.next_step


def test_where_the_state_lies_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SOVEREIGN_HOME first, then the XDG folder, then the default of that specification."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SOVEREIGN_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert files.default_root() == tmp_path / ".local/state/sovereign"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert files.default_root() == Path("/state/sovereign")
    monkeypatch.setenv("SOVEREIGN_HOME", "/mine")
    assert files.default_root() == Path("/mine")


def test_settings_are_values_that_cannot_change_while_a_process_runs() -> None:
    """Two parts of one process must not see two different files."""
    with pytest.raises(AttributeError):
        Settings().site = "other"  # type: ignore[misc]  # that it is refused is the point
    assert msgspec.structs.replace(Settings(), site="other") != Settings()
