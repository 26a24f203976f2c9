"""Triggers: each cause fires exactly once."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from tests.daemon.firing import HOURLY, NOON, RETRAIN, make_triggers
from tests.daemon.kit import kit
from tidemill.clock import VirtualClock
from tidemill.core.release import Release
from tidemill.core.trigger import Trigger
from tidemill.daemon.notices import Notices
from tidemill.daemon.triggers import Triggers
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project
from tidemill.registry.pauses import pause
from tidemill.registry.routing import change_route, make_arm


def test_an_event_fires_once_also_for_a_second_daemon(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    first, second = make_triggers(shop, ledger, clock, RETRAIN), make_triggers(shop, ledger, clock, RETRAIN)
    first.emit("verdict", "shop/1", "verdict/1", clock.now(), {"action": "retrain", "model": "shop"})
    assert [job.pipeline for job in first.fire()] == ["training"]
    assert first.fire() == []
    assert second.fire() == []
    assert len(ledger.jobs.find()) == 1


def test_an_event_is_emitted_once(shop: Project, ledger: Ledger) -> None:
    triggers = make_triggers(shop, ledger, VirtualClock(NOON))
    assert triggers.emit("data", "rows", "data/1", NOON, {})
    assert not triggers.emit("data", "rows", "data/1", NOON, {})


def test_other_events_do_not_fire(shop: Project, ledger: Ledger) -> None:
    triggers = make_triggers(shop, ledger, VirtualClock(NOON), RETRAIN)
    triggers.emit("verdict", "shop/1", "a", NOON, {"action": "ignore", "model": "shop"})
    triggers.emit("data", "rows", "b", NOON, {"action": "retrain"})
    assert triggers.fire() == []


def test_a_cooldown_drops_jobs(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    triggers = make_triggers(shop, ledger, clock, RETRAIN)
    fired = []
    for hours in range(0, 60, 6):
        clock.advance(NOON + timedelta(hours=hours))
        triggers.emit("verdict", "shop/1", f"v{hours}", clock.now(), {"action": "retrain", "model": "shop"})
        fired += [hours for _ in triggers.fire()]
    assert fired == [0, 24, 48]


def test_new_data_waits_for_the_cooldown_and_is_not_lost(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    arrival = Trigger(name="arrival", on="data", pipeline="training", model="shop", cooldown="1h")
    triggers = make_triggers(shop, ledger, clock, arrival)
    for number in range(4):
        clock.advance(NOON + timedelta(minutes=10 * number))
        triggers.emit("data", "rows", f"data/{number}", clock.now(), {})
        triggers.fire()
        for job in ledger.jobs.find(state="waiting"):
            if job.available <= clock.now():
                ledger.jobs.change(job.id, lambda j: replace(j, state="done"))
    waiting = ledger.jobs.find(state="waiting")
    assert [job.available for job in waiting] == [NOON + timedelta(hours=1)]


def test_a_budget_bounds_a_day(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    triggers = make_triggers(shop, ledger, clock, replace(RETRAIN, cooldown="0s", budget=3))
    for number in range(10):
        clock.sleep(60)
        triggers.emit("verdict", "shop/1", f"v{number}", clock.now(), {"action": "retrain", "model": "shop"})
        triggers.fire()
    assert len(ledger.jobs.find(trigger="retrain", state="waiting")) == 3
    assert {job.error for job in ledger.jobs.find(state="dropped")} == {"its budget (3 a day) is spent"}


def test_new_files_emit_one_event(shop: Project, ledger: Ledger) -> None:
    from tidemill.clock import SystemClock
    from tidemill.data.source import FileSources

    triggers = Triggers(shop.policy, ledger, SystemClock(), "production")
    sources = FileSources(shop.folder, shop.policy.sources)
    assert triggers.emit_data_events(sources) == 1
    assert triggers.emit_data_events(sources) == 0
    (shop.folder / "data" / "shop.csv").touch()
    assert triggers.emit_data_events(sources) == 1


def test_a_tick_for_two_models_is_decided_for_both_or_none(shop: Project, ledger: Ledger) -> None:
    class Dying(VirtualClock):
        minted = 0

        def mint(self) -> str:
            self.minted += 1
            if self.minted == 2:
                raise KeyboardInterrupt
            return super().mint()

    shop.policy = replace(shop.policy, models=shop.policy.models | {"other": shop.policy.models["shop"]})
    clock = Dying(NOON)
    triggers = make_triggers(shop, ledger, clock, HOURLY)
    clock.advance(NOON + timedelta(hours=1))
    with pytest.raises(KeyboardInterrupt):
        triggers.fire()
    again = Triggers(replace(shop.policy, triggers=(HOURLY,)), ledger, clock, "production", NOON)
    assert [job.model for job in again.fire()] == ["shop", "other"]


def test_drift_that_a_training_does_not_fix_starts_a_limited_number_of_trainings(shop: Project, ledger: Ledger) -> None:
    """Each training is followed by a watch that finds the same drift; neither trigger has a cooldown or a budget."""
    clock = VirtualClock(NOON)
    drift = Trigger(name="drift", on="verdict", where={"check": "drift"}, pipeline="training")
    again = Trigger(name="again", on="run", where={"pipeline": "training"}, pipeline="watching")
    triggers = make_triggers(shop, ledger, clock, drift, again)
    triggers.emit("verdict", "shop/1", "first", clock.now(), {"check": "drift", "model": "shop"})
    end = NOON + timedelta(days=2)
    while clock.now() < end:
        clock.sleep(60)
        for job in triggers.fire():
            kind = "run" if job.pipeline == "training" else "verdict"
            facts = {"pipeline": job.pipeline, "check": "drift", "model": "shop"}
            triggers.emit(kind, "shop/1", f"after/{job.id}", clock.now(), facts)
    assert len(ledger.jobs.find(trigger="drift", state="waiting")) == 24, "24 a day by default"


def test_the_next_daemon_does_not_decide_a_dropped_cause_again(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    first = make_triggers(shop, ledger, clock, replace(RETRAIN, cooldown="30s"))
    for key in ("one", "two"):
        first.emit("verdict", "shop/1", key, clock.now(), {"action": "retrain", "model": "shop"})
        first.fire()
    clock.sleep(60)
    assert make_triggers(shop, ledger, clock, replace(RETRAIN, cooldown="30s")).fire() == []
    assert {job.dedupe_key: job.state for job in ledger.jobs.find()} == {"one": "waiting", "two": "dropped"}


def test_a_paused_trigger_drops_lasting_causes_and_keeps_one_time_causes(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    arrival = Trigger(name="arrival", on="data", pipeline="training", model="shop")
    triggers = make_triggers(shop, ledger, clock, RETRAIN, arrival, HOURLY)
    until = NOON + timedelta(hours=5)
    for name in ("retrain", "arrival", "hourly"):
        pause(ledger, clock, "trigger", name, environment="production", actor="jürg", reason="holidays", until=until)
    triggers.emit("verdict", "shop/1", "v", clock.now(), {"action": "retrain", "model": "shop"})
    triggers.emit("data", "rows", "d1", clock.now(), {})
    triggers.emit("data", "rows", "d2", clock.now(), {})
    clock.sleep(2 * 3600)
    (waiting,) = triggers.fire()
    assert waiting.dedupe_key == "d1"
    assert not triggers.may_start(waiting)
    dropped = {job.trigger: job.error for job in ledger.jobs.find(state="dropped")}
    assert dropped["retrain"] == "paused by jürg until 2026-03-02T17:00: holidays"
    assert dropped["arrival"] == "a waiting job includes this cause"
    assert dropped["hourly"].startswith("paused by jürg")
    clock.sleep(3 * 3600)
    assert triggers.may_start(waiting)
    assert [job.trigger for job in triggers.fire()] == ["hourly"]
    pause(ledger, clock, "trigger", "arrival", environment="test", actor="jürg", reason="a test")
    assert triggers.may_start(waiting), "a pause of another environment has no effect"


def emit_and_list(session: Session, kind: str) -> list[dict[str, Any]]:
    triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "test")
    Notices(session, session.project.policy, triggers).emit_events()
    return [event.payload for event in session.workspace.ledger.events.find(kind=kind)]


def test_each_code_change_emits_one_event(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit", '[[triggers]]\nname = "code"\non = "code"\npipeline = "noting"\n')
    assert emit_and_list(session, "code") == [], "there is nothing to compare with"
    run(session, session.project.code.pipeline("noting"))
    assert emit_and_list(session, "code") == []
    code = session.project.folder / "pipeline.py"
    before = code.read_text()
    digests = []
    for text in (before + "# changed\n", before, before + "# changed\n"):
        code.write_text(text)
        for _ in range(2):
            events = emit_and_list(session, "code")
        digests.append(events[-1]["digest"])
        assert len(events) == len(digests)
    assert digests[0] == digests[2] != digests[1]


def test_packages_that_differ_from_the_training_emit_one_event(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit", '[[triggers]]\nname = "env"\non = "packages"\npipeline = "noting"\n')
    workspace, clock = session.workspace, session.clock
    trained, _ = run(session, session.project.code.pipeline("noting"))
    release = Release(
        id=clock.mint(),
        name="kit",
        version=1,
        package="p",
        flavor="f",
        environment="test",
        created=clock.now(),
        run=trained.id,
    )
    workspace.ledger.releases.add(release)
    arms = (make_arm(release, "champion", 1.0),)
    books, board = workspace.ledger, workspace.board
    change_route(
        books, board, clock, before=None, environment="test", model="kit", arms=arms, kind="first", reason="a test"
    )
    assert emit_and_list(session, "packages") == []
    listed = workspace.blobs.get(trained.packages).decode().replace("numpy==", "numpy==0.") + "\nleft-pad==1.0"
    older = workspace.blobs.put(listed.encode())
    workspace.ledger.runs.change(trained.id, lambda record: replace(record, packages=older))
    for _ in range(2):
        assert emit_and_list(session, "packages") == [{"model": "kit", "changed": ["left-pad", "numpy"], "count": 2}]


def test_appended_rows_emit_events(tmp_path: Path) -> None:
    policy = '[[triggers]]\nname = "rows"\non = "rows"\nwhere = { subject = "rows" }\npipeline = "noting"\n'
    session = kit(tmp_path / "kit", policy)
    assert emit_and_list(session, "rows") == []
    for number in range(2):
        session.workspace.tables.append("rows", f"batch {number}", pl.DataFrame({"row": [number]}))
        for _ in range(2):
            events = emit_and_list(session, "rows")
        assert len(events) == number + 1


def test_a_compacted_table_has_no_new_rows(tmp_path: Path) -> None:
    policy = '[[triggers]]\nname = "rows"\non = "rows"\nwhere = { subject = "rows" }\npipeline = "noting"\n'
    session = kit(tmp_path / "kit", policy)
    tables = session.workspace.tables
    path = str(session.workspace.state_folder / "tables" / "rows")
    for number in range(3):
        tables.append("rows", f"batch {number}", pl.DataFrame({"row": [number]}))
    assert emit_and_list(session, "rows") == [{"version": 2}]
    DeltaTable(path).optimize.compact()
    tables.erase("rows", lambda rows: rows["row"] == 0)
    DeltaTable(path).vacuum(dry_run=False, enforce_retention_duration=False, retention_hours=0)
    tables.append("rows", "empty", pl.DataFrame({"row": [0]}).clear())
    assert emit_and_list(session, "rows") == [{"version": 2}]
    tables.append("rows", "wider", pl.DataFrame({"row": [0.5]}))
    DeltaTable(path).optimize.compact()
    for _ in range(2):
        assert [event["version"] for event in emit_and_list(session, "rows")] == [2, 8]


def test_a_model_that_a_deployment_trains_already_is_not_trained_beside_it(tmp_path: Path) -> None:
    first = '[[triggers]]\nname = "first"\non = "champion.missing"\npipeline = "noting"\n'
    problem = '[problem]\ndecision = "d"\nsource = "rows"\nlabel = "late"\n'
    session = kit(tmp_path / "kit", problem + first)
    books, tables = session.workspace.ledger, session.workspace.tables
    triggers = Triggers(session.project.policy, books, session.clock, "test")
    (model,) = session.project.policy.models
    job = triggers.create_job("deployment", "noting", {}, "deployment-1/kit", model)
    tables.append("rows", "batch 0", pl.DataFrame({"row": [0]}))
    assert emit_and_list(session, "champion.missing") == [], "the job of the deployment is waiting"
    books.jobs.change(job.id, lambda job: replace(job, state="running"))
    assert emit_and_list(session, "champion.missing") == []
    books.jobs.change(job.id, lambda job: replace(job, state="failed"))
    assert len(emit_and_list(session, "champion.missing")) == 1


def test_a_model_without_a_release_emits_an_event_for_rows_and_for_more_rows(tmp_path: Path) -> None:
    first = '[[triggers]]\nname = "first"\non = "champion.missing"\npipeline = "noting"\n'
    problem = '[problem]\ndecision = "d"\nsource = "rows"\nlabel = "late"\n'
    session = kit(tmp_path / "kit", problem + first)
    workspace, clock = session.workspace, session.clock
    books, tables = workspace.ledger, workspace.tables
    assert emit_and_list(session, "champion.missing") == [], "there are no rows"
    for number in range(2):
        tables.append("rows", f"batch {number}", pl.DataFrame({"row": [number]}))
        for _ in range(2):
            assert len(emit_and_list(session, "champion.missing")) == number + 1
    triggers = Triggers(session.project.policy, books, clock, "test")
    fired = triggers.fire()
    tables.append("rows", "batch 2", pl.DataFrame({"row": [2]}))
    assert len(emit_and_list(session, "champion.missing")) == 2, "two jobs are waiting"
    for job in fired:
        books.jobs.change(job.id, lambda job: replace(job, state="failed"))
    assert [event["version"] for event in emit_and_list(session, "champion.missing")] == [0, 1, 2]
    release = Release(
        id="kit/1", name="kit", version=1, package="p", flavor="f", environment="other", created=clock.now(), run="r"
    )
    books.releases.add(release)
    tables.append("rows", "batch 3", pl.DataFrame({"row": [3]}))
    books.jobs.change(triggers.fire()[0].id, lambda job: replace(job, state="failed"))
    assert len(emit_and_list(session, "champion.missing")) == 4, "the release belongs to another environment"
    books.jobs.change(triggers.fire()[0].id, lambda job: replace(job, state="stopped"))
    books.releases.add(replace(release, id="kit/2", version=2, environment="test"))
    tables.append("rows", "batch 4", pl.DataFrame({"row": [4]}))
    assert len(emit_and_list(session, "champion.missing")) == 4
