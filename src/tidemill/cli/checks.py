"""`checks`: lists verdicts and the kinds of checks."""

import typer

from tidemill.cli import output
from tidemill.cli.session import (
    EnvironmentFilterOption,
    FilterOption,
    Id,
    Json,
    Limit,
    describe_empty,
    load_session,
    select_filters,
)

checks = typer.Typer(no_args_is_help=True, help="Verdicts of checks.")


@checks.command("list")
def list_checks(
    check: FilterOption = "",
    outcome: FilterOption = "",
    action: FilterOption = "",
    run: FilterOption = "",
    env: EnvironmentFilterOption = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the newest verdicts."""
    filters = select_filters(check=check, outcome=outcome, action=action, run=run, environment=env)
    verdicts = load_session().workspace.ledger.verdicts.find(newest=True, limit=limit, **filters)
    columns = {
        "verdict": lambda v: output.shorten_id(v.id),
        "time": lambda v: v.time,
        "check": lambda v: v.check,
        "subject": lambda v: v.subject,
        "outcome": lambda v: v.outcome,
        "action": lambda v: v.action,
        "reason": lambda v: v.reason,
    }
    output.print_records(verdicts, columns, json=json, nothing=describe_empty(filters, "no verdicts yet"))


@checks.command("kinds")
def list_kinds(stage: FilterOption = "", json: Json = False) -> None:
    """List all checks: what each one compares and needs."""
    from tidemill.recipes.gating import list_check_kinds

    filters = select_filters(stage=stage)
    columns = {
        "check": lambda c: c.name,
        "part of": lambda c: c.part_of,
        "stage": lambda c: c.stage,
        "subject": lambda c: c.subject,
        "needs": lambda c: ", ".join(c.needs),
        "compares": lambda c: c.about,
    }
    kinds = [kind for kind in list_check_kinds() if stage in ("", kind.stage)]
    output.print_records(kinds, columns, json=json, nothing=describe_empty(filters, "there are no checks"))


@checks.command("show")
def show_check(verdict: Id, json: Json = False) -> None:
    """Show a verdict with its evidence."""
    output.print_record(load_session().workspace.ledger.verdicts.get(verdict), json=json)
