"""`sovereign weights fetch` against a real mirror on loopback that does each thing mirrors do."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from sovereign import fleet, settings
from sovereign import policy as policies
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail
from sovereign.weights import fetch, store
from sovereign.weights.choosing import source_of
from tests import needs
from tests.cli.conftest import Run
from tests.gateway.certificates import issued
from tests.weights.making import TENSORS, Ways, mirror, pin_of, published, tensors

MODEL = "mistral-7b-instruct-v0.3"
REFUSED_PLACE = "aws:us-east-1"


def declare(site: Path, url: str, place: str = "this-host") -> None:
    """The site says that a mirror is at this address, and where that is."""
    listener = url.partition("//")[2]
    (site / settings.FILE_NAME).write_text(
        f"version: 1\ndependencies:\n  - id: my-mirror\n    kind: mirror\n    place: {place}\n"
        f"    listener: '{listener}'\n"
    )


def words(source: object, pin: str, model: str = MODEL) -> tuple[str, ...]:
    return ("weights", "fetch", model, "--from", str(source), "--digest", pin)


def records(home: Path) -> list[dict[str, object]]:
    log = next(
        m for m in fleet.members(settings.load(home)) if m.origin == "local/operator/evidence"
    )
    every = (entry for _, entry in fleet.records(log, 0, 1000))
    return [entry for entry in every if entry["type"] == "weights-fetched"]


def sets(home: Path) -> list[store.Stored]:
    return list(store.stored(settings.load(home)))


@pytest.fixture
def set_(tmp_path: Path) -> Path:
    return published(tmp_path / "srv" / "mine")


def test_a_set_comes_from_a_mirror_whole_pinned_and_recorded(
    site: Path, run: Run, set_: Path
) -> None:
    """The record says what, from where and under which digest; `verify` and `list` agree."""
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", pin_of(set_)), "--json")
    assert done.code == 0, done.err
    (found,) = sets(site)
    assert {p.name: p.read_bytes() for p in found.path.iterdir()} == {
        p.name: p.read_bytes() for p in set_.iterdir()
    }
    (entry,) = records(site)
    said = {key: entry[key] for key in ("model", "digest", "source", "place", "files")}
    assert said == {
        "model": MODEL,
        "digest": pin_of(set_),
        "source": "my-mirror",
        "place": "this-host",
        "files": 5,
    }
    assert {"tokenizer", "template", "bytes", "licence", "policy"} <= entry.keys()
    assert str(done.json["record"]).startswith("local/operator/evidence#")
    assert run("weights", "verify").code == 0
    assert [each["model"] for each in run("weights", "list", "--json").json["sets"]] == [MODEL]


def test_a_set_that_is_there_is_not_fetched_again(site: Path, run: Run, set_: Path) -> None:
    """The second run of a deployment changes nothing, and needs no mirror for its bytes."""
    ways = Ways()
    with mirror(set_.parent, ways) as url:
        declare(site, url)
        assert run(*words(f"{url}/mine", pin_of(set_))).code == 0
        ways.asked.clear()
        assert run(*words(f"{url}/mine", pin_of(set_))).code == 0
    assert [path for _, path, _ in ways.asked] == ["/mine.sha256"]
    assert len(records(site)) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_mirror_that_breaks_off_is_asked_for_the_rest(
    site: Path, run: Run, set_: Path, ranges: bool
) -> None:
    """Hundreds of gigabytes over a bad line; one that knows no ranges starts anew."""
    ways = Ways(breaks=[150_000, 120_000], ranges=ranges)
    with mirror(set_.parent, ways) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", pin_of(set_)))
    if ranges:
        assert done.code == 0, done.err
        parts = [
            wanted
            for how, path, wanted in ways.asked
            if (how, path[-11:]) == ("GET", TENSORS[-11:])
        ]
        assert parts == ["", "bytes=150000-", "bytes=270000-"]
    else:
        assert (done.code, done.error) == (3, "weights-unfetched")  # it got no farther


def test_what_was_interrupted_goes_on_in_the_next_run(site: Path, run: Run, set_: Path) -> None:
    """A run that was killed, or gave up, has not fetched in vain."""
    ways = Ways(breaks=[200_000, 0])
    with mirror(set_.parent, ways) as url:
        declare(site, url)
        first = run(*words(f"{url}/mine", pin_of(set_)))
        assert (first.code, first.error, sets(site), records(site)) == (
            3,
            "weights-unfetched",
            [],
            [],
        )
        ways.asked.clear()
        assert run(*words(f"{url}/mine", pin_of(set_))).code == 0
    fetched = [(path, wanted) for how, path, wanted in ways.asked if how == "GET"]
    assert ("/mine/model.safetensors", "bytes=200000-") in fetched
    assert len(sets(site)) == 1


def test_a_part_that_was_of_something_else_is_fetched_from_nothing(
    site: Path, run: Run, set_: Path
) -> None:
    """What lies on our own disk is believed no more than a mirror is."""
    coming = store.coming_of(settings.load(site), pin_of(set_))
    coming.mkdir(parents=True)
    for size in (1000, 10_000_000):
        (coming / f"{TENSORS}.part").write_bytes(bytes(size))
        (coming / "config.json").write_bytes(b"{}")
        (coming / "stranger.py").write_bytes(b"")
        with mirror(set_.parent, Ways()) as url:
            declare(site, url)
            done = run(*words(f"{url}/mine", pin_of(set_)))
        assert done.code == 0, done.err
        (found,) = sets(site)
        assert {p.name for p in found.path.iterdir()} == {p.name for p in set_.iterdir()}
        found.path.rename(coming)


def test_a_changed_byte_is_refused_and_not_kept(site: Path, run: Run, set_: Path) -> None:
    """The mirror is believed for nothing: the pin is somebody else's word."""
    pin = pin_of(set_)
    whole = bytearray((set_ / TENSORS).read_bytes())
    whole[-1] ^= 1
    (set_ / TENSORS).write_bytes(whole)
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", pin))
    assert (done.code, done.error) == (1, "weights-differ")
    assert (sets(site), records(site)) == ([], [])
    coming = store.coming_of(settings.load(site), pin)
    assert not [*coming.glob(f"{TENSORS}*")]


def test_a_manifest_that_is_not_the_pinned_one_is_refused_before_any_file(
    site: Path, run: Run, set_: Path
) -> None:
    """Whoever rewrites both a file and its hash is found by the digest of the manifest."""
    pin, ways = pin_of(set_), Ways()
    published(set_, **{"config.json": b"{}"})
    with mirror(set_.parent, ways) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", pin))
    assert (done.code, done.error) == (1, "weights-differ")
    assert [path for _, path, _ in ways.asked] == ["/mine.sha256"]


def test_a_redirect_leads_to_a_declared_mirror_or_nowhere(site: Path, run: Run, set_: Path) -> None:
    """A mirror that sends its callers elsewhere would decide for us where we fetch from."""
    with mirror(set_.parent, Ways()) as other, mirror(set_.parent, Ways(redirect=other)) as url:
        declare(site, url)
        done = run(*words(f"{url}/mine", pin_of(set_)))
        assert (done.code, done.error) == (1, "residency-refused")
        assert sets(site) == []
        file = site / settings.FILE_NAME
        more = f"  - id: other\n    kind: mirror\n    place: {{}}\n    listener: '{other[7:]}'\n"
        before = file.read_text()
        file.write_text(before + more.format(REFUSED_PLACE))
        assert run(*words(f"{url}/mine", pin_of(set_))).error == "residency-refused"
        file.write_text(before + more.format("this-host"))
        assert run(*words(f"{url}/mine", pin_of(set_))).code == 0


def test_a_mirror_that_nobody_declared_or_at_a_refused_place_is_not_asked(
    site: Path, run: Run, set_: Path
) -> None:
    """Not knowing where it is means no, and the asking alone tells what we mean to serve."""
    ways = Ways()
    with mirror(set_.parent, ways) as url:
        assert run(*words(f"{url}/mine", pin_of(set_))).error == "residency-refused"
        declare(site, url, REFUSED_PLACE)
        assert run(*words(f"{url}/mine", pin_of(set_))).error == "residency-refused"
    assert ways.asked == []
    done = run(*words("http://192.0.2.1/mine", pin_of(set_)))
    assert (done.code, done.error) == (2, "bad-input")  # in the clear, over a network


def test_a_mirror_shows_a_certificate_that_this_machine_trusts(
    site: Path, run: Run, set_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it somebody on the way would learn what we mean to serve."""
    files = issued(tmp_path / "tls", "localhost")
    with mirror(set_.parent, Ways(), files) as url:
        declare(site, url, "scaleway:fr-par-2")
        done = run(*words(f"{url}/mine", pin_of(set_)))
        assert (done.code, done.error) == (3, "weights-unfetched")
        assert "certificate" in done.err.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
        done = run(*words(f"{url}/mine", pin_of(set_)))
    assert done.code == 0, done.err
    assert [entry["place"] for entry in records(site)] == ["scaleway:fr-par-2"]


def test_weights_that_may_not_serve_here_are_not_fetched(site: Path, run: Run, set_: Path) -> None:
    """The licence gate stands before the first byte, not after four hundred gigabytes."""
    done = run(*words(set_, pin_of(set_), "codestral"))
    assert (done.code, done.error) == (1, "licence-refused")


def test_a_folder_that_was_carried_here_is_a_source_with_or_without_a_manifest(
    site: Path, run: Run, set_: Path
) -> None:
    """A site that has no way out gets its weights on a disk."""
    set_.with_name("mine.sha256").unlink()
    assert run(*words(set_, pin_of(set_))).code == 0
    (entry,) = records(site)
    assert entry["source"] == "folder"


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    site: Path, run: Run, set_: Path
) -> None:
    """Before a night of downloading: does it fit, and is it what was pinned?"""
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        said = run(*words(f"{url}/mine", pin_of(set_)), "--dry-run", "--json").json
    taken = sum(p.stat().st_size for p in set_.iterdir())
    assert (said["dry_run"], said["files"], said["bytes"]) == (True, 5, taken)
    assert not store.folder_of(settings.load(site)).exists()
    assert records(site) == []


def test_a_full_disk_ends_it_and_making_room_lets_it_go_on(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reserve is left for the logs: a site whose disk is full could not record any more."""
    with mirror(set_.parent, Ways()) as url:
        declare(site, url)
        with monkeypatch.context() as tight:
            tight.setattr(fetch, "SPARE_BYTES", 2**62)
            done = run(*words(f"{url}/mine", pin_of(set_)))
            assert (done.code, done.error) == (3, "weights-unfetched")
            assert "no room" in done.err
        assert run(*words(f"{url}/mine", pin_of(set_))).code == 0


def test_a_mirror_that_never_ends_leaves_room_on_a_real_disk(
    site: Path, tmp_path: Path, set_: Path
) -> None:
    """One that says no length could otherwise fill the disk that the logs are written to."""
    needs.need(
        os.geteuid() == 0 and shutil.which("unshare"), "no mount of its own", "run it as root"
    )
    models = site / "models"
    models.mkdir()
    said = tmp_path / "said"
    sovereign = [sys.executable, "-m", "sovereign"]
    with mirror(set_.parent, Ways(lengths=False, endless=True)) as url:
        declare(site, url)
        command = shlex.join([*sovereign, *words(f"{url}/mine", pin_of(set_))])
        script = (
            f"mount -t tmpfs -o size=80m tmpfs {models} && {command}; code=$?; "
            f"df --output=avail -k {models} | tail -1 > {said}; exit $code"
        )
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            env=os.environ | {"SOVEREIGN_HOME": str(site)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr.partition(":")[0]) == (3, "weights-unfetched")
    assert "reserve" in done.stderr
    assert 62 * 1024 < int(said.read_text()) < 65 * 1024
    assert (sets(site), records(site)) == ([], [])


def test_a_killed_run_is_continued_and_two_at_once_are_refused(
    site: Path, run: Run, set_: Path
) -> None:
    """A night's download is not lost to a reboot, and nobody writes into what another one reads."""
    ways, part = Ways(waits=Event()), store.coming_of(settings.load(site), pin_of(set_))
    with mirror(set_.parent, ways) as url:
        declare(site, url)
        asked = words(f"{url}/mine", pin_of(set_))
        it = subprocess.Popen(
            [sys.executable, "-m", "sovereign", *asked],
            env=os.environ | {"SOVEREIGN_HOME": str(site)},
        )
        try:
            until(lambda: size_of(part / f"{TENSORS}.part") == 100_000)
            done = run(*asked)
            assert (done.code, done.error) == (3, "weights-unfetched")
            assert "another run" in done.err
            with operator_trail(settings.load(site), ("evidence",)):
                pass  # others of this machine record things all night
        finally:
            it.kill()
            it.wait(30)
        ways.waits.set()
        assert (sets(site), size_of(part / f"{TENSORS}.part")) == ([], 100_000)
        ways.asked.clear()
        assert run(*asked).code == 0
    assert ("GET", f"/mine/{TENSORS}", "bytes=100000-") in ways.asked


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_crash_between_the_record_and_the_name_is_made_good_by_the_next_run(
    site: Path, run: Run, set_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may be served that no record speaks of; a record of what is not there is harmless."""
    with monkeypatch.context() as crashing:
        crashing.setattr(fetch, "_publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fetched_by_hand(site, set_)
    assert (sets(site), len(records(site))) == ([], 1)
    assert run(*words(set_, pin_of(set_))).code == 0
    assert (len(sets(site)), len(records(site))) == (1, 2)


def fetched_by_hand(site: Path, folder: Path) -> None:
    home, now = settings.load(site), utcnow()
    policy = policies.load(home.policies, home.settings.profile)
    source = source_of(home, policy, str(folder), now)
    wish = fetch.Wish(policy.models[MODEL], source, pin_of(folder))
    named = fetch.read(home, policy, wish, now)
    opening = partial(operator_trail, home, ("evidence",))
    fetch.fetch(home, policy, wish, named, opening=opening, told=lambda *_: None)


def test_a_set_that_changed_on_this_machine_is_found(site: Path, run: Run, set_: Path) -> None:
    """Nothing writes into a published set; somebody did."""
    assert run(*words(set_, pin_of(set_))).code == 0
    (found,) = sets(site)
    (found.path / TENSORS).write_bytes(tensors(10))
    done = run("weights", "verify", "--json")
    assert (done.code, done.json["sets"][0]["verdict"]) == (1, "weights-differ")
