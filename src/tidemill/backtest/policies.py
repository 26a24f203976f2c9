"""The policies that a backtest lays beside a project's own: the ones that everybody has already."""

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.backtest.period import moment
from tidemill.core.backtest import Firing
from tidemill.core.policy import ModelPolicy, Policy, Rollout
from tidemill.core.trigger import Trigger

PolicyPlan = Policy | Callable[[PolicyResult], Policy]
"""A policy, or how one is made of what the first one came to."""


def static(policy: Policy) -> Policy:
    """The first model, kept for ever."""
    return replace(policy, triggers=(), backtest=replace(policy.backtest, planted=(), firings=()))


def weekly(policy: Policy, begin: datetime) -> Policy:
    """Retraining on a fixed calendar, once a week, whatever happens; each model goes live as it is."""
    cron = f"{begin.minute} {begin.hour} * * {begin.isoweekday() % 7}"
    trigger = Trigger(name="weekly", pipeline="training", cron=cron)
    return replace(static(_ungated(policy)), triggers=(trigger,))


def calendar(policy: Policy, part: Period, trainings: int) -> Policy:
    """So many trainings (the first among them) at even distances, none of them gated, each right after a delivery as
    long as there is no more than one a day.

    It lives through what is planted as well: a training that somebody starts by hand is one of its own. Deliveries are
    let in as they are by the policy, so that one that is stopped costs it no training.
    """
    planted = policy.backtest.firings
    even = trainings - sum(part.begin < due(one, part) < part.end for one in planted)
    days = (part.end - part.begin) / timedelta(days=1)
    digits = 0 if even <= days else 3
    moments = [part.begin + timedelta(days=round(number * days / even, digits)) for number in range(1, even)]
    firings = (*planted, *(Firing(at=one.isoformat(), pipeline="training") for one in moments))
    deliveries = tuple(one for one in policy.triggers if (one.on, one.pipeline) == ("data", "ingestion"))
    alone = replace(_ungated(policy), triggers=deliveries)
    return replace(alone, backtest=replace(policy.backtest, firings=firings))


def due(firing: Firing, part: Period) -> datetime:
    """When a firing is due: where it names no time zone, in that of the part of history that is replayed."""
    return moment(firing.at, part.begin)


def seeded(policy: Policy, seed: int) -> Policy:
    """The same policy with other luck: of its models' training and of the order of requests; 0 changes nothing."""
    models = {
        name: replace(model, training=replace(model.training, seed=model.training.seed + seed))
        for name, model in policy.models.items()
    }
    return replace(policy, models=models, backtest=replace(policy.backtest, seed=policy.backtest.seed + seed))


def shuffled(policy: Policy) -> Policy:
    """The same policy on a history in which nothing changes, and nothing is planted."""
    return replace(policy, backtest=replace(policy.backtest, shuffle=True, planted=(), firings=()))


def _ungated(policy: Policy) -> Policy:
    return replace(policy, models={name: _as_it_is(model) for name, model in policy.models.items()})


def _as_it_is(model: ModelPolicy) -> ModelPolicy:
    return replace(model, gate=replace(model.gate, enabled=False), rollout=Rollout(canary=False))
