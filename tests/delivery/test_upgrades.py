"""Upgrades are judged from real environments: real releases of libraries, a real second Python, the same training."""

import platform
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import parts
from tests.delivery import upgrades
from tests.delivery.upgrades import LIMITS, BuildFolder, lock_here, make_boosted_project, make_runner, older, pin
from tidemill.core.build import Build
from tidemill.core.ci import BuildHost
from tidemill.core.upgrade import VersionChange
from tidemill.delivery.archive import write_archive
from tidemill.delivery.environment import BuildEnvironment
from tidemill.delivery.proposals import ProjectLock, read_pins
from tidemill.delivery.upgraded import judge_commit
from tidemill.delivery.upgrades import (
    EnvironmentLock,
    ReferenceRunner,
    compare_locks,
    find_culprits,
    list_version_changes,
)
from tidemill.errors import InputError, NotFound


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_boosted_project(tmp_path_factory.mktemp("upgrades"))


@pytest.fixture(scope="module")
def here(project: Path) -> EnvironmentLock:
    return lock_here(project)


@pytest.fixture(scope="module")
def runner(project: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceRunner:
    """The reference training, each environment once for all tests."""
    return make_runner(project, tmp_path_factory.mktemp("runner"))


def test_a_release_that_changes_the_answers_is_named_among_others(
    runner: ReferenceRunner, here: EnvironmentLock
) -> None:
    verdict = compare_locks(older(here, "scikit-learn", "scipy"), here, runner, LIMITS)
    assert (verdict.outcome, verdict.action) == ("fail", "stop")
    assert verdict.evidence["culprits"] == ["scikit-learn"]
    assert verdict.evidence["difference"]["largest"] > 0.01
    assert "made by scikit-learn 1.8.0 → 1.9" in verdict.reason


def test_releases_of_four_libraries_that_change_nothing_pass(runner: ReferenceRunner, here: EnvironmentLock) -> None:
    old = older(here, "lightgbm", "numpy", "polars", "polars-runtime-32", "scipy")
    verdict = compare_locks(old, here, runner, LIMITS)
    assert (verdict.outcome, verdict.action) == ("pass", "proceed"), verdict.reason
    changed = {change["package"] for change in verdict.evidence["changes"]}
    assert changed == {"lightgbm", "numpy", "polars", "polars-runtime-32", "scipy"}
    assert verdict.evidence["difference"]["rows"] == upgrades.ROWS


def test_another_python_is_judged_by_its_answers(runner: ReferenceRunner, here: EnvironmentLock) -> None:
    try:
        python = parts.find_second_python()
    except parts.PartMissing as missing:
        pytest.skip(f"not on this machine: {missing}")
    verdict = compare_locks(here, pin(here, python=str(python)), runner, LIMITS)
    assert verdict.outcome == "pass", verdict.reason
    (change,) = verdict.evidence["changes"]
    assert change["package"] == "python"
    assert change["before"].split(".")[:2] != change["after"].split(".")[:2]


def test_a_training_that_fails_in_the_new_environment_fails(runner: ReferenceRunner, here: EnvironmentLock) -> None:
    verdict = compare_locks(here, pin(here, polars="1.30.0"), runner, LIMITS)
    assert verdict.outcome == "fail"
    assert "the training fails" in verdict.reason
    assert verdict.evidence["culprits"] == ["polars"]


def test_an_environment_that_cannot_be_made_is_reported(runner: ReferenceRunner, here: EnvironmentLock) -> None:
    verdict = compare_locks(here, pin(here, scipy="99.0"), runner, LIMITS)
    assert verdict.outcome == "fail"
    assert "its environment cannot be made" in verdict.reason
    undecided = compare_locks(pin(here, scipy="99.0"), here, runner, LIMITS)
    assert (undecided.outcome, undecided.stops) == ("undecided", True)
    assert "the old environment cannot be judged" in undecided.reason


def test_a_training_that_is_not_deterministic_cannot_be_judged(
    here: EnvironmentLock, tmp_path: Path, runner: ReferenceRunner
) -> None:
    project = make_boosted_project(tmp_path)
    (project / "random_forest.py").write_text(
        "import random\n\nfrom sklearn.ensemble import ExtraTreesClassifier\n\n\n"
        "def build():\n    return ExtraTreesClassifier(5, random_state=random.SystemRandom().randrange(10**6))\n"
    )
    policy = project / "tidemill.toml"
    policy.write_text(policy.read_text().replace(upgrades.ESTIMATOR, "random_forest:build"))
    noisy = make_runner(project, tmp_path / "runner")
    noisy._host = runner._host  # the same environments
    verdict = compare_locks(older(here, "scipy"), here, noisy, LIMITS)
    assert verdict.outcome == "undecided", verdict.reason
    assert verdict.reason.startswith("the training is not deterministic")


@given(st.integers(1, 12), st.data())
def test_the_search_finds_exactly_the_changes_that_differ(count: int, data: st.DataObject) -> None:
    changes = [VersionChange(package=f"p{index}", before="1", after="2") for index in range(count)]
    guilty = set(data.draw(st.lists(st.sampled_from(changes), min_size=1, max_size=2, unique=True)))
    together = data.draw(st.booleans())

    def differs(part: Sequence[VersionChange]) -> bool:
        return guilty <= set(part) if together else bool(guilty & set(part))

    assert set(find_culprits(changes, differs, 200)) == guilty


def test_the_search_ends_with_what_is_left_when_its_trainings_are_used_up() -> None:
    changes = [VersionChange(package=f"p{index}", before="1", after="2") for index in range(8)]
    assert len(find_culprits(changes, lambda part: changes[0] in part, 1)) == 4
    assert len(find_culprits(changes, lambda part: changes[0] in part, 0)) == 8


def test_changes_that_cannot_be_installed_alone_are_found_together() -> None:
    changes = [VersionChange(package=name, before="1", after="2") for name in ("a", "b", "c", "d")]
    pair = {changes[0], changes[3]}

    def differs(part: Sequence[VersionChange]) -> bool | None:
        return None if len(pair & set(part)) == 1 else pair <= set(part)

    assert set(find_culprits(changes, differs, 50)) == pair


def test_a_lock_is_proposed_with_the_newest_version_of_one_package(project: Path, here: EnvironmentLock) -> None:
    old = older(here, "scikit-learn")
    text = "# our lock\n" + "".join(f"{line}\n" for line in old.packages)
    lock = ProjectLock({"requirements.lock": text.encode()}, "requirements.lock")
    assert lock.read().packages == old.packages
    new, content = lock.propose("scikit_learn")
    changes = {change.package: change for change in list_version_changes(old, new)}
    assert changes["scikit-learn"].before == "1.8.0"
    assert set(changes) <= {"scikit-learn", *_needs("scikit-learn")}
    assert content.startswith(b"# our lock\n")
    assert read_pins(content.decode()) == new.packages
    with pytest.raises(NotFound, match=r"requirements.lock has no package 'pandas'"):
        lock.propose("pandas")
    with pytest.raises(InputError, match=r"has no requirements\.lock and no uv\.lock"):
        ProjectLock({}, "requirements.lock")


def _needs(package: str) -> set[str]:
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    return {Requirement(line).name for line in requires(package) or ()}


def test_changes_are_applied_to_a_lock_and_listed_again() -> None:
    chance = random.Random(0)
    old = EnvironmentLock(packages=("a==1", "b==1", "c==1"))
    new = EnvironmentLock(packages=("a==2", "c==1", "d==1"), python="3.13")
    changes = list(list_version_changes(old, new))
    chance.shuffle(changes)
    assert old.with_changes(changes) == new
    assert {str(change) for change in changes} == {
        "a 1 → 2",
        "b 1 → (none)",
        "d (none) → 1",
        "python (none) → 3.13",
    }


def _build(lock: EnvironmentLock) -> Build:
    return Build(
        id="1",
        project="shop",
        number=1,
        commit="a" * 40,
        state="passed",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        environment="ci",
        python=platform.python_version(),
        packages=lock.versions | {"pytest": "8.0.0", "tidemill": "0.1.0"},
    )


def _environment(lock: EnvironmentLock) -> BuildEnvironment:
    packages = lock.versions | {"pytest": "9.0.0", "tidemill": "0.1.0"}
    return BuildEnvironment(python=platform.python_version(), runtime=lock.packages, packages=packages)


def test_a_commit_with_a_lock_that_changes_the_answers_is_refused(
    project: Path, here: EnvironmentLock, tmp_path: Path
) -> None:
    """CI takes the rows from the commit, and trains with the code of the commit in both environments."""
    files = {file.relative_to(project).as_posix(): file for file in project.rglob("*") if file.is_file()}
    archive = write_archive({name: file.read_bytes() for name, file in files.items()})
    host: BuildHost = BuildFolder(tmp_path / "ci", project)  # type: ignore[assignment]
    judge = partial(judge_commit, LIMITS, host, archive, _environment(here), log=tmp_path / "log.txt")

    assert judge(_build(here)) == []
    assert judge(None) == []
    (judgement,) = judge(_build(older(here, "scikit-learn")))
    assert (judgement.check, judgement.outcome) == ("upgrade_equivalence", "fail")
    assert judgement.evidence["culprits"] == ["scikit-learn"]

    without = write_archive({name: file.read_bytes() for name, file in files.items() if not name.startswith("data/")})
    judge = partial(judge_commit, LIMITS, host, without, _environment(here), log=tmp_path / "without.txt")
    (judgement,) = judge(_build(older(here, "scikit-learn")))
    assert judgement.outcome == "warn"
    assert "the environments are not compared: " in judgement.reason
    assert "has no rows for the tests" in judgement.reason
