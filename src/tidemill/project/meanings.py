"""What a policy says that fits its types and yet can mean nothing: metrics that nothing measures, addresses that nobody
has, windows without time, causes that never come.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import inf, isfinite
from typing import get_args

from msgspec.structs import asdict

from tidemill.clock import parse_duration
from tidemill.core.backtest import Backtest
from tidemill.core.check import Action, Outcome
from tidemill.core.event import list_conditions
from tidemill.core.metric import METRICS, list_metrics
from tidemill.core.model import Task
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.run import RunState
from tidemill.core.trigger import Trigger
from tidemill.project.names import Names

Fault = tuple[str, str, tuple[str, ...]]
"""What is wrong, its cure, and where it is said: the names that lead there."""

_WATCHED = ("drift", "age", "silence")
# A verdict that calls for nothing is no event.
_CALLS = tuple(action for action in get_args(Action) if action not in ("proceed", "hold", "ignore"))
_SAID = {
    ("verdict", "action"): _CALLS,
    ("verdict", "outcome"): get_args(Outcome),
    ("run", "state"): tuple(state for state in get_args(RunState) if state != "running"),
    ("job", "state"): ("failed",),
}


def faults(policy: Policy, defined: Names | None) -> Iterator[Fault]:
    """Everything that means nothing, in the order of the file's reference; `defined` is what pipeline.py defines."""
    for name, source in policy.sources.items():
        if not source.path:
            yield f"source {name!r} has no path", 'such as "data/*.parquet"', ("sources", name, "path")
    for model in policy.models.values():
        yield from _of_model(model)
        later = policy.sources[model.problem.source].later if model.problem.source in policy.sources else ()
        if early := [name for name in model.inputs.request if name in later]:
            cure = f"a request cannot know it: remove it there, or from `later` of source {model.problem.source!r}"
            yield (
                f"{early[0]!r} is known later, and among the inputs",
                cure,
                ("models", model.name, "inputs", "request"),
            )
    for place, trigger in enumerate(policy.triggers):
        yield from _of_trigger(trigger, defined, ("triggers", f"[{place}]"))
    yield from _circles(policy.triggers)
    yield from _of_backtest(policy.backtest, policy, defined)


def _of_model(model: ModelPolicy) -> Iterator[Fault]:
    here = ("models", model.name)
    problem, known = model.problem, list_metrics(model.problem.task)
    if not problem.label:
        yield "the label has no name", "name the column that is predicted", (*here, "problem", "label")
    if problem.label in model.inputs.request:
        cure = "a request cannot know it: remove it there"
        yield f"the label {problem.label!r} is among the inputs", cure, (*here, "inputs", "request")
    for key in ("request", "views"):
        names = getattr(model.inputs, key)
        if twice := [name for name in names if names.count(name) > 1]:
            yield f"{twice[0]!r} is named twice", "name it once", (*here, "inputs", key)
    yield from _metric(problem.metric, problem.task, (*here, "problem", "metric"))
    for name in model.gate.thresholds:
        yield from _metric(name, problem.task, (*here, "gate", "thresholds"))
    for table in ("problem", "gate", "rollout"):
        for name, value in asdict(getattr(model, table)).items():
            if isinstance(value, float) and not isfinite(value):
                yield f"{value} is no number to compare with", "write a finite one", (*here, table, name)
    for name in ("test", "window"):
        if (length := getattr(model.training, name)) and not parse_duration(length):
            yield f"a {name} of no time has no rows", 'such as "14d"', (*here, "training", name)
    for name, choice in (model.training.search.space if model.training.search else {}).items():
        numbers = [one for one in choice if isinstance(one, int | float) and not isinstance(one, bool)]
        if len(choice) == len(numbers) == 2 and numbers[0] >= numbers[1]:
            cure = f"from the lower to the higher: [{numbers[1]}, {numbers[0]}]"
            yield f"the range of {name!r} holds nothing", cure, (*here, "training", "search", "space", name)
    yield from _nowhere(model.watch.notify, (*here, "watch", "notify"))
    if not parse_duration(model.rollout.maximum):
        yield "a canary of no time proves nothing", 'such as "14d"', (*here, "rollout", "maximum")
    for place, value in enumerate(model.watch.values):
        at = (*here, "watch", "values", f"[{place}]")
        if value.value not in (*known, *_WATCHED):
            cure = f"one of: {', '.join((*known, *_WATCHED))}{nearest(value.value, (*known, *_WATCHED))}"
            yield f"the watch of a {problem.task} does not know {value.value!r}", cure, (*at, "value")
        if value.limit >= (1 if value.value == "drift" else inf):
            cure = "write one that can be; of drift, 0.3 is three columns of ten"
            yield f"a limit of {value.limit:g} is never exceeded", cure, (*at, "limit")
        if not parse_duration(value.window):
            yield "a window of no time has no rows", 'such as "7d"', (*at, "window")
        yield from _nowhere(value.notify, (*at, "notify"))


def _metric(name: str, task: Task, at: tuple[str, ...]) -> Iterator[Fault]:
    """A name that is no usual metric is one of the project's own, unless it is nearly a usual one."""
    known = list_metrics(task)
    if name in known or not name:
        return
    if name in METRICS or get_close_matches(name, known, 1, 0.75):
        cure = f"one of: {', '.join(known)}{nearest(name, known)}"
        yield f"{name!r} is no metric of a {task}", cure, at


def _nowhere(addresses: Iterable[str], at: tuple[str, ...]) -> Iterator[Fault]:
    for address in addresses:
        if address != "log" and not address.startswith("${") and not address.partition("://")[2]:
            yield "nobody is at one of these addresses", '"log", or as Apprise writes it: "mailto://…"', at


def _of_trigger(trigger: Trigger, defined: Names | None, here: tuple[str, ...]) -> Iterator[Fault]:
    for name, value in trigger.where.items():
        about = f"trigger {trigger.name!r} waits for {name} = {value!r}"
        told, said = list_conditions(trigger.on) or (name,), _SAID.get((trigger.on, name), (value,))
        if name not in told:
            cure = f"it tells: {', '.join(told)}{nearest(name, told)}"
            yield f"{about}, which an event of kind {trigger.on!r} does not tell", cure, (*here, "where")
        elif value not in said:
            yield f"{about}, which never comes", f"one of: {', '.join(said)}{nearest(value, said)}", (*here, "where")
        elif trigger.on in ("run", "job") and name in ("subject", "pipeline"):
            yield from _pipeline(value, defined, (*here, "where"))


def _circles(triggers: Sequence[Trigger]) -> Iterator[Fault]:
    """Triggers on the end of runs that start what they wait for, on their own or one through the other."""
    endless = [
        (place, trigger, {trigger.where.get(name, "") for name in ("subject", "pipeline")} - {""})
        for place, trigger in enumerate(triggers)
        if trigger.on == "run" and trigger.budget is None and not parse_duration(trigger.cooldown)
    ]
    for place, trigger, waits_for in endless:
        started = {trigger.pipeline}
        for _ in endless:
            started |= {other.pipeline for _, other, cause in endless if cause <= started}
        if waits_for <= started:
            others = "" if waits_for <= {trigger.pipeline} else ", by way of other triggers"
            said = f"trigger {trigger.name!r} starts the pipeline whose end it waits for{others}"
            cure = "let it wait for another pipeline (where), or give it a cooldown or a budget"
            yield said, cure, ("triggers", f"[{place}]", "on")


def _of_backtest(backtest: Backtest, policy: Policy, defined: Names | None) -> Iterator[Fault]:
    for place, firing in enumerate(backtest.firings):
        at = ("backtest", "firings", f"[{place}]")
        yield from _moment(firing.at, (*at, "at"))
        yield from _pipeline(firing.pipeline, defined, (*at, "pipeline"))
    for name in backtest.skip:
        yield from _pipeline(name, defined, ("backtest", "skip"))
    for place, planted in enumerate(backtest.planted):
        at = ("backtest", "planted", f"[{place}]")
        yield from _moment(planted.day, (*at, "day"))
        if planted.source not in policy.sources:
            cure = f"defined: {', '.join(policy.sources)}{nearest(planted.source, policy.sources)}"
            yield f"{planted.source!r} is no source", cure, (*at, "source")


def _moment(text: str, at: tuple[str, ...]) -> Iterator[Fault]:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        yield f"{text!r} is not a date", 'such as "2013-03-01"', at


def _pipeline(name: str, defined: Names | None, at: tuple[str, ...]) -> Iterator[Fault]:
    if defined is not None and (name not in defined.all or name in defined.others):
        known = sorted(n for n in defined.all if not n.startswith("_") and n not in defined.others)
        yield f"pipeline.py defines no pipeline {name!r}", f"it defines: {', '.join(known)}{nearest(name, known)}", at


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a cure: the known name that somebody may have meant, if any is near."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
