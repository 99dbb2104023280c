"""`sovereign models aliases`, and what the gateway says of settings that cannot be kept."""

from pathlib import Path

import pytest

from tests.cli.running import sovereign, write_settings
from tests.engines.running import free_port

OURS = """\
aliases:
  - {name: codestral-latest, model: codestral-22b-v0.1}
  - name: mistral-small-latest
    model: mistral-small-3.2-24b-instruct-2506
    next: mistral-small-4-119b-2603
    from: 2099-01-01T00:00:00+01:00
  - name: devstral-latest
    model: devstral-small-2507
    next: devstral-2-123b-instruct-2512
    from: 2020-01-01T00:00:00Z
"""


def test_the_names_of_a_site_are_listed_with_what_they_mean_now_and_will_mean(
    tmp_path: Path,
) -> None:
    """A move that has happened is none any more; one to come is shown in UTC."""
    write_settings(tmp_path, free_port(), free_port(), OURS)
    done = sovereign(tmp_path, "models", "aliases", "--json")
    assert done.code == 0, done.err
    moved = "devstral-2-123b-instruct-2512"
    assert done.json["aliases"] == [
        {"name": "codestral-latest", "model": "codestral-22b-v0.1", "next": "", "from": ""},
        {"name": "devstral-latest", "model": moved, "next": "", "from": ""},
        {
            "name": "mistral-small-latest",
            "model": "mistral-small-3.2-24b-instruct-2506",
            "next": "mistral-small-4-119b-2603",
            "from": "2098-12-31T23:00:00Z",
        },
    ]
    assert "3 names" in sovereign(tmp_path, "models", "aliases").out


@pytest.mark.parametrize("words", [("models", "aliases"), ("serve", "gateway")])
def test_a_name_for_what_is_no_model_is_said_before_anything_is_served(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """With the file, the name, and where to look."""
    wrong = "aliases: [{name: codestral-latest, model: gpt-9}]\n"
    write_settings(tmp_path, free_port(), free_port(), wrong)
    if words == ("serve", "gateway"):
        assert sovereign(tmp_path, "audit", "create", "--writer", "gateway").code == 0
    done = sovereign(tmp_path, *words)
    assert done.code == 2
    assert done.error == "settings-unreadable"
    assert "codestral-latest" in done.err
