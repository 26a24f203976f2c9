"""`data batches` lists the batches with their states; `data withdraw` takes the rows of a batch back."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.access.roles import DEVELOP
from tidemill.cli import output
from tidemill.cli.data import data
from tidemill.cli.decisions import Reason, export_audit_head
from tidemill.cli.session import EnvironmentOption, Json, Limit, load_session, require_actor
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.ledger.batches import BatchRecord
    from tidemill.registry.withdrawals import BatchLineage

_STATES = ("accepted", "stopped", "withdrawn", "replaced")


@data.command("batches")
def list_batches(
    source: Annotated[str, typer.Argument(help="A source. Default: all sources.")] = "",
    state: Annotated[str, typer.Option(help="accepted, stopped, withdrawn or replaced.")] = "",
    limit: Limit = 50,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """List the newest batches that were checked, with their states."""
    from tidemill.ledger.batches import list_batches as find_batches

    if state and state not in _STATES:
        raise InputError(f"there is no state {state!r}", f"use one of: {', '.join(_STATES)}")
    records = [
        record
        for record in find_batches(load_session(env).workspace.ledger, env)
        if source in ("", record.source) and state in ("", record.state)
    ]
    columns = {
        "batch": lambda r: r.id,
        "state": lambda r: r.state,
        "rows": lambda r: f"{r.rows:,}",
        "checked": lambda r: r.time,
        "reason": lambda r: r.reason,
    }
    output.print_records(records[::-1][:limit], columns, json=json, nothing="no batch was checked yet")


@data.command("withdraw")
def withdraw(
    batch: Annotated[str, typer.Argument(help="The id of a batch, or the path of its file.")],
    reason: Reason = "",
    undo: Annotated[bool, typer.Option("--undo", help="Restore the batch.")] = False,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Take the rows of a batch back, as if it had never been accepted; or set a stopped batch aside.

    The next training, backtest and profile, and features from now on, do not use its rows. The same file is not
    ingested again; a corrected file is.
    """
    from tidemill.registry.withdrawals import trace_batch
    from tidemill.registry.withdrawals import withdraw as record_withdrawal

    session = load_session(env)
    workspace, clock = session.workspace, session.clock
    record = _find_batch(session, batch)
    entities = _name_entities(session, record)
    views = {view.name: view.source for view in session.project.code.views.values()}
    lineage = trace_batch(workspace.ledger, workspace.board, workspace.tables, session.project.policy, record, views)
    actor = require_actor(session, DEVELOP).name
    record_withdrawal(workspace.ledger, clock, record, environment=env, actor=actor, reason=reason, undo=undo)
    export_audit_head(session)
    updated = _update_online_store(load_session(env), entities)
    if json:
        output.print_json({"batch": record, "lineage": lineage, "online": updated, "withdrawn": not undo})
        return
    _print_result(record, lineage, updated, undo)


def _find_batch(session: "Session", text: str) -> "BatchRecord":
    """Return a batch that was checked, or one of a source that only feature views read: its batches are not checked."""
    from tidemill.errors import TidemillError
    from tidemill.ledger.batches import BatchRecord
    from tidemill.registry.withdrawals import find_batch

    books, environment = session.workspace.ledger, session.workspace.environment
    try:
        return find_batch(books, environment, text)
    except InputError as unknown:
        ingested = {model.problem.source for model in session.project.policy.models.values()}
        for source in session.project.policy.sources.keys() - ingested:
            with suppress(TidemillError):
                for batch in session.sources.batches(source, session.clock.now()):
                    if text in (batch.id, batch.path, batch.path.rpartition("/")[2]):
                        return BatchRecord(
                            id=batch.id,
                            source=source,
                            path=batch.path,
                            state="accepted",
                            rows=session.sources.read(batch).height,
                            time=batch.known_at,
                            reason="",
                            verdict="",
                        )
        raise unknown from None


def _name_entities(session: "Session", record: "BatchRecord") -> dict[str, set[str] | None]:
    """Return, for each feature view of the batch's source, the entities of its rows; None if they are unknown."""
    from tidemill.errors import TidemillError
    from tidemill.featurestore.lookup import name_entities

    views = [view for view in session.project.code.views.values() if view.source == record.source]
    if not views:
        return {}
    batches = [batch for batch in session.sources.batches(record.source, session.clock.now()) if batch.id == record.id]
    found: dict[str, set[str] | None] = {}
    for view in views:
        found[view.name] = None
        for batch in batches:
            try:
                rows = session.sources.read(batch)
            except TidemillError:
                continue
            found[view.name] = {name for name in name_entities(rows, view.entity.keys) if name is not None}
    return found


def _update_online_store(session: "Session", entities: dict[str, set[str] | None]) -> dict[str, int]:
    """Compute the values of the batch's entities again in the online store, without or with its rows."""
    from tidemill.core.resources import Online
    from tidemill.errors import DataError
    from tidemill.featurestore.materialize import materialize

    online = session.resource(Online)
    updated = {}
    for name, names in entities.items():
        if name not in online.views():
            continue
        online.erase(name, lambda entity, names=names: names is None or entity in names)
        try:
            updated[name] = materialize(session.project.code.view(name), session.sources, online, session.clock.now())
        except DataError:  # the source has no other batch
            updated[name] = 0
    return updated


def _print_result(record: "BatchRecord", lineage: "BatchLineage", updated: dict[str, int], undo: bool) -> None:
    rows = f"{record.rows:,} rows"
    if undo:
        output.out.print(f"{record.id} is restored: its {rows} count again")
    elif record.state == "stopped":
        output.out.print(f"{record.id} is set aside: its {rows} were not in the table, and it is not checked again")
    else:
        output.out.print(f"{record.id} is withdrawn: its {rows} do not count in trainings, backtests and features")
    for view, count in updated.items():
        output.out.print(f"the online store has new values of view {view!r} ({count:,} entities)")
    if not lineage.releases:
        output.out.print("no release learned from it")
        return
    output.out.print(f"releases that learned from it: {', '.join(lineage.releases)}")
    if not lineage.serving:
        output.out.print("none of them serves now")
        return
    output.out.print(f"serving now: {', '.join(lineage.serving)}", style="bold")
    output.err.print("next: `tidemill run training` trains a model " + ("with" if undo else "without") + " these rows")
    if lineage.clean_champion and not undo:
        output.err.print(
            f"or, at once: `tidemill models promote {lineage.clean_champion} --reason …`: it did not learn from them"
        )
