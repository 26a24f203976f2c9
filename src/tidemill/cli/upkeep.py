"""`gc`, `backup`, `restore` and `erase`: manage the stored data."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tidemill.access.roles import ADMINISTER
from tidemill.cli import output
from tidemill.cli.decisions import export_audit_head
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.formatting import format_bytes

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.upkeep.gc import Group


def gc(
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete; without it, only list what would be deleted.")
    ] = False,
    json: Json = False,
) -> None:
    """Delete artifacts and rows whose retention in tidemill.toml has expired."""
    from tidemill.upkeep import gc as collection
    from tidemill.upkeep.lock import upkeep

    session = load_session()
    store, now, retention = session.workspace, session.clock.now(), session.project.policy.retention
    planned = collection.plan(store.ledger, store.blobs, retention, now)
    if not apply:
        rows = _delete_old_rows(session, dry_run=True)
        if json:
            output.print_json({"to_delete": planned.to_delete, "to_keep": planned.to_keep, "journal": rows})
            return
        _print_groups("deleted", planned.to_delete)
        _print_groups("kept", planned.to_keep)
        for kind, count in rows.items():
            output.out.print(f"journal {kind}: {count} rows to delete")
        output.err.print("nothing was deleted: run `tidemill gc --apply`")
        return
    with upkeep(store.root, store.database):
        planned = collection.plan(store.ledger, store.blobs, retention, now)
        done = collection.collect(store.ledger, store.blobs, planned, session.clock)
        rows = _delete_old_rows(session)
    if json:
        output.print_json({"collected": done, "journal": rows})
        return
    kept = f"; {done.spared} are in use again and were kept" if done.spared else ""
    output.out.print(f"{done.count} blobs of {format_bytes(done.bytes)} were deleted{kept}")
    for kind, count in rows.items():
        output.out.print(f"journal {kind}: {count} rows deleted")


def backup(
    file: Annotated[str, typer.Argument(help="The tar file to write; - for stdout.")],
    json: Json = False,
) -> None:
    """Back up the workspace to one file: ledger, blobs, journal, tables and routes. It can be in use."""
    from tidemill import __version__
    from tidemill.upkeep.backup import BackupOrigin, back_up

    session = load_session()
    origin = BackupOrigin(__version__, session.project.name, session.project.policy_digest)
    with _open_sink(file) as sink:
        manifest = back_up(session.workspace, sink, origin, session.clock.now())
    if json and file != "-":
        output.print_json(manifest)
    else:
        content = f"{manifest.records['runs']} runs, {manifest.blobs} blobs, {format_bytes(manifest.bytes)}"
        output.err.print(f"backed up {content} in {manifest.files} files")
    if manifest.missing:
        lost = f"the backup lacks {len(manifest.missing)} blobs, which are missing or corrupt"
        some = ", ".join(digest[:12] for digest in manifest.missing[:5])
        output.err.print(f"warning: {lost}: {some}", style="yellow")
    if manifest.damaged:
        lost = f"the backup lacks {len(manifest.damaged)} damaged files"
        some = ", ".join(manifest.damaged[:5])
        output.err.print(f"warning: {lost}: {some} — see `tidemill doctor`", style="yellow")


def restore(
    file: Annotated[str, typer.Argument(help="The backup; - for stdin.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a workspace that is not empty; its content is moved to another folder."),
    ] = False,
    json: Json = False,
) -> None:
    """Restore the workspace from a backup; the whole backup is verified first."""
    from tidemill.upkeep import restore as restoring

    session = load_session(create=True)
    with _open_source(file) as source:
        done = restoring.restore(session.workspace, source, session.clock.now(), force=force)
    if json:
        output.print_json(done)
        return
    manifest = done.manifest
    records = ", ".join(f"{count} {name}" for name, count in manifest.records.items() if count)
    output.out.print(f"restored {manifest.project} as of {output.format_cell(manifest.taken)}: {records}")
    output.out.print(f"  {manifest.blobs} blobs, {format_bytes(manifest.bytes)}")
    if done.aside:
        output.out.print(f"  the earlier content is in {done.aside}")
    if manifest.policy != session.project.policy_digest:
        output.err.print("note: tidemill.toml has changed since the backup")


def erase(
    whom: Annotated[str, typer.Argument(metavar="NAME=VALUE", help="A column or an entity, and its value.")],
    reason: Annotated[str, typer.Option(help="Why; the audit log keeps it. Required without --dry-run.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")] = False,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Erase the rows of a person from journal, online store, cached frames and tables, in all environments."""
    from tidemill.ledger.decisions import require_reason
    from tidemill.upkeep.erasure import Eraser, parse_person

    if not dry_run:
        reason = require_reason(reason)
    session = load_session(env)
    actor = require_actor(session, ADMINISTER)
    views = session.project.code.views
    person = parse_person(whom, views)
    eraser = Eraser(session.workspace, session.project.policy, session.sources, views, session.clock)
    done = eraser.erase(person, actor=actor.name, reason=reason, dry_run=dry_run)
    export_audit_head(session)
    if json:
        output.print_json(done)
        return
    change = "to erase" if dry_run else "erased"
    for store, count in done.rows.items():
        output.out.print(f"{store}: {count} rows {change}")
    output.out.print(f"cached frames: {done.frames} {change}")
    for path, count in done.sources.items():
        output.out.print(f"change this source yourself: {path} contains {count} such rows")
    for path in done.unread:
        output.out.print(
            f"not searched, because it cannot be read: {path}; mend it (`tidemill doctor`), then erase again"
        )
    if done.releases:
        output.out.print(f"releases that may have been trained on them: {', '.join(done.releases)}")
    output.err.print("earlier backups still contain the rows")


@contextmanager
def _open_sink(file: str) -> Iterator[BinaryIO]:
    if file != "-":
        from tidemill.upkeep.backup import open_atomically

        with open_atomically(Path(file)) as sink:
            yield sink
        return
    if sys.stdout.isatty():
        raise InputError(
            "a backup cannot be written to a terminal", "write to a file, or use a pipe: tidemill backup - | …"
        )
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Buffered bytes must not be written again when the process exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise TidemillError(
            "the backup is incomplete: the reader closed the pipe", "check the command after the pipe"
        ) from None


@contextmanager
def _open_source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "check the path and its permissions") from None
    with source:
        yield source


def _delete_old_rows(session: "Session", *, dry_run: bool = False) -> dict[str, int]:
    """Delete or count the expired rows in the journals of all environments; return the number of each kind."""
    from tidemill.upkeep.tidying import tidy

    retention, now = session.project.policy.retention, session.clock.now()
    deleted = {}
    for opened in session.workspace.environments():
        for kind, count in tidy(opened.journal, retention, now, dry_run=dry_run).items():
            deleted[f"{opened.environment}/{kind}"] = count
    return deleted


def _print_groups(title: str, groups: "tuple[Group, ...]") -> None:
    if groups:
        rows = (
            [group.kind, str(group.count), format_bytes(group.bytes), output.format_cell(group.oldest), group.reason]
            for group in groups
        )
        output.print_table((title, "blobs", "size", "oldest", "reason"), rows)
        output.out.print()
