"""The common policies that a backtest compares a project's policy with: static, by the calendar, by one check."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.period import parse_time
from tidemill.core.backtest import Firing, Rule
from tidemill.core.policy import ModelPolicy, Policy, Rollout, Watch, WatchValue
from tidemill.core.trigger import Trigger
from tidemill.core.watch import OTHER_VALUES
from tidemill.errors import InputError

PolicyPlan = Policy | Callable[[PolicyResult], Policy]
"""A policy, or a function that builds a policy from the result of the first one."""


def build_static_policy(policy: Policy) -> Policy:
    """Return a policy that keeps the first model and never retrains."""
    return replace(policy, triggers=(), backtest=replace(policy.backtest, planted=(), firings=()))


def build_weekly_policy(policy: Policy, begin: datetime) -> Policy:
    """Return a policy that retrains once a week and releases each model without a gate or a canary."""
    cron = f"{begin.minute} {begin.hour} * * {begin.isoweekday() % 7}"
    trigger = Trigger(name="weekly", pipeline="training", cron=cron)
    return replace(build_static_policy(_remove_gates(policy)), triggers=(trigger,))


def build_calendar_policy(policy: Policy, period: Period, trainings: int) -> Policy:
    """Return a policy with a number of trainings (including the first) at even distances, without gates.

    With at most one training a day, each training follows directly after a delivery. The policy has the same planted
    disturbances as `policy`: a training that a person starts counts as one of its trainings, and a delivery is
    accepted or stopped as in `policy`, so that a stopped delivery prevents no training.
    """
    planted = policy.backtest.firings
    even = trainings - sum(period.begin < parse_firing_time(firing, period) < period.end for firing in planted)
    days = (period.end - period.begin) / timedelta(days=1)
    digits = 0 if even <= days else 3
    times = [period.begin + timedelta(days=round(number * days / even, digits)) for number in range(1, even)]
    return train_at(policy, times)


def train_at(policy: Policy, times: Sequence[datetime]) -> Policy:
    """Return a policy that trains at given times and at the planted ones, and releases each model without a gate.

    Where the policy ingests each delivery, this one ingests them before each training: nothing else reads them.
    """
    firings = [*policy.backtest.firings, *(Firing(at=time.isoformat(), pipeline="training") for time in times)]
    if any((trigger.on, trigger.pipeline) == ("data", "ingestion") for trigger in policy.triggers):
        planted = {firing.at for firing in firings if firing.pipeline == "ingestion"}
        added = dict.fromkeys(firing.at for firing in firings if firing.at not in planted)
        firings = [*(Firing(at=at, pipeline="ingestion") for at in added), *firings]  # first of those at one time
    return replace(_remove_gates(policy), triggers=(), backtest=replace(policy.backtest, firings=tuple(firings)))


def train_by_rule(policy: Policy, rule: Rule) -> Policy:
    """Return a policy that trains when a rule requests it, and releases each model without a gate or a canary."""
    models = {}
    for name, model in _remove_gates(policy).models.items():
        gate = replace(model.gate, measure=True)  # a rule compares live losses with those at release
        models[name] = replace(model, gate=gate)
    static = build_static_policy(replace(policy, models=models))
    return replace(static, backtest=replace(static.backtest, rule=rule))


def build_check_policy(policy: Policy, check: Literal["drift", "performance"]) -> Policy:
    """Return a policy that retrains when one check fails, at most once a day, and releases each model at once.

    These are the drift and performance triggers of Modyn (Böther et al. 2024): no gate, no canary, no cooldown.

    Raises
    ------
    InputError
        if the policy watches no such value for any model.
    """
    models = {}
    for name, model in policy.models.items():
        watched = [value for value in model.watch.values if _find_kind(value.value) == check]
        values = tuple(replace(value, action="retrain") for value in watched)
        gate = replace(model.gate, enabled=False, measure=True)  # the watch needs the metrics of the release
        watch = replace(model.watch, values=values)
        models[name] = replace(model, gate=gate, watch=watch, rollout=Rollout(canary=False))
    if not any(model.watch.values for model in models.values()):
        value = "drift" if check == "drift" else "log_loss"
        raise InputError(
            f"the policy does not watch {check}, so a policy that trains by it cannot be compared",
            f'add [[watch.values]] with a value such as "{value}", or omit --against {check}',
        )
    watching = [trigger for trigger in policy.triggers if trigger.pipeline == "watching" and trigger.cron]
    default = Trigger(name="watch", pipeline="watching", cron="0 */6 * * *")
    training = Trigger(name=check, pipeline="training", on="verdict", where={"action": "retrain"}, cooldown="1d")
    return replace(build_static_policy(replace(policy, models=models)), triggers=(*(watching or [default]), training))


def _find_kind(value: str) -> str:
    """Return the check of a watched value; metrics have one check."""
    return value if value in OTHER_VALUES else "performance"


def build_interval_policy(policy: Policy, period: Period, interval: timedelta, pipeline: str = "training") -> Policy:
    """Return a policy that trains at a fixed interval and releases each model without a gate or a canary."""
    count = int((period.end - period.begin) / interval)
    times = [period.begin + number * interval for number in range(1, count + 1)]
    firings = tuple(Firing(at=time.isoformat(), pipeline=pipeline) for time in times if time < period.end)
    ungated = build_static_policy(_remove_gates(policy))
    return replace(ungated, backtest=replace(ungated.backtest, firings=firings))


def parse_firing_time(firing: Firing, period: Period) -> datetime:
    """Return the time of a firing; without a time zone it is in the zone of the period."""
    return parse_time(firing.at, period.begin)


def add_seed(policy: Policy, seed: int) -> Policy:
    """Return the policy with a seed added to those of its trainings and of the order of requests; 0 adds nothing."""
    models = {
        name: replace(model, training=replace(model.training, seed=model.training.seed + seed))
        for name, model in policy.models.items()
    }
    return replace(policy, models=models, backtest=replace(policy.backtest, seed=policy.backtest.seed + seed))


def shuffle_history(policy: Policy) -> Policy:
    """Return the policy on a shuffled history: the data do not change over time, and there are no disturbances."""
    return replace(policy, backtest=replace(policy.backtest, shuffle=True, planted=(), firings=()))


def _remove_gates(policy: Policy) -> Policy:
    return replace(policy, models={name: _remove_gate(model) for name, model in policy.models.items()})


def _remove_gate(model: ModelPolicy) -> ModelPolicy:
    """Return the policy of a model without gate and canary; without triggers no watch runs, so nothing is measured."""
    gate = replace(model.gate, enabled=False, measure=False)
    unused = WatchValue(value="silence", limit=7.0, action="ignore")  # a release without a watch gets no requests
    return replace(model, gate=gate, rollout=Rollout(canary=False), watch=Watch(values=(unused,)))
