"""The commands, hung into one tree, or as much of it as what was typed can mean.

Most of the time a short command takes goes into importing what other commands need. So the verbs
of `audit.py` itself, which scripts and auditors call most, get a tree with that one; whatever
else is typed, and every page of help, gets the whole.
"""

from collections.abc import Sequence
from functools import cache
from typing import Annotated

import typer
from typer.models import CommandInfo

from sovereign import __version__
from sovereign.cli.output import say


def wanted(words: Sequence[str]) -> typer.Typer:
    """A tree that has every command these words can mean."""
    if len(words) > 1 and words[0] == "audit":
        from sovereign.cli import audit

        only = [each for each in audit.app.registered_commands if _verb(each) == words[1]]
        if only:
            group = typer.Typer(help=audit.app.info.help, no_args_is_help=True)
            group.registered_commands = only
            app = _root()
            app.add_typer(group, name="audit")
            return app
    return whole()


def _verb(command: CommandInfo) -> str:
    """The word that a command is called by."""
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


@cache
def whole() -> typer.Typer:
    """Every command."""
    from sovereign.cli import (
        access,
        attest,
        attest_outside,
        audit,
        audit_cosign,
        audit_export,
        audit_keys,
        audit_read,
        audit_restore,
        audit_serve,
        audit_standby,
        controller,
        cost,
        decide,
        deploy,
        drill,
        egress,
        hold,
        incident,
        issuer,
        keys,
        keys_end,
        licence,
        models,
        places,
        policy,
        policy_change,
        policy_exceptions,
        register,
        report,
        retention,
        services,
        size,
        subject,
        subject_export,
        subject_requests,
        subject_restrict,
        tenant,
        usage,
        weights,
        weights_carried,
        witness,
    )

    app = _root()
    deploy.add_to(app)
    services.add_to(app)
    decide.add_to(app)
    report.add_to(app)
    keys_end.add_to(keys.app)
    app.add_typer(keys.app, name="key")
    app.add_typer(tenant.app, name="tenant")
    app.add_typer(issuer.app, name="issuer")
    policy_change.add_to(policy.app)
    policy_exceptions.add_to(policy.app)
    app.add_typer(policy.app, name="policy")
    app.add_typer(access.app, name="access")
    app.add_typer(places.app, name="places")
    attest_outside.add_to(attest.app)
    app.add_typer(attest.app, name="attest")
    audit_export.add_to(audit.app)
    audit_read.add_to(audit.app)  # verbs of the audit log that stand in modules of their own
    audit_cosign.add_to(audit.app)
    audit_keys.add_to(audit.app)
    audit_serve.add_to(audit.app)
    audit_standby.add_to(audit.app)
    audit_restore.add_to(audit.app)
    app.add_typer(audit.app, name="audit")
    app.add_typer(controller.app, name="controller")
    app.add_typer(hold.app, name="hold")
    app.add_typer(incident.app, name="incident")
    app.add_typer(register.app, name="register")
    subject_export.add_to(subject.app)
    subject_restrict.add_to(subject.app)
    subject_requests.add_to(subject.app)
    app.add_typer(subject.app, name="subject")
    app.add_typer(retention.app, name="retention")
    app.add_typer(witness.app, name="witness")
    app.add_typer(models.app, name="models")
    app.add_typer(drill.app, name="drill")
    app.add_typer(egress.app, name="egress")
    app.add_typer(licence.app, name="licence")
    weights_carried.add_to(weights.app)
    app.add_typer(weights.app, name="weights")
    size.add_to(app)
    cost.add_to(app)
    usage.add_to(app)
    return app


def _root() -> typer.Typer:
    app = typer.Typer(
        name="sovereign",
        help="Host Mistral models in the EU, and prove where the data went.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"sovereign {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass
