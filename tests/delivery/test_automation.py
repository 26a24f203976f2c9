"""The rules of automatic deployments, on a real ledger: what is due, what waits, and what is brought back."""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.projects import make_project
from tidemill.checks.promotion import judge_promotion
from tidemill.clock import VirtualClock
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.environment import CONTROL, Environment
from tidemill.core.policy import Policy
from tidemill.daemon.deliveries import Deliveries
from tidemill.daemon.triggers import Triggers
from tidemill.delivery.automation import check_restore, describe_status, list_candidates
from tidemill.delivery.promotions import Deployable, collect_case
from tidemill.errors import Conflict, NotFound
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.registry.deployments import (
    add_deployment,
    approve,
    find_build,
    find_healthy,
    find_previous,
    list_deployments,
    mark_failed,
    mark_healthy,
    mark_stopped,
)
from tidemill.registry.pauses import pause, resume

ENVIRONMENTS = """
[people]
ada = ["ada@example.org"]

[environments.test]
branch = "dev/*"

[environments.preproduction]
branch = "main"
approvals = 1

[environments.production]
after = "preproduction"
runs = 1
"""


class Plant:
    """A project with environments, its ledger and a clock that is set by the test."""

    def __init__(self, folder: Path) -> None:
        make_project(folder)
        with (folder / "tidemill.toml").open("a") as file:
            file.write(ENVIRONMENTS)
        self.session: Session = open_session(
            Project(folder), CONTROL, VirtualClock(datetime.fromisoformat("2026-11-27T12:00Z"))
        )
        self.books, self.clock = self.session.workspace.ledger, self.session.clock
        self.policy: Policy = self.session.project.policy

    def build(self, branch: str = "main", state: Any = "passed", **fields: Any) -> Build:
        number = len(self.books.builds.find()) + 1
        return self.books.builds.add(
            Build(
                id=self.clock.mint(),
                project="shop",
                number=number,
                commit=f"{number:040x}",
                state=state,
                created=self.clock.now(),
                environment=CONTROL,
                branch=branch,
                authors=("ada@example.org",),
                **fields,
            )
        )

    def deploy(self, build: Build, environment: str, change: Any = "push") -> Deployment:
        deployment = add_deployment(self.books, self.clock, build, environment, change=change, by="policy")
        return mark_healthy(self.books, self.clock, deployment, "http://127.0.0.1:1")

    def due(self) -> dict[str, int]:
        candidates = list_candidates(self.books, self.policy, self.clock.now())
        return {each.environment: each.build.number for each in candidates if not each.verdict.stops}

    def sleep(self, **time: float) -> None:
        self.clock.sleep(timedelta(**time).total_seconds())


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path / "shop")


def test_the_newest_passed_build_of_the_branch_is_due_once(plant: Plant) -> None:
    plant.build("dev/a")
    plant.build("dev/b")
    plant.build("dev/c", "refused")
    plant.build("dev/d", "error")
    plant.build("other")
    assert plant.due() == {"test": 2}
    plant.deploy(find_build(plant.books, "2"), "test")
    assert plant.due() == {}


def test_a_build_that_failed_or_was_rolled_back_is_not_deployed_again(plant: Plant) -> None:
    first, second = plant.build("dev/a"), plant.build("dev/a")
    plant.deploy(first, "test")
    failed = add_deployment(plant.books, plant.clock, second, "test", change="push", by="policy")
    assert plant.due() == {}  # one is on its way
    with pytest.raises(Conflict, match="on its way"):
        add_deployment(plant.books, plant.clock, second, "test", change="push", by="policy")
    mark_failed(plant.books, plant.clock, failed, "it does not start")
    assert plant.due() == {}
    third = plant.build("dev/a")
    assert plant.due() == {"test": 3}
    plant.deploy(third, "test")
    plant.deploy(first, "test", "rollback")
    assert plant.due() == {}


def test_an_approval_of_somebody_else_makes_it_due_and_no_push_after_it(plant: Plant) -> None:
    build = plant.build()
    deliveries = Deliveries(plant.session, Triggers(plant.policy, plant.books, plant.clock, CONTROL))
    assert "waits for approval" in deliveries.create_jobs()[0]
    assert deliveries.create_jobs() == []  # it says so once
    approve(plant.books, plant.clock, build, "preproduction", actor="ada", reason="read it")
    assert plant.due() == {}
    approve(plant.books, plant.clock, build, "preproduction", actor="mai", reason="read it")
    assert plant.due() == {"preproduction": 1}
    plant.build()  # the approval of a build is none of the next one
    assert plant.due() == {}


def test_an_approval_that_was_edited_does_not_count_and_the_promotion_names_the_entry(plant: Plant) -> None:
    build = plant.build()
    approve(plant.books, plant.clock, build, "preproduction", actor="mai", reason="read it")
    settings = plant.policy.environments["preproduction"]
    subject = Deployable(build, "preproduction", settings, plant.policy.people)

    def missing(*, verify: bool) -> set[str]:
        verdict = judge_promotion(collect_case(plant.books, subject, plant.clock.now(), verify=verify))
        return {finding["about"] for finding in verdict.evidence["findings"] if finding["outcome"] == "fail"}

    assert missing(verify=True) == set()
    file = plant.session.workspace.ledger_file
    assert file is not None
    with closing(sqlite3.connect(file)) as ledger, ledger:
        ledger.execute("UPDATE audit SET body = replace(body, 'read it', 'read is')")
    assert missing(verify=True) == {"approvals", "audit"}
    assert missing(verify=False) == {"approvals"}, "the daemon asks each second, so it verifies only these entries"
    reason = judge_promotion(collect_case(plant.books, subject, plant.clock.now(), verify=True)).reason
    assert "entry 1: it was edited" in reason
    assert "tidemill audit verify" in reason


def test_each_build_has_one_job_for_an_environment(plant: Plant) -> None:
    plant.build("dev/a")
    deliveries = Deliveries(plant.session, Triggers(plant.policy, plant.books, plant.clock, CONTROL))
    assert len(deliveries.create_jobs()) == 1
    assert deliveries.create_jobs() == []
    jobs = plant.books.jobs.find()
    assert [(job.pipeline, job.trigger, job.params["environment"]) for job in jobs] == [
        ("deployment", "deploy to test", "test")
    ]
    elsewhere = Triggers(plant.policy, plant.books, plant.clock, "production")
    session = open_session(plant.session.project, "production", plant.clock)
    assert Deliveries(session, elsewhere).create_jobs() == []


def test_a_paused_environment_takes_nothing_until_it_is_resumed(plant: Plant) -> None:
    plant.build("dev/a")
    pause(plant.books, plant.clock, "environment", "test", environment="test", actor="mai", reason="read it")
    assert plant.due() == {}
    resume(plant.books, plant.clock, "environment", "test", environment="test", actor="mai", reason="read it")
    assert plant.due() == {"test": 1}


@pytest.mark.parametrize(
    ("change", "minutes", "is_busy", "is_paused", "expected"),
    [
        ("push", 1, False, False, []),
        ("rollback", 1, False, False, ["rollback"]),  # a rollback is never rolled back
        ("restore", 1, False, False, ["rollback"]),
        ("push", 21, False, False, ["age"]),  # an old failure triggers nothing
        ("push", 19, False, False, []),
        ("push", 1, True, False, ["order"]),  # nothing else may be on its way
        ("push", 1, False, True, ["paused"]),
    ],
)
def test_when_the_build_before_is_brought_back(
    plant: Plant, change: str, minutes: int, is_busy: bool, is_paused: bool, expected: list[str]
) -> None:
    first, second = plant.build("dev/a"), plant.build("dev/a")
    plant.deploy(first, "test")
    plant.deploy(second, "test", change)
    failed_at = plant.clock.now()
    plant.sleep(minutes=minutes)
    if is_busy:
        add_deployment(plant.books, plant.clock, plant.build("dev/a"), "test", change="push", by="policy")
    if is_paused:
        pause(plant.books, plant.clock, "environment", "test", environment="test", actor="mai", reason="read it")
    findings = check_restore(plant.books, "test", failed_at, plant.clock.now())
    assert [finding.about for finding in findings] == expected
    assert find_previous(plant.books, "test") == first


def test_each_deployment_replaces_the_one_before_in_one_step(plant: Plant) -> None:
    first, second = plant.build("dev/a"), plant.build("dev/a")
    before = plant.deploy(first, "test")
    plant.sleep(hours=1)
    now = plant.deploy(second, "test")
    assert [each.state for each in list_deployments(plant.books, "test")] == ["replaced", "healthy"]
    assert find_healthy(plant.books, "test") == now
    assert now.previous == before.id
    assert now.healthy == plant.clock.now()


def test_each_rollback_goes_one_further_back(plant: Plant) -> None:
    first, second, third = (plant.build() for _ in range(3))
    with pytest.raises(NotFound, match="no build before"):
        find_previous(plant.books, "test")
    for build in (first, second, third):
        plant.deploy(build, "test")
    assert find_previous(plant.books, "test") == second
    plant.deploy(second, "test", "rollback")
    assert find_previous(plant.books, "test") == first
    plant.deploy(first, "test", "restore")
    with pytest.raises(NotFound, match="no build before the one that test runs") as refused:
        find_previous(plant.books, "test")
    assert "deploy promote" in refused.value.cure
    plant.deploy(third, "test", "promote")
    assert find_previous(plant.books, "test") == first, "what was rolled back is not brought back"
    plant.deploy(first, "test", "promote")
    assert find_previous(plant.books, "test") == third
    mark_stopped(plant.books, plant.clock, "test")
    assert find_previous(plant.books, "test") == first, "nothing serves: the last one is brought back"


def test_status_shows_what_the_next_build_lacks(plant: Plant) -> None:
    build = plant.build()
    plant.deploy(build, "preproduction")
    rows = {row.environment: row for row in describe_status(plant.books, plant.policy, plant.clock.now())}
    assert list(rows) == ["test", "preproduction", "production"]
    assert rows["preproduction"].serving == build.label
    assert rows["production"].next_build == build.label
    assert "0 of 1 successful runs of training in preproduction" in rows["production"].missing


def test_a_build_is_found_by_number_and_commit(plant: Plant) -> None:
    first = plant.build()
    assert find_build(plant.books, "1") == find_build(plant.books, first.commit) == find_build(plant.books, first.id)
    assert find_build(plant.books, first.label) == first


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[environments.a]\nafter = "b"', "there is no environment 'b'"),
        ('[environments.a]\nafter = "b"\n[environments.b]\nafter = "a"', "wait for each other"),
        ("[environments.a]\nruns = 2", "runs has no effect without `after`"),
        ('[environments.a]\napprovals = 2\napprovers = ["mai"]', "2 approvals are needed, and there are 1 approvers"),
        ('[environments.a]\nzone = "Berlin"', "there is no time zone 'Berlin'"),
        ('[environments.a]\nfreeze = ["weekends"]', "environments.a.freeze: 'weekends' is no freeze window"),
        ('[environments.a]\nfreeze = ["fri 25:00 - mon 08:00"]', "there is no time 25:00"),
        ('[environments.a]\nfreeze = ["2026-13-01 - 2026-13-04"]', "there is no day 2026-13-01"),
        ('[environments.a]\nfreeze = ["2026-12-27 - 2026-12-24"]', "2026-12-24 is before 2026-12-27"),
        ('[environments.a]\nfreeze = ["2026-02-29 - 2026-03-01"]', "there is no day 2026-02-29"),
        ('[environments.a]\nfreeze = ["mon 08:00 - mon 08:00"]', "it ends when it begins"),
        ("[environments.ci]", "cannot be named 'ci'"),
        ('[environments.a]\ntarget = "moon"', "there is no target 'moon'"),
        ("[environments.a]\nport = 80\n[environments.b]\nport = 80", "two environments use port 80"),
        ("[environments.a]\nsoak = 3", "soak"),
    ],
)
def test_a_wrong_environment_is_an_error_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    from tidemill.errors import ConfigurationError

    make_project(tmp_path / "shop")
    with (tmp_path / "shop" / "tidemill.toml").open("a") as file:
        file.write("\n" + text + "\n")
    with pytest.raises(ConfigurationError) as wrong:
        Project(tmp_path / "shop")
    assert problem in str(wrong.value)
    assert str(wrong.value).startswith("tidemill.toml, line ")
    assert wrong.value.cure


def test_settings_have_their_defaults() -> None:
    settings = Environment()
    assert (settings.approvals, settings.runs, settings.soak, settings.target) == (0, 0, "0s", "local")
