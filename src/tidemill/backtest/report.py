"""The report of a backtest: one page for a reviewer, the same in plain text, and as plain data."""

import base64
import hashlib
import textwrap
from typing import Any

from markupsafe import Markup
from msgspec import to_builtins

from tidemill.backtest import findings, stories
from tidemill.backtest.comparison import BacktestResult, PolicyResult, TimelineEntry
from tidemill.core.metric import find_metric_info
from tidemill.data.charts import Figure, draw_difference, draw_outcome_counts, draw_over_time, draw_traffic_shares
from tidemill.evidence.formatting import format_duration, format_number
from tidemill.web import templating
from tidemill.web.words import describe_metric, format_day, format_time, pluralize

_WIDTH = 118
_LINES = 40
_MOST_RETURNS = 8


def render(result: BacktestResult) -> str:
    """Return the report as one HTML file that needs no network and runs only its own scripts."""
    first = result.outcomes[0]
    scripts = {"plotly": Markup(templating.read_plotly()), "charts": Markup(templating.read_file("charts.js"))}
    return templating.render_template(
        "report.html",
        result=result,
        first=first,
        headline=findings.format_headline(result),
        policies=_build_policy_table(result),
        failures=findings.list_failures(result),
        seed_comparisons=stories.list_seed_comparisons(result),
        loss=_name_loss(result),
        seeds=len(result.list_seeds(first.name)),
        alarms=stories.list_false_alarms(result) if result.shuffled else [],
        causes=stories.format_causes(result.list_seeds(first.name)),
        stories=[
            (
                story,
                stories.build_anchor(story),
                stories.format_title(story),
                stories.choose_style(story),
                stories.list_chapters(story),
            )
            for story in first.stories
        ],
        disturbances=findings.list_disturbance_outcomes(result),
        returns=findings.list_return_lines(first),
        lines=[(line, _find_anchor(line.entry, first)) for line in findings.shorten_timeline(first.timeline)],
        limits=findings.list_limits(result),
        reference=findings.describe_policy(_choose_reference(result)),
        value=findings.build_weekly_series(result)[0],
        figures=_draw_figures(result),
        style=Markup(templating.read_file("style.css")),
        scripts=scripts,
        hashes=" ".join(hash_script(script) for script in scripts.values()),
    )


def _name_loss(result: BacktestResult) -> str:
    return "squared error" if findings.is_regression(result) else "log loss"


def _find_anchor(entry: TimelineEntry, policy: PolicyResult) -> str:
    """Return the HTML id of the training story that a timeline entry belongs to; empty if there is none."""
    for story in reversed(policy.stories):
        verdicts = [verdict for verdict in (story.cause, story.gate, story.canary) if verdict is not None]
        is_verdict = any(verdict.time == entry.time and verdict.check == entry.check for verdict in verdicts)
        if is_verdict or (entry.kind == "route" and entry.time in (story.live, story.settled)):
            return stories.build_anchor(story)
    return ""


def hash_script(script: str) -> str:
    """Return the source expression that allows a script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _build_policy_table(
    result: BacktestResult, max_metrics: int = 99, *, with_time: bool = False
) -> list[list[tuple[str, bool]]]:
    """Return the table of the policies, its header first; a cell is its text and whether it is the column's best.

    `with_time` adds the time spent on trainings, which differs between two backtests of the same policies.
    """
    policies = result.outcomes
    metrics = [name for name in policies[0].metrics if all(name in policy.metrics for policy in policies)]
    metrics.sort(key=lambda name: (name != result.metric, not find_metric_info(name).headline))
    metrics = metrics[:max_metrics]
    best = {
        name: (max if find_metric_info(name).greater_is_better else min)(policy.metrics[name] for policy in policies)
        for name in metrics
    }
    counts = ["trainings", "promoted", "rolled back", "stopped", "cost"]
    columns = [*counts, *(["training time"] if with_time else []), "better weeks"]
    rows = [[(name, False) for name in ("policy", *(describe_metric(metric) for metric in metrics), *columns)]]
    for policy in policies:
        scores = [(format_number(policy.metrics[name]), policy.metrics[name] == best[name]) for name in metrics]
        counted = (policy.trainings, policy.promotions, policy.rollbacks, policy.stops)
        cells = [*(format_number(count) for count in counted), format_number(findings.compute_cost(result, policy))]
        if with_time:
            cells.append(format_duration(policy.training_seconds))
        is_first = policy is policies[0]
        cells.append("" if is_first else "{} of {}".format(*findings.count_better_weeks(policy, policies[0])))
        failed = len(result.list_failures(policy.name))
        name = f"{policy.name} ({pluralize(failed, 'run')} failed)" if failed else policy.name
        rows.append([(name, False), *scores, *((text, False) for text in cells)])
    return rows


def _draw_figures(result: BacktestResult) -> dict[str, Figure]:
    first, *others = result.outcomes
    value, series = findings.build_weekly_series(result)
    figures = {
        "quality": draw_over_time(series, findings.list_marks(first), f"{value}, weekly mean"),
        "answering": draw_traffic_shares(findings.list_changes(first), result.period.end),
        "verdicts": draw_outcome_counts(first.verdicts),
    }
    if others:
        reference = _choose_reference(result)
        figures["difference"] = draw_difference(series, reference, f"{value} above {reference}")
    return figures


def _choose_reference(result: BacktestResult) -> str:
    """Return the policy that the chart compares the others with: static, if the backtest replayed it."""
    names = [policy.name for policy in result.outcomes]
    return "static" if "static" in names else names[-1]


def as_json(result: BacktestResult) -> dict[str, Any]:
    """Return the result as plain data: the first policy's counts, each metric by policy, and the details by policy.

    A week's `loss` is the mean over its rows: log loss, or the squared error of a regression. The same policies and
    seeds produce the same object, except for `wall_clock`, which contains seconds on this machine.
    """
    first = result.outcomes[0]
    period = result.period
    plain: dict[str, Any] = to_builtins(
        {
            "project": result.project,
            "model": result.model,
            "metric": result.metric,
            "headline": findings.format_headline(result),
            "from": period.begin,
            "to": period.end,
            "days": (period.end - period.begin).days,
            "shuffled": result.shuffled,
            "predictions": first.predictions,
            "labels": first.labels,
            "runs": first.runs,
            "verdicts": first.verdicts,
            "promotions": first.promotions,
            "rollbacks": first.rollbacks,
            "stops": first.stops,
            "trainings": first.trainings,
            **{metric: _list_by_policy(result, metric) for metric in first.metrics},
            "cost": {policy.name: findings.compute_cost(result, policy) for policy in result.outcomes},
            "cost_of_training": result.cost_of_training,
            "weeks": {
                policy.name: [{"begin": begin, "rows": rows, "loss": loss} for begin, rows, loss in policy.weeks]
                for policy in result.outcomes
            },
            "planted": findings.list_disturbance_outcomes(result),
            "returns": first.returns,
            "causes": first.causes,
            "timeline": first.timeline,
            "trainings_told": first.stories,
            "trials": result.seed_comparisons,
            "differences": {
                policy.name: result.difference(policy.name) for policy in result.outcomes[1:] if policy.weeks
            },
            "policies": {policy.name: findings.build_policy_facts(result, policy) for policy in result.outcomes},
            "wall_clock": {
                "all": result.seconds,
                "replays": {policy.name: policy.seconds for policy in result.outcomes},
                "trainings": {policy.name: policy.training_seconds for policy in result.outcomes},
            },
        }
    )
    return plain


def _list_by_policy(result: BacktestResult, metric: str) -> dict[str, float]:
    return {policy.name: policy.metrics[metric] for policy in result.outcomes if metric in policy.metrics}


def summary(result: BacktestResult) -> str:
    """Return the report in plain text, at most 40 lines for a terminal."""
    period, first = result.period, result.outcomes[0]
    days = (period.end - period.begin).days
    lines = [
        *textwrap.wrap(findings.format_headline(result), _WIDTH),
        (
            f"{result.project}, {format_day(period.begin)} to {format_day(period.end)} ({days} days): "
            f"{first.predictions:,} predictions, {first.labels:,} labelled; replayed in "
            f"{format_duration(result.seconds)}"
        ),
        "",
        *(_cut(failure) for failure in findings.list_failures(result)),
        *align([[text for text, _ in row] for row in _build_policy_table(result, max_metrics=2, with_time=True)]),
        "",
    ]
    if comparisons := stories.list_seed_comparisons(result):
        title = f"Difference in {_name_loss(result)} per prediction, {first.name} minus the other policy:"
        lines += [title, *align(comparisons), ""]
    if result.shuffled:
        lines += [
            "False alarms (nothing changes in this history):",
            *stories.list_false_alarms(result),
            "",
        ]
    disturbances = findings.list_disturbance_outcomes(result)
    if disturbances:
        lines.append("Planted disturbances and their outcomes:")
        for disturbance in disturbances:
            lines += [
                _cut(f"  {disturbance.day}  {disturbance.about}"),
                _cut(f"              → {disturbance.text}"),
            ]
        lines.append("")
    if returns := findings.list_return_lines(first):
        lines += ["Regimes that returned (the blind spot, and that of a training alone):"]
        lines += [*(_cut(f"  {line}") for line in returns[:_MOST_RETURNS]), ""]
    causes = f"Trainings by cause: {stories.format_causes(result.list_seeds(first.name))}"
    closing = ["", *_format_verdicts(first), causes, "", "The report lists the limits of these figures."]
    events = [
        _cut(f"  {format_time(line.entry.time)}  {line.entry.text}")
        for line in findings.shorten_timeline(first.timeline)
        if line.style != "warn"
    ]
    available = max(3, _LINES - len(lines) - len(closing) - 1)
    if len(events) > available:
        half = (available - 1) // 2
        omitted = f"  … {pluralize(len(events) - 2 * half, 'line')} more in the report"
        events = [*events[:half], omitted, *events[-half:]]
    return "\n".join([*lines, f"Timeline of {findings.describe_policy(first.name)}:", *events, *closing])


def _format_verdicts(policy: PolicyResult) -> list[str]:
    counts_by_check = [
        f"{check} {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(counts_by_outcome.items()))}"
        for check, counts_by_outcome in sorted(policy.verdicts.items())
    ]
    return textwrap.wrap(
        "Verdicts: " + "; ".join(counts_by_check), _WIDTH, subsequent_indent="  ", max_lines=3, placeholder=" …"
    )


def align(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as aligned columns: the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
