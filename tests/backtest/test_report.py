"""The report of a backtest: as a page, as text and as JSON."""

import re
from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest
from msgspec.structs import replace

from tests.web import kit
from tidemill.backtest import findings
from tidemill.backtest.comparison import BacktestResult, Disturbance, TimelineEntry
from tidemill.backtest.report import as_json, render, summary


@pytest.mark.parametrize(
    ("make_result", "headline"),
    [
        (
            lambda: kit.three(),
            (
                "The loop: log loss 0.0300 lower (better) than the first model without retraining, and 0.0040 higher "
                "(worse) than retraining every week, with 5 trainings instead of 9."
            ),
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.5, 1), kit.outcome("static", 0.5)),
            "The loop: log loss equal to the first model without retraining, with 1 training.",
        ),
        (
            lambda: kit.comparison(
                kit.outcome("loop", 2.5, 3, metric="rmse"), kit.outcome("careful", 2, metric="rmse"), metric="rmse"
            ),
            "The loop: RMSE 0.5000 higher (worse) than the policy careful, with 3 trainings.",
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.4, 3), kit.outcome("static", 0.6), metric="roc_auc"),
            "The loop: ROC AUC 0.1000 higher (better) than the first model without retraining, with 3 trainings.",
        ),
        (
            lambda: kit.comparison(kit.outcome("loop", 0.4, 3)),
            "The loop: log loss 0.4000, with 3 trainings.",
        ),
    ],
)
def test_the_headline_compares_the_policies(make_result: Callable[[], BacktestResult], headline: str) -> None:
    assert findings.format_headline(make_result()) == headline


def test_the_page_is_self_contained() -> None:
    page = render(kit.three())
    page_without_script = page.replace(re.search(r"<script>.*?</script>", page, re.DOTALL)[0], "")  # type: ignore[index]
    assert not re.search(r'(src|href)="(?!data:)', page_without_script)
    assert "http://" not in page_without_script
    assert "https://" not in page_without_script
    assert "default-src 'none'" in page_without_script


def test_the_page_does_not_depend_on_the_speed_of_the_machine() -> None:
    result = kit.three()
    slower_policies = [replace(policy, seconds=9e3, training_seconds=9e3) for policy in result.outcomes]
    slower = replace(result, seconds=9e3, outcomes=slower_policies)
    assert render(slower) == render(result)
    assert summary(slower) != summary(result)


def test_the_page_shows_the_outcome_of_each_disturbance() -> None:
    stopped, refused, canary, unnoticed = findings.list_disturbance_outcomes(kit.three())
    assert "values below 10" in stopped.text
    assert "not better than the trivial baseline" in refused.text
    assert [entry.time.day for entry in canary.entries] == [16, 18]
    assert "rolled back: clearly worse" in canary.text
    assert unnoticed.text == "no entry in the timeline"
    page = render(kit.three())
    assert all(outcome.about in page for outcome in (stopped, refused, canary, unnoticed))


def test_a_bad_candidate_that_was_promoted_is_reported_as_in_production() -> None:
    promoted = kit.routed("2013-04-18T11:00", "promote", "promoted: x", ("flights/3", "champion", 1.0))
    kept = [*kit.TIMELINE[:-1], promoted]
    result = kit.comparison(
        kit.outcome("loop", 0.6, timeline=kept), disturbances=[Disturbance("2013-04-16", "a blind candidate")]
    )
    (outcome,) = findings.list_disturbance_outcomes(result)
    assert outcome.text.endswith("promoted: x; flights/3 still in production at the end")


def test_entries_that_repeat_daily_are_one_line() -> None:
    lines = findings.shorten_timeline(kit.TIMELINE)
    repeated = [line for line in lines if line.entry.check == "age"]
    assert [(line.times, line.last.day) for line in repeated] == [(2, 13)]
    assert not [line for line in lines if line.entry.check == "traffic"], "the timeline shows its route"


@pytest.mark.parametrize("field", ["name", "planted", "text", "check"])
def test_nothing_from_the_ledger_becomes_markup(field: str) -> None:
    result = kit.three()
    first = result.outcomes[0]
    if field == "name":
        first = replace(first, name=kit.EVIL)
    elif field == "text":
        evil = kit.routed("2013-03-05", "direct", kit.EVIL, (f"flights/{kit.EVIL}", "champion", 1.0))
        first = replace(first, timeline=[*first.timeline, evil])
    elif field == "check":
        first = replace(first, verdicts={kit.EVIL: {"fail": 3}})
    disturbances = [Disturbance("2013-04-02", kit.EVIL)] if field == "planted" else result.disturbances
    page = render(replace(result, outcomes=[first, *result.outcomes[1:]], disturbances=disturbances))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "alert(" in page.split("</script>")[-1] + page.split("<script>")[0], "the page shows it as text"


def test_the_summary_fits_a_terminal() -> None:
    long = [
        kit.routed(f"2013-04-{day:02}", "promote", f"promoted: {'x' * 200}", (f"flights/{day}", "champion", 1.0))
        for day in range(1, 31)
    ] * 3
    for result in (kit.three(), kit.comparison(kit.outcome("loop", 0.4, timeline=long), kit.outcome("static", 0.5))):
        lines = summary(result).splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 120
    assert "more in the report" in "\n".join(lines)


def test_the_summary_aligns_the_policies() -> None:
    lines = summary(kit.three()).splitlines()
    header = next(line for line in lines if line.startswith("policy"))
    row = next(line for line in lines if line.startswith("loop"))
    assert row[header.index("log loss") : header.index("log loss") + 8].strip() == "0.4500"


def test_the_json_has_the_fields_that_scripts_read() -> None:
    result = as_json(kit.three())
    assert result["from"] == "2013-03-01T00:00:00Z"
    assert result["days"] == 61
    assert result["log_loss"] == {"loop": 0.45, "static": 0.48, "weekly": 0.446}
    assert set(result["roc_auc"]) == {"loop", "static", "weekly"}
    assert result["cost"] == {"loop": 10.0, "static": 2.0, "weekly": 18.0}
    assert result["verdicts"]["gate"] == {"pass": 3, "fail": 2}
    assert [result[name] for name in ("promotions", "rollbacks", "stops", "trainings")] == [2, 1, 3, 5]
    assert result["weeks"]["static"][0] == {"begin": "2013-03-01T00:00:00Z", "rows": 6163, "loss": 0.48}
    assert result["policies"]["weekly"]["trainings"] == 9
    assert result["planted"][0]["day"] == "2013-04-02"
    assert len(result["timeline"]) == len(kit.TIMELINE)
    assert msgspec.json.decode(msgspec.json.encode(result)) == result


def test_a_regression_is_reported_in_its_own_unit() -> None:
    result = kit.comparison(
        kit.outcome("loop", 4.0, 2, metric="rmse"), kit.outcome("static", 9.0, metric="rmse"), metric="rmse"
    )
    value, series = findings.build_weekly_series(result)
    assert value == "RMSE"
    assert series[0].values[0] == 2.0
    assert "Mean RMSE of each week" in render(result)
    assert "the mean squared error of loop" in render(result)
    assert "Difference in squared error per prediction, loop minus the other policy:" in summary(result)
    assert as_json(result)["rmse"] == {"loop": 4.0, "static": 9.0}


def test_the_limits_name_disturbances_and_missing_labels() -> None:
    assert any("affect loop only" in limit for limit in findings.list_limits(kit.three()))
    assert any("never received a label" in limit for limit in findings.list_limits(kit.three()))


def failed_run(at: str, reason: str) -> TimelineEntry:
    return TimelineEntry(time=datetime.fromisoformat(at), kind="failure", subject="ingestion", reason=reason)


def test_a_policy_whose_runs_failed_is_marked_and_the_comparison_is_not_valid() -> None:
    failures = [failed_run("2013-03-09T00:00Z", "second"), failed_run("2013-03-08T00:00Z", "the disk is full")]
    first, *others = kit.three().outcomes
    result = replace(kit.three(), outcomes=[replace(first, timeline=[*first.timeline, *failures]), *others])
    assert findings.format_headline(result) == "No valid comparison: runs of the loop failed."
    text = "loop: 2 of 62 runs failed. The first failed on 2013-03-08 (ingestion): the disk is full"
    for report in (summary(result), render(result)):
        assert text in report
        assert "loop (2 runs failed)" in report
        assert "static (" not in report
    assert as_json(result)["policies"]["loop"]["failed_runs"] == 2
    repeats = [replace(first, seed=1), replace(others[0], timeline=failures, seed=1), replace(others[1], seed=1)]
    repeated = replace(kit.three(), repeats=repeats)
    assert "static (2 runs failed)" in summary(repeated)
    assert "failed" not in summary(kit.three()).partition("Timeline")[0]
