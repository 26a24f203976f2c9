"""`backtest --tune`: later rows decide about what the first rows chose; few rows decide nothing; nothing is lost."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.projects import listed, make_project, tidemill
from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.evaluations import Evaluations
from tidemill.backtest.tune import split_period
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError
from tidemill.project.configuration import digest_policy
from tidemill.project.project import Project

_WEEK = timedelta(weeks=1)
_CHANGES = {
    'cron = "0 0 * * *"': 'cron = "0 6 * * *"',
    'test = "14d"': 'test = "3d"\nparams = { num_leaves = 7 }',
}
_WORDS = ("backtest", "--tune", "--from", "2026-01-20")


def make_losses(period: Period, loss: float) -> list[tuple[datetime, int, float]]:
    weeks = max(1, round((period.end - period.begin) / _WEEK))
    return [(period.begin + number * _WEEK, 100, loss + 0.005 * math.sin(number)) for number in range(weeks)]


class Later:
    """Invented losses: a short window is better on the first rows; `gain` is how much it is better on later rows."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.replayed: list[str] = []

    def replay(self, policies: Mapping[str, Policy], period: Period) -> dict[str, PolicyResult | TidemillError]:
        self.replayed += [digest_policy(policy) for policy in policies.values()]
        return {name: self.judge(name, policy, period) for name, policy in policies.items()}

    def judge(self, name: str, policy: Policy, period: Period) -> PolicyResult:
        is_first = period.begin < datetime(2026, 2, 20, tzinfo=UTC)
        gain = 0.1 if is_first else self.gain
        is_short = policy.models["shop"].training.window == "28d"
        loss = 0.6 - gain * is_short
        return PolicyResult(
            name=name,
            predictions=1000,
            labels=1000,
            runs={},
            verdicts={},
            promotions=0,
            rollbacks=0,
            stops=0,
            trainings=3,
            training_seconds=0.0,
            seconds=0.0,
            metrics={"log_loss": loss},
            weeks=make_losses(period, loss),
            releases=[],
            timeline=[],
        )


def fake(monkeypatch: pytest.MonkeyPatch, gain: float) -> Later:
    later = Later(gain)
    monkeypatch.setattr(Evaluations, "replay", lambda _, policies, period: later.replay(policies, period))
    return later


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    make_project(tmp_path / "shop", replace=_CHANGES)
    return tmp_path / "shop"


def run_tune(folder: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = listed(folder, *_WORDS, *words)
    return found


def test_the_later_rows_begin_at_midnight() -> None:
    begin, end = datetime(2026, 1, 1, 7, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    choose, judge = split_period(Period(begin, end))
    assert (choose.begin, judge.end) == (begin, end)
    assert choose.end == judge.begin == datetime(2026, 2, 5, tzinfo=UTC)


def test_a_policy_that_later_rows_confirm_is_proposed_and_applied(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 0.1)
    file = shop / "tidemill.toml"
    before = file.read_text()
    found = run_tune(shop)
    assert (found["decision"], found["changes"], found["settings"]) == ("better", True, {"window": "28d"})
    assert '+window = "28d"' in found["diff"].splitlines()
    names = [judged["name"] for judged in found["judgements"]]
    assert names == ["tuned", "written", "calendar", "written calendar"]
    assert found["judgements"][1]["difference"]["high"] < 0
    assert file.read_text() == before, "without --apply nothing is written"
    printed = tidemill(shop, *_WORDS, "--apply").stdout
    assert "The proposed policy is better on later rows." in printed
    assert Project(shop).model("shop").training.window == "28d"
    assert file.read_text().count("#") == before.count("#")
    html = (shop / ".tidemill" / "tuning.html").read_text()
    assert "Pareto front" in html
    assert "+window = &#34;28d&#34;" in html


@pytest.mark.parametrize(("gain", "holds"), [(0.1, True), (0.2, True), (0.02, False)])
def test_what_the_first_rows_promise_is_compared_with_the_later_ones(
    shop: Path, monkeypatch: pytest.MonkeyPatch, gain: float, holds: bool
) -> None:
    fake(monkeypatch, gain)
    promise = run_tune(shop)["promise"]
    assert promise["loss"] == pytest.approx(0.5, abs=0.01)
    assert promise["observed"] == pytest.approx(0.6 - gain, abs=0.01)
    assert promise["low"] < promise["loss"] < promise["high"]
    assert promise["trainings"][0] <= promise["observed_trainings"] <= promise["trainings"][1]
    printed = tidemill(shop, *_WORDS).stdout
    text = "The promise holds." if holds else "The promise does not hold."
    assert text in " ".join(printed.split())
    assert text in (shop / ".tidemill" / "tuning.html").read_text()


def test_a_file_that_changes_during_the_search_is_not_written_and_the_result_is_printed(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = fake(monkeypatch, 0.1)
    file = shop / "tidemill.toml"
    judge = later.judge

    def edit(name: str, policy: Policy, period: Period) -> PolicyResult:
        file.write_text(file.read_text().replace("share = 0.2", "share = 0.3"))
        return judge(name, policy, period)

    monkeypatch.setattr(later, "judge", edit)
    printed = tidemill(shop, *_WORDS, "--apply", code=2)
    assert "has changed since the command read it" in printed.stderr
    assert "The proposed policy is better on later rows." in printed.stdout
    assert 'window = "28d"' not in [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert "share = 0.3" in file.read_text()


def test_the_promise_of_an_applied_policy_comes_from_the_later_rows(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.05)
    run_tune(shop, "--apply")
    (status,) = listed(shop, "policy", "status")
    assert status["promise"]["by"] == "tune"
    losses = [loss for _, loss in status["promise"]["weeks"]]
    assert sum(losses) / len(losses) == pytest.approx(0.55, abs=0.01), "0.5 was the loss on the rows that chose it"


@pytest.mark.parametrize("gain", [0.0, -0.1])
def test_a_policy_that_later_rows_do_not_confirm_changes_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    fake(monkeypatch, gain)
    before = (shop / "tidemill.toml").read_text()
    found = run_tune(shop, "--apply")
    assert (found["decision"], found["changes"], found["diff"]) == ("not confirmed", False, "")
    assert found["settings"] == {"window": "28d"}, "what the first rows chose is reported"
    assert (shop / "tidemill.toml").read_text() == before
    (status,) = listed(shop, "policy", "status")
    assert status["state"] == "waiting", "the present policy gets its promise"


def test_too_few_rows_replay_nothing_and_say_so(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = fake(monkeypatch, 0.1)
    found: dict[str, Any] = listed(shop, "backtest", "--tune", "--from", "2026-03-01", "--apply")
    assert (found["decision"], found["changes"]) == ("too few rows", False)
    assert "400 in 4 weeks are needed" in found["reason"]
    assert later.replayed == []
    assert "too few rows" in tidemill(shop, "backtest", "--tune", "--from", "2026-03-01").stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("backtest", "--tune", "--shuffle"), "--tune cannot be combined with --shuffle"),
        (("backtest", "--tune", "--seeds", "3"), "--tune cannot be combined with --seeds"),
        (("backtest", "--apply"), "--apply has no effect without --tune"),
        (("backtest", "--tune", "--budget", "soon"), "soon"),
        (("backtest", "--tune", "--model", "absent"), "absent"),
        (("backtest", "--tune", "--from", "yesterday"), "'yesterday' is not a date"),
    ],
)
def test_wrong_options_are_errors_with_a_cure(shop: Path, words: tuple[str, ...], text: str) -> None:
    assert text in tidemill(shop, *words, code=2).stderr


def test_a_source_without_event_time_is_an_error(shop: Path) -> None:
    file = shop / "tidemill.toml"
    file.write_text(file.read_text().replace('time = "ordered"\n', ""))
    printed = tidemill(shop, "backtest", "--tune", code=2).stderr
    assert "has no time" in printed
    assert "set the column of the event time" in printed


def test_a_result_is_stored_at_once_and_a_line_that_was_cut_off_is_left_out(shop: Path) -> None:
    project, period = Project(shop), Period(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))
    folder = shop / ".tidemill" / "tuning"
    first = Evaluations(project, "shop", folder, lambda _: None)
    result = Later(0.1).judge("any", project.policy, period)
    first._store(first._build_key(project.policy, period), result)
    with (folder / "evaluations.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(result)[:50])
    second = Evaluations(project, "shop", folder, lambda _: None)
    assert second.has(project.policy, period)
    assert second.replay({"written": project.policy}, period) == {"written": replace(result, name="written")}
    table = shop / "data" / "shop.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    assert not Evaluations(project, "shop", folder, lambda _: None).has(project.policy, period), "other rows"


def test_a_search_of_real_replays_states_a_promise_and_repeats_none_of_them(shop: Path) -> None:
    found = run_tune(shop, "--budget", "1s")
    assert (found["decision"], found["complete"]) == ("nothing better", False)
    assert [judged["name"] for judged in found["judgements"]] == ["tuned", "calendar"]
    assert found["judgements"][0]["loss"] < 0.75
    stored = (shop / ".tidemill" / "tuning" / "evaluations.jsonl").read_bytes()
    assert stored.count(b"\n") == 3
    assert {file.name for file in (shop / ".tidemill" / "tuning").iterdir()} == {"evaluations.jsonl"}
    again = run_tune(shop, "--budget", "0s")
    assert again["judgements"] == found["judgements"]
    assert (shop / ".tidemill" / "tuning" / "evaluations.jsonl").read_bytes() == stored
    assert listed(shop, "policy", "status")[0]["promise"]["by"] == "tune"
