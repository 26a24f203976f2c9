"""What a backtest has to tell: its headline, what became of what was planted, and what its figures do not say."""

import math
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from tidemill.backtest.comparison import BacktestResult, Disturbance, PolicyResult, TimelineEntry
from tidemill.checks.registry import checks_of
from tidemill.core.metric import find_metric_info
from tidemill.core.route import RouteChange
from tidemill.data.charts import Change, Mark, Series, Share
from tidemill.evidence.formatting import format_number
from tidemill.web.words import plural, spoken

_KNOWN = {
    "loop": "the loop",
    "static": "the model kept for ever",
    "weekly": "retraining every week",
    "calendar": "a calendar with as many trainings",
}
_WATCHED = {check.name for check in checks_of("watch")}
_MARKS = ("released", "promoted", "rolled back", "stopped", "failed")
_CHANGES: dict[RouteChange | Literal[""], str] = {"promote": "promoted", "rollback": "rolled back"}
_FOUND_WITHIN = timedelta(days=2)
_AGAIN_WITHIN = timedelta(days=2)
_TIE = 1e-6


class Fate(Struct, frozen=True):
    """What was planted on a day, the moments of the timeline that came of it, and how it stood at the end."""

    day: str
    about: str
    became: list[TimelineEntry]
    ending: str

    @property
    def said(self) -> str:
        """In one line."""
        moments = "; then ".join(f"{entry.time:%Y-%m-%d} {_line(entry)}" for entry in self.became)
        return f"{moments}; {self.ending}" if moments and self.ending else moments or self.ending


class Line(Struct, frozen=True):
    """A line of the shortened timeline: a moment, how often it came again, and until when."""

    moment: TimelineEntry
    times: int
    last: datetime

    @property
    def look(self) -> str:
        """How it is shown: `good`, `bad`, `warn`, or as any other."""
        looks = {"promoted": "good", "rolled back": "bad", "stopped": "bad", "failed": "bad", "released": "tide"}
        return looks.get(_mark(self.moment), "warn")


def called(name: str) -> str:
    """A policy as a sentence calls it."""
    return _KNOWN.get(name, f"the policy {name}")


def headline(comparison: BacktestResult) -> str:
    """The result in one sentence: the first policy against each of the others."""
    first, *others = comparison.outcomes
    metric = comparison.metric
    name = called(first.name)
    name = name[0].upper() + name[1:]
    trainings = f"with {plural(first.trainings, 'training')}"
    if metric not in first.metrics or not all(metric in other.metrics for other in others):
        return f"{name} cannot be compared by {spoken(metric)}: it was not measured for every policy."
    if not others:
        return f"{name} came to a {spoken(metric)} of {format_number(first.metrics[metric])}, {trainings}."
    parts = [_against(metric, first, other) for other in others]
    parts = [parts[0], *(part.replace(" per prediction", "") for part in parts[1:])]
    verb = "lost" if metric == "log_loss" else "scored"
    busiest = max(other.trainings for other in others)
    instead = f" instead of {busiest:,}" if busiest > first.trainings else ""
    return f"{name} {verb} {', and '.join(parts)}, {trainings}{instead}."


def _against(metric: str, one: PolicyResult, other: PolicyResult) -> str:
    apart = one.metrics[metric] - other.metrics[metric]
    theirs = called(other.name)
    size = f"{abs(apart):.4f}"
    if metric == "log_loss":
        if size == "0.0000":
            return f"as much as {theirs}"
        return f"{size} {'more' if apart > 0 else 'less'} per prediction than {theirs}"
    if size == "0.0000":
        return f"the same {spoken(metric)} as {theirs}"
    judged = "worse" if (apart > 0) != find_metric_info(metric).greater_is_better else "better"
    return (
        f"{format_number(abs(apart))} {'higher' if apart > 0 else 'lower'} in {spoken(metric)} ({judged}) than {theirs}"
    )


def fates(comparison: BacktestResult) -> list[Fate]:
    """What was planted and what came of it, found in the first policy's timeline by its day."""
    return [_fate(planted, comparison.outcomes[0].timeline) for planted in comparison.planted]


def _fate(planted: Disturbance, timeline: list[TimelineEntry]) -> Fate:
    """The entries whose subject names the day; else the first decision of that day or the next, and its canary."""
    day, about = planted.day, planted.about
    named = [entry for entry in timeline if day in entry.subject]
    near = named or [one for one in timeline if _near(day, one.time) and one.check not in _WATCHED][:1]
    if not near:
        return Fate(day, about, [], "nothing in the timeline answers to it")
    tried = [share.release for share in _shares(near[0]) if share.role == "challenger"]
    if near[0].kind != "route" or not tried:
        return Fate(day, about, near, "")
    trial = _trial(tried[0], near[0], timeline)
    stayed = tried[0] in {share.release for share in _shares(trial[-1])}
    return Fate(day, about, trial, f"{tried[0]} still answered at the end" if stayed else "")


def _near(day: str, time: datetime) -> bool:
    try:
        begin = datetime.fromisoformat(day).replace(tzinfo=time.tzinfo)
    except ValueError:
        return False
    return begin <= time < begin + _FOUND_WITHIN


def _trial(release: str, start: TimelineEntry, timeline: list[TimelineEntry]) -> list[TimelineEntry]:
    """The route that let a release answer, and those that changed what it answers, until it answers no more."""
    followed, before = [start], _shares(start)
    for moment in timeline[timeline.index(start) + 1 :]:
        after = _shares(moment) if moment.kind == "route" else before
        if [share for share in after if share.release == release] != [s for s in before if s.release == release]:
            followed.append(moment)
        before = after
        if release not in {share.release for share in after}:
            break
    return followed


def shortened(timeline: list[TimelineEntry]) -> list[Line]:
    """The timeline with what was said day after day told once."""
    lines: list[Line] = []
    said: dict[tuple[str, ...], int] = {}
    routed = {entry.verdict for entry in timeline if entry.kind == "route"} - {""}
    for moment in timeline:
        if moment.kind == "verdict" and moment.verdict in routed:
            continue  # its route is there
        error = moment.reason if moment.kind == "failure" else ""
        key = (moment.kind, moment.check, moment.subject, moment.action, error)
        if key in said and moment.time - lines[said[key]].last <= _AGAIN_WITHIN and moment.kind != "route":
            line = lines[said[key]]
            lines[said[key]] = Line(line.moment, line.times + 1, moment.time)
            continue
        said[key] = len(lines)
        lines.append(Line(moment, 1, moment.time))
    return lines


def _line(entry: TimelineEntry) -> str:
    """An entry without the arms of a route."""
    return entry.reason if entry.kind == "route" else entry.text


def marks(outcome: PolicyResult) -> list[Mark]:
    """The releases, promotions, rollbacks, stops and failures of a policy, kind by kind."""
    found = [Mark(entry.time, mark, entry.text) for entry in outcome.timeline if (mark := _mark(entry))]
    return sorted(found, key=lambda mark: _MARKS.index(mark.kind))


def _mark(entry: TimelineEntry) -> str:
    """How an entry is marked in a chart; empty for a verdict that stops nothing."""
    if entry.kind == "failure":
        return "failed"
    if entry.kind == "verdict":
        return "stopped" if entry.action == "stop" else ""
    return _CHANGES.get(entry.change, "released")


def changes(outcome: PolicyResult) -> list[Change]:
    """Who answered from when on."""
    found = [(moment, _shares(moment)) for moment in outcome.timeline if moment.kind == "route"]
    return [Change(entry.time, shares, entry.reason) for entry, shares in found if shares]


def _shares(moment: TimelineEntry) -> list[Share]:
    return [Share(arm.release, arm.role, arm.share) for arm in moment.arms]


def is_regression(comparison: BacktestResult) -> bool:
    """Whether numbers were predicted: the weekly means are then of squared errors."""
    return "rmse" in comparison.outcomes[0].metrics


def weekly(comparison: BacktestResult) -> tuple[str, list[Series]]:
    """What is drawn for each week (log loss, or RMSE), and a line of it for each policy."""
    root = is_regression(comparison)
    lines = [
        Series(
            outcome.name,
            [begin for begin, _, _ in outcome.weeks],
            [math.sqrt(loss) if root else loss for _, _, loss in outcome.weeks],
            [rows for _, rows, _ in outcome.weeks],
        )
        for outcome in comparison.outcomes
    ]
    return ("RMSE" if root else "log loss"), lines


def better_weeks(one: PolicyResult, other: PolicyResult) -> tuple[int, int]:
    """In how many weeks `one` lost less than `other`, and how many weeks both have."""
    theirs = {begin: loss for begin, _, loss in other.weeks}
    both = [(loss, theirs[begin]) for begin, _, loss in one.weeks if begin in theirs]
    return sum(mine < yours - _TIE for mine, yours in both), len(both)


def limits(comparison: BacktestResult) -> list[str]:
    """What the figures do not say."""
    first, *others = comparison.outcomes
    said = [
        (
            "This is one stretch of one history: the intervals draw its weeks again, not another year, which may rank "
            "the policies differently. Weeks of one season resemble each other, so they are rather too narrow."
        ),
        "The rows were the same whoever answered them: in life a prediction changes what people do, here it could not.",
        (
            "Nothing broke that was not planted: no machine was down, no delivery late, each training took the "
            "time that the project declares for it."
        ),
        (
            f"The cost counts trainings only, at {format_number(comparison.cost_of_training)} each: neither the watch "
            "over the model, nor the people who read about it."
        ),
    ]
    unknown = first.predictions - first.labels
    if unknown > 0:
        share = unknown / first.predictions
        said.append(
            f"{unknown:,} of {first.predictions:,} predictions ({share:.1%}) never got a label. How good they were is "
            "not known, and not counted."
        )
    spared = [other.name for other in others if other.name != "calendar"]
    if comparison.planted and spared:
        names = " and ".join(spared)
        said.append(
            f"What was planted hit {first.name} alone; {names} ran on the undisturbed history. So the comparison is "
            f"not in favour of {first.name}, and does not show how the others would have borne it."
        )
    return said


def policy_facts(comparison: BacktestResult, outcome: PolicyResult) -> dict[str, Any]:
    """One policy's figures as plain data."""
    return {
        "predictions": outcome.predictions,
        "labels": outcome.labels,
        "runs": outcome.runs,
        "verdicts": outcome.verdicts,
        "promotions": outcome.promotions,
        "rollbacks": outcome.rollbacks,
        "stops": outcome.stops,
        "trainings": outcome.trainings,
        "cost": cost(comparison, outcome),
        "metrics": outcome.metrics,
        "releases": outcome.releases,
        "timeline": outcome.timeline,
    }


def cost(comparison: BacktestResult, outcome: PolicyResult) -> float:
    """What a policy's trainings cost."""
    return comparison.cost_of_training * outcome.trainings
