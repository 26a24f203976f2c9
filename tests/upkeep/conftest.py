"""A workspace and its backup for the tests of this folder."""

from pathlib import Path

import pytest

from tests.upkeep.filled import NOW, taken, work
from tidemill.compose.backends import open_workspace
from tidemill.core.audit import AuditEntry
from tidemill.core.route import Arm, Route
from tidemill.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with something of everything."""
    made = open_workspace(tmp_path / "here")
    for name in ("one", "two", "three"):
        work(made, name)
    arm = Arm(release="one/1", version=1, package="x", role="champion", share=1.0)
    route = Route(id="r", environment="production", model="one", version=1, arms=(arm,), since=NOW, reason="first")
    made.ledger.routes.add(route)
    made.board.publish(route)
    made.ledger.audit.add(
        AuditEntry(
            id="a", actor="jürg", action="b", subject="c", time=NOW, reason='it\'s "odd"', environment="production"
        )
    )
    made.online.write("weather", [("JFK", NOW, {"wind": 3.5})])
    return made


@pytest.fixture
def file(workspace: Workspace, tmp_path: Path) -> Path:
    taken(workspace, tmp_path / "b.tar")
    return tmp_path / "b.tar"
