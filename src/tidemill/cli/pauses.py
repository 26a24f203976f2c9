"""Pauses triggers and freezes models, for the commands of both."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.access.roles import OPERATE
from tidemill.cli import output
from tidemill.cli.decisions import export_audit_head
from tidemill.cli.session import require_actor
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.registry.pauses import Pausable

Until = Annotated[str, typer.Option(help="The end: a time in UTC, or a duration such as 2d. Default: no end.")]


def pause_object(session: "Session", kind: "Pausable", name: str, until: str, reason: str, json: bool) -> None:
    """Pause a trigger or freeze a model, and print the entry of the audit log."""
    from tidemill.registry.pauses import format_pause, pause

    end = _parse_end(until, session.clock.now())
    entry = pause(session.workspace.ledger, session.clock, kind, name, **_author(session, reason), until=end)
    export_audit_head(session)
    output.print_json(entry) if json else output.out.print(f"{kind} {name}: {format_pause(entry)}")


def resume_object(session: "Session", kind: "Pausable", name: str, reason: str, json: bool) -> None:
    """Resume a trigger or unfreeze a model, and print the entry of the audit log.

    Raises
    ------
    InputError
        if it is not paused.
    """
    from tidemill.registry.pauses import find_pause, format_pause, resume

    books, env = session.workspace.ledger, session.workspace.environment
    if find_pause(books, kind, name, environment=env, now=session.clock.now()) is None:
        state = "frozen" if kind == "model" else "paused"
        raise InputError(f"{kind} {name!r} is not {state} in environment {env!r}", "select another one with --env")
    entry = resume(books, session.clock, kind, name, **_author(session, reason))
    export_audit_head(session)
    output.print_json(entry) if json else output.out.print(f"{kind} {name}: {format_pause(entry)}")


def _parse_end(until: str, now: datetime) -> datetime | None:
    from tidemill.clock import parse_duration
    from tidemill.errors import ConfigurationError

    if not until:
        return None
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        try:
            return now + parse_duration(until)
        except ConfigurationError:
            raise InputError(f"--until {until!r} is not a time", "write 2026-12-24, 2026-12-24T18:00 or 2d") from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= now:
        raise InputError(f"--until {until} is in the past", "use a time in the future")
    return end


def _author(session: "Session", reason: str) -> dict[str, Any]:
    actor = require_actor(session, OPERATE)
    return {"environment": session.workspace.environment, "actor": actor.name, "reason": reason}
