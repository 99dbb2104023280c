"""`sovereign attest` as an operator, an attester and an auditor use it, each with own keys."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from sovereign.attestation import gather, running
from sovereign.attestation import site as places
from sovereign.cli import main
from sovereign.settings import Home
from tests.attestation.site import PLACE, SHIPPED, made, saying, silent
from tests.cli.running import Done
from tests.engines.running import free_port

Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A site at a declared place, whose host has no key yet."""
    return made(tmp_path / "home", bound=False)


@pytest.fixture
def whole(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `sovereign WORDS` for it; its metadata service says that it is in fsn1."""
    monkeypatch.setenv("SOVEREIGN_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(gather, "fetching", lambda _: saying("fsn1"))

    def whole(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["sovereign", *words])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, out, err)

    return whole


@pytest.fixture
def run(whole: Run) -> Run:
    """Run `sovereign attest WORDS` for it."""
    return lambda *words: whole("attest", *words)


def signed(run: Run, home: Home, tmp_path: Path, *more: str) -> Done:
    """What an attester does on a machine of theirs, and what the site does with it."""
    note, key = tmp_path / "facility.note", tmp_path / "facility.key"
    given = [] if key.exists() else ["--new-key-of", "facility"]
    pinned = str(places.pin_path(home.trust, "local"))
    words = ("sign", "--host", "local", "--host-key", pinned, "--key", str(key), "--to", str(note))
    done = run(*words, "--place", PLACE, "--json", *given, *more)
    if done.code == 0:
        statements = places.folder(home) / "statements"
        statements.mkdir(parents=True, exist_ok=True)
        shutil.copy(note, statements)
        attesters = home.trust / "attesters"
        attesters.mkdir(exist_ok=True)
        (attesters / "facility.vkey").write_text(done.json["vkey"])
    return done


def test_a_site_goes_from_nothing_to_being_vouched_for(
    run: Run, whole: Run, home: Home, tmp_path: Path
) -> None:
    """The whole way of the guide: bind, sign, run, look, verify elsewhere."""
    bound = run("bind", "--json").json
    assert bound["record"].startswith("local/operator/evidence#")
    assert signed(run, home, tmp_path).code == 0
    ran = run("run", "--json")
    assert (ran.code, ran.json["verdict"]) == (0, "proves")
    assert ran.json["vouchers"] == ["operator", "provider"]
    shown = run("show", "--json")
    assert (shown.code, shown.json["hosts"][0]["state"]) == (0, "vouched")
    away = tmp_path / "auditor"
    shutil.copytree(home.trust, away / "trust")
    shutil.copy(places.note_path(home, "local"), away)
    words = ("verify", str(away / "local.note"), "--trust", str(away / "trust"))
    checked = run(*words, "--json")
    assert (checked.code, checked.json["faults"]) == (0, [])
    assert checked.json["taken_by_its_word"] == ["rules", "record"]
    proof = away / "record.proof"
    assert whole("audit", "prove", ran.json["record"], "--output", str(proof)).code == 0
    compared = ("--policies", str(SHIPPED), "--proof", str(proof), "--json")
    checked = run(*words, *compared)
    assert (checked.code, checked.json["taken_by_its_word"]) == (0, [])
    assert run("run").code == 0  # another note, which this proof is not of
    shutil.copy(places.note_path(home, "local"), away)
    checked = run(*words, *compared)
    assert (checked.code, len(checked.json["faults"])) == (1, 1)
    assert "is not the record of this note" in checked.json["faults"][0]
    assert "proves: local is at hetzner:fsn1" in run(*words).out


def test_an_openssh_host_key_answers_too(run: Run, home: Home, tmp_path: Path) -> None:
    """The key of sshd is bound when a host is set up already; its fingerprint is known."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not there; to get it: apt-get install openssh-client")
    path = tmp_path / "ssh_host_ed25519_key"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True, timeout=30)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    settings = msgspec.yaml.decode(home.file.read_text())
    settings["attestation"] = {"host_key": str(path)}
    home.file.write_bytes(msgspec.yaml.encode(settings))
    bound = run("bind", "--json")
    assert bound.code == 0, bound.err
    assert bound.json["fingerprint"] in shown
    assert run("run", "--json").json["findings"][0]["verdict"] == "proves"
    public = run("bind", "--public", f"{path}.pub", "--json")
    assert public.json["vkey"] == bound.json["vkey"]


def test_another_key_is_not_pinned_without_being_told_to(
    run: Run, home: Home, tmp_path: Path
) -> None:
    """Whoever replaces a key replaces the host."""
    first = run("bind", "--json").json["vkey"]
    places.host_key_path(home).unlink()
    refused = run("bind")
    assert (refused.code, refused.error) == (2, "bad-input")
    assert places.pin_path(home.trust, "local").read_text().strip() == first
    assert run("bind", "--replace", "--json").json["vkey"] != first


def test_nothing_known_ends_with_3_and_a_contradiction_with_1(
    run: Run, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script has to tell not knowing from knowing that it is false."""
    done = run("run")
    assert (done.code, done.error) == (3, "key-missing")
    run("bind")
    monkeypatch.setattr(gather, "fetching", lambda _: silent)
    done = run("run", "--json")
    assert (done.code, done.json["verdict"]) == (3, "unknown")
    monkeypatch.setattr(gather, "fetching", lambda _: saying("ash"))
    done = run("run")
    assert (done.code, done.out.partition(":")[0]) == (1, "contradicts")
    done = run("show", "--json")
    assert (done.code, done.json["hosts"][0]["state"]) == (1, "disagrees")
    assert run("verify", str(places.note_path(home, "local"))).code == 1


def test_verify_says_what_it_could_not_compare_and_finds_a_forgery(
    run: Run, home: Home, tmp_path: Path
) -> None:
    """Without a key nothing can be said; with the wrong one it is a finding."""
    run("bind")
    run("run")
    note = places.note_path(home, "local")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run("verify", str(note), "--trust", str(empty)).error == "key-missing"
    vkey = (home.trust / "controller-evidence.vkey").read_text().strip()
    done = run("verify", str(note), "--trust", str(empty), "--vkey", vkey, "--json")
    assert done.json["taken_by_its_word"] == ["rules", "host key", "record"]
    other = (home.trust / "gateway-event.vkey").read_text().strip()
    assert run("verify", str(note), "--vkey", other).code == 1
    assert run("verify", str(tmp_path / "nothing")).code == 2


def test_another_host_is_challenged_and_answers_once(run: Run, home: Home, tmp_path: Path) -> None:
    """Its answer is carried; a second time the same answer is nobody's."""
    run("bind")
    settings = msgspec.yaml.decode(home.file.read_text())
    settings["endpoints"] = [
        {"id": "far", "name": "vllm", "model": "tiny-mixtral", "address": "127.0.0.1:9001"}
        | {"place": PLACE, "host": "gpu2"}
    ]
    home.file.write_bytes(msgspec.yaml.encode(settings))
    there = made(tmp_path / "gpu2", bound=False, site="gpu2")
    there_words = ("--home", str(there.root))
    vkey = run("bind", "--json", *there_words).json["vkey"]
    (tmp_path / "gpu2.vkey").write_text(vkey)
    assert run("bind", "--host", "gpu2", "--public", str(tmp_path / "gpu2.vkey")).code == 0
    assert run("run", "--host", "gpu2").error == "bad-input"  # it cannot be asked from here
    nonce = run("challenge", "gpu2", "--json").json["challenge"]
    answer = tmp_path / "gpu2.answer"
    assert run("answer", nonce, "--to", str(answer), *there_words).code == 0
    words = ("run", "--host", "gpu2", "--evidence", str(answer), "--json")
    assert run(*words).json["verdict"] == "proves"
    replayed = run(*words)
    assert (replayed.code, replayed.json["error"]["code"]) == (2, "bad-input")
    run("challenge", "gpu2")
    late = run(*words)
    assert (late.code, late.json["verdict"]) == (1, "contradicts")
    assert "another challenge" in late.json["findings"][0]["reason"]


@pytest.mark.parametrize(
    "words",
    [
        ("answer", "xyz", "--to", "x"),
        ("challenge", "nobody"),
        ("bind", "--host", "nobody"),
        ("run", "--host", "nobody"),
        ("run", "--evidence", "/nowhere"),
    ],
)
def test_what_means_nothing_is_asked_wrongly(run: Run, words: tuple[str, ...]) -> None:
    """Exit 2, and nothing was changed."""
    done = run(*words)
    assert (done.code, done.error) == (2, "bad-input")


def test_this_host_has_no_place_to_vouch_for(
    run: Run, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to do instead."""
    home.file.write_text("version: 1\n")
    done = run("run")
    assert (done.code, done.error) == (2, "bad-input")
    assert "places declare" in done.err
    assert run("show", "--json").json["hosts"][0]["state"] == "operator"


@contextmanager
def anchor(tmp_path: Path, hosts: Path) -> Iterator[tuple[str, int]]:
    """`sovereign attest serve` as a process of its own; its verifier key and port."""
    port = free_port()
    words = ["--key", str(tmp_path / "anchor.key"), "--new-key-of", "anchor.example"]
    words += ["--hosts", str(hosts), "--listen", f"127.0.0.1:{port}", "--samples", "5"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "sovereign", "attest", "serve", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(4)]
        yield dict(line for line in lines if len(line) == 2)["vkey"], port
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_an_anchor_that_is_a_process_measures_a_site(run: Run, home: Home, tmp_path: Path) -> None:
    """Both ends as they are installed, with a policy that names the anchor."""
    run("bind")
    policies = tmp_path / "policies"
    shutil.copytree(Path(__file__).resolve().parents[2] / "policies", policies)
    settings = msgspec.yaml.decode(home.file.read_text()) | {"policies": str(policies)}
    home.file.write_bytes(msgspec.yaml.encode(settings))
    with anchor(tmp_path, home.trust / "hosts") as (vkey, port):
        named = {
            "id": "beside",
            "key": vkey,
            "address": f"127.0.0.1:{port}",
            "own": False,
            "organisation": "Example Exchange",
            "place": PLACE,
            "latitude": "50.48",
            "longitude": "12.37",
        }
        rules = policies / "rules/attestation.yaml"
        said = msgspec.yaml.decode(rules.read_text())
        for each in said["required"]:
            each["vouchers"] = max(each["vouchers"], 1)
        said["round_trips"] |= {"anchors": [named], "slack_ms": 200, "near_km": 5000}
        rules.write_bytes(msgspec.yaml.encode(said))
        done = run("run", "--json")
    found = {each["signal"]: each for each in done.json["findings"]}
    assert found["round-trip"]["verdict"] == "proves", found["round-trip"]
    assert done.json["vouchers"] == ["anchors", "provider"]


def test_a_record_of_a_run_names_the_note_that_is_kept(run: Run, home: Home) -> None:
    """So that a note which turns up later can be told from one that was made up."""
    from sovereign.attestation.kept import digest, newest

    run("bind")
    run("run")
    outcome = newest(home, "local")
    assert outcome is not None
    fields = running.fields(outcome, places.note_path(home, "local").read_bytes())
    assert fields["attestation"] == digest(places.note_path(home, "local").read_bytes())
