"""A workspace with something of everything, and what it contains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from tidemill.compose.backends import open_workspace
from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.run import Run, StepRun
from tidemill.testing.journal import START, rows
from tidemill.upkeep.backup import BackupManifest, BackupOrigin, back_up, open_atomically
from tidemill.upkeep.restore import restore
from tidemill.workspace.workspace import Workspace

NOW = datetime(2013, 3, 1, tzinfo=UTC)
ABOUT = BackupOrigin("0.2.0", "late", "abc")
BOOKS = ("artifacts", "runs", "steps", "verdicts", "releases", "routes", "events", "jobs", "schemas", "audit")


def work(workspace: Workspace, name: str) -> None:
    """What a run leaves everywhere; the ledger is written last, as a run does."""
    content = f"what {name} gave, Zürich ✓".encode()
    digest, log, package = (workspace.blobs.put(content + end) for end in (b"", b" log", b" package"))
    moment = START + timedelta(minutes=abs(hash(name)) % 1000)
    workspace.journal.append("labels/late", rows(moment, name=[name]))
    workspace.tables.append("orders", name, pl.DataFrame({"name": [name]}))
    books = workspace.ledger
    run = Run(id=name, pipeline="p", environment="production", state="done", started=NOW, packages=log)
    step = StepRun(
        id=f"{name}-step",
        run=name,
        step="s",
        position=0,
        state="ran",
        reason="",
        key=name,
        code="",
        executor="inline",
        started=NOW,
        outputs={"output": digest},
        log_blob=log,
    )
    with books.transaction():
        books.artifacts.add(Artifact(id=digest, kind="bytes", size=len(content)))
        books.runs.add(run)
        books.steps.add(step)
        books.releases.add(
            Release(
                id=f"{name}-release",
                name=name,
                version=1,
                package=package,
                flavor="f",
                environment="production",
                created=NOW,
                run=name,
            )
        )


def taken(workspace: Workspace, file: Path) -> BackupManifest:
    with open_atomically(file) as sink:
        return back_up(workspace, sink, ABOUT, NOW)


def restored(file: Path, folder: Path, **options: Any) -> Workspace:
    workspace = open_workspace(folder)
    with file.open("rb") as source:
        restore(workspace, source, NOW, **options)
    return open_workspace(folder)


def reported(workspace: Workspace) -> dict[str, Any]:
    """All that a workspace holds."""
    frames = {"journal": workspace.journal.read("labels/late")}
    version = workspace.tables.version("orders")
    frames["table"] = workspace.tables.read("orders", version) if version >= 0 else pl.DataFrame()
    return {
        **{name: getattr(workspace.ledger, name).find() for name in BOOKS},
        **{name: sorted(frame["name"]) if frame.width else [] for name, frame in frames.items()},
        "version": version,
        "routes": workspace.board.routes(),
        "online": workspace.online.read("weather", ["JFK"]),
        "blobs": {one.digest: workspace.blobs.get(one.digest) for one in workspace.blobs.list_blobs()},
    }
