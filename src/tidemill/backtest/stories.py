"""What a backtest's evidence says in words: each training from its cause to its end, and policies laid side by side."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.backtest.comparison import BacktestResult, Case, Judged, LossDifference, PolicyResult
from tidemill.checks.registry import checks_of
from tidemill.evidence.formatting import format_number
from tidemill.web.words import plural, when

_LOOKS = {"promoted": "good", "live": "tide", "first": "tide", "rolled back": "bad", "refused": "bad", "failed": "bad"}
_ENDINGS = {
    "first": "answered from the start: there was nobody before it",
    "live": "answered whole at once: its policy asks for no trial",
    "promoted": "promoted to champion",
    "rolled back": "rolled back: the champion before it answered on",
    "refused": "refused: nothing of it was released",
    "failed": "failed: nothing of it was released",
    "the same": "gave the very package that was released before",
    "on trial": "still on trial at the end",
    "waiting": "released, and not let in: it waited for an approval",
    "superseded": "its trial ended undecided: a later release took its place",
}


class Chapter(Struct, frozen=True):
    """A part of a story: what it is called, when it was, what was found, and the numbers behind that."""

    name: str
    when: str
    said: str
    numbers: str = ""
    look: str = ""


def anchor(case: Case) -> str:
    """What a link to the story of a training names."""
    return f"training-{case.number}"


def title(case: Case) -> str:
    """A training in a few words."""
    return f"{case.release or case.pipeline}: {case.ending}"


def look(case: Case) -> str:
    """How its ending is shown."""
    return _LOOKS.get(case.ending, "warn")


def chapters(case: Case) -> list[Chapter]:
    """Cause, training, gate, trial and end of a training, as far as it came."""
    told = [
        _cause(case),
        Chapter("trained", when(case.started), f"by the pipeline {case.pipeline}, run {case.run[:13]}"),
    ]
    if case.gate:
        told.append(_judged("gate", case.gate))
    elif case.release:
        told.append(Chapter("gate", "", "none: its policy asks for no gate"))
    if case.live and case.ending not in ("first", "live"):
        told.append(Chapter("trial", when(case.live), "began to answer a part of the requests"))
    if case.trial:
        told.append(_judged("traffic", case.trial))
    ended = when(case.ended) if case.ended else ""
    why = f" ({case.said})" if case.said and not case.trial and case.ending not in ("first", "live") else ""
    told.append(Chapter("end", ended, _ENDINGS[case.ending] + why, look=look(case)))
    return told


def _cause(case: Case) -> Chapter:
    if case.cause is None:
        by = "by hand" if case.trigger == "hand" else f"by the trigger “{case.trigger}”"
        return Chapter("cause", when(case.due), f"asked for {by}")
    said = f"{case.cause.check} of {case.cause.subject}: {case.cause.reason}"
    return Chapter("cause", when(case.cause.time), said, figures(case.cause))


def _judged(name: str, verdict: Judged) -> Chapter:
    looks = {"pass": "good", "fail": "bad"}
    return Chapter(name, when(verdict.time), verdict.reason, figures(verdict), looks.get(verdict.outcome, "warn"))


def figures(verdict: Judged) -> str:
    """The numbers behind a verdict, each with its name; a pair is an interval."""
    return " · ".join(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in verdict.numbers.items())


def _figure(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"{value[0]:+.4f} to {value[1]:+.4f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_figure, value))
    return format_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def lead(difference: LossDifference) -> str:
    """Whether an interval tells two policies apart, in words."""
    if difference.high < 0:
        return "better"
    return "worse" if difference.low > 0 else "not told apart"


def trials(comparison: BacktestResult) -> list[list[str]]:
    """The first policy against each other one, seed by seed and over all, as a table with its header."""
    first = comparison.outcomes[0].name
    rows = [["against", "seed", first, "other", "trainings", "difference", "95 % interval", f"{first} is"]]
    found = comparison.trials
    for name in dict.fromkeys(trial.policy for trial in found):
        mine = [trial for trial in found if trial.policy == name]
        for trial in mine:
            counts = f"{trial.trainings} : {trial.other_trainings}"
            rows.append(
                [name, str(trial.seed), f"{trial.loss:.4f}", f"{trial.other:.4f}", counts, *_told(trial.difference)]
            )
        if len(mine) > 1:
            losses = [sum(values) / len(mine) for values in zip(*((one.loss, one.other) for one in mine), strict=True)]
            rows.append([name, "all", *(f"{loss:.4f}" for loss in losses), "", *_told(comparison.difference(name))])
    return rows if len(rows) > 1 else []


def _told(difference: LossDifference) -> list[str]:
    return [f"{difference.mean:+.4f}", f"{difference.low:+.4f} to {difference.high:+.4f}", lead(difference)]


def causes(outcomes: Sequence[PolicyResult]) -> str:
    """What called for trainings, counted over replays."""
    counted: dict[str, int] = {}
    for outcome in outcomes:
        for name, count in outcome.causes.items():
            counted[name] = counted.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))


def alarms(comparison: BacktestResult) -> list[str]:
    """Of a history in which nothing changes: how often each check of the first policy looked, and called for more."""
    replays = comparison.seeds_of(comparison.outcomes[0].name)
    surprising = {check.name for check in checks_of("watch") if not check.by_calendar}
    looks = {check for one in replays for check in one.verdicts} & surprising
    said = []
    for check in sorted(looks):
        looked = sum(sum(one.verdicts.get(check, {}).values()) for one in replays)
        failed = sum(one.verdicts.get(check, {}).get("fail", 0) for one in replays)
        trained = sum(one.causes.get(check, 0) for one in replays)
        share = f"{failed} of {looked:,} looks failed ({failed / looked:.2%})"
        said.append(f"{check}: {share}, {plural(trained, 'training')} for it")
    return said
