"""The report of `backtest --tune`: one page, the same in plain text, and as plain data."""

import textwrap
from typing import Any

from markupsafe import Markup
from msgspec import to_builtins

from tidemill.backtest.costs import CostRates
from tidemill.backtest.report import align, hash_script
from tidemill.backtest.search import Evaluation, find_front, measure_effort
from tidemill.backtest.stories import describe_difference
from tidemill.backtest.tune import TUNED, WRITTEN, Judgement, TunedPromise, TuningResult
from tidemill.data.charts import ChartPoint, Figure, draw_scatter
from tidemill.evidence.formatting import format_duration, format_number
from tidemill.web import templating
from tidemill.web.words import describe_metric, format_day, pluralize

_WIDTH = 118
_LINES = 12
_HEADLINES = {
    "better": "The proposed policy is better on later rows.",
    "cheaper": "The proposed policy costs less on later rows; its loss does not differ beyond the interval.",
    "not confirmed": "No change: the policy that was best on the first rows is not confirmed by later rows.",
    "nothing better": "No change: no policy was cheaper than the one as written.",
    "too few rows": "No change: there are too few rows to decide.",
}


def format_headline(result: TuningResult) -> str:
    """Return the decision in one sentence."""
    return _HEADLINES[result.decision]


def render(result: TuningResult, difference: str) -> str:
    """Return the report as one HTML file that needs no network; `difference` is that of `tidemill.toml`."""
    scripts = {"plotly": Markup(templating.read_plotly()), "charts": Markup(templating.read_file("charts.js"))}
    return templating.render_template(
        "tuning.html",
        result=result,
        headline=format_headline(result),
        reason=result.reason,
        choose=_describe(result.choose.begin, result.choose.end),
        judge=_describe(result.judge.begin, result.judge.end),
        judgements=_list_judgements(result),
        promise=describe_promise(result.promise, result.loss_name) if result.promise is not None else "",
        evaluations=_list_evaluations(result),
        failed=result.failed,
        rates=describe_rates(result.rates, result.loss_name),
        difference=difference,
        figure=_draw_front(result),
        style=Markup(templating.read_file("style.css")),
        scripts=scripts,
        hashes=" ".join(hash_script(script) for script in scripts.values()),
    )


def summary(result: TuningResult) -> str:
    """Return the report in plain text."""
    lines = [
        format_headline(result),
        *textwrap.wrap(f"{result.settings_text}: {result.reason}" if result.settings else result.reason, _WIDTH),
    ]
    if result.evaluations:
        lines += ["", f"Chosen on {_describe(result.choose.begin, result.choose.end)}, the cheapest first:"]
        header, *rows = _list_evaluations(result)
        lines += align([header, *rows[:_LINES]])
        if len(rows) > _LINES:
            lines.append(f"  … {pluralize(len(rows) - _LINES, 'line')} more in the report")
    if result.judgements:
        lines += ["", f"Judged on {_describe(result.judge.begin, result.judge.end)}, which chose nothing:"]
        lines += align(_list_judgements(result))
        if result.promise is not None:
            lines += ["", *textwrap.wrap(describe_promise(result.promise, result.loss_name), _WIDTH)]
        lines += ["", *textwrap.wrap(f"Cost: {describe_rates(result.rates, result.loss_name)}", _WIDTH)]
        lines.append(f"{pluralize(len(result.evaluations), 'replay')} to choose; {format_duration(result.seconds)}")
    return "\n".join(lines)


def as_json(result: TuningResult, difference: str) -> dict[str, Any]:
    """Return the result as plain data, with the proposed difference of `tidemill.toml`."""
    front = find_front([evaluation for evaluation in result.evaluations if not evaluation.is_scan])
    plain: dict[str, Any] = to_builtins(
        {
            "project": result.project,
            "model": result.model,
            "decision": result.decision,
            "headline": format_headline(result),
            "reason": result.reason,
            "changes": result.changes_policy,
            "settings": result.settings,
            "choose": result.choose,
            "judge": result.judge,
            "complete": result.is_complete,
            "costs": result.rates,
            "loss": result.loss_name,
            "evaluations": [_plain_evaluation(evaluation, front) for evaluation in result.evaluations],
            "failed": result.failed,
            "difference_on_chosen_rows": result.difference,
            "judgements": result.judgements,
            "promise": result.promise,
            "diff": difference,
            "wall_clock": result.seconds,
        }
    )
    return plain


def describe_promise(promise: TunedPromise, loss_name: str) -> str:
    """Return what the rows to choose on promised of the tuned policy, what later rows show, and whether it holds."""
    least, most = promise.trainings
    low, high = (format_number(bound) for bound in (promise.low, promise.high))
    return (
        f"Promised of the first policy of this table, by the rows that chose it: {loss_name} "
        f"{format_number(promise.loss)} ({low} to {high}), {least} to {most} retrainings. Observed: "
        f"{format_number(promise.observed)}, {pluralize(promise.observed_trainings, 'retraining')}. "
        f"The promise {'holds' if promise.holds else 'does not hold'}."
    )


def describe_rates(rates: CostRates, loss_name: str) -> str:
    """Return what the parts of the cost are."""
    without = f"{loss_name} {format_number(rates.baseline)}"
    parts = [
        f"{format_number(rates.error)} for a prediction as wrong as without a model ({without})",
        f"{format_number(rates.training)} a training",
        f"{format_number(rates.false_alarm)} a false alarm",
        f"{format_number(rates.degraded_hour)} an hour of a week that was worse than without a model",
    ]
    return ", ".join(parts) + " ([problem] cost_of_…)"


def _plain_evaluation(evaluation: Evaluation, front: list[Evaluation]) -> dict[str, Any]:
    return {
        "policy": evaluation.name,
        "settings": evaluation.settings,
        "scan": evaluation.is_scan,
        "loss": evaluation.loss,
        "trainings": evaluation.trainings,
        "cost": evaluation.cost,
        "total": evaluation.cost.total,
        "front": evaluation in front,
    }


def _list_evaluations(result: TuningResult) -> list[list[str]]:
    """Return a table with its header: the policies of the search, the cheapest first, the scan last."""
    rows = [["policy", result.loss_name, "trainings", "false alarms", "cost"]]
    for evaluation in sorted(result.evaluations, key=lambda found: (found.is_scan, found.cost.total)):
        name = f"{evaluation.name} (no gate)" if evaluation.is_scan else evaluation.name
        alarms = format_number(evaluation.cost.count_of_false_alarms)
        total = f"{evaluation.cost.total:,.1f}"
        rows.append([name, f"{evaluation.loss:.4f}", format_number(evaluation.trainings), alarms, total])
    return rows


def _list_judgements(result: TuningResult) -> list[list[str]]:
    """Return a table with its header: the tuned policy and the others on the later rows."""
    metric = result.metric if all(result.metric in found.metrics for found in result.judgements) else ""
    titles = [describe_metric(metric)] if metric and metric != "log_loss" else []
    header = ["policy", result.loss_name, *titles, "trainings", "false alarms", "wrong promotions", "cost"]
    rows = [[*header, "loss of the first − this one", "so the first is"]]
    for found in result.judgements:
        scores = [format_number(found.metrics[metric])] if titles else []
        counts = [found.trainings, found.cost.count_of_false_alarms, found.wrong_promotions]
        cells = [f"{found.loss:.4f}", *scores, *map(format_number, counts), f"{found.cost.total:,.1f}"]
        rows.append([_name(found, result), *cells, *_compare(found)])
    return rows


def _name(found: Judgement, result: TuningResult) -> str:
    tuned = "proposed" if result.changes_policy else "found" if result.settings else "as written"
    return {TUNED: tuned, WRITTEN: "as written"}.get(found.name, found.name)


def _compare(found: Judgement) -> list[str]:
    if found.difference is None:
        return ["", ""]
    interval = f"{found.difference.mean:+.4f} ({found.difference.low:+.4f} to {found.difference.high:+.4f})"
    return [interval, describe_difference(found.difference)]


def _draw_front(result: TuningResult) -> Figure | None:
    if not result.evaluations:
        return None
    whole = [evaluation for evaluation in result.evaluations if not evaluation.is_scan]
    by_cost = any(measure_effort(evaluation)[0] for evaluation in whole)

    def to_point(evaluation: Evaluation, group: str) -> ChartPoint:
        effort, trainings = measure_effort(evaluation)
        text = f"{evaluation.name}: {result.loss_name} {evaluation.loss:.4f}, {pluralize(trainings, 'training')}"
        return ChartPoint(group, effort if by_cost else trainings, evaluation.loss, text)

    chosen = result.chosen
    groups = {True: "calendars without a gate (scan)", False: "policies"}
    points = [to_point(found, groups[found.is_scan]) for found in result.evaluations if found is not chosen]
    if chosen is not None:
        points.append(to_point(chosen, "chosen"))
    front = [to_point(evaluation, "") for evaluation in find_front(whole)]
    axis = "cost of trainings, false alarms and degraded hours" if by_cost else "trainings"
    return draw_scatter(points, front, axis, f"{result.loss_name} per prediction")


def _describe(begin: Any, end: Any) -> str:
    return f"{format_day(begin)} to {format_day(end)}"
