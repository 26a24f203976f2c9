"""`doctor`: verify everything that is stored, and mend what is damaged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tidemill.access.roles import ADMINISTER
from tidemill.cli import output
from tidemill.cli.session import Json, load_session, require_actor
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.upkeep.doctor import Finding
    from tidemill.workspace.workspace import Workspace


def doctor(
    mend: Annotated[bool, typer.Option("--mend", help="Mend what can be mended.")] = False,
    backup: Annotated[Path | None, typer.Option(help="A backup with the bytes of damaged files.")] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Stop reporting files of the journal that nothing can mend.")
    ] = False,
    json: Json = False,
) -> None:
    """Read and verify everything that is stored, name what is damaged, and mend it from ledger, sources and backup."""
    from contextlib import ExitStack

    from tidemill.upkeep.doctor import Doctor
    from tidemill.upkeep.lock import upkeep

    if (backup or accept_loss) and not mend:
        raise InputError("--backup and --accept-loss change nothing without --mend", "add --mend")
    session = load_session()
    workspace = session.workspace
    examining = Doctor(workspace, session.clock, lambda opened: _materialize(session, opened))
    with ExitStack() as stack:
        if mend:
            require_actor(session, ADMINISTER)
            stack.enter_context(upkeep(workspace.root, workspace.database))
        findings = list(examining.examine())
        if mend and findings:
            source = stack.enter_context(_open(backup)) if backup else None
            findings = examining.mend(findings, source, accept=accept_loss)
    remaining = [finding for finding in findings if not finding.mended]
    if json:
        output.print_json(findings)
    else:
        for finding in findings:
            _print(finding)
        if not findings:
            output.out.print("everything that is stored was read and verified: nothing is damaged")
    if remaining:
        output.err.print(f"{len(remaining)} damaged objects remain", style="red")
        raise typer.Exit(1)


def _print(finding: "Finding") -> None:
    damage = finding.damage
    where = f"{finding.environment} {damage.store}" if finding.environment else damage.store
    ending = f"mended: {finding.mended}" if finding.mended else damage.cure
    output.out.print(f"{where} {damage.name} ({damage.state}): {damage.problem} — {ending}")


def _open(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "check the path and its permissions") from None


def _materialize(session: "Session", opened: "Workspace") -> None:
    """Compute the values of all views of the project again, for the online store of an environment."""
    from tidemill.featurestore.materialize import materialize

    for view in session.project.code.views.values():
        materialize(view, session.sources, opened.online, session.clock.now())
