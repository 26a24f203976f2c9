"""Collection: what is needed stays, what is not goes; killed anywhere or beside a run, nothing named is lost."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace

from tests.upkeep.store import DAY, NOW, Store
from tidemill.blobs import artifacts
from tidemill.clock import SystemClock, VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.artifact import Artifact
from tidemill.core.policy import Retention
from tidemill.errors import Conflict
from tidemill.ledger.database import open_database
from tidemill.upkeep import gc
from tidemill.upkeep.lock import upkeep


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_an_empty_workspace_has_nothing_to_collect(store: Store) -> None:
    planned = gc.plan(store.ledger, store.blobs, Retention(), NOW)
    assert (planned.to_delete, planned.to_keep, planned.unneeded) == ((), (), ())
    assert gc.collect(store.ledger, store.blobs, planned, VirtualClock(NOW)) == gc.Collected(0, 0, 0)


def test_a_plan_changes_nothing_and_gives_its_reasons(store: Store) -> None:
    old = store.artifact("old")
    store.run(100 * DAY, old)
    young = store.artifact("young")
    store.run(80 * DAY, young)
    orphan, recent = store.blob("orphan", 8 * DAY), store.blob("recent orphan", 6 * DAY)
    planned = gc.plan(store.ledger, store.blobs, Retention(), NOW)
    assert {(g.kind, g.reason, g.count, g.bytes) for g in planned.to_delete} == {
        ("json", "nothing that is kept refers to it", 1, 3),
        ("orphan", "no run refers to it", 1, 6),
    }
    assert {(g.kind, g.reason) for g in planned.to_keep} == {
        ("json", "its run has not expired"),
        ("orphan", "no run refers to it; it is deleted 7d after it was stored"),
    }
    assert abs(planned.to_delete[0].oldest - (NOW - 8 * DAY)) < timedelta(minutes=30)
    assert store.has(old, young, orphan, recent) == [True] * 4
    assert store.ledger.artifacts.get(old).collected is None


def test_what_a_plan_prints_is_done_and_reported_of_each_artifact(store: Store) -> None:
    old, young, orphan = store.artifact("old"), store.artifact("young"), store.blob("orphan")
    store.run(100 * DAY, old)
    store.run(DAY, young)
    assert store.collect() == gc.Collected(2, 9, 0)
    assert store.has(old, young, orphan) == [False, True, False]
    assert store.ledger.artifacts.get(old).collected == NOW
    assert store.ledger.artifacts.get(young).collected is None
    assert store.collect() == gc.Collected(0, 0, 0)


def test_what_was_collected_can_be_made_again(store: Store) -> None:
    old = store.artifact("old")
    store.collect()
    assert store.blob("old") == old
    store.ledger.artifacts.change(old, lambda artifact: replace(artifact, collected=None))
    store.run(DAY, old)
    assert store.collect() == gc.Collected(0, 0, 0)
    assert store.has(old) == [True]


def test_all_that_an_unexpired_run_names_stays(store: Store) -> None:
    names = [store.blob(name) for name in ("packages", "snapshot", "log", "taken", "given", "before")]
    packages, snapshot, log, taken, given, before = names
    code = {"commit": "abc", "snapshot": snapshot}
    store.run(5 * DAY, given, packages=packages, code=code, log_blob=log, inputs={"x": taken}, state="failed")
    store.run(500 * DAY, before)
    assert store.collect(runs="6d").count == 1
    assert store.has(*names) == [True] * 5 + [False]
    assert store.collect(runs="4d").count == 5


def test_a_step_prints_itself_how_long_what_it_gave_is_kept(store: Store) -> None:
    longer, shorter = store.artifact("longer"), store.artifact("shorter")
    store.run(500 * DAY, longer, expires=NOW + DAY)
    store.run(DAY, shorter, expires=NOW - DAY)
    store.collect()
    assert store.has(longer, shorter) == [True, False]


def test_a_run_at_work_keeps_everything_however_short_the_time(store: Store) -> None:
    given, stale = store.artifact("given"), store.artifact("stale")
    store.run(DAY, given, state="running", expires=NOW - DAY)
    store.run(30 * DAY, stale, state="running")
    store.collect(runs="0s")
    assert store.has(given, stale) == [True, False]


def test_a_release_keeps_its_package_and_all_that_its_run_left(store: Store) -> None:
    package, frame, log = store.artifact("package"), store.artifact("frame"), store.blob("log")
    run = store.run(500 * DAY, frame, log_blob=log, expires=NOW - DAY)
    store.release(1, package, run.id)
    assert store.collect(runs="0s").count == 0
    assert store.has(package, frame, log) == [True] * 3


def test_the_last_release_of_each_regime_and_earlier_champions_stay(store: Store) -> None:
    packages = [store.blob(f"regime package {version}") for version in range(1, 6)]
    releases = [store.release(version, package) for version, package in enumerate(packages, 1)]
    store.route(1, since=NOW - 100 * DAY, champion=releases[0])
    store.judge_regime(age=91 * DAY, start=92 * DAY)
    for position in (1, 2, 3):
        store.route(position + 1, since=NOW - (90 - position) * DAY, champion=releases[position])
    store.collect(releases=1)
    assert store.has(*packages) == [True, True, True, True, False], "the last one never served"


def test_of_many_releases_those_that_answer_and_the_last_champions_stay(store: Store) -> None:
    packages = [store.artifact(f"package {version}") for version in range(1, 8)]
    releases = [store.release(version, package) for version, package in enumerate(packages, 1)]
    one, two, three, four, five, rejected, _ = releases
    store.route(1, champion=one)
    store.route(2, champion=two)
    store.route(10, champion=three, challenger=rejected)
    store.route(11, champion=four, challenger=five, bound=two)
    young = store.artifact("young")
    store.release(8, young, age=DAY)
    store.collect(releases=1)
    assert store.has(*packages) == [False, True, True, True, True, False, False]
    assert store.has(young) == [True]


def test_what_a_list_holds_stays_and_goes_with_it(store: Store) -> None:
    kept, let_go = [
        artifacts.write_artifact(store.blobs, [pl.DataFrame({"x": [n]}), pl.DataFrame({"y": [n]})]) for n in (1, 2)
    ]
    for one, age in ((kept, DAY), (let_go, 100 * DAY)):
        store.run(age, store.ledger.artifacts.add(one).id)
    inside, outside = ([one.id for one in artifacts.list_members(store.blobs, whole)] for whole in (kept, let_go))
    assert len(inside) == len(outside) == 2
    none = timedelta(0)
    planned = gc.plan(store.ledger, store.blobs, Retention(orphans="0s"), NOW + DAY, grace=none)
    gc.collect(store.ledger, store.blobs, planned, VirtualClock(NOW + DAY), grace=none)
    assert store.has(*inside, *outside) == [True, True, False, False]


def test_what_a_run_may_be_about_to_name_stays(store: Store) -> None:
    fresh = store.blob("fresh", timedelta(minutes=30))  # the suite itself takes minutes
    assert store.collect(orphans="0s").count == 0
    assert store.has(fresh) == [True]


@pytest.mark.parametrize("server", [False, True])
def test_what_was_named_since_the_plan_is_spared(tmp_path: Path, server: bool, request: pytest.FixtureRequest) -> None:
    store = Store(tmp_path, request.getfixturevalue("postgres_url") if server else "")
    taken, orphan, gone = store.artifact("taken"), store.blob("orphan"), store.artifact("gone")
    planned = gc.plan(store.ledger, store.blobs, Retention(), NOW)
    store.run(timedelta(0), taken)
    store.ledger.artifacts.add(Artifact(id=orphan, kind="json", size=6))
    assert gc.collect(store.ledger, store.blobs, planned, VirtualClock(NOW)) == gc.Collected(1, 4, 2)
    assert store.has(taken, orphan, gone) == [True, True, False]
    assert store.ledger.artifacts.get(taken).collected is None


def test_of_two_collections_the_second_reports_it_and_leaves(store: Store) -> None:
    with upkeep(store.folder, store.ledger.database):
        with pytest.raises(Conflict, match="is running"), upkeep(store.folder, store.ledger.database):
            pass
        with pytest.raises(Conflict, match="is running"), upkeep(store.folder, store.ledger.database, shared=True):
            pass
    with (
        upkeep(store.folder, store.ledger.database, shared=True),
        upkeep(store.folder, store.ledger.database, shared=True),
    ):
        pass


def test_two_machines_that_share_a_ledger_exclude_each_other(tmp_path: Path, postgres_url: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with (
        upkeep(here, open_database(postgres_url)),
        pytest.raises(Conflict, match="is running"),
        upkeep(there, open_database(postgres_url)),
    ):
        pass
    with upkeep(there, open_database(postgres_url)):
        pass


_COLLECT = """
import sys
from pathlib import Path
from tests.upkeep.test_gc import NOW, Store
print(Store(Path(sys.argv[1])).collect().count)
"""


def in_process(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("fault", ["gc marks", "gc has marked", "gc has deleted", "gc has deleted#3"])
def test_killed_anywhere_it_is_run_again(store: Store, fault: str) -> None:
    old = [store.artifact(f"old {place}") for place in range(4)]
    store.run(100 * DAY, *old)
    orphan = store.blob("orphan")
    young = store.artifact("young")
    store.run(DAY, young)
    assert in_process(_COLLECT, store.folder, TIDEMILL_FAULT=fault).returncode == -signal.SIGKILL
    for digest in old:
        assert store.blobs.has(digest) or store.ledger.artifacts.get(digest).collected
    store.collect()
    assert store.has(*old, orphan, young) == [False] * 5 + [True]
    assert all(store.ledger.artifacts.get(digest).collected for digest in old)
    assert store.ledger.artifacts.get(young).collected is None


_RUNS = """
import sys
from pathlib import Path
import polars as pl
from tests.flow.kit import Mill
from tidemill.clock import SystemClock
from tidemill.core.pipeline import pipeline, step

@step
def load(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})

@step
def square(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(y=pl.col("x") ** 2)

@step(cache=False)
def total(frame: pl.DataFrame) -> float:
    return float(frame["y"].sum())

@pipeline
def summing(rows: int) -> None:
    total(square(load(rows)))

mill = Mill(Path(sys.argv[1]), clock=SystemClock())
for rows in range(40):
    done = mill.run(summing, rows=rows)
    assert done.state == "done"  # with a retention of no time, its values may be collected before they are read
    print(rows, flush=True)
"""


def test_runs_beside_collections_never_miss_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What old runs gave is taken from the cache by new ones, while it is collected."""
    monkeypatch.setattr(gc, "_SKEW", timedelta(0))
    workspace, clock = open_workspace(tmp_path / "state"), SystemClock()
    assert in_process(_RUNS, tmp_path).stderr == ""
    old = time.time() - 7200
    for file in (tmp_path / "state" / "blobs").rglob("*"):
        os.utime(file, (old, old))

    def collect() -> int:
        retention = Retention(runs="0s", orphans="0s")
        planned = gc.plan(workspace.ledger, workspace.blobs, retention, clock.now())
        return gc.collect(workspace.ledger, workspace.blobs, planned, clock, pause=0.2).count

    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _RUNS, str(tmp_path)]
    runs = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert runs.stdout is not None
    runs.stdout.readline()
    count = 0
    while runs.poll() is None:
        count += collect()
    _, message = runs.communicate()
    assert runs.returncode == 0, message.decode()
    assert count + collect() > 0
    # What a run put in the very instant in which it was deleted is found missing by the next, and made again.
    assert in_process(_RUNS, tmp_path).stderr == ""
    for artifact in workspace.ledger.artifacts.find():
        assert artifact.collected or artifact.transient or workspace.blobs.has(artifact.id)
