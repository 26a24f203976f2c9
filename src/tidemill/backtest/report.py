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
from tidemill.data.charts import Figure, answering, counts, difference, over_time
from tidemill.evidence.formatting import format_duration, format_number
from tidemill.web import templating
from tidemill.web.words import day, plural, spoken, when

_WIDTH = 118
_LINES = 40


def render(comparison: BacktestResult) -> str:
    """The report as one HTML file that needs no network and runs no script but its own."""
    first = comparison.outcomes[0]
    scripts = {"plotly": Markup(templating.plotly()), "charts": Markup(templating.part("charts.js"))}
    return templating.html(
        "report.html",
        comparison=comparison,
        first=first,
        headline=findings.headline(comparison),
        policies=_policies(comparison),
        trials=stories.trials(comparison),
        loss="squared error" if findings.is_regression(comparison) else "log loss",
        seeds=len(comparison.seeds_of(first.name)),
        alarms=stories.alarms(comparison) if comparison.shuffled else [],
        causes=stories.causes(comparison.seeds_of(first.name)),
        stories=[
            (case, stories.anchor(case), stories.title(case), stories.look(case), stories.chapters(case))
            for case in first.cases
        ],
        fates=findings.fates(comparison),
        lines=[(line, _story_of(line.moment, first)) for line in findings.shortened(first.timeline)],
        limits=findings.limits(comparison),
        reference=findings.called(_reference(comparison)),
        value=findings.weekly(comparison)[0],
        figures=_figures(comparison),
        style=Markup(templating.part("style.css")),
        scripts=scripts,
        hashes=" ".join(_hash(script) for script in scripts.values()),
    )


def _story_of(moment: TimelineEntry, outcome: PolicyResult) -> str:
    """The link to the story of the training that a line of the timeline belongs to; empty where there is none."""
    routed = moment.kind == "route"
    for case in reversed(outcome.cases):
        told = [one for one in (case.cause, case.gate, case.trial) if one is not None]
        if any(one.time == moment.time and one.check == moment.check for one in told) or (
            routed and moment.time in (case.live, case.ended)
        ):
            return stories.anchor(case)
    return ""


def _hash(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _policies(comparison: BacktestResult, most: int = 99, *, timed: bool = False) -> list[list[tuple[str, bool]]]:
    """The table of the policies with at most so many metrics, its header first; a cell is its text, and whether it is
    the best of its column. `timed` tells what the trainings took, too, which is never twice the same.
    """
    outcomes = comparison.outcomes
    metrics = [name for name in outcomes[0].metrics if all(name in one.metrics for one in outcomes)]
    metrics.sort(key=lambda name: (name != comparison.metric, not find_metric_info(name).headline))
    metrics = metrics[:most]
    best = {
        name: (max if find_metric_info(name).greater_is_better else min)(one.metrics[name] for one in outcomes)
        for name in metrics
    }
    counted = ["trainings", "promoted", "rolled back", "stopped", "cost", *(["training"] * timed), "weeks ahead"]
    rows = [[(name, False) for name in ("policy", *(spoken(metric) for metric in metrics), *counted)]]
    for one in outcomes:
        scores = [(format_number(one.metrics[name]), one.metrics[name] == best[name]) for name in metrics]
        numbers = [format_number(n) for n in (one.trainings, one.promotions, one.rollbacks, one.stops)]
        weeks = "" if one is outcomes[0] else "{} of {}".format(*findings.better_weeks(one, outcomes[0]))
        took = [format_duration(one.training_seconds)] * timed
        rest = [*numbers, format_number(findings.cost(comparison, one)), *took, weeks]
        rows.append([(one.name, False), *scores, *((text, False) for text in rest)])
    return rows


def _figures(comparison: BacktestResult) -> dict[str, Figure]:
    first, *others = comparison.outcomes
    value, series = findings.weekly(comparison)
    drawn = {
        "quality": over_time(series, findings.marks(first), f"{value}, weekly mean"),
        "answering": answering(findings.changes(first), comparison.part.end),
        "verdicts": counts(first.verdicts),
    }
    if others:
        reference = _reference(comparison)
        drawn["difference"] = difference(series, reference, f"{value} above {reference}")
    return drawn


def _reference(comparison: BacktestResult) -> str:
    """The policy that the others are drawn against: the model kept for ever, where it was replayed."""
    names = [one.name for one in comparison.outcomes]
    return "static" if "static" in names else names[-1]


def as_json(comparison: BacktestResult) -> dict[str, Any]:
    """The comparison as plain data: the first policy's counts on top, each metric by policy, details by policy.

    A week's `loss` is the mean over its rows: log loss, or the squared error of a regression. The same policies and
    seeds give the same object again, all but `wall_clock`: what depends on the machine, in seconds.
    """
    first = comparison.outcomes[0]
    part = comparison.part
    plain: dict[str, Any] = to_builtins(
        {
            "project": comparison.project,
            "model": comparison.model,
            "metric": comparison.metric,
            "headline": findings.headline(comparison),
            "from": part.begin,
            "to": part.end,
            "days": (part.end - part.begin).days,
            "shuffled": comparison.shuffled,
            "predictions": first.predictions,
            "labels": first.labels,
            "runs": first.runs,
            "verdicts": first.verdicts,
            "promotions": first.promotions,
            "rollbacks": first.rollbacks,
            "stops": first.stops,
            "trainings": first.trainings,
            **{metric: _by_policy(comparison, metric) for metric in first.metrics},
            "cost": {one.name: findings.cost(comparison, one) for one in comparison.outcomes},
            "cost_of_training": comparison.cost_of_training,
            "weeks": {
                one.name: [{"begin": begin, "rows": rows, "loss": loss} for begin, rows, loss in one.weeks]
                for one in comparison.outcomes
            },
            "planted": findings.fates(comparison),
            "causes": first.causes,
            "timeline": first.timeline,
            "trainings_told": first.cases,
            "trials": comparison.trials,
            "differences": {one.name: comparison.difference(one.name) for one in comparison.outcomes[1:] if one.weeks},
            "policies": {one.name: findings.policy_facts(comparison, one) for one in comparison.outcomes},
            "wall_clock": {
                "all": comparison.seconds,
                "replays": {one.name: one.seconds for one in comparison.outcomes},
                "trainings": {one.name: one.training_seconds for one in comparison.outcomes},
            },
        }
    )
    return plain


def _by_policy(comparison: BacktestResult, metric: str) -> dict[str, float]:
    return {one.name: one.metrics[metric] for one in comparison.outcomes if metric in one.metrics}


def summary(comparison: BacktestResult) -> str:
    """The same in plain text, at most 40 lines for a terminal."""
    part, first = comparison.part, comparison.outcomes[0]
    days = (part.end - part.begin).days
    lines = [
        *textwrap.wrap(findings.headline(comparison), _WIDTH),
        (
            f"{comparison.project}, {day(part.begin)} to {day(part.end)} ({days} days): "
            f"{first.predictions:,} predictions, {first.labels:,} labelled; replayed in "
            f"{format_duration(comparison.seconds)}"
        ),
        "",
        *_aligned([[text for text, _ in row] for row in _policies(comparison, most=2, timed=True)]),
        "",
    ]
    if trials := stories.trials(comparison):
        loss = "squared error per prediction" if findings.is_regression(comparison) else "per prediction"
        lines += [f"{first.name} less the others, {loss}:", *_aligned(trials), ""]
    if comparison.shuffled:
        lines += [
            "A history in which nothing changes: what fires there is a false alarm.",
            *stories.alarms(comparison),
            "",
        ]
    fates = findings.fates(comparison)
    if fates:
        lines.append("What was planted, and what became of it:")
        for fate in fates:
            lines += [_cut(f"  {fate.day}  {fate.about}"), _cut(f"              → {fate.said}")]
        lines.append("")
    called_for = f"Trainings by their cause: {stories.causes(comparison.seeds_of(first.name))}"
    closing = ["", *_verdicts(first), called_for, "", "One history; the report says what this does not show."]
    told = [
        _cut(f"  {when(line.moment.time)}  {line.moment.text}")
        for line in findings.shortened(first.timeline)
        if line.look != "warn"
    ]
    room = max(3, _LINES - len(lines) - len(closing) - 1)
    if len(told) > room:
        half = (room - 1) // 2
        told = [*told[:half], f"  … {plural(len(told) - 2 * half, 'line')} more in the report", *told[-half:]]
    return "\n".join([*lines, f"What {findings.called(first.name)} did:", *told, *closing])


def _verdicts(outcome: PolicyResult) -> list[str]:
    found = [
        f"{check} {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(counted.items()))}"
        for check, counted in sorted(outcome.verdicts.items())
    ]
    return textwrap.wrap("Verdicts: " + "; ".join(found), _WIDTH, subsequent_indent="  ", max_lines=3, placeholder=" …")


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as columns: the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
