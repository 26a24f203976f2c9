"""What is kept and what is not: collect, back up, restore, erase."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, Json, session_here, user
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.formatting import format_bytes

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.upkeep.gc import Group


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without, only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Collect what nothing needs any more, as tidemill.toml says under retention."""
    from tidemill.upkeep import gc as collection
    from tidemill.upkeep.lock import upkeep

    session = session_here()
    store, now, retention = session.workspace, session.clock.now(), session.project.policy.retention
    planned = collection.plan(store.ledger, store.blobs, retention, now)
    if not apply:
        rows = _tidied(session, dry_run=True)
        if json:
            output.as_json({"goes": planned.goes, "stays": planned.stays, "journal": rows})
            return
        _told("goes", planned.goes)
        _told("stays", planned.stays)
        for kind, count in rows.items():
            output.out.print(f"journal {kind}: {count} rows go")
        output.err.print("nothing was deleted: `tidemill gc --apply` does it")
        return
    with upkeep(store.root, store.database):
        planned = collection.plan(store.ledger, store.blobs, retention, now)
        done = collection.collect(store.ledger, store.blobs, planned, session.clock)
        rows = _tidied(session)
    if json:
        output.as_json({"collected": done, "journal": rows})
        return
    spared = f"; {done.spared} were named meanwhile and stay" if done.spared else ""
    output.out.print(f"{done.count} blobs of {format_bytes(done.bytes)} went{spared}")
    for kind, count in rows.items():
        output.out.print(f"journal {kind}: {count} rows went")


def backup(
    file: Annotated[str, typer.Argument(help="The tar file to write; - writes to a pipe.")],
    json: Json = False,
) -> None:
    """Back the workspace up while it is used: ledger, blobs, journal, tables and routes, in one file."""
    from tidemill import __version__
    from tidemill.upkeep.backup import About, back_up

    session = session_here()
    about = About(__version__, session.project.name, session.project.policy_digest)
    with _sink(file) as sink:
        manifest = back_up(session.workspace, sink, about, session.clock.now())
    if json and file != "-":
        output.as_json(manifest)
    else:
        held = f"{manifest.records['runs']} runs, {manifest.blobs} blobs, {format_bytes(manifest.bytes)}"
        output.err.print(f"backed up {held} in {manifest.files} files")
    if manifest.missing:
        lost = f"{len(manifest.missing)} blobs that the ledger names are gone or altered, and not in it"
        some = ", ".join(digest[:12] for digest in manifest.missing[:5])
        output.err.print(f"warning: {lost}: {some}", style="yellow")


def restore(
    file: Annotated[str, typer.Argument(help="A backup; - reads from a pipe.")],
    force: Annotated[bool, typer.Option("--force", help="Move aside what is in the workspace now.")] = False,
    json: Json = False,
) -> None:
    """Make the workspace what a backup holds; nothing is put in place before all of it was verified."""
    from tidemill.upkeep import restore as restoring

    session = session_here()
    with _source(file) as source:
        done = restoring.restore(session.workspace, source, session.clock.now(), force=force)
    if json:
        output.as_json(done)
        return
    manifest = done.manifest
    records = ", ".join(f"{count} {name}" for name, count in manifest.records.items() if count)
    output.out.print(f"restored {manifest.project} as of {output.cell(manifest.taken)}: {records}")
    output.out.print(f"  {manifest.blobs} blobs, {format_bytes(manifest.bytes)}")
    if done.aside:
        output.out.print(f"  what was there before is in {done.aside}")
    if manifest.policy != session.project.policy_digest:
        output.err.print("note: tidemill.toml says something else than when the backup was taken")


def erase(
    whom: Annotated[str, typer.Argument(metavar="NAME=VALUE", help="A column or an entity, and its value.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    env: Environment = "production",
    json: Json = False,
) -> None:
    """Erase one person's rows from journal, online store, cached frames and tables, in every environment."""
    from tidemill.upkeep.erasure import Eraser, person_of

    session = session_here(env)
    views = session.project.code.views
    person = person_of(whom, views)
    eraser = Eraser(session.workspace, session.project.policy, session.sources, views, session.clock)
    done = eraser.erase(person, actor=user(), reason=reason, dry_run=dry_run)
    if json:
        output.as_json(done)
        return
    went = "would go" if dry_run else "went"
    for store, count in done.rows.items():
        output.out.print(f"{store}: {count} rows {went}")
    output.out.print(f"cached frames: {done.frames} {went}")
    for path, count in done.sources.items():
        output.out.print(f"yours to change: {path} holds {count} such rows")
    for path in done.unread:
        output.out.print(f"yours to look at: {path} could not be read")
    if done.releases:
        output.out.print(f"may have learnt from them: {', '.join(done.releases)}")
    output.err.print("backups that were taken before still hold them")


@contextmanager
def _sink(file: str) -> Iterator[BinaryIO]:
    if file != "-":
        from tidemill.upkeep.backup import whole

        with whole(Path(file)) as sink:
            yield sink
        return
    if sys.stdout.isatty():
        raise InputError("a backup is not for a terminal to show", "name a file, or pipe it: tidemill backup - | …")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # What is still held back must not be tried again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise TidemillError("the backup is incomplete: its pipe was closed", "look at who was to read it") from None


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as refused:
        raise InputError(f"{file} cannot be read: {refused.strerror}", "check the path and its permissions") from None
    with source:
        yield source


def _tidied(session: "Session", *, dry_run: bool = False) -> dict[str, int]:
    """The rows of the journals of all environments that went, or would go."""
    from tidemill.upkeep.tidying import tidy

    retention, now = session.project.policy.retention, session.clock.now()
    dropped = {}
    for place in session.workspace.environments():
        for kind, count in tidy(place.journal, retention, now, dry_run=dry_run).items():
            dropped[f"{place.environment}/{kind}"] = count
    return dropped


def _told(what: str, groups: "tuple[Group, ...]") -> None:
    if groups:
        rows = ([g.kind, str(g.count), format_bytes(g.bytes), output.cell(g.oldest), g.why] for g in groups)
        output.table((what, "blobs", "size", "oldest", "why"), rows)
        output.out.print()
