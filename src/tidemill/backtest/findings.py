"""What a backtest has to tell: its headline, what became of what was planted, and what its figures do not say."""

import math
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tidemill.backtest.comparison import Comparison, Moment, Outcome
from tidemill.data.charts import Change, Mark, Series, Share
from tidemill.data.metrics import LOWER_IS_BETTER
from tidemill.web.words import number, plural, spoken

_KNOWN = {
    "loop": "the loop",
    "static": "the model kept for ever",
    "weekly": "retraining every week",
    "calendar": "a calendar with as many trainings",
}
_WATCHED = {"performance", "age", "drift", "missing", "silence"}
_KINDS = ("released", "promoted", "rolled back", "stopped", "failed")
_FOUND_WITHIN = timedelta(days=2)
_AGAIN_WITHIN = timedelta(days=2)
_TIE = 1e-6


class Fate(Struct, frozen=True):
    """What was planted on a day, the moments of the timeline that came of it, and how it stood at the end."""

    day: str
    about: str
    became: list[Moment]
    ending: str

    @property
    def said(self) -> str:
        """In one line."""
        moments = "; then ".join(f"{moment.time:%Y-%m-%d} {reason(moment)}" for moment in self.became)
        return f"{moments}; {self.ending}" if moments and self.ending else moments or self.ending


class Line(Struct, frozen=True):
    """A line of the shortened timeline: a moment, how often it came again, and until when."""

    moment: Moment
    times: int
    last: datetime

    @property
    def look(self) -> str:
        """How it is shown: `good`, `bad`, `warn`, or as any other."""
        looks = {"promoted": "good", "rolled back": "bad", "stopped": "bad", "failed": "bad", "released": "tide"}
        return looks.get(_kind(self.moment), "warn")


def called(name: str) -> str:
    """A policy as a sentence calls it."""
    return _KNOWN.get(name, f"the policy {name}")


def headline(comparison: Comparison) -> str:
    """The result in one sentence: the first policy against each of the others."""
    first, *others = comparison.outcomes
    metric = comparison.metric
    name = called(first.name)
    name = name[0].upper() + name[1:]
    trainings = f"with {plural(first.trainings, 'training')}"
    if metric not in first.metrics or not all(metric in other.metrics for other in others):
        return f"{name} cannot be compared by {spoken(metric)}: it was not measured for every policy."
    if not others:
        return f"{name} came to a {spoken(metric)} of {number(first.metrics[metric])}, {trainings}."
    parts = [_against(metric, first, other) for other in others]
    parts = [parts[0], *(part.replace(" per prediction", "") for part in parts[1:])]
    verb = "lost" if metric == "log_loss" else "scored"
    busiest = max(other.trainings for other in others)
    instead = f" instead of {busiest:,}" if busiest > first.trainings else ""
    return f"{name} {verb} {', and '.join(parts)}, {trainings}{instead}."


def _against(metric: str, one: Outcome, other: Outcome) -> str:
    apart = one.metrics[metric] - other.metrics[metric]
    theirs = called(other.name)
    size = f"{abs(apart):.4f}"
    if metric == "log_loss":
        if size == "0.0000":
            return f"as much as {theirs}"
        return f"{size} {'more' if apart > 0 else 'less'} per prediction than {theirs}"
    if size == "0.0000":
        return f"the same {spoken(metric)} as {theirs}"
    judged = "worse" if (apart > 0) == (metric in LOWER_IS_BETTER) else "better"
    return f"{number(abs(apart))} {'higher' if apart > 0 else 'lower'} in {spoken(metric)} ({judged}) than {theirs}"


def fates(comparison: Comparison) -> list[Fate]:
    """What was planted and what came of it, found in the first policy's timeline by its day."""
    return [_fate(planted, comparison.outcomes[0].timeline) for planted in comparison.planted]


def _fate(planted: str, timeline: list[Moment]) -> Fate:
    """The moments that name the day; else the first decision of that day or the next, and the trial it began."""
    day, _, about = planted.partition(": ")
    named = [moment for moment in timeline if day in moment.text]
    near = named or [m for m in timeline if _near(day, m.time) and m.kind not in _WATCHED][:1]
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


def _trial(release: str, start: Moment, timeline: list[Moment]) -> list[Moment]:
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


def shortened(timeline: list[Moment]) -> list[Line]:
    """The timeline with what was said day after day told once."""
    lines: list[Line] = []
    said: dict[tuple[str, str, str], int] = {}
    routed = {(moment.time, reason(moment)) for moment in timeline if moment.kind == "route"}
    for moment in timeline:
        key = (moment.kind, moment.text.partition(": ")[0], moment.text.rpartition(" → ")[2])
        if _acted_on(moment, routed):
            continue
        if key in said and moment.time - lines[said[key]].last <= _AGAIN_WITHIN and moment.kind != "route":
            line = lines[said[key]]
            lines[said[key]] = Line(line.moment, line.times + 1, moment.time)
            continue
        said[key] = len(lines)
        lines.append(Line(moment, 1, moment.time))
    return lines


def _acted_on(moment: Moment, routed: set[tuple[datetime, str]]) -> bool:
    """Whether the route of the same instant says it already."""
    found = moment.text.partition(": ")[2].rpartition(" → ")[0]
    return bool(found) and any(time == moment.time and said.endswith(found) for time, said in routed)


def reason(moment: Moment) -> str:
    """Why it happened, without who answered then."""
    return moment.text.partition("%): ")[2] if moment.kind == "route" else moment.text


def marks(outcome: Outcome) -> list[Mark]:
    """The releases, promotions, rollbacks, stops and failures of a policy, kind by kind."""
    found = [Mark(moment.time, kind, moment.text) for moment in outcome.timeline if (kind := _kind(moment))]
    return sorted(found, key=lambda mark: _KINDS.index(mark.kind))


def _kind(moment: Moment) -> str:
    if moment.kind == "failed":
        return "failed"
    if moment.kind != "route":
        return "stopped" if moment.text.endswith("→ stop") else ""
    return next((kind for kind in ("promoted", "rolled back") if reason(moment).startswith(kind)), "released")


def changes(outcome: Outcome) -> list[Change]:
    """Who answered from when on."""
    found = [(moment, _shares(moment)) for moment in outcome.timeline if moment.kind == "route"]
    return [Change(moment.time, shares, reason(moment)) for moment, shares in found if shares]


def _shares(moment: Moment) -> list[Share]:
    return [Share(arm.release, arm.role, arm.share) for arm in moment.arms]


def is_regression(comparison: Comparison) -> bool:
    """Whether numbers were predicted: the weekly means are then of squared errors."""
    return "rmse" in comparison.outcomes[0].metrics


def weekly(comparison: Comparison) -> tuple[str, list[Series]]:
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


def better_weeks(one: Outcome, other: Outcome) -> tuple[int, int]:
    """In how many weeks `one` lost less than `other`, and how many weeks both have."""
    theirs = {begin: loss for begin, _, loss in other.weeks}
    both = [(loss, theirs[begin]) for begin, _, loss in one.weeks if begin in theirs]
    return sum(mine < yours - _TIE for mine, yours in both), len(both)


def limits(comparison: Comparison) -> list[str]:
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
            f"The cost counts trainings only, at {number(comparison.cost_of_training)} each: neither the watch "
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


def policy_facts(comparison: Comparison, outcome: Outcome) -> dict[str, Any]:
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


def cost(comparison: Comparison, outcome: Outcome) -> float:
    """What a policy's trainings cost."""
    return comparison.cost_of_training * outcome.trainings
