"""The findings of a backtest: its headline, the outcomes of the disturbances, and the limits of its figures."""

import math
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct, field

from tidemill.backtest.comparison import BacktestResult, Disturbance, PolicyResult, TimelineEntry
from tidemill.checks.registry import find_stage_checks
from tidemill.core.metric import find_metric_info
from tidemill.core.route import RouteChange
from tidemill.data.charts import ChartMark, ChartSeries, TrafficChange, TrafficShare
from tidemill.evidence.formatting import format_number
from tidemill.web.words import describe_metric, format_time, pluralize

_POLICIES = {
    "loop": "the loop",
    "static": "the first model without retraining",
    "weekly": "retraining every week",
    "calendar": "retraining on a calendar with as many trainings",
    "drift": "retraining whenever drift fails",
    "performance": "retraining whenever a watched metric fails",
}
_WATCH_CHECKS = {check.name for check in find_stage_checks("watch")}
_MARKS = ("released", "promoted", "rolled back", "stopped", "failed")
_CHANGES: dict[RouteChange | Literal[""], str] = {"promote": "promoted", "rollback": "rolled back"}
_NEAR = timedelta(days=2)
_REPEATED_WITHIN = timedelta(days=2)
_TIE = 1e-6


class DisturbanceOutcome(Struct, frozen=True):
    """A disturbance, the entries of the timeline that followed from it, and the state at the end of the backtest."""

    day: str
    about: str
    entries: list[TimelineEntry] = field(name="became")
    ending: str = ""

    @property
    def text(self) -> str:
        """The outcome in one line."""
        entries = "; then ".join(f"{entry.time:%Y-%m-%d} {_format_entry(entry)}" for entry in self.entries)
        return f"{entries}; {self.ending}" if entries and self.ending else entries or self.ending


class TimelineLine(Struct, frozen=True):
    """A line of the shortened timeline: an entry, how often it was repeated, and the time of the last repetition."""

    entry: TimelineEntry
    times: int
    last: datetime

    @property
    def style(self) -> str:
        """The CSS class of the line: `good`, `bad`, `tide` or `warn`."""
        styles = {"promoted": "good", "rolled back": "bad", "stopped": "bad", "failed": "bad", "released": "tide"}
        return styles.get(_mark_entry(self.entry), "warn")


def describe_policy(name: str) -> str:
    """Return a policy's name for use in a sentence."""
    return _POLICIES.get(name, f"the policy {name}")


def format_headline(result: BacktestResult) -> str:
    """Return the result in one sentence: the first policy compared with each of the others."""
    first, *others = result.outcomes
    metric = result.metric
    if failed := [describe_policy(policy.name) for policy in result.outcomes if result.list_failures(policy.name)]:
        return f"No valid comparison: runs of {' and '.join(failed)} failed."
    name = describe_policy(first.name)
    name = name[0].upper() + name[1:]
    trainings = f"with {pluralize(first.trainings, 'training')}"
    if metric not in first.metrics or not all(metric in other.metrics for other in others):
        return f"{name} cannot be compared by {describe_metric(metric)}: it was not measured for every policy."
    if not others:
        return f"{name}: {describe_metric(metric)} {format_number(first.metrics[metric])}, {trainings}."
    differences = [_format_difference(metric, first, other) for other in others]
    busiest = max(other.trainings for other in others)
    instead = f" instead of {busiest:,}" if busiest > first.trainings else ""
    return f"{name}: {describe_metric(metric)} {', and '.join(differences)}, {trainings}{instead}."


def list_failures(result: BacktestResult) -> list[str]:
    """Return, for each policy with failed runs, their number and the first error."""
    texts = []
    for policy in result.outcomes:
        if failures := result.list_failures(policy.name):
            runs = sum(sum(replay.runs.values()) for replay in result.list_seeds(policy.name))
            first = failures[0]
            texts.append(
                f"{policy.name}: {len(failures):,} of {pluralize(runs, 'run')} failed. The first failed on "
                f"{first.time:%Y-%m-%d} ({first.subject}): {first.reason}"
            )
    return texts


def _format_difference(metric: str, result: PolicyResult, other: PolicyResult) -> str:
    difference = result.metrics[metric] - other.metrics[metric]
    policy = describe_policy(other.name)
    if f"{abs(difference):.4f}" == "0.0000":
        return f"equal to {policy}"
    judgement = "worse" if (difference > 0) != find_metric_info(metric).greater_is_better else "better"
    return f"{abs(difference):.4f} {'higher' if difference > 0 else 'lower'} ({judgement}) than {policy}"


def list_return_lines(policy: PolicyResult) -> list[str]:
    """Return a line for each regime that returned: the rows until its release was recalled, and without a recall."""
    lines = []
    for found in policy.returns:
        trained = (
            f"a training needs at least {found.rows_to_training:,} rows"
            if found.rows_to_training is not None
            else "a training would have been too late for this period"
        )
        lines.append(
            f"{format_time(found.start)}  {found.release} was recalled after {pluralize(found.rows, 'row')}, by "
            f"{found.by}; {trained}"
        )
    return lines


def list_disturbance_outcomes(result: BacktestResult) -> list[DisturbanceOutcome]:
    """Return the outcome of each disturbance, found in the first policy's timeline by its day."""
    timeline = result.outcomes[0].timeline
    return [_find_outcome(disturbance, timeline) for disturbance in result.disturbances]


def _find_outcome(disturbance: Disturbance, timeline: list[TimelineEntry]) -> DisturbanceOutcome:
    """Find the entries whose subject names the day; else the first decision within two days, and its canary."""
    day, about = disturbance.day, disturbance.about
    named = [entry for entry in timeline if day in entry.subject]
    near = named or [entry for entry in timeline if _is_near(day, entry.time) and entry.check not in _WATCH_CHECKS][:1]
    if not near:
        return DisturbanceOutcome(day, about, [], "no entry in the timeline")
    challengers = [share.release for share in _list_shares(near[0]) if share.role == "challenger"]
    if near[0].kind != "route" or not challengers:
        return DisturbanceOutcome(day, about, near, "")
    release = challengers[0]
    canary = _follow_canary(release, near[0], timeline)
    is_serving = release in {share.release for share in _list_shares(canary[-1])}
    return DisturbanceOutcome(day, about, canary, f"{release} still in production at the end" if is_serving else "")


def _is_near(day: str, time: datetime) -> bool:
    try:
        begin = datetime.fromisoformat(day).replace(tzinfo=time.tzinfo)
    except ValueError:
        return False
    return begin <= time < begin + _NEAR


def _follow_canary(release: str, start: TimelineEntry, timeline: list[TimelineEntry]) -> list[TimelineEntry]:
    """Return the route that started a canary and the routes that changed its share, until it receives no requests."""
    followed, before = [start], _list_shares(start)
    for entry in timeline[timeline.index(start) + 1 :]:
        after = _list_shares(entry) if entry.kind == "route" else before
        if [share for share in after if share.release == release] != [s for s in before if s.release == release]:
            followed.append(entry)
        before = after
        if release not in {share.release for share in after}:
            break
    return followed


def shorten_timeline(timeline: list[TimelineEntry]) -> list[TimelineLine]:
    """Return the timeline with one line for entries that repeat within two days."""
    lines: list[TimelineLine] = []
    positions: dict[tuple[str, ...], int] = {}
    verdicts_of_routes = {entry.verdict for entry in timeline if entry.kind == "route"} - {""}
    for entry in timeline:
        if entry.kind == "verdict" and entry.verdict in verdicts_of_routes:
            continue  # the timeline shows its route
        error = entry.reason if entry.kind == "failure" else ""
        key = (entry.kind, entry.check, entry.subject, entry.action, error)
        if key in positions and entry.time - lines[positions[key]].last <= _REPEATED_WITHIN and entry.kind != "route":
            line = lines[positions[key]]
            lines[positions[key]] = TimelineLine(line.entry, line.times + 1, entry.time)
            continue
        positions[key] = len(lines)
        lines.append(TimelineLine(entry, 1, entry.time))
    return lines


def _format_entry(entry: TimelineEntry) -> str:
    """Return an entry as text, without the arms of a route."""
    return entry.reason if entry.kind == "route" else entry.text


def list_marks(result: PolicyResult) -> list[ChartMark]:
    """Return the releases, promotions, rollbacks, stops and failures of a policy, by kind."""
    marks = [ChartMark(entry.time, mark, entry.text) for entry in result.timeline if (mark := _mark_entry(entry))]
    return sorted(marks, key=lambda mark: _MARKS.index(mark.kind))


def _mark_entry(entry: TimelineEntry) -> str:
    """Return the mark of an entry in a chart; empty for a verdict that stops nothing."""
    if entry.kind == "failure":
        return "failed"
    if entry.kind == "verdict":
        return "stopped" if entry.action == "stop" else ""
    return _CHANGES.get(entry.change, "released")


def list_changes(result: PolicyResult) -> list[TrafficChange]:
    """Return the changes of the releases in production, by time."""
    routes = [(entry, _list_shares(entry)) for entry in result.timeline if entry.kind == "route"]
    return [TrafficChange(entry.time, shares, entry.reason) for entry, shares in routes if shares]


def _list_shares(entry: TimelineEntry) -> list[TrafficShare]:
    return [TrafficShare(arm.release, arm.role, 1.0 if arm.role == "bound" else arm.share) for arm in entry.arms]


def is_regression(result: BacktestResult) -> bool:
    """Return whether the model predicts numbers: the weekly means are then of squared errors."""
    return "rmse" in result.outcomes[0].metrics


def build_weekly_series(result: BacktestResult) -> tuple[str, list[ChartSeries]]:
    """Return the name of the weekly value (log loss or RMSE) and one series for each policy."""
    root = is_regression(result)
    lines = [
        ChartSeries(
            policy.name,
            [begin for begin, _, _ in policy.weeks],
            [math.sqrt(loss) if root else loss for _, _, loss in policy.weeks],
            [rows for _, rows, _ in policy.weeks],
        )
        for policy in result.outcomes
    ]
    return ("RMSE" if root else "log loss"), lines


def count_better_weeks(result: PolicyResult, reference: PolicyResult) -> tuple[int, int]:
    """Return the number of weeks in which a policy's loss is lower than the reference's, and the number of weeks."""
    reference_losses = {begin: loss for begin, _, loss in reference.weeks}
    pairs = [(loss, reference_losses[begin]) for begin, _, loss in result.weeks if begin in reference_losses]
    return sum(loss < reference_loss - _TIE for loss, reference_loss in pairs), len(pairs)


def list_limits(result: BacktestResult) -> list[str]:
    """Return the limits of the figures: what a reader must not conclude from them."""
    first, *others = result.outcomes
    limits = [
        (
            "The figures come from one period of one history. The intervals resample its weeks; another year may rank "
            "the policies differently. Weeks of one season resemble each other, so the intervals are rather too narrow."
        ),
        (
            "The rows do not depend on the predictions. In production, a prediction can change what people do; in a "
            "backtest it cannot."
        ),
        (
            "Only the planted disturbances occur: no machine fails, no delivery is late, and each training takes the "
            "time that the project declares for it."
        ),
        (
            f"The cost includes trainings only, at {format_number(result.cost_of_training)} each. It includes neither "
            "the monitoring of the model nor the time of the people who read its reports."
        ),
    ]
    unlabelled = first.predictions - first.labels
    if unlabelled > 0:
        share = unlabelled / first.predictions
        limits.append(
            f"{unlabelled:,} of {first.predictions:,} predictions ({share:.1%}) never received a label. The metrics do "
            "not include them."
        )
    undisturbed = [other.name for other in others if other.name != "calendar"]
    if result.disturbances and undisturbed:
        names = " and ".join(undisturbed)
        limits.append(
            f"The disturbances affect {first.name} only; {names} ran on the undisturbed history. The comparison "
            f"therefore does not favour {first.name}, and does not show how a disturbance would affect the others."
        )
    return limits


def build_policy_facts(result: BacktestResult, policy: PolicyResult) -> dict[str, Any]:
    """Return one policy's figures as plain data."""
    return {
        "predictions": policy.predictions,
        "labels": policy.labels,
        "runs": policy.runs,
        "verdicts": policy.verdicts,
        "promotions": policy.promotions,
        "rollbacks": policy.rollbacks,
        "wrong_promotions": policy.wrong_promotions,
        "stops": policy.stops,
        "trainings": policy.trainings,
        "cost": compute_cost(result, policy),
        "failed_runs": len(result.list_failures(policy.name)),
        "metrics": policy.metrics,
        "releases": policy.releases,
        "timeline": policy.timeline,
    }


def compute_cost(result: BacktestResult, policy: PolicyResult) -> float:
    """Return the cost of a policy's trainings."""
    return result.cost_of_training * policy.trainings
