"""The backtest: the daemon's own loop over history, true in time and the same every time."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.backtest.compare import compare
from tidemill.backtest.comparison import BacktestResult, Period
from tidemill.backtest.period import part_of
from tidemill.backtest.policies import PolicyPlan, calendar, shuffled, static, weekly
from tidemill.backtest.replay import Replay
from tidemill.backtest.report import as_json
from tidemill.backtest.sources import ReplaySources
from tidemill.backtest.sources import shuffled as reordered
from tidemill.backtest.summary import summarize
from tidemill.core.backtest import Firing, Planted
from tidemill.data.source import FileSources
from tidemill.errors import InputError
from tidemill.project.project import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose carriers change places half-way: what was learned before is wrong after."""
    folder = tmp_path_factory.mktemp("replayed") / "shop"
    changes = {
        'cron = "0 */6 * * *"': 'cron = "0 6 * * *"',
        "minimum = 300": "minimum = 40",
        "minimum = 200": "minimum = 60",
        'cooldown = "14d"': 'cooldown = "4d"',
        'test = "14d"': 'test = "5d"\nwindow = "20d"\nparams = { num_leaves = 7, learning_rate = 0.05 }',
    }
    make_project(folder, replace=changes)
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    turned = pl.col("ordered") > datetime(2026, 2, 20, tzinfo=UTC)
    rows.with_columns(pl.when(turned).then(pl.col("late").not_()).otherwise("late")).write_csv(file)
    policy = Project(folder).policy
    return Project(folder, replace(policy, triggers=tuple(one for one in policy.triggers if one.on != "data")))


@pytest.fixture(scope="module")
def compared(shop: Project) -> BacktestResult:
    part = part_of(shop, "", "2026-02-05", "2026-04-05")
    policies: dict[str, PolicyPlan] = {
        "loop": shop.policy,
        "static": static(shop.policy),
        "weekly": weekly(shop.policy, part.begin),
        "calendar": lambda loop: calendar(shop.policy, part, loop.trainings),
    }
    return compare(shop, policies, "", part, lambda *_: None)


def test_all_policies_answer_the_same_predictions(compared: BacktestResult) -> None:
    assert len({(one.predictions, one.labels) for one in compared.outcomes}) == 1
    assert compared.of("loop").predictions > 1500


def test_the_loop_notices_and_mends_what_the_static_model_suffers(compared: BacktestResult) -> None:
    loop, kept = compared.of("loop"), compared.of("static")
    assert kept.trainings == 1
    assert loop.trainings > 1
    assert loop.metrics["log_loss"] < kept.metrics["log_loss"] - 0.05
    assert loop.promotions >= 1
    assert loop.verdicts["performance"]["fail"] >= 1


def test_the_calendar_trains_every_week(compared: BacktestResult) -> None:
    assert compared.of("weekly").trainings == 9
    assert set(compared.of("weekly").runs) == {"hand", "weekly"}


def test_a_calendar_trains_as_often_as_the_loop_did(compared: BacktestResult) -> None:
    loop, even = compared.of("loop"), compared.of("calendar")
    assert even.trainings == loop.trainings
    began = [case.started for case in even.cases]
    distances = [(later - earlier).days for earlier, later in itertools.pairwise(began)]
    assert max(distances) - min(distances) <= 1
    assert {case.ending for case in even.cases} == {"first", "live"}


def test_a_calendar_counts_the_firings_of_its_own_days(shop: Project) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-04-05")
    firings = (Firing(at="2026-03-01T10:00", pipeline="training"), Firing(at="2026-05-01T10:00", pipeline="training"))
    even = calendar(replace(shop.policy, backtest=replace(shop.policy.backtest, firings=firings)), part, 4)
    added = [firing.at for firing in even.backtest.firings[2:]]
    assert len(added) == 2, "of four trainings one is the first, and one was planted"
    assert max(added) < "2026-04-05"


def test_each_training_is_told_from_its_cause_to_its_end(compared: BacktestResult) -> None:
    first, *others = compared.of("loop").cases
    assert (first.ending, first.cause, first.release) == ("first", None, "shop/1")
    mended = next(case for case in others if case.ending == "promoted")
    assert mended.cause is not None
    assert mended.cause.check in ("performance", "drift", "age")
    assert mended.gate is not None
    assert mended.trial is not None
    assert mended.cause.time <= mended.due <= mended.started <= mended.gate.time
    assert mended.live is not None
    assert mended.ended is not None
    assert mended.live < mended.ended == mended.trial.time
    assert {"lower", "upper"} <= set(mended.trial.numbers)


def test_policies_that_differ_in_their_watch_only_share_what_is_fitted(shop: Project, tmp_path: Path) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-02-12")
    model = shop.policy.models["shop"]
    values = tuple(replace(value, limit=value.limit * 0.9) for value in model.watch.values)
    stricter = replace(model, gate=replace(model.gate, margin=0.01), watch=replace(model.watch, values=values))
    other = replace(shop.policy, models={"shop": stricter})
    planted = Planted(source="shop", day="2026-02-07", path="data/shop.csv")
    elsewhere = replace(other, backtest=replace(other.backtest, planted=(planted,)))
    fits = {}
    for name, policy in {"loop": shop.policy, "other": other, "elsewhere": elsewhere}.items():
        replay = Replay(shop, policy, "", part, tmp_path / name, lambda *_: None)
        replay.run()
        fits[name] = [step.state for step in replay.books.steps.find() if step.step in ("fit", "fit-2")]
    assert fits == {"loop": ["ran", "ran"], "other": ["cached", "cached"], "elsewhere": ["ran", "ran"]}


def test_where_nothing_changes_nothing_fires(shop: Project, tmp_path: Path) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-03-20")
    replay = Replay(shop, shuffled(shop.policy), "", part, tmp_path / "loop", lambda *_: None)
    replay.run()
    outcome = summarize("loop", replay, 0.0)
    assert outcome.verdicts["performance"]["pass"] > 20
    assert not {"performance", "drift"} & set(outcome.causes)


def test_shuffled_rows_keep_how_long_they_took_to_be_known() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = [begin + timedelta(hours=hour) for hour in range(500)]
    known = [time + timedelta(minutes=number) for number, time in enumerate(times)]
    rows = pl.DataFrame({"_row": range(500), "_time": times, "_known_at": known})
    drawn = reordered(rows, 3)
    assert drawn["_time"].equals(rows["_time"])
    assert sorted(drawn["_row"]) == list(range(500))
    assert drawn["_row"].to_list() != list(range(500))
    took = (drawn["_known_at"] - drawn["_time"]).dt.total_minutes()
    assert took.to_list() == drawn["_row"].to_list()


@pytest.mark.parametrize("delivery", ["1d", "6h", "36h"])
def test_each_row_is_delivered_once(shop: Project, delivery: str) -> None:
    sources = {name: replace(source, delivery=delivery) for name, source in shop.policy.sources.items()}
    begin = datetime(2026, 2, 5, 10, 30, 45, tzinfo=UTC)
    replayed = ReplaySources(shop.folder, FileSources(shop.folder, sources), "rows", begin, shop.policy.backtest)
    batches = replayed.batches("rows", datetime(2100, 1, 1, tzinfo=UTC))
    assert len({batch.id for batch in batches}) == len({batch.path for batch in batches}) == len(batches)
    parts = [replayed.read(batch).with_columns(arrived=batch.known_at) for batch in batches]
    delivered = pl.concat(parts)
    assert sorted(delivered["_row"]) == list(range(replayed.rows.height))
    assert (delivered["_time"] < delivered["arrived"]).all()


def test_a_training_takes_its_time_whoever_starts_it(shop: Project, tmp_path: Path) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-02-12")
    firings = (Firing(at="2026-02-08T00:00:00+02:00", pipeline="training"),)
    policy = replace(static(shop.policy), backtest=replace(shop.policy.backtest, firings=firings))
    replay = Replay(shop, policy, "", part, tmp_path / "loop", lambda *_: None)
    replay.run()
    first, second = replay.books.runs.find(pipeline="training")
    assert first.started == part.begin
    assert second.started == datetime(2026, 2, 7, 23, tzinfo=UTC)


def test_a_label_that_no_release_could_have_said_is_counted_not_judged(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True).sort("ordered")
    newest = pl.int_range(rows.height) >= rows.height - 40
    rows.with_columns(late=pl.when(newest).then(pl.lit("lost")).otherwise(pl.col("late"))).write_csv(file)
    part = part_of(project, "", "2026-03-20", "")
    replay = Replay(project, static(project.policy), "", part, tmp_path / "loop", lambda *_: None)
    replay.run()
    outcome = summarize("loop", replay, 0.0)
    assert (
        outcome.labels - sum(count for _, count, _ in outcome.weeks) == 40 - 1
    )  # the very last is asked after the end


def test_no_training_sees_what_was_not_known(shop: Project, tmp_path: Path) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-03-20")
    replay = Replay(shop, shop.policy, "", part, tmp_path / "loop", lambda *_: None)
    replay.run()
    for release in replay.books.releases.find():
        run = replay.books.runs.get(release.run)
        assert datetime.fromisoformat(release.data["trained_until"]) < run.started
    predictions = replay.session.workspace.journal.read("predictions/shop")
    made = {release.label: release.created for release in replay.books.releases.find()}
    assert all(made[label] <= at for label, at in predictions.select("release", "known_at").iter_rows())
    answered = predictions.filter(pl.col("role") != "shadow")
    assert answered["key"].is_unique().all()
    assert predictions.select("id", "release").is_unique().all()


def test_the_same_seeds_give_the_same_result_to_the_byte(shop: Project) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-02-20")
    told = []
    for _ in range(2):
        plain = as_json(compare(shop, {"loop": shop.policy}, "", part, lambda *_: None, seeds=[3]))
        del plain["wall_clock"]
        told.append(msgspec.json.encode(plain))
    assert told[0] == told[1]
    assert b"shop/1" in told[0]


def test_a_comparison_is_plain_data(compared: BacktestResult) -> None:
    again = msgspec.json.decode(msgspec.json.encode(compared), type=BacktestResult)
    assert again.of("loop").metrics == compared.of("loop").metrics


@pytest.mark.parametrize(("begin", "end"), [("2030-01-01", ""), ("2026-03-01", "2026-02-01"), ("soon", "")])
def test_dates_that_leave_nothing_say_what_there_is(shop: Project, begin: str, end: str) -> None:
    with pytest.raises(InputError) as refused:
        part_of(shop, "", begin, end)
    assert refused.value.cure


def test_without_dates_the_last_two_thirds_are_replayed(shop: Project) -> None:
    part = part_of(shop, "", "", "")
    assert isinstance(part, Period)
    assert datetime(2026, 2, 3, tzinfo=UTC) <= part.begin <= datetime(2026, 2, 5, tzinfo=UTC)
