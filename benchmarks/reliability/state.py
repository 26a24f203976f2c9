"""Reads the whole state of a project, in a process of its own: its facts, and what is not sound."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.reliability import child
from benchmarks.reliability.shop import Shop


def read_state(shop: Shop) -> dict[str, Any]:
    """Return the facts of a shop, and a list of `problems`."""
    return child.ask(shop.folder, _read, logs=shop.logs, environment=shop.environment)  # type: ignore[no-any-return]


def _read() -> dict[str, Any]:
    from tidemill.compose.session import open_session
    from tidemill.flow.engine import sweep
    from tidemill.ledger.batches import list_batches
    from tidemill.project.project import Project
    from tidemill.registry.pauses import find_pause
    from tidemill.registry.routing import find_current_route

    session = open_session(Project(Path.cwd()), "production")
    sweep(session)
    workspace = session.workspace
    books = workspace.ledger
    route = find_current_route(books, "production", "shop")
    now = session.clock.now()
    table = workspace.tables.read("rows", workspace.tables.version("rows"))
    keys = table["order_id"].to_list() if table.width else []
    facts: dict[str, Any] = {
        "ids": {name: [record.id for record in book.find()] for name, book in books.books.items()},
        "runs": {run.id: run.state for run in books.runs.find()},
        "releases": {release.label: release.tags for release in books.releases.find()},
        "route": {arm.role: arm.release for arm in route.arms} if route else {},
        "batches": {batch.path: batch.state for batch in list_batches(books, "production")},
        "schemas": len(books.schemas.find()),
        "tokens": {token.name: token.revoked is not None for token in books.tokens.find()},
        "jobs": {job.id: job.state for job in books.jobs.find()},
        "audit": [[entry.action, entry.subject] for entry in books.audit.find()],
        "frozen": find_pause(books, "model", "shop", environment="production", now=now) is not None,
        "paused": find_pause(books, "trigger", "watch", environment="production", now=now) is not None,
        "keys": keys,
        "other": [str(file.relative_to("other")) for file in Path("other").rglob("*") if file.stat().st_size],
        "journal": {
            kind: workspace.journal.read(kind, datetime(2000, 1, 1, tzinfo=UTC), now + timedelta(days=1))[
                "id"
            ].to_list()
            for kind in workspace.journal.kinds()
        },
    }
    return facts | {"problems": list(_find_problems(session, keys, route))}


def _find_problems(session: Any, keys: list[str], route: Any) -> "Any":
    from tidemill.blobs.artifacts import is_intact
    from tidemill.blobs.store import compute_digest
    from tidemill.evidence.audit import verify_entries

    workspace = session.workspace
    books, blobs = workspace.ledger, workspace.blobs
    for file in Path(".tidemill/blobs").glob("??/*"):
        if compute_digest(file.read_bytes()) != file.name:
            yield f"blob {file.name[:12]} does not match its digest"
    for fault in verify_entries(books.audit.stored()).faults:
        yield f"audit entry {fault.number}: {fault.problem}"
    for artifact in books.artifacts.find():
        if not artifact.transient and artifact.collected is None and not is_intact(blobs, artifact):
            yield f"artifact {artifact.id[:12]} has no bytes"
    for release in books.releases.find():
        session.packages.load(release.package)
    published = workspace.board.routes().get("shop")
    if route is not None and (published is None or published.version != route.version or published.arms != route.arms):
        yield f"the board has version {published.version if published else 0} of the route, the ledger {route.version}"
    if len(set(keys)) < len(keys):
        yield f"{len(keys) - len(set(keys))} rows of the table are there twice"
    for run in books.runs.find(state="running"):
        yield f"run {run.id} is still running"
