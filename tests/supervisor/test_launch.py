"""What the settings say of the engine reaches the words that start it."""

from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign import settings
from sovereign.errors import SettingsUnreadable
from sovereign.supervisor.engine import launch_spec


def test_the_gpus_of_the_settings_are_those_a_model_is_split_over(tmp_path: Path) -> None:
    """Whoever has four cards says so once; whoever says nothing has one."""
    policy = policies.load(None, "eea")
    assert launch_spec(settings.load(tmp_path), policy).gpus == 1
    (tmp_path / "sovereign.yaml").write_text("version: 1\nengine: {gpus: 4}\n")
    assert launch_spec(settings.load(tmp_path), policy).gpus == 4


@pytest.mark.parametrize("gpus", ["0", "65", "two"])
def test_a_number_of_gpus_that_nobody_has_is_refused(tmp_path: Path, gpus: str) -> None:
    """Before an engine is started that would say so in its own words."""
    (tmp_path / "sovereign.yaml").write_text(f"version: 1\nengine: {{gpus: {gpus}}}\n")
    with pytest.raises(SettingsUnreadable):
        settings.load(tmp_path)
