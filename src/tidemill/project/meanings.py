"""Finds values of a policy that have the right type but no effect: unknown metrics and addresses, empty windows, events
that never occur.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import inf, isfinite
from typing import get_args

from msgspec.structs import asdict

from tidemill.clock import parse_duration
from tidemill.core.backtest import Backtest
from tidemill.core.check import QUIET_ACTIONS, Action, Outcome
from tidemill.core.event import list_conditions
from tidemill.core.metric import METRICS, list_metrics
from tidemill.core.model import PredictionTask
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.run import RunState
from tidemill.core.trigger import Trigger
from tidemill.core.watch import OTHER_VALUES
from tidemill.project.environments import find_environment_faults
from tidemill.project.names import DefinedNames

Fault = tuple[str, str, tuple[str, ...]]
"""The problem, its cure, and the path of the value."""

# A verdict with one of these actions is not an event.
_ACTIONS = tuple(action for action in get_args(Action) if action not in QUIET_ACTIONS)
_CONDITION_VALUES = {
    ("verdict", "action"): _ACTIONS,
    ("verdict", "outcome"): get_args(Outcome),
    ("run", "state"): tuple(state for state in get_args(RunState) if state != "running"),
    ("job", "state"): ("failed",),
}


def find_faults(policy: Policy, defined: DefinedNames | None) -> Iterator[Fault]:
    """Yield the faults in the order of the reference; `defined` are the names in pipeline.py."""
    for name, source in policy.sources.items():
        if not source.path:
            yield f"source {name!r} has no path", 'write a value such as "data/*.parquet"', ("sources", name, "path")
    for model in policy.models.values():
        yield from _check_model(model, policy)
        yield from _check_later(model, policy)
    for index, trigger in enumerate(policy.triggers):
        yield from _check_trigger(trigger, defined, ("triggers", f"[{index}]"))
    yield from find_environment_faults(policy)
    for name in policy.pipelines:
        yield from _check_pipeline(name, defined, ("pipelines", name))
    yield from _find_cycles(policy.triggers)
    yield from _check_backtest(policy.backtest, policy, defined)


def _check_model(model: ModelPolicy, policy: Policy) -> Iterator[Fault]:
    path = ("models", model.name)
    problem, known = model.problem, list_metrics(model.problem.task)
    if not problem.label:
        yield "the label has no name", "write the column to predict", (*path, "problem", "label")
    if problem.label in model.inputs.request:
        cure = "requests cannot contain it: remove it"
        yield f"the label {problem.label!r} is among the inputs", cure, (*path, "inputs", "request")
    for key in ("request", "views"):
        names = getattr(model.inputs, key)
        if duplicates := [name for name in names if names.count(name) > 1]:
            yield f"{duplicates[0]!r} is a duplicate", "write it once", (*path, "inputs", key)
    yield from _check_key(model, policy, path)
    yield from _check_metric(problem.metric, problem.task, (*path, "problem", "metric"))
    for name in model.gate.thresholds:
        yield from _check_metric(name, problem.task, (*path, "gate", "thresholds"))
    for table in ("problem", "gate", "rollout"):
        for name, value in asdict(getattr(model, table)).items():
            if isinstance(value, float) and not isfinite(value):
                yield f"{value} cannot be compared", "write a finite number", (*path, table, name)
    for name in ("test", "window"):
        if (length := getattr(model.training, name)) and not parse_duration(length):
            yield (
                f"{name} has a duration of zero and so no rows",
                'write a value such as "14d"',
                (*path, "training", name),
            )
    for name, choice in (model.training.search.space if model.training.search else {}).items():
        numbers = [option for option in choice if isinstance(option, int | float) and not isinstance(option, bool)]
        if len(choice) == len(numbers) == 2 and numbers[0] >= numbers[1]:
            cure = f"write the lower number first: [{numbers[1]}, {numbers[0]}]"
            yield f"the range of {name!r} is empty", cure, (*path, "training", "search", "space", name)
    yield from _check_measure(model, path)
    yield from _check_addresses(model.watch.notify, (*path, "watch", "notify"))
    if not parse_duration(model.rollout.maximum):
        yield "a canary cannot have a duration of zero", 'write a value such as "14d"', (*path, "rollout", "maximum")
    if not parse_duration(model.rollout.block):
        yield "a block cannot have a duration of zero", 'write a value such as "1d"', (*path, "rollout", "block")
    for index, value in enumerate(model.watch.values):
        at = (*path, "watch", "values", f"[{index}]")
        names = (*known, *OTHER_VALUES)
        if value.value not in names:
            cure = f"use one of: {', '.join(names)}{suggest_name(value.value, names)}"
            yield f"the watch of a {problem.task} cannot measure {value.value!r}", cure, (*at, "value")
        if value.limit >= (1 if value.value == "drift" else inf):
            cure = "write a lower limit; for drift, 0.3 is three columns of ten"
            yield f"a limit of {value.limit:g} is never exceeded", cure, (*at, "limit")
        if not parse_duration(value.window):
            yield "a window with a duration of zero has no rows", 'write a value such as "7d"', (*at, "window")
        if not parse_duration(value.false_alarm_interval):
            fault = "a false alarm cannot be excluded for a duration of zero"
            yield fault, 'write a value such as "26w"', (*at, "false_alarm_interval")
        if value.reference != "release" and value.value != "drift":
            fault = f"reference = {value.reference!r} has no effect on {value.value!r}"
            yield fault, 'remove it, or set it for value = "drift"', (*at, "reference")
        yield from _check_addresses(value.notify, (*at, "notify"))


def _check_later(model: ModelPolicy, policy: Policy) -> Iterator[Fault]:
    """Yield a fault if an input is a column that no request can have: it is known only later."""
    problem, at = model.problem, ("models", model.name, "inputs", "request")
    source = policy.sources.get(problem.source)
    later = source.later if source else ()
    if early := [name for name in model.inputs.request if name in later]:
        cure = f"requests cannot contain it: remove it, or remove it from `later` of source {problem.source!r}"
        yield f"input {early[0]!r} is known only later", cure, at
    known_early = (source.time, source.known_at) if source else ()
    if (name := problem.label_known_at) in model.inputs.request and name not in known_early:
        cure = "requests cannot contain it: remove it from the inputs, or remove `label_known_at`"
        yield f"input {name!r} is known only with the label, as its `label_known_at`", cure, at


def _check_key(model: ModelPolicy, policy: Policy, path: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault if the key of the regimes is a column that no request can have."""
    key, problem = model.regimes.key, model.problem
    source = policy.sources.get(problem.source)
    if not key or source is None:
        return
    at = (*path, "regimes", "key")
    if key in (problem.label, problem.label_known_at, *source.later):
        cure = "name a column that each request has, such as the vehicle model"
        yield f"{key!r}, the key of the regimes, is known only after a prediction", cure, at
    elif key == source.time:
        yield f"the key of the regimes is {key!r}, the event time", "name a column with few values", at
    elif model.training.rows == "regime":
        cure = 'remove `rows = "regime"` under [training]: the key chooses the rows'
        yield f"the key {key!r} names the regimes, so no regime begins at a time", cure, (*path, "training", "rows")


def _check_measure(model: ModelPolicy, path: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault if nothing is measured, but the gate or a value of the watch needs a metric."""
    if model.gate.measure:
        return
    at = (*path, "gate", "measure")
    watched = [value.value for value in model.watch.values if value.value not in OTHER_VALUES]
    if model.gate.enabled:
        yield "measure is false, but the gate judges metrics", "remove it, or set `enabled = false`", at
    elif watched:
        cure = f"remove `measure = false`, or watch only {', '.join(OTHER_VALUES)}"
        yield f"measure is false, but [watch] compares {watched[0]!r} with its value at release", cure, at


def _check_metric(name: str, task: PredictionTask, at: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault if a name is nearly a built-in metric, or one of the other task; other names are custom metrics."""
    known = list_metrics(task)
    if name in known or not name:
        return
    if name in METRICS or get_close_matches(name, known, 1, 0.75):
        cure = f"use one of: {', '.join(known)}{suggest_name(name, known)}"
        yield f"{name!r} is not a metric of a {task}", cure, at


def _check_addresses(addresses: Iterable[str], at: tuple[str, ...]) -> Iterator[Fault]:
    for address in addresses:
        if address != "log" and not address.startswith("${") and not address.partition("://")[2]:
            yield f"{address!r} is not an address", 'use "log", or an address of Apprise, such as "mailto://…"', at


def _check_trigger(trigger: Trigger, defined: DefinedNames | None, path: tuple[str, ...]) -> Iterator[Fault]:
    for name, value in trigger.where.items():
        about = f"trigger {trigger.name!r} waits for {name} = {value!r}"
        conditions, values = list_conditions(trigger.on) or (name,), _CONDITION_VALUES.get((trigger.on, name), (value,))
        if name not in conditions:
            cure = f"its conditions are: {', '.join(conditions)}{suggest_name(name, conditions)}"
            yield f"{about}, but events of kind {trigger.on!r} have no {name!r}", cure, (*path, "where")
        elif value not in values:
            yield (
                f"{about}, which never occurs",
                f"use one of: {', '.join(values)}{suggest_name(value, values)}",
                (*path, "where"),
            )
        elif trigger.on in ("run", "job") and name in ("subject", "pipeline"):
            yield from _check_pipeline(value, defined, (*path, "where"))


def _find_cycles(triggers: Sequence[Trigger]) -> Iterator[Fault]:
    """Yield triggers that start the pipeline whose end they wait for, alone or through other triggers."""
    endless = [
        (index, trigger, {trigger.where.get(name, "") for name in ("subject", "pipeline")} - {""})
        for index, trigger in enumerate(triggers)
        if trigger.on == "run" and trigger.budget is None and not parse_duration(trigger.cooldown)
    ]
    for index, trigger, waits_for in endless:
        started = {trigger.pipeline}
        for _ in endless:
            started |= {other.pipeline for _, other, cause in endless if cause <= started}
        if waits_for <= started:
            others = "" if waits_for <= {trigger.pipeline} else ", through other triggers"
            problem = f"trigger {trigger.name!r} starts the pipeline whose end it waits for{others}"
            cure = "wait for another pipeline (where), or set a cooldown or a budget"
            yield problem, cure, ("triggers", f"[{index}]", "on")


def _check_backtest(backtest: Backtest, policy: Policy, defined: DefinedNames | None) -> Iterator[Fault]:
    for index, firing in enumerate(backtest.firings):
        at = ("backtest", "firings", f"[{index}]")
        yield from _check_date(firing.at, (*at, "at"))
        yield from _check_pipeline(firing.pipeline, defined, (*at, "pipeline"))
    for name in backtest.skip:
        yield from _check_pipeline(name, defined, ("backtest", "skip"))
    for index, planted in enumerate(backtest.planted):
        at = ("backtest", "planted", f"[{index}]")
        yield from _check_date(planted.day, (*at, "day"))
        if planted.source not in policy.sources:
            cure = f"the sources are: {', '.join(policy.sources)}{suggest_name(planted.source, policy.sources)}"
            yield f"{planted.source!r} is not a source", cure, (*at, "source")


def _check_date(text: str, at: tuple[str, ...]) -> Iterator[Fault]:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        yield f"{text!r} is not a date", 'write a value such as "2013-03-01"', at


def _check_pipeline(name: str, defined: DefinedNames | None, at: tuple[str, ...]) -> Iterator[Fault]:
    if defined is not None and (name not in defined.all or name in defined.not_pipelines):
        known = sorted(n for n in defined.all if not n.startswith("_") and n not in defined.not_pipelines)
        yield (
            f"pipeline.py defines no pipeline {name!r}",
            f"it defines: {', '.join(known)}{suggest_name(name, known)}",
            at,
        )


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return the end of a cure that suggests the most similar known name, empty if there is none."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
