"""The page of builds: what serves where, what the next build lacks, and the decisions about it."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.delivery.test_automation import Plant
from tidemill.access.control import AccessControl
from tidemill.access.tokens import create_token
from tidemill.core.resources import PackageStore
from tidemill.delivery.automation import describe_status
from tidemill.web.app import create_app
from tidemill.web.decisions import Desk


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path / "shop")


def open_pages(plant: Plant) -> TestClient:
    workspace, session = plant.session.workspace, plant.session
    control = AccessControl(workspace.board, plant.clock, workspace.environment)
    control.refresh()
    desk = Desk(
        plant.books, workspace.board, session.resource(PackageStore), plant.clock, workspace.environment,
        session.project.model, lambda: None,
    )  # fmt: skip
    app = create_app(
        plant.books,
        workspace.board,
        "shop",
        workspace.environment,
        control,
        read_environments=lambda: describe_status(plant.books, plant.policy, plant.clock.now()),
        desk=desk,
    )
    return TestClient(app, base_url="http://localhost:8000", follow_redirects=False)


def give_token(plant: Plant) -> dict[str, str]:
    from tidemill.access.tokens import publish_tokens

    _, secret = create_token(
        plant.books,
        plant.clock,
        name="mai",
        owner="mai",
        roles=("approver",),
        by="root",
        environments=(),
        lifetime=None,
    )
    publish_tokens(plant.books, [plant.session.workspace.board])
    return {"authorization": f"Bearer {secret}"}


def test_it_shows_environments_builds_and_deployments(plant: Plant) -> None:
    first = plant.build("dev/a")
    plant.deploy(first, "test")
    refused = plant.build("dev/a", "refused", reason="a test failed: <b>x</b>")
    waiting = plant.build()
    page = open_pages(plant).get("/builds").text
    for text in (first.label, refused.label, waiting.label, "0 of 1 approvals", "a test failed: &lt;b&gt;x&lt;/b&gt;"):
        assert text in page
    data = open_pages(plant).get("/builds?format=json").json()
    assert [row["environment"] for row in data["environments"]] == ["test", "preproduction", "production"]


def test_a_person_approves_and_deploys_on_the_page(plant: Plant) -> None:
    build = plant.build()
    headers = give_token(plant)
    pages = open_pages(plant)
    subject = f"{build.number} → preproduction"
    without_reason = pages.post("/decisions/approve-build", data={"subject": subject}, headers=headers)
    assert without_reason.status_code == 400
    done = pages.post("/decisions/approve-build", data={"subject": subject, "reason": "read"}, headers=headers)
    assert (done.status_code, done.headers["location"]) == (303, "/builds")
    assert plant.due() == {"preproduction": build.number}
    done = pages.post("/decisions/promote-build", data={"subject": subject, "reason": "now"}, headers=headers)
    assert done.status_code == 303, done.text
    jobs = plant.books.jobs.find(trigger="hand")
    assert [(job.params["by"], job.params["change"], job.environment) for job in jobs] == [("mai", "promote", "ci")]
    actions = [(entry.actor, entry.action) for entry in plant.books.audit.find() if "build" in entry.action]
    assert actions == [("mai", "approved build"), ("mai", "requested build")]


def test_a_subject_without_environment_is_an_error(plant: Plant) -> None:
    build = plant.build()
    headers = give_token(plant)
    done = open_pages(plant).post(
        "/decisions/approve-build", data={"subject": str(build.number), "reason": "read"}, headers=headers
    )
    assert done.status_code == 400
    assert "names no environment" in done.text
