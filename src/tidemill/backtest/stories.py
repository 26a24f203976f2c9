"""The texts of a backtest's evidence: the story of each training, and policies compared seed by seed."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.backtest.comparison import BacktestResult, LossDifference, PolicyResult, TrainingStory, VerdictSummary
from tidemill.checks.registry import find_stage_checks
from tidemill.evidence.formatting import format_number
from tidemill.web.words import format_time, pluralize

_STYLES = {
    "promoted": "good",
    "live": "tide",
    "first": "tide",
    "rolled back": "bad",
    "refused": "bad",
    "failed": "bad",
}
_ENDINGS = {
    "first": "in production from the start: the first model",
    "live": "in production for all requests at once: its policy has no canary",
    "promoted": "promoted to champion",
    "rolled back": "rolled back: the previous champion stayed in production",
    "refused": "refused: no release was created",
    "failed": "failed: no release was created",
    "unchanged": "built a package that had been released before",
    "canary": "the canary was still running at the end",
    "waiting": "released and not in production: it waited for an approval or for the end of a canary",
    "superseded": "the canary stopped without a decision: a later release replaced it",
}


class Chapter(Struct, frozen=True):
    """A part of a story: its name, its time, its text, and the numbers for the text."""

    name: str
    when: str
    text: str
    numbers: str = ""
    style: str = ""


def build_anchor(story: TrainingStory) -> str:
    """Return the HTML id of a training's story."""
    return f"training-{story.number}"


def format_title(story: TrainingStory) -> str:
    """Return the title of a training's story."""
    return f"{story.release or story.pipeline}: {story.ending}"


def choose_style(story: TrainingStory) -> str:
    """Return the CSS class for a training's ending."""
    return _STYLES.get(story.ending, "warn")


def list_chapters(story: TrainingStory) -> list[Chapter]:
    """Return the cause, training, gate, canary and ending of a training, as far as it got."""
    chapters = [
        _describe_cause(story),
        Chapter("trained", format_time(story.started), f"by the pipeline {story.pipeline}, run {story.run[:13]}"),
    ]
    if story.gate:
        chapters.append(_describe_verdict("gate", story.gate))
    elif story.release:
        chapters.append(Chapter("gate", "", "none: its policy has no gate"))
    if story.live and story.ending not in ("first", "live"):
        chapters.append(Chapter("canary", format_time(story.live), "started to serve a share of the requests"))
    if story.canary:
        chapters.append(_describe_verdict("traffic", story.canary))
    settled = format_time(story.settled) if story.settled else ""
    has_message = story.message and not story.canary and story.ending not in ("first", "live")
    reason = f" ({story.message})" if has_message else ""
    chapters.append(Chapter("end", settled, _ENDINGS[story.ending] + reason, style=choose_style(story)))
    return chapters


def _describe_cause(story: TrainingStory) -> Chapter:
    if story.cause is None:
        requester = "manually" if story.trigger == "hand" else f"by the trigger “{story.trigger}”"
        return Chapter("cause", format_time(story.due), f"requested {requester}")
    text = f"{story.cause.check} of {story.cause.subject}: {story.cause.reason}"
    return Chapter("cause", format_time(story.cause.time), text, format_numbers(story.cause))


def _describe_verdict(name: str, verdict: VerdictSummary) -> Chapter:
    styles = {"pass": "good", "fail": "bad"}
    style = styles.get(verdict.outcome, "warn")
    return Chapter(name, format_time(verdict.time), verdict.reason, format_numbers(verdict), style)


def format_numbers(verdict: VerdictSummary) -> str:
    """Return the numbers of a verdict with their names; a pair is an interval."""
    return " · ".join(f"{name.replace('_', ' ')} {_format_value(value)}" for name, value in verdict.numbers.items())


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"{value[0]:+.4f} to {value[1]:+.4f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_value, value))
    return format_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def describe_difference(difference: LossDifference) -> str:
    """Return whether the first policy is better, worse, or not significantly different."""
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "no significant difference"


def list_seed_comparisons(result: BacktestResult) -> list[list[str]]:
    """Return a table with its header: the first policy compared with each other one, seed by seed and over all."""
    first = result.outcomes[0].name
    header = ["policy", "seed", first, "other", "trainings", "difference", "95 % interval", "result"]
    rows = [header]
    comparisons = result.seed_comparisons
    for name in dict.fromkeys(comparison.policy for comparison in comparisons):
        by_seed = [comparison for comparison in comparisons if comparison.policy == name]
        for comparison in by_seed:
            losses = [f"{comparison.loss:.4f}", f"{comparison.other_loss:.4f}"]
            trainings = f"{comparison.trainings} : {comparison.other_trainings}"
            rows.append([name, str(comparison.seed), *losses, trainings, *_format_difference(comparison.difference)])
        if len(by_seed) > 1:
            means = [
                sum(comparison.loss for comparison in by_seed) / len(by_seed),
                sum(comparison.other_loss for comparison in by_seed) / len(by_seed),
            ]
            over_all = _format_difference(result.difference(name))
            rows.append([name, "all", *(f"{mean:.4f}" for mean in means), "", *over_all])
    return rows if len(rows) > 1 else []


def _format_difference(difference: LossDifference) -> list[str]:
    interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return [f"{difference.mean:+.4f}", interval, describe_difference(difference)]


def format_causes(results: Sequence[PolicyResult]) -> str:
    """Return the number of trainings by cause, over several replays."""
    counts: dict[str, int] = {}
    for result in results:
        for cause, count in result.causes.items():
            name = "manual" if cause == "hand" else cause
            counts[name] = counts.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def list_false_alarms(result: BacktestResult) -> list[str]:
    """Return, for a history without changes, how often each check of the first policy failed and caused a training."""
    replays = result.list_seeds(result.outcomes[0].name)
    watched = {check.name for check in find_stage_checks("watch") if not check.by_calendar}
    checks = {check for replay in replays for check in replay.verdicts} & watched
    alarms = []
    for check in sorted(checks):
        evaluations = sum(sum(replay.verdicts.get(check, {}).values()) for replay in replays)
        failed = sum(replay.verdicts.get(check, {}).get("fail", 0) for replay in replays)
        trainings = sum(replay.causes.get(check, 0) for replay in replays)
        share = f"{failed} of {evaluations:,} evaluations failed ({failed / evaluations:.2%})"
        alarms.append(f"{check}: {share} and caused {pluralize(trainings, 'training')}")
    return alarms
