"""The witness: what it signs, what it refuses, and that it forgets nothing it has signed.

Every refusal has the status that tlog-witness gives it, because other people's logs act on it.
"""

import base64
from concurrent.futures import ThreadPoolExecutor
from errno import EIO, ENOSPC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import checkpoint, note
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import EMPTY_ROOT
from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses import cosignature, witness
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.audit.witnesses.witness import BEGUN, SIZE_TYPE, Witness, hash_of
from sovereign.errors import LogLocked, LogMissing, StateUnreadable
from tests.audit import witnesslab as lab
from tests.audit.scenario import KEY
from tests.simulated.disk import Fault, SimulatedDisk, damaged, files_of

SIZES = (1, 2, 255, 256, 257, 700)
STATE = f"{hash_of(KEY.name)}.checkpoint"
FORK = f"{hash_of(KEY.name)}.fork"


def signed_by(key: SignerKey, size: int, root: bytes = EMPTY_ROOT) -> bytes:
    """A bare request with nothing but a checkpoint."""
    return b"old 0\n\n" + Checkpoint(key.name, size, root).signed(key)


def remembered(disk: SimulatedDisk) -> Checkpoint:
    """What lies on the disk, read by somebody who has the witness' public key alone."""
    said = cosignature.read(files_of(disk)[STATE], lab.COSIGNER.verifier)
    assert said is not None
    return said.checkpoint


# --- what it signs ---------------------------------------------------------------------------


def test_a_log_that_grows_is_cosigned_at_every_step() -> None:
    """The first checkpoint needs no proof, every other one does, across all levels of tiles."""
    target, old = lab.witness(), 0
    for size in SIZES:
        there = lab.log(size)
        answer = target.add(lab.body(there, size, old))
        assert answer.status == 200, answer
        said = cosignature.read(there["checkpoint"] + answer.body, lab.COSIGNER.verifier)
        assert said is not None
        assert (said.checkpoint.size, said.at) == (size, lab.AT)
        old = size


def test_the_same_checkpoint_is_cosigned_again() -> None:
    """An answer may be lost on its way; asking again must not need a log that has grown."""
    target, there = lab.witness(), lab.log(300)
    assert target.add(lab.body(there, 300, 0)).status == 200
    assert target.add(lab.body(there, 300, 300)).status == 200


def test_an_empty_log_is_cosigned_when_its_root_is_that_of_nothing() -> None:
    """A log may ask for its first cosignature before its first entry."""
    target = lab.witness()
    assert target.add(signed_by(KEY, 0)).status == 200
    assert target.add(signed_by(KEY, 0, bytes(32))).status == 422
    there = lab.log(3)
    assert target.add(lab.body(there, 3, 0)).status == 200


def test_a_witness_with_two_kinds_of_key_signs_with_both() -> None:
    """Whoever still checks Ed25519 alone, and whoever fears quantum computers, both find a line."""
    post_quantum = CosignerSecret.generate(lab.COSIGNER.name, cosignature.ML_DSA_44)
    target = lab.witness(keys=(lab.COSIGNER, post_quantum))
    there = lab.log(5)
    answer = target.add(lab.body(there, 5, 0))
    for key in (lab.COSIGNER, post_quantum):
        assert cosignature.read(there["checkpoint"] + answer.body, key.verifier) is not None


def test_signatures_of_others_are_ignored_and_not_kept() -> None:
    """A log may send what other witnesses signed; a stranger's lines must not fill our disk."""
    disk = lab.disk()
    target, there = lab.witness(disk), lab.log(9)
    stranger = cosignature.CosignerSecret.generate("stranger.example")
    text = there["checkpoint"].decode().rpartition("\n\n")[0] + "\n"
    extra = cosignature.cosign(text, stranger, lab.AT)
    answer = target.add(lab.body(there, 9, 0) + extra)
    assert answer.status == 200
    names = [name for name, _ in note.parts(files_of(disk)[STATE])[1]]
    assert names == [KEY.name, lab.COSIGNER.name]


def test_what_it_serves_holds_the_logs_line_and_its_own() -> None:
    """An auditor asks the witness, not the log's operator, and checks both signatures."""
    target, there = lab.witness(), lab.log(9)
    assert target.latest(hash_of(KEY.name)) is None
    answer = target.add(lab.body(there, 9, 0))
    served = target.latest(hash_of(KEY.name))
    assert served == there["checkpoint"] + answer.body
    assert checkpoint.read(served, KEY.verifier) is not None
    assert target.latest("0" * 64) is None


# --- what it refuses -------------------------------------------------------------------------


def test_a_log_that_was_cut_short_is_not_cosigned() -> None:
    """The attack this is for: the operator holds the key and signs a shorter log."""
    target = lab.witness()
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    short = lab.log(200)
    assert target.add(lab.body(short, 200, 0)).status == 409
    assert target.add(b"old 300\n\n" + short["checkpoint"]).status == 400
    assert target.add(lab.body(short, 200, 200)).status == 409


def test_a_fork_is_refused_however_it_is_proved() -> None:
    """Two histories under one key: whoever saw the first must not sign the second."""
    target = lab.witness()
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    fork = lab.forked(400, 250)
    assert target.add(lab.body(fork, 400, 300)).status == 422
    assert target.add(b"old 300\n\n" + fork["checkpoint"]).status == 422
    assert target.add(lab.body(lab.log(400), 400, 300)).status == 200, "the true one still may"


def test_the_same_size_with_another_root_is_refused_and_kept_as_proof() -> None:
    """Two signatures of one key over two trees of one size: nobody can talk that away."""
    disk = lab.disk()
    target = lab.witness(disk)
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    fork = lab.log(300, salt="x")
    assert target.add(lab.body(fork, 300, 300)).status == 422
    assert target.forks() == {KEY.name: fork["checkpoint"]}
    other = lab.log(300, salt="y")
    assert target.add(lab.body(other, 300, 300)).status == 422
    assert target.forks() == {KEY.name: fork["checkpoint"]}, "the first one is kept"
    assert remembered(disk) == checkpoint.read(lab.log(300)["checkpoint"], KEY.verifier)


def test_a_strangers_fork_is_no_proof_and_is_not_kept() -> None:
    """Anybody can sign anything with a key of their own."""
    target = lab.witness()
    assert target.add(lab.body(lab.log(3), 3, 0)).status == 200
    assert target.add(lab.body(lab.log(3, key=lab.STRANGER), 3, 3)).status == 403
    assert target.forks() == {}


def test_another_size_than_remembered_is_told() -> None:
    """Then the log can make the proof it needs: that is how both agree after a crash."""
    target = lab.witness()
    never = target.add(lab.body(lab.log(300), 300, 5))
    assert (never.status, never.body, never.content_type) == (409, b"0\n", SIZE_TYPE)
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    for old in (0, 299):
        answer = target.add(lab.body(lab.log(301), 301, old))
        assert (answer.status, answer.body, answer.content_type) == (409, b"300\n", SIZE_TYPE)


def test_a_log_nobody_registered_is_not_known() -> None:
    """Otherwise anybody could have anything signed."""
    other = SignerKey.generate("other.example/gateway/event")
    assert lab.witness().add(signed_by(other, 0)).status == 404


def test_a_checkpoint_that_the_log_has_not_signed_is_forbidden() -> None:
    """By a stranger, by nobody that counts, or with a spoiled line in the log's name."""
    target, there = lab.witness(), lab.log(5)
    assert target.add(signed_by(lab.STRANGER, 0)).status == 403
    body = lab.body(there, 5, 0)
    head, _, _ = body.rpartition(b"\n\n")
    text = there["checkpoint"].decode().rpartition("\n\n")[0] + "\n"
    only_witness = cosignature.cosign(text, lab.COSIGNER, lab.AT)
    assert target.add(head + b"\n\n" + only_witness).status == 403
    name, blob = note.parts(there["checkpoint"])[1][0]
    bad = note.signature_line(name, blob[:4] + bytes(64))
    assert target.add(head + b"\n\n" + bad).status == 403
    assert target.add(body + bad).status == 403, "one good line does not excuse a bad one"


@pytest.mark.parametrize(
    "proof",
    [[], [bytes(32)], "one too many", "one too few", "swapped"],
)
def test_a_proof_that_does_not_hold_is_refused(proof: list[bytes] | str) -> None:
    """The proof is the whole point; nothing else stops an operator with the key."""
    target = lab.witness()
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    body = lab.body(lab.log(700), 700, 300)
    head, _, signed = body.partition(b"\n\n")
    good = head.split(b"\n")[1:]
    lines = {
        "one too many": [*good, good[-1]],
        "one too few": good[:-1],
        "swapped": [good[1], good[0], *good[2:]],
    }
    chosen = lines[proof] if isinstance(proof, str) else [base64.b64encode(each) for each in proof]
    assert target.add(b"\n".join([b"old 300", *chosen]) + b"\n\n" + signed).status == 422
    assert target.add(body).status == 200


def test_nothing_needs_no_proof() -> None:
    """The specification asks for it, so that there is one form of the first request."""
    there = lab.log(5)
    line = base64.b64encode(bytes(32)) + b"\n"
    assert lab.witness().add(b"old 0\n" + line + b"\n" + there["checkpoint"]).status == 422


GOOD = lab.body(lab.log(5), 5, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        GOOD[:-1],
        GOOD.replace(b"old 0", b"old 00"),
        GOOD.replace(b"old 0", b"old -1"),
        GOOD.replace(b"old 0", b"Old 0"),
        GOOD.replace(b"old 0", b"old 0 "),
        GOOD.replace(b"old 0", b"old 1" + b"0" * 30),
        GOOD.replace(b"old 0\n", b""),
        GOOD.replace(b"old 0", b"old 6"),  # beyond the checkpoint
        GOOD.replace(b"old 0\n", b"old 0\nAAAA\n"),
        GOOD.replace(b"old 0\n", b"old 0\n!\n"),
        GOOD.replace(b"old 0\n", b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64),
        GOOD.replace(b"\n5\n", b"\n05\n"),
        GOOD.replace(b"\n5\n", b"\nfive\n"),
        GOOD.replace(b"old 0", b"old 0\xff"),
        GOOD.replace(b"=\n\n", "é\n\n".encode()),  # where the root should be, and not ASCII
        GOOD.replace(KEY.name.encode(), b"x" * 300),
        b"x" * (witness.REQUEST_MAX_BYTES + 1),
    ],
)
def test_a_malformed_request_is_refused_as_such(body: bytes) -> None:
    """Unambiguous framing: what two readers could take for two things is nothing."""
    assert lab.witness().add(body).status == 400


@given(st.binary(max_size=400), st.integers(0, 200))
def test_no_request_makes_a_witness_fail(junk: bytes, at: int) -> None:
    """It listens to everybody."""
    target = lab.witness()
    for body in (junk, b"old 0\n\n" + junk, GOOD[:at] + junk + GOOD[at:]):
        assert target.add(body).status in (200, 400, 403, 404, 422)
    assert target.failure == ""


# --- memory ----------------------------------------------------------------------------------


def test_a_witness_that_is_started_again_remembers() -> None:
    """It would otherwise sign a fork the morning after."""
    disk = lab.disk()
    first = lab.witness(disk)
    assert first.add(lab.body(lab.log(300), 300, 0)).status == 200
    with pytest.raises(LogLocked):
        lab.witness(disk)
    first.close()
    again = lab.witness(disk)
    assert again.add(lab.body(lab.log(200), 200, 0)).status == 409
    assert again.add(lab.body(lab.log(400), 400, 300)).status == 200


def answers_until_stopped(disk: SimulatedDisk, sizes: tuple[int, ...]) -> tuple[list[int], bool]:
    """The sizes that were cosigned until the disk stopped, and whether the start was seen."""
    told: list[int] = []
    try:
        target = lab.witness(disk)
        old = remembered(disk).size if STATE in files_of(disk) else 0
    except OSError:
        return told, False
    for size in sizes:
        answer = target.add(lab.body(lab.log(size), size, old))
        if answer.status != 200:
            assert answer.status == 503
            assert target.add(lab.body(lab.log(size), size, old)).status == 503, "for good"
            break
        told.append(size)
        old = size
    return told, True


def test_stopping_at_any_step_forgets_nothing_that_was_cosigned() -> None:
    """Power loss: unsynced data gone or torn, names lost or kept, in every mixture."""
    whole = lab.disk()
    answers_until_stopped(whole, (3, 300, 301))
    assert whole.operations >= 12, "write, sync, rename, sync for each"
    for step in range(whole.operations):
        disk = lab.disk(stop_at=step)
        told, _ = answers_until_stopped(disk, (3, 300, 301))
        for name, left in disk.survivors():
            again = lab.witness(left)
            size = remembered(left).size if STATE in files_of(left) else 0
            assert size >= max(told, default=0), f"step {step}, {name}"
            again.close()


@pytest.mark.parametrize("lie", [f"sync {STATE}.new", "sync ."])
def test_the_test_above_would_notice_a_missing_sync(lie: str) -> None:
    """A crash test that passes without the syncs tests nothing."""
    forgot = 0
    disk = lab.disk(lies=frozenset({lie}))
    told, _ = answers_until_stopped(disk, (3, 300, 301))
    for _, left in disk.survivors():
        try:
            lab.witness(left).close()
        except StateUnreadable:
            forgot += 1
            continue
        size = remembered(left).size if STATE in files_of(left) else 0
        forgot += size < max(told)
    assert forgot


@pytest.mark.parametrize("number", [EIO, ENOSPC])
@pytest.mark.parametrize("only", ["write", "sync", "rename"])
def test_after_a_disk_that_said_no_it_signs_nothing_more(number: int, only: str) -> None:
    """After a failed sync nobody knows what is on the disk; a second try would look clean."""
    disk = lab.disk()
    target = lab.witness(disk)
    assert target.add(lab.body(lab.log(3), 3, 0)).status == 200
    disk.fail(Fault(disk.operations, number, only=only))
    assert target.add(lab.body(lab.log(5), 5, 3)).status == 503
    assert target.add(lab.body(lab.log(5), 5, 3)).status == 503, "though the disk works again"
    assert target.failure
    target.close()
    for _, left in disk.survivors():
        assert remembered(left).size in (3, 5)
    again = lab.witness(disk.mended())
    assert remembered(disk).size in (3, 5)
    again.close()


def test_what_it_finds_at_the_start_is_made_durable_before_it_is_built_on() -> None:
    """A killed witness may leave its newest word in the page cache only."""
    disk = lab.disk(lies=frozenset({"sync"}))
    target = lab.witness(disk)
    assert target.add(lab.body(lab.log(3), 3, 0)).status == 200
    target.close()
    mended = disk.mended()
    lab.witness(mended).close()
    for name, left in mended.survivors():
        assert remembered(left).size == 3, name


@pytest.mark.parametrize("content", [b"", b"\0" * 200, lab.log(3, key=lab.STRANGER)["checkpoint"]])
def test_a_damaged_memory_is_not_taken_for_an_empty_one(content: bytes) -> None:
    """Starting as if nothing had been signed would sign anything."""
    disk = lab.disk()
    lab.witness(disk).add(lab.body(lab.log(3), 3, 0))
    with pytest.raises(StateUnreadable) as refused:
        lab.witness(damaged(disk, STATE, content))
    assert KEY.name in refused.value.message


def test_requests_at_the_same_time_never_roll_it_back() -> None:
    """The race of the specification: the larger one is stored, the smaller one overwrites it."""
    disk = lab.disk()
    target = lab.witness(disk)
    assert target.add(lab.body(lab.log(1), 1, 0)).status == 200
    bodies = {size: lab.body(lab.log(size), size, 1) for size in range(2, 34)}
    with ThreadPoolExecutor(16) as many:
        answers = dict(zip(bodies, many.map(target.add, bodies.values()), strict=True))
    won = [size for size, answer in answers.items() if answer.status == 200]
    assert len(won) == 1, "all named the same old size, so one alone can be right"
    assert {a.status for a in answers.values()} == {200, 409}
    assert remembered(disk).size == won[0]
    assert checkpoint.read(files_of(disk)[STATE], KEY.verifier) is not None


def test_a_witness_that_has_ended_signs_nothing() -> None:
    """Another process may hold the folder by then."""
    target: Witness = lab.witness()
    target.close()
    assert target.add(lab.body(lab.log(3), 3, 0)).status == 503


def test_a_folder_that_is_not_its_memory_is_not_taken_for_an_empty_one() -> None:
    """Emptied, replaced or not mounted: whatever it signed before could be signed away."""
    with pytest.raises(LogMissing):
        lab.witness(SimulatedDisk())
    disk = lab.disk()
    target = lab.witness(disk)
    assert target.add(lab.body(lab.log(3), 3, 0)).status == 200
    disk.remove(BEGUN)
    assert target.add(lab.body(lab.log(5), 5, 3)).status == 503, "it vanished while it ran"
    assert remembered(disk).size == 3
