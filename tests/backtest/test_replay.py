"""The backtest: the daemon's loop over history, point-in-time correct and reproducible."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project, tidemill
from tidemill.backtest.compare import compare
from tidemill.backtest.comparison import BacktestResult, Period
from tidemill.backtest.period import choose_period
from tidemill.backtest.policies import (
    PolicyPlan,
    build_calendar_policy,
    build_static_policy,
    build_weekly_policy,
    shuffle_history,
)
from tidemill.backtest.replay import Replay
from tidemill.backtest.report import as_json
from tidemill.backtest.sources import ReplaySources, shuffle_rows
from tidemill.backtest.summary import summarize
from tidemill.core.backtest import Firing, Planted
from tidemill.core.trigger import Trigger
from tidemill.data.source import FileSources
from tidemill.errors import InputError
from tidemill.project.project import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose labels are inverted half-way: a model of the first half is wrong in the second."""
    return make_shop(tmp_path_factory.mktemp("replayed") / "shop", is_inverted=True)


def make_shop(folder: Path, *, is_inverted: bool) -> Project:
    changes = {
        'cron = "0 0 * * *"': 'cron = "0 6 * * *"',
        "minimum = 200": "minimum = 60",
        'cooldown = "7d"': 'cooldown = "4d"',
        'test = "14d"': 'test = "9d"\nwindow = "24d"\nparams = { num_leaves = 7, learning_rate = 0.05 }',
    }
    make_project(folder, replace=changes)
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    is_second_half = pl.col("ordered") > datetime(2026, 2, 20, tzinfo=UTC)
    rows.with_columns(
        pl.when(is_second_half & pl.lit(is_inverted)).then(pl.col("late").not_()).otherwise("late")
    ).write_csv(file)
    policy = Project(folder).policy
    return Project(
        folder, replace(policy, triggers=tuple(trigger for trigger in policy.triggers if trigger.on != "data"))
    )


@pytest.fixture(scope="module")
def compared(shop: Project) -> BacktestResult:
    period = choose_period(shop, "", "2026-02-05", "2026-04-05")
    policies: dict[str, PolicyPlan] = {
        "loop": shop.policy,
        "static": build_static_policy(shop.policy),
        "weekly": build_weekly_policy(shop.policy, period.begin),
        "calendar": lambda loop: build_calendar_policy(shop.policy, period, loop.trainings),
    }
    return compare(shop, policies, "", period, lambda *_: None)


def test_all_policies_predict_the_same_rows(compared: BacktestResult) -> None:
    assert len({(result.predictions, result.labels) for result in compared.outcomes}) == 1
    assert compared.find_result("loop").predictions > 1500


def test_the_loop_detects_and_fixes_the_drift_that_the_static_model_suffers(compared: BacktestResult) -> None:
    loop, without_retraining = compared.find_result("loop"), compared.find_result("static")
    assert without_retraining.trainings == 1
    assert loop.trainings > 1
    assert loop.metrics["log_loss"] < without_retraining.metrics["log_loss"] - 0.05
    assert loop.promotions >= 1
    assert loop.verdicts["performance"]["fail"] >= 1


def test_the_weekly_policy_trains_every_week(compared: BacktestResult) -> None:
    assert compared.find_result("weekly").trainings == 9
    assert set(compared.find_result("weekly").runs) == {"hand", "weekly"}


def test_a_calendar_trains_as_often_as_the_loop_did(compared: BacktestResult) -> None:
    loop, even = compared.find_result("loop"), compared.find_result("calendar")
    assert even.trainings == loop.trainings
    began = [story.started for story in even.stories]
    distances = [(later - earlier).days for earlier, later in itertools.pairwise(began)]
    assert max(distances) - min(distances) <= 1
    assert {story.ending for story in even.stories} == {"first", "live"}


def test_a_calendar_counts_the_firings_within_its_period(shop: Project) -> None:
    period = choose_period(shop, "", "2026-02-05", "2026-04-05")
    firings = (Firing(at="2026-03-01T10:00", pipeline="training"), Firing(at="2026-05-01T10:00", pipeline="training"))
    even = build_calendar_policy(
        replace(shop.policy, backtest=replace(shop.policy.backtest, firings=firings)), period, 4
    )
    added = [firing.at for firing in even.backtest.firings[2:]]
    assert len(added) == 2, "of four trainings one is the first, and one was planted"
    assert max(added) < "2026-04-05"


def test_a_calendar_ingests_before_its_trainings_where_the_policy_ingests_each_delivery(
    shop: Project, compared: BacktestResult, tmp_path: Path
) -> None:
    period, calendar = choose_period(shop, "", "2026-02-05", "2026-04-05"), compared.find_result("calendar")
    deliveries = Trigger(name="new data", on="data", pipeline="ingestion")
    policy = replace(shop.policy, triggers=(*shop.policy.triggers, deliveries))
    replay = Replay(
        shop, build_calendar_policy(policy, period, calendar.trainings), "", period, tmp_path / "even", lambda *_: None
    )
    replay.run()
    result = summarize("even", replay, 1.0)
    assert (result.metrics, result.trainings) == (calendar.metrics, calendar.trainings)
    assert len(replay.books.runs.find(pipeline="ingestion", state="done")) == calendar.trainings - 1


def test_each_training_has_a_story_from_its_cause_to_its_ending(compared: BacktestResult) -> None:
    first, *others = compared.find_result("loop").stories
    assert (first.ending, first.cause, first.release) == ("first", None, "shop/1")
    promoted = next(story for story in others if story.ending == "promoted")
    assert promoted.cause is not None
    assert promoted.cause.check in ("performance", "drift", "age")
    assert promoted.gate is not None
    assert promoted.canary is not None
    assert promoted.cause.time <= promoted.due <= promoted.started <= promoted.gate.time
    assert promoted.live is not None
    assert promoted.settled is not None
    assert promoted.live < promoted.settled == promoted.canary.time
    assert {"lower", "upper"} <= set(promoted.canary.numbers)


def test_policies_that_differ_in_their_watch_only_share_their_fits(shop: Project, tmp_path: Path) -> None:
    period = choose_period(shop, "", "2026-02-05", "2026-02-12")
    model = shop.policy.models["shop"]
    values = tuple(replace(value, limit=value.limit * 0.9) for value in model.watch.values)
    stricter = replace(model, gate=replace(model.gate, margin=0.01), watch=replace(model.watch, values=values))
    other = replace(shop.policy, models={"shop": stricter})
    planted = Planted(source="shop", day="2026-02-07", path="data/shop.csv")
    elsewhere = replace(other, backtest=replace(other.backtest, planted=(planted,)))
    fits = {}
    for name, policy in {"loop": shop.policy, "other": other, "elsewhere": elsewhere}.items():
        replay = Replay(shop, policy, "", period, tmp_path / name, lambda *_: None)
        replay.run()
        fits[name] = [step.state for step in replay.books.steps.find() if step.step in ("fit", "fit-2")]
    assert fits == {"loop": ["ran", "ran"], "other": ["cached", "cached"], "elsewhere": ["ran", "ran"]}


def test_an_unchanging_history_fires_nothing(tmp_path: Path) -> None:
    # Shuffled, the inverted labels of the second half would cancel out those of the first: nothing could be learned.
    shop = make_shop(tmp_path / "shop", is_inverted=False)
    period = choose_period(shop, "", "2026-02-05", "2026-03-20")
    replay = Replay(shop, shuffle_history(shop.policy), "", period, tmp_path / "loop", lambda *_: None)
    replay.run()
    outcome = summarize("loop", replay, 0.0)
    assert outcome.verdicts["performance"]["pass"] > 20
    assert not {"performance", "drift"} & set(outcome.causes)


def test_shuffled_rows_keep_the_delay_until_they_were_known() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [begin + timedelta(hours=hour) for hour in range(500)]
    known = [time + timedelta(minutes=number) for number, time in enumerate(times)]
    rows = pl.DataFrame({"_tidemill_row": range(500), "_tidemill_time": times, "_tidemill_known_at": known})
    permuted = shuffle_rows(rows, 3)
    assert permuted["_tidemill_time"].equals(rows["_tidemill_time"])
    assert sorted(permuted["_tidemill_row"]) == list(range(500))
    assert permuted["_tidemill_row"].to_list() != list(range(500))
    delays = (permuted["_tidemill_known_at"] - permuted["_tidemill_time"]).dt.total_minutes()
    assert delays.to_list() == permuted["_tidemill_row"].to_list()


@pytest.mark.parametrize("delivery", ["1d", "6h", "36h"])
def test_each_row_is_delivered_once(shop: Project, delivery: str) -> None:
    sources = {name: replace(source, delivery=delivery) for name, source in shop.policy.sources.items()}
    begin = datetime(2026, 2, 5, 10, 30, 45, tzinfo=UTC)
    replayed = ReplaySources(shop.folder, FileSources(shop.folder, sources), "rows", begin, shop.policy.backtest)
    batches = replayed.batches("rows", datetime(2100, 1, 1, tzinfo=UTC))
    assert len({batch.id for batch in batches}) == len({batch.path for batch in batches}) == len(batches)
    parts = [replayed.read(batch).with_columns(arrived=batch.known_at) for batch in batches]
    delivered = pl.concat(parts)
    assert sorted(delivered["_tidemill_row"]) == list(range(replayed.rows.height))
    assert (delivered["_tidemill_time"] < delivered["arrived"]).all()


def test_a_manual_training_has_the_declared_delay(shop: Project, tmp_path: Path) -> None:
    period = choose_period(shop, "", "2026-02-05", "2026-02-12")
    firings = (Firing(at="2026-02-08T00:00:00+02:00", pipeline="training"),)
    policy = replace(build_static_policy(shop.policy), backtest=replace(shop.policy.backtest, firings=firings))
    replay = Replay(shop, policy, "", period, tmp_path / "loop", lambda *_: None)
    replay.run()
    first, second = replay.books.runs.find(pipeline="training")
    assert first.started == period.begin
    assert second.started == datetime(2026, 2, 7, 23, tzinfo=UTC)


def test_a_label_that_no_release_can_predict_is_counted_but_not_evaluated(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True).sort("ordered")
    newest = pl.int_range(rows.height) >= rows.height - 40
    rows.with_columns(late=pl.when(newest).then(pl.lit("lost")).otherwise(pl.col("late"))).write_csv(file)
    period = choose_period(project, "", "2026-03-20", "")
    replay = Replay(project, build_static_policy(project.policy), "", period, tmp_path / "loop", lambda *_: None)
    replay.run()
    outcome = summarize("loop", replay, 0.0)
    evaluated = sum(count for _, count, _ in outcome.weeks)
    assert outcome.labels - evaluated == 40 - 1  # the last row is after the end of the period


def test_no_training_uses_values_that_were_not_known(shop: Project, tmp_path: Path) -> None:
    period = choose_period(shop, "", "2026-02-05", "2026-03-20")
    replay = Replay(shop, shop.policy, "", period, tmp_path / "loop", lambda *_: None)
    replay.run()
    for release in replay.books.releases.find():
        run = replay.books.runs.get(release.run)
        assert datetime.fromisoformat(release.data["trained_until"]) < run.started
    predictions = replay.session.workspace.journal.read("predictions/shop")
    created = {release.label: release.created for release in replay.books.releases.find()}
    assert all(created[label] <= at for label, at in predictions.select("release", "known_at").iter_rows())
    served = predictions.filter(pl.col("role") != "shadow")
    assert served["key"].is_unique().all()
    assert predictions.select("id", "release").is_unique().all()


def test_the_same_seeds_produce_identical_results(shop: Project) -> None:
    period = choose_period(shop, "", "2026-02-05", "2026-02-20")
    results = []
    for _ in range(2):
        plain = as_json(compare(shop, {"loop": shop.policy}, "", period, lambda *_: None, seeds=[3]))
        del plain["wall_clock"]
        results.append(msgspec.json.encode(plain))
    assert results[0] == results[1]
    assert b"shop/1" in results[0]


def test_a_result_can_be_encoded_and_decoded(compared: BacktestResult) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(compared), type=BacktestResult)
    assert decoded.find_result("loop").metrics == compared.find_result("loop").metrics


@pytest.mark.parametrize(("begin", "end"), [("2030-01-01", ""), ("2026-03-01", "2026-02-01"), ("soon", "")])
def test_an_empty_period_is_an_error_with_a_cure(shop: Project, begin: str, end: str) -> None:
    with pytest.raises(InputError) as refused:
        choose_period(shop, "", begin, end)
    assert refused.value.cure


def test_without_dates_the_last_two_thirds_are_replayed(shop: Project) -> None:
    period = choose_period(shop, "", "", "")
    assert isinstance(period, Period)
    assert datetime(2026, 2, 3, tzinfo=UTC) <= period.begin <= datetime(2026, 2, 5, tzinfo=UTC)


def test_a_delivery_with_an_infinite_number_is_stopped_and_the_replay_continues(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", replace={'cron = "0 0 * * *"': 'cron = "0 6 * * *"'})
    file = project.folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    is_bad = pl.int_range(pl.len()) == pl.col("ordered").search_sorted(datetime(2026, 3, 3, 12, tzinfo=UTC))
    rows.with_columns(pl.when(is_bad).then(float("inf")).otherwise("distance_km").alias("distance_km")).write_csv(file)
    firings = (Firing(at="2026-03-05T10:00", pipeline="training"),)
    policy = replace(project.policy, backtest=replace(project.policy.backtest, firings=firings))
    replay = Replay(project, policy, "", choose_period(project, "", "2026-03-02", "2026-03-06"), tmp_path / "r", print)
    replay.run()
    outcome = summarize("loop", replay, 0.0)
    assert outcome.failures == []
    (stopped,) = replay.books.verdicts.find(check="schema", action="stop")
    assert "2026-03-03" in stopped.subject
    assert stopped.evidence["anomalies"][0]["sample_rows"][0]["distance_km"] == "inf"
    assert outcome.verdicts["schema"]["pass"] == 3
    assert replay.trainings == 2


def test_a_backtest_with_failed_runs_exits_with_an_error(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", replace={'cron = "0 0 * * *"': 'cron = "0 6 * * *"'})
    with (project.folder / "tidemill.toml").open("a") as file:
        file.write('\n[[backtest.planted]]\nsource = "rows"\nday = "2026-03-03"\npath = "data/absent.csv"\n')
    words = ("backtest", "--from", "2026-03-03", "--to", "2026-03-06", "--against", "static")
    failed = tidemill(project.folder, *words, code=1)
    assert "No valid comparison: runs of the loop failed." in failed.stdout
    assert "the comparison is not valid: loop: " in failed.stderr
    assert "absent.csv" in failed.stderr
    assert "runs failed" in (project.folder / ".tidemill" / "backtest.html").read_text()
