"""A gateway answers under the policy in force or not at all, and ends to be started anew."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from sovereign.policy import following as followings
from sovereign.policy.following import Following
from sovereign.settings import Home, Settings, following
from tests.gateway.site import EEA, SHIPPED, site, until
from tests.policy.changing import another, put_in_force
from tests.simulated.engine import Exchange, engine


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look so often that a test need not wait."""
    monkeypatch.setattr("sovereign.gateway.superseded.LOOK_EVERY_S", 0.01)


async def test_once_another_policy_is_in_force_no_call_is_answered_under_the_old_one(
    tmp_path: Path,
) -> None:
    """The one promise of a change: after it, nothing is decided by what was replaced."""
    home, ended = tmp_path / "home", list[str]()
    async with engine() as it, site(home, it.address) as ours:
        ours.gateway.superseding.end = lambda: ended.append("ended")
        assert (await ours.chat()).status == 200
        put_in_force(home, another(tmp_path))
        await until(lambda: bool(ended), within_s=20)
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "policy-superseded")
        assert int(reply.headers["retry-after"]) > 0
        assert len(ours.kinds("decision")) == 1
        ready = await ours.ask("GET", "/readyz")
        assert (ready.status, ready.json["policy"]) == (503, EEA.digest)
        assert "policy-superseded" in ready.json["lacking"]


async def test_a_call_that_runs_is_answered_to_its_end_before_the_gateway_ends(
    tmp_path: Path,
) -> None:
    """A change of policy cuts nobody off: what was let through was let through."""
    home, ended, go_on = tmp_path / "home", list[str](), asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await go_on.wait()
        await real(exchange)

    async with engine() as it, site(home, it.address) as ours:
        real, it.script = it.script, slowly
        ours.gateway.superseding.end = lambda: ended.append("ended")
        running = asyncio.create_task(ours.chat())
        await it.was_asked()
        put_in_force(home, another(tmp_path))
        await until(lambda: ours.gateway.superseding.is_superseded, within_s=20)
        assert (await ours.chat()).status == 503
        assert ended == []
        go_on.set()
        reply = await running
        assert (reply.status, reply.headers["x-sovereign-policy"]) == (200, EEA.digest)
        await until(lambda: bool(ended))


async def test_while_the_policy_in_force_does_not_load_the_gateway_refuses_and_stays(
    tmp_path: Path,
) -> None:
    """Ending would only be repeated; whoever puts a good policy in force is noticed."""
    home, ended = tmp_path / "home", list[str]()
    async with engine() as it, site(home, it.address) as ours:
        ours.gateway.superseding.end = lambda: ended.append("ended")
        put_in_force(home, another(tmp_path, broken=True), "b" * 64)
        await until(lambda: ours.gateway.superseding.unreadable, within_s=20)
        assert (await ours.chat()).status == 503
        put_in_force(home, SHIPPED, EEA.digest)
        await until(lambda: not ours.gateway.superseding.unreadable, within_s=20)
        assert (await ours.chat()).status == 200
        assert ended == []


# --- what follows ----------------------------------------------------------------------------


def site_of(home: Path, digest: str = EEA.digest) -> Following:
    return following(Home(home, Settings()), digest)


def test_the_policy_that_a_process_is_under_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking costs a readlink; reading forty files twice a second would not be free."""
    it = site_of(tmp_path)
    monkeypatch.setattr(policies, "load", lambda *_: pytest.fail("it was read"))
    assert it.look() is None
    put_in_force(tmp_path, SHIPPED, EEA.digest)
    under = site_of(tmp_path)
    assert (under.look(), under.look()) == (None, None)


def test_a_change_between_loading_and_the_first_look_is_noticed(tmp_path: Path) -> None:
    """A process takes a second to start; a policy may be swapped in that second."""
    it = site_of(tmp_path)
    digest = put_in_force(tmp_path, another(tmp_path))
    fresh = it.look()
    assert fresh is not None
    assert fresh.digest == digest
    assert it.look() is None


def test_the_same_policy_in_another_folder_is_no_other_policy(tmp_path: Path) -> None:
    """Comments do not end a gateway."""
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "commented"))
    path = copy / "rules/data.yaml"
    path.write_text("# a remark\n" + path.read_text())
    it = site_of(tmp_path / "home")
    assert it.look() is None
    put_in_force(tmp_path / "home", copy, EEA.digest)
    assert it.look() is None


def test_what_does_not_load_is_looked_at_again_and_again(tmp_path: Path) -> None:
    """Remembering the folder would take the second look for good news."""
    put_in_force(tmp_path, another(tmp_path, broken=True), "b" * 64)
    it = site_of(tmp_path)
    for _ in range(2):
        with pytest.raises(PolicyUnreadable):
            it.look()


def test_a_link_that_leads_nowhere_is_an_error_and_not_the_old_policy(tmp_path: Path) -> None:
    """A version taken away by hand must not leave processes under it."""
    put_in_force(tmp_path, SHIPPED, EEA.digest)
    it = site_of(tmp_path)
    assert it.look() is None
    link: Any = tmp_path / "policy-versions/in-force"
    link.unlink()
    link.symlink_to("c" * 64)
    with pytest.raises(PolicyUnreadable):
        it.look()
    assert followings.LOOK_EVERY_S <= 1
