"""`sovereign register show` on a site: it follows what commands change, and says what it lacks."""

from pathlib import Path

from tests.cli.conftest import Run


def purposes(run: Run) -> dict[str, str]:
    done = run("register", "show", "--json")
    return {each["purpose"]: each["state"] for each in done.json["activities"]}


def test_the_register_follows_keys_and_tenants_as_commands_change_them(
    run: Run, site: Path
) -> None:
    """Nobody writes an entry: making a key does, and revoking it takes the entry away."""
    assert purposes(run) == {}
    made = run("key", "create", "--tenant", "hr", "--purpose", "cv-screening", "--json").json
    assert purposes(run) == {"cv-screening": "active"}
    run("tenant", "suspend", "hr")
    assert purposes(run) == {"cv-screening": "suspended"}
    run("tenant", "resume", "hr")
    run("key", "revoke", made["id"])
    assert purposes(run) == {}


def test_what_is_said_in_the_settings_is_in_the_page_and_what_is_not_ends_with_3(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """A page that is handed over says itself what it lacks."""
    (site / "sovereign.yaml").write_text(
        "version: 1\n"
        "organisation: {name: Example GmbH, contact: Example street 1, representative: none}\n"
        "processing:\n"
        "  - {tenant: hr, role: processor, controller: Kunde AG, subjects: [applicants]}\n"
    )
    run("key", "create", "--tenant", "hr", "--purpose", "cv-screening", "--json")
    done = run("register", "show")
    assert done.code == 3
    assert "unknown: organisation: data protection officer" in done.out
    page = tmp_path / "register.md"
    assert run("register", "show", "--out", str(page)).code == 3
    text = page.read_text()
    for line in (
        "# Register of processing activities of local",
        "## hr: cv-screening (Art. 30(2))",
        "- controller: Kunde AG",
        "- categories of people: applicants",
        "- hr, cv-screening: how the controller is reached",
    ):
        assert line in text.splitlines()
    assert "not legal advice" in text
    assert run("register", "show", "--markdown").out.startswith("# Register of processing")


def test_without_a_site_there_is_no_register(run: Run) -> None:
    """Exit 3: it could not be determined."""
    done = run("register", "show")
    assert (done.code, done.error) == (3, "not-deployed")
