"""Show what a change of the policy would do, to a person and to a program: the same facts."""

from dataclasses import asdict
from typing import Any

from sovereign.cli import access
from sovereign.cli.output import facts, give, say, table
from sovereign.cli.policy_judged import Judged
from sovereign.evidence.replay import Replayed
from sovereign.policy import Policy
from sovereign.policy.semantic import Difference

SHOWN_MAX = 40
"""Lines of each list that a person is shown; --json has all of them."""


def as_facts(judged: Judged) -> dict[str, Any]:
    old, new = judged.names
    return {
        "old": old,
        "new": new,
        "loosens": judged.loosens,
        "differences": [{**asdict(each), "verb": each.verb} for each in judged.said],
        "loosened": [asdict(each) for each in judged.loosened],
        "access": judged.access,
        "cases": judged.cases,
    }


def replay_facts(done: Replayed) -> dict[str, Any]:
    return {
        "asked": done.asked,
        "changed": done.changed,
        "placeless": done.placeless,
        "gone": done.gone,
        "others": done.others,
        "kinds": [
            {
                **{name: getattr(kind, name) for name in ("place", "data", "verb", "model")},
                "before": str(kind.before),
                "after": str(kind.after),
                "count": count,
                "record": done.example[kind],
            }
            for kind, count in done.counts.most_common()
        ],
    }


def show(judged: Judged) -> None:
    old, new = judged.names
    say(f"{len(judged.said)} entries differ")
    facts({"old": old, "new": new})
    for each in judged.said[:SHOWN_MAX]:
        say(f"  {each.verb:<8}{each.file}  {each.where}{_words(each)}")
    _more(len(judged.said))
    say(f"allows more in {len(judged.loosened)} ways")
    for way in judged.loosened[:SHOWN_MAX]:
        say(f"  {way.what}: {way.before} -> {way.after}")
    _more(len(judged.loosened))
    access.show_changes(judged.access[:SHOWN_MAX])
    _more(len(judged.access))
    access.show_cases(judged.cases)


def _words(each: Difference) -> str:
    """Both words, where they are short enough to be read in a line."""
    if isinstance(each.before, dict | list) or isinstance(each.after, dict | list):
        return ""
    both = [str(value) for value in (each.before, each.after) if value is not None]
    return f": {' -> '.join(both)}" if all(len(value) <= 60 for value in both) else ""


def _more(count: int) -> None:
    if count > SHOWN_MAX:
        say(f"  and {count - SHOWN_MAX} more: --json has all of them")


def show_replay(done: Replayed | None) -> None:
    if done is None:
        say("no recorded question was asked again")
        return
    say(f"{done.asked} recorded questions asked again, {done.changed} answered otherwise")
    said = replay_facts(done)
    if said["kinds"]:
        columns = ("count", "before", "after", "place", "data", "verb", "model", "record")
        table(columns, [[kind[name] for name in columns] for kind in said["kinds"][:SHOWN_MAX]])
    facts({name: said[name] for name in ("placeless", "gone") if said[name]})


def unchanged(policy: Policy, *, as_json: bool) -> None:
    if as_json:
        give({"applied": False, "digest": policy.digest})
    else:
        say(f"{policy.digest} is in force already; nothing was changed")


def shown(
    judged: Judged,
    record: str,
    taken: bool | None,
    done: Replayed | None = None,
    *,
    as_json: bool,
    dry: bool = False,
) -> None:
    if as_json:
        said = {"applied": not dry, "record": record, "gateway": taken}
        asked = None if done is None else replay_facts(done)
        give({**as_facts(judged), **said, "replayed": asked})
        return
    show(judged)
    if done is not None:
        show_replay(done)
    if dry:
        say("nothing was changed: this was a dry run")
        return
    state = {None: "no gateway answers here", True: "under it", False: "not under it yet"}[taken]
    say(f"{judged.new.digest} is in force")
    facts({"record": record, "gateway": state})
