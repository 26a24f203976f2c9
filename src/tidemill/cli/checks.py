"""`checks`: verdicts, and the kinds of checks that give them."""

import typer

from tidemill.cli import output
from tidemill.cli.session import Id, Json, Limit, Only, Within, given, nothing, session_here

checks = typer.Typer(no_args_is_help=True, help="Verdicts: what was judged, and what followed.")


@checks.command("list")
def list_checks(
    check: Only = "",
    outcome: Only = "",
    action: Only = "",
    run: Only = "",
    env: Within = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """The newest verdicts."""
    asked = given(check=check, outcome=outcome, action=action, run=run, environment=env)
    found = session_here().workspace.ledger.verdicts.find(newest=True, limit=limit, **asked)
    columns = {
        "verdict": lambda v: output.short(v.id),
        "time": lambda v: v.time,
        "check": lambda v: v.check,
        "subject": lambda v: v.subject,
        "outcome": lambda v: v.outcome,
        "action": lambda v: v.action,
        "reason": lambda v: v.reason,
    }
    output.records(found, columns, json=json, nothing=nothing(asked, "nothing was judged yet"))


@checks.command("kinds")
def list_kinds(stage: Only = "", json: Json = False) -> None:
    """The checks there are: what each compares, and what it needs."""
    from tidemill.checks.registry import CHECKS

    asked = given(stage=stage)
    columns = {
        "check": lambda c: c.name,
        "part of": lambda c: c.part_of,
        "stage": lambda c: c.stage,
        "subject": lambda c: c.subject,
        "needs": lambda c: ", ".join(c.needs),
        "compares": lambda c: c.about,
    }
    found = [one for one in CHECKS if stage in ("", one.stage)]
    output.records(found, columns, json=json, nothing=nothing(asked, "there are no checks"))


@checks.command("show")
def show_check(verdict: Id, json: Json = False) -> None:
    """One verdict with its evidence."""
    output.record(session_here().workspace.ledger.verdicts.get(verdict), json=json)
