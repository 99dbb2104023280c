"""`sovereign report`: a verdict per control, as `make audit` prints it."""

import msgspec
import typer

from sovereign.cli import policy_exceptions as excepting
from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, policy_of, say, table
from sovereign.evidence.checks import Site, answer
from sovereign.evidence.verdict import exit_code
from sovereign.policy.shapes import ArticleRef
from sovereign.registry import utcnow


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(report)


def report(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """A verdict per control. Exit 1 for a failure, 3 for anything not known."""
    where = home_of(home)
    site = Site(where, policy_of(where), utcnow())
    verdicts = [(c, answer(site, c.check)) for c in site.policy.controls.values()]
    verdicts.sort(key=lambda pair: pair[0].ref)
    if as_json:
        give(
            {
                "at": site.now.isoformat(),
                "policy": site.policy.digest,
                "note": "self-assessment, not legal advice",
                "exceptions": excepting.standing(where, site.policy),
                "controls": [
                    {**msgspec.to_builtins(c), "state": v.state, "found": v.found}
                    for c, v in verdicts
                ],
            }
        )
    else:
        rows = [(c.ref, c.id, v.state, v.found, _articles(c.articles)) for c, v in verdicts]
        table(("ref", "control", "state", "found", "article"), rows)
        excepting.show(excepting.standing(where, site.policy))
        say(f"\npolicy {site.policy.digest[:16]}… at {site.now:%Y-%m-%d %H:%M} UTC")
        say("self-assessment, not legal advice")
    raise typer.Exit(exit_code([verdict.state for _, verdict in verdicts]))


def _articles(articles: tuple[ArticleRef, ...]) -> str:
    return ", ".join(f"{a.law} {a.article}" for a in articles)
