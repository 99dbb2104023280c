"""The weights are what somebody pinned, or nothing is started."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign import settings
from sovereign.engines import Found, LaunchSpec
from sovereign.errors import SettingsUnreadable, WeightsDiffer
from sovereign.settings import Home
from sovereign.supervisor.engine import check_weights

POLICY = policies.load(None, "eea")
CONTENT = b"GGUF and so on"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def spec_of(folder: Path) -> LaunchSpec:
    weights = folder / "model.gguf"
    weights.write_bytes(CONTENT)
    return LaunchSpec(
        found=Found(Path("/nowhere/engine"), "1"),
        model=weights,
        served_name="smollm2-135m-instruct",
        host="127.0.0.1",
        port=8081,
        context=512,
        state_dir=folder / "state",
    )


def home_of(folder: Path, weights: str, digest: str) -> Home:
    (folder / "sovereign.yaml").write_text(
        f"version: 1\nengine: {{weights: '{weights}', weights_digest: '{digest}'}}\n"
    )
    return settings.load(folder)


def test_weights_of_ones_own_are_compared_with_what_the_settings_pin(tmp_path: Path) -> None:
    """Whoever brings weights says what they are; a path alone vouches for nothing."""
    spec = spec_of(tmp_path)
    assert check_weights(home_of(tmp_path, str(spec.model), DIGEST), POLICY, spec) == DIGEST
    spec.model.write_bytes(CONTENT + b".")
    with pytest.raises(WeightsDiffer, match="settings pin"):
        check_weights(home_of(tmp_path, str(spec.model), DIGEST), POLICY, spec)


def test_weights_of_ones_own_without_a_pin_are_only_named(tmp_path: Path) -> None:
    """On one machine that is enough; the digest stands in the engine's log and the registry."""
    spec = spec_of(tmp_path)
    assert check_weights(home_of(tmp_path, str(spec.model), ""), POLICY, spec) == DIGEST


def test_the_models_package_is_compared_with_what_the_policy_pins(tmp_path: Path) -> None:
    """The weights everybody starts with are pinned by the facts, whatever the settings say."""
    spec = spec_of(tmp_path)
    with pytest.raises(WeightsDiffer, match="policy pins"):
        check_weights(home_of(tmp_path, "", ""), POLICY, replace(spec, context=1024))


def test_a_digest_that_is_none_is_refused_with_the_settings(tmp_path: Path) -> None:
    """A typing error must not turn the comparison off."""
    with pytest.raises(SettingsUnreadable):
        home_of(tmp_path, "", "sha256:abc")
