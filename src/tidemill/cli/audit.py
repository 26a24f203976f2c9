"""`audit`: the decisions of people and of the policy, and the proof that nobody changed them afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Json, Limit, load_session
from tidemill.errors import Corrupt, InputError

if TYPE_CHECKING:
    from tidemill.evidence.audit import AuditReport
    from tidemill.flow.session import Session

audit = typer.Typer(no_args_is_help=True, help="Decisions of people and of the policy.")
_KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the private key, outside the workspace.")]


@audit.command("list")
def list_audit(limit: Limit = 20, json: Json = False) -> None:
    """List the newest decisions, of people and of the policy."""
    entries = load_session().workspace.ledger.audit.find(newest=True, limit=limit)
    columns = {
        "time": lambda a: a.time,
        "who": lambda a: a.actor,
        "action": lambda a: a.action,
        "subject": lambda a: a.subject,
        "reason": lambda a: a.reason,
    }
    output.print_records(entries, columns, json=json, nothing="no decisions yet")


@audit.command("verify")
def verify(
    head: Annotated[
        list[Path] | None, typer.Option(help="A signed head that the log must continue; can be repeated.")
    ] = None,
    public_key: Annotated[Path | None, typer.Option(help="The public key that verifies the signed heads.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Verify this file of `audit export` in place of the ledger.")
    ] = None,
    json: Json = False,
) -> None:
    """Verify that no entry of the audit log and no other record of the ledger was edited, deleted or inserted.

    Only a signed head reveals entries that were deleted at the end of the log, or a log that was written again.
    """
    session = load_session()
    if head and public_key is None:
        raise InputError("--public-key is missing", "use the public key of the person who signed the heads")
    report, problems = _verify_log(session, file)
    for signed in head or []:
        assert public_key is not None
        problems += _compare_with_head(session, file, report, signed, public_key)
    records = list(session.workspace.ledger.verify()) if file is None else []
    if json:
        found = {"faults": report.faults, "records": records, "heads": problems}
        output.print_json({"entries": report.entries, "head": report.head, **found})
    for fault in report.faults if not json else ():
        output.out.print(f"entry {fault.number or '?'} ({fault.id}): {fault.problem}")
    problems += [f"{' '.join(filter(None, (fault.book, fault.id)))}: {fault.problem}" for fault in records]
    for problem in problems if not json else ():
        output.out.print(problem)
    count = len(report.faults) + len(problems)
    if count:
        raise Corrupt(
            f"the ledger of project {session.project.name!r} has {count} fault{'s' if count > 1 else ''}",
            "find out who changed the ledger; a backup has the log as it was: `tidemill restore FILE`",
        )
    if not json:
        against = f", and continue {len(head)} signed head{'s' if len(head) > 1 else ''}" if head else ""
        output.out.print(f"{report.entries} entries are unchanged{against}; the last hash is {report.head or 'none'}")
        if file is None:
            output.out.print("all other records are unchanged since Tidemill wrote them")


def _verify_log(session: "Session", file: Path | None) -> "tuple[AuditReport, list[str]]":
    from tidemill.evidence.audit import read_exported, verify_entries

    if file is None:
        return verify_entries(session.workspace.ledger.audit.stored()), []
    try:
        with file.open("rb") as lines:
            return verify_entries(read_exported(lines)), []
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "use a file of `tidemill audit export`") from None


def _compare_with_head(
    session: "Session", file: Path | None, report: "AuditReport", signed: Path, public_key: Path
) -> list[str]:
    from tidemill.evidence.audit import find_hash, read_exported
    from tidemill.evidence.heads import compare_with_head, read_head, verify_head

    head = verify_head(read_head(signed), public_key, session.project.name)
    if file is None:
        found = find_hash(session.workspace.ledger.audit.stored(), head.count)
    else:
        with file.open("rb") as lines:
            found = find_hash(read_exported(lines), head.count)
    problem = compare_with_head(head, found, report.entries)
    return [f"{signed}: {problem}"] if problem else []


@audit.command("sign")
def sign(
    key: Annotated[Path, typer.Option(help="The private Ed25519 key, in a file outside the workspace.")],
    out: Annotated[Path | None, typer.Option(help="The file for the signed head. Default: stdout.")] = None,
) -> None:
    """Sign the head of the audit log: the number of entries, the hash of the last one, and the time."""
    from tidemill.evidence.heads import sign_head, write_head

    session = load_session()
    workspace = session.workspace
    last = workspace.ledger.audit.head()
    signed = sign_head(last, session.project.name, session.clock.now(), key, workspace.root)
    if out is None:
        output.print_json(signed)
        return
    write_head(signed, out)
    output.err.print(f"signed entry {signed.head.count}; keep {out} where nobody who can write the ledger can write")


@audit.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The file for the entries.")],
) -> None:
    """Write all entries of the audit log to a file, one JSON object on each line, in the order of the log."""
    session = load_session()
    try:
        with file.open("w", encoding="utf-8") as sink:
            count = 0
            for entry in session.workspace.ledger.audit.stored():
                sink.write(entry.body + "\n")
                count += 1
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}", "choose a writable folder") from None
    output.err.print(f"wrote {count} entries to {file}; to verify them: `tidemill audit verify --file {file}`")


@audit.command("key")
def key(file: _KeyFile) -> None:
    """Create an Ed25519 key that signs heads: the private key in FILE, the public key in FILE.pub."""
    from tidemill.evidence.heads import create_key

    root = load_session().workspace.root.resolve()
    if file.resolve().is_relative_to(root):
        raise InputError(f"{file} is in the workspace: whoever can change the log could sign it", "use another folder")
    public = create_key(file)
    output.err.print(f"wrote the private key {file} and the public key {public}")
