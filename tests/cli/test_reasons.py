"""Decisions of people need a reason: without one, a command that changes what runs does nothing."""

from pathlib import Path

import pytest

from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an environment; nothing was trained or built."""
    folder = tmp_path_factory.mktemp("reasons") / "shop"
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as file:
        file.write("\n[environments.test]\n")
    return folder


@pytest.mark.parametrize("reason", [None, "", "  ", "…"])
@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "promote", "1", "--to", "test"),
        ("deploy", "rollback", "test"),
        ("deploy", "stop", "test"),
    ],
)
def test_a_deployment_without_a_reason_is_refused_before_anything_happens(
    shop: Path, words: tuple[str, ...], reason: str | None
) -> None:
    given = () if reason is None else ("--reason", reason)
    refused = tidemill(shop, *words, *given, code=2).stderr
    assert "the decision has no reason" in refused
    assert "--reason" in refused
    assert not open_session(Project(shop), "ci").workspace.ledger.audit.find()
