"""The report of a backtest: what it says, to people and to machines."""

import re
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from tests.web import kit
from tidemill.backtest import findings
from tidemill.backtest.comparison import BacktestResult, Disturbance
from tidemill.backtest.report import as_json, render, summary


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: kit.three(),
            (
                "The loop lost 0.0300 less per prediction than the model kept for ever, and 0.0040 more than "
                "retraining every week, with 5 trainings instead of 9."
            ),
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.5, 1), kit.outcome("static", 0.5)),
            "The loop lost as much as the model kept for ever, with 1 training.",
        ),
        (
            lambda: kit.comparison(
                kit.outcome("loop", 2.5, 3, metric="rmse"), kit.outcome("careful", 2, metric="rmse"), metric="rmse"
            ),
            "The loop scored 0.5000 higher in RMSE (worse) than the policy careful, with 3 trainings.",
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.4, 3), kit.outcome("static", 0.6), metric="roc_auc"),
            "The loop scored 0.1000 higher in ROC AUC (better) than the model kept for ever, with 3 trainings.",
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.4, 3)),
            "The loop came to a log loss of 0.4000, with 3 trainings.",
        ),
    ],
)
def test_the_headline_says_the_result_in_words(made: Callable[[], BacktestResult], said: str) -> None:
    assert findings.headline(made()) == said


def test_the_page_is_complete_in_itself() -> None:
    page = render(kit.three())
    own = page.replace(re.search(r"<script>.*?</script>", page, re.DOTALL)[0], "")  # type: ignore[index]
    assert not re.search(r'(src|href)="(?!data:)', own)
    assert "http://" not in own
    assert "https://" not in own
    assert "default-src 'none'" in own


def test_the_page_is_the_same_however_long_the_machine_took() -> None:
    one = kit.three()
    slower = [replace(outcome, seconds=9e3, training_seconds=9e3) for outcome in one.outcomes]
    other = replace(one, seconds=9e3, outcomes=slower)
    assert render(other) == render(one)
    assert summary(other) != summary(one)


def test_the_page_tells_what_became_of_what_was_planted() -> None:
    stopped, refused, tried, unnoticed = findings.fates(kit.three())
    assert "values below 10" in stopped.said
    assert "not better than the trivial baseline" in refused.said
    assert [moment.time.day for moment in tried.became] == [16, 18]
    assert "rolled back: clearly worse" in tried.said
    assert unnoticed.said == "nothing in the timeline answers to it"
    page = render(kit.three())
    assert all(fate.about in page for fate in (stopped, refused, tried, unnoticed))


def test_a_bad_candidate_that_got_through_is_said_to_answer_still() -> None:
    promoted = kit.routed("2013-04-18T11:00", "promote", "promoted: x", ("flights/3", "champion", 1.0))
    kept = [*kit.TIMELINE[:-1], promoted]
    found = kit.comparison(
        kit.outcome("loop", 0.6, timeline=kept), planted=[Disturbance("2013-04-16", "a blind candidate")]
    )
    assert findings.fates(found)[0].said.endswith("promoted: x; flights/3 still answered at the end")


def test_what_is_said_day_after_day_is_told_once() -> None:
    lines = findings.shortened(kit.TIMELINE)
    again = [line for line in lines if line.moment.check == "age"]
    assert [(line.times, line.last.day) for line in again] == [(2, 13)]
    assert not [line for line in lines if line.moment.check == "traffic"], "the route of that instant says it"


@pytest.mark.parametrize("place", ["name", "planted", "text", "check"])
def test_nothing_from_the_ledger_becomes_markup(place: str) -> None:
    found = kit.three()
    first = found.outcomes[0]
    if place == "name":
        first = replace(first, name=kit.EVIL)
    elif place == "text":
        evil = kit.routed("2013-03-05", "direct", kit.EVIL, (f"flights/{kit.EVIL}", "champion", 1.0))
        first = replace(first, timeline=[*first.timeline, evil])
    elif place == "check":
        first = replace(first, verdicts={kit.EVIL: {"fail": 3}})
    planted = [Disturbance("2013-04-02", kit.EVIL)] if place == "planted" else found.planted
    page = render(replace(found, outcomes=[first, *found.outcomes[1:]], planted=planted))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "alert(" in page.split("</script>")[-1] + page.split("<script>")[0], "it is shown, as text"


def test_the_summary_fits_a_terminal() -> None:
    long = [
        kit.routed(f"2013-04-{day:02}", "promote", f"promoted: {'x' * 200}", (f"flights/{day}", "champion", 1.0))
        for day in range(1, 31)
    ] * 3
    for found in (kit.three(), kit.comparison(kit.outcome("loop", 0.4, timeline=long), kit.outcome("static", 0.5))):
        lines = summary(found).splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 120
    assert "more in the report" in "\n".join(lines)


def test_the_summary_aligns_the_policies() -> None:
    lines = summary(kit.three()).splitlines()
    header = next(line for line in lines if line.startswith("policy"))
    row = next(line for line in lines if line.startswith("loop"))
    assert row[header.index("log loss") : header.index("log loss") + 8].strip() == "0.4500"


def test_the_json_has_what_a_script_asks_for() -> None:
    found = as_json(kit.three())
    assert found["from"] == "2013-03-01T00:00:00Z"
    assert found["days"] == 61
    assert found["log_loss"] == {"loop": 0.45, "static": 0.48, "weekly": 0.446}
    assert set(found["roc_auc"]) == {"loop", "static", "weekly"}
    assert found["cost"] == {"loop": 10.0, "static": 2.0, "weekly": 18.0}
    assert found["verdicts"]["gate"] == {"pass": 3, "fail": 2}
    assert [found[name] for name in ("promotions", "rollbacks", "stops", "trainings")] == [2, 1, 3, 5]
    assert found["weeks"]["static"][0] == {"begin": "2013-03-01T00:00:00Z", "rows": 6163, "loss": 0.48}
    assert found["policies"]["weekly"]["trainings"] == 9
    assert found["planted"][0]["day"] == "2013-04-02"
    assert len(found["timeline"]) == len(kit.TIMELINE)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_a_regression_is_told_in_its_own_unit() -> None:
    found = kit.comparison(
        kit.outcome("loop", 4.0, 2, metric="rmse"), kit.outcome("static", 9.0, metric="rmse"), metric="rmse"
    )
    value, series = findings.weekly(found)
    assert value == "RMSE"
    assert series[0].values[0] == 2.0
    assert "Mean RMSE of each week" in render(found)
    assert "The mean squared error of loop" in render(found)
    assert "less the others, squared error per prediction:" in summary(found)
    assert as_json(found)["rmse"] == {"loop": 4.0, "static": 9.0}


def test_the_limits_say_that_accidents_hit_one_policy_only() -> None:
    assert any("hit loop alone" in limit for limit in findings.limits(kit.three()))
    assert any("never got a label" in limit for limit in findings.limits(kit.three()))
