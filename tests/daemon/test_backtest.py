"""The backtest: the daemon's own loop over history, true in time and the same every time."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.projects import make_project
from tidemill.daemon.backtest import Replay
from tidemill.daemon.compare import compare
from tidemill.daemon.part import part_of
from tidemill.daemon.policies import static, weekly
from tidemill.errors import InputError
from tidemill.evidence.comparison import Comparison, Span
from tidemill.project.project import Project


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose carriers change places half-way: what was learned before is wrong after."""
    folder = tmp_path_factory.mktemp("replayed") / "shop"
    changes = {
        'cron = "0 */6 * * *"': 'cron = "0 6 * * *"',
        "minimum = 300": "minimum = 40",
        "minimum = 200": "minimum = 60",
        'test = "14d"': 'test = "5d"\nwindow = "20d"\nparams = { num_leaves = 7, learning_rate = 0.05 }',
    }
    make_project(folder, replace=changes)
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    turned = pl.col("ordered") > datetime(2026, 2, 20, tzinfo=UTC)
    rows.with_columns(pl.when(turned).then(pl.col("late").not_()).otherwise("late")).write_csv(file)
    return Project(folder)


@pytest.fixture(scope="module")
def compared(shop: Project) -> Comparison:
    part = part_of(shop, "", "2026-02-05", "2026-04-05")
    policies = {"loop": shop.policy, "static": static(shop.policy), "weekly": weekly(shop.policy, part.begin)}
    return compare(shop, policies, "", part, lambda *_: None)


def test_all_policies_answer_the_same_predictions(compared: Comparison) -> None:
    assert len({(one.predictions, one.labels) for one in compared.outcomes}) == 1
    assert compared.of("loop").predictions > 1500


def test_the_loop_notices_and_mends_what_the_static_model_suffers(compared: Comparison) -> None:
    loop, kept = compared.of("loop"), compared.of("static")
    assert kept.trainings == 1
    assert loop.trainings > 1
    assert loop.metrics["log_loss"] < kept.metrics["log_loss"] - 0.05
    assert loop.promotions >= 1
    assert loop.verdicts["performance"]["fail"] >= 1


def test_the_calendar_trains_every_week(compared: Comparison) -> None:
    assert compared.of("weekly").trainings == 9
    assert set(compared.of("weekly").runs) == {"hand", "weekly"}


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


def test_the_same_replay_gives_the_same_answers(shop: Project, tmp_path: Path) -> None:
    part = part_of(shop, "", "2026-02-05", "2026-03-10")
    answers = []
    for name in ("one", "two"):
        replay = Replay(shop, shop.policy, "", part, tmp_path / name / "loop", lambda *_: None)
        replay.run()
        answers.append(replay.answers().drop("features"))
        del replay
    assert answers[0].equals(answers[1])


def test_a_comparison_is_plain_data(compared: Comparison) -> None:
    again = msgspec.json.decode(msgspec.json.encode(compared), type=Comparison)
    assert again.of("loop").metrics == compared.of("loop").metrics


@pytest.mark.parametrize(("begin", "end"), [("2030-01-01", ""), ("2026-03-01", "2026-02-01"), ("soon", "")])
def test_dates_that_leave_nothing_say_what_there_is(shop: Project, begin: str, end: str) -> None:
    with pytest.raises(InputError) as refused:
        part_of(shop, "", begin, end)
    assert refused.value.cure


def test_without_dates_the_last_two_thirds_are_replayed(shop: Project) -> None:
    part = part_of(shop, "", "", "")
    assert isinstance(part, Span)
    assert datetime(2026, 2, 3, tzinfo=UTC) <= part.begin <= datetime(2026, 2, 5, tzinfo=UTC)
