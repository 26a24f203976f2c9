"""Compares the promise of a policy with what an environment has observed since: losses, trainings and alarms."""

from datetime import datetime, timedelta

import polars as pl

from tidemill.backtest.comparison import Period, TrainingStory
from tidemill.backtest.costs import is_false_alarm
from tidemill.backtest.expectation import predict_count, predict_mean
from tidemill.backtest.observed_promotions import count_observed_wrong_promotions
from tidemill.backtest.promise import digest_effect, digest_tables, list_promises
from tidemill.backtest.summary import compute_weeks, extract_served, list_stories
from tidemill.core.model import Signature
from tidemill.core.promise import Promise
from tidemill.data.metrics import losses
from tidemill.evidence.promises import Figure, PolicyStatus
from tidemill.flow.session import Session
from tidemill.ledger.releases import find_release
from tidemill.monitoring.windows import read_window

_MONTH = 30.0
_NEEDED_LABELS = 50
_NEEDED_DAYS = 7.0
_HARMFUL = ("false alarms", "wrong promotions")  # fewer than promised break no promise


def compare_with_promise(session: Session, model: str) -> PolicyStatus:
    """Return the newest promise of a model's policy, beside what was observed since the policy has been in force."""
    project, environment = session.project, session.workspace.environment
    policy, name = project.policy, project.model(model).name
    promises = list_promises(session.workspace.ledger, environment, name)
    if not promises:
        text = f"no promise: run `tidemill backtest` (or `tidemill backtest --tune`) for the model {name!r}"
        return PolicyStatus(model=name, environment=environment, state="none", text=text)
    digest = digest_effect(policy)
    promise = next((found for found in reversed(promises) if found.policy == digest), None)
    if promise is None:
        newest, tables = promises[-1], digest_tables(policy)
        changed = sorted(table for table in {*tables, *newest.tables} if tables.get(table) != newest.tables.get(table))
        text = (
            f"the policy has changed since its promise of {newest.stated:%Y-%m-%d}: {', '.join(changed)}. "
            "Run `tidemill backtest` to state what the present one promises"
        )
        return PolicyStatus(model=name, environment=environment, state="changed", text=text, changed=changed)
    return _observe(session, name, promise)


def _observe(session: Session, model: str, promise: Promise) -> PolicyStatus:
    now = session.clock.now()
    since, note = _find_since(session, promise)
    days = max(0.0, (now - since) / timedelta(days=1))
    predictions = read_window(session.workspace.journal, model, since, now)
    if predictions.width:
        predictions = predictions.filter(pl.col("role") != "shadow")
    weeks = _compute_weeks(session, model, predictions, Period(since, now))
    labels = sum(rows for rows, _ in weeks)
    stories = _list_stories(session, model, since)
    environment = session.workspace.environment
    routes = [route for route in session.workspace.ledger.routes.find(model=model) if route.environment == environment]
    changes = [route.change for route in routes if route.since >= since]
    counts = {
        "trainings": (promise.trainings, len(stories)),
        "alarms": (promise.alarms, sum(story.cause is not None for story in stories)),
        "false alarms": (promise.false_alarms, sum(map(is_false_alarm, stories))),
        "promotions": (promise.promotions, changes.count("promote")),
        "rollbacks": (promise.rollbacks, changes.count("rollback")),
    }
    figures = [_compare_loss(promise, weeks, labels)]
    figures += [_compare_count(name, promise, days, *pair) for name, pair in counts.items()]
    if promise.wrong_promotions is not None:
        wrong = count_observed_wrong_promotions(
            session.packages, session.project.model(model).rollout.margin, stories, routes, predictions
        )
        figures.append(_compare_count("wrong promotions", promise, days, promise.wrong_promotions, wrong))
    return PolicyStatus(
        model=model,
        environment=environment,
        state="in force" if predictions.height or stories else "waiting",
        text=note or _judge(figures),
        promise=promise,
        since=since,
        days=days,
        predictions=predictions.height,
        labels=labels,
        figures=figures,
    )


def _judge(figures: list[Figure]) -> str:
    broken = [figure.name for figure in figures if figure.holds is False]
    if broken:
        return f"the promise does not hold for: {', '.join(broken)}"
    if any(figure.holds for figure in figures):
        return "the promise holds so far"
    return "nothing was observed yet that could be compared"


def _find_since(session: Session, promise: Promise) -> tuple[datetime, str]:
    """Return the time since which the policy has been in force, and a note if the newest run used another one."""
    runs = session.workspace.ledger.runs.find(environment=session.workspace.environment, newest=True)
    since, digest = promise.stated, session.project.policy_digest
    if runs and runs[0].started > promise.stated and runs[0].code.get("policy") != digest:
        return since, "the newest run used another version of tidemill.toml: restart `tidemill up`"
    for run in runs:
        if run.code.get("policy") != digest:
            break
        since = min(since, run.started)
    return since, ""


def _compute_weeks(session: Session, model: str, predictions: pl.DataFrame, period: Period) -> list[tuple[int, float]]:
    """Return the labelled rows and the mean loss of each week."""
    books = session.workspace.ledger

    def load(label: str) -> Signature:
        return session.packages.load(find_release(books, label).package).manifest.signature

    if predictions.is_empty() or not predictions["truth"].count():
        return []
    times, truth, scores = extract_served(predictions, load, session.project.model(model).problem.task)
    if times.is_empty():
        return []
    weeks = compute_weeks(times, losses(truth, scores), period)
    return [(count, loss) for _, count, loss in weeks]


def _list_stories(session: Session, model: str, since: datetime) -> list[TrainingStory]:
    """Return the trainings since a time after the first one: the runs of pipelines that a gate judged or released."""
    books, environment = session.workspace.ledger, session.workspace.environment
    judged = {verdict.run for verdict in books.verdicts.find(check="gate", environment=environment)}
    judged |= {release.run for release in books.releases.find(name=model)}
    pipelines = {run.pipeline for run in books.runs.find(environment=environment) if run.id in judged}
    stories = list_stories(books, pipelines, since, environment=environment, model=model)
    return [story for story in stories if story.ending != "first"]


def _compare_loss(promise: Promise, weeks: list[tuple[int, float]], labels: int) -> Figure:
    name, promised = promise.metric, promise.loss
    if labels < _NEEDED_LABELS:
        return Figure(name=name, promised=promised)
    observed = sum(rows * loss for rows, loss in weeks) / labels
    interval = predict_mean(promise.weeks, len(weeks))
    if interval is None:
        return Figure(name=name, promised=promised, observed=observed)
    low, high = interval
    # A lower loss than promised breaks no promise.
    return Figure(name=name, promised=promised, low=low, high=high, observed=observed, holds=observed <= high)


def _compare_count(name: str, promise: Promise, days: float, promised: int, observed: int | None) -> Figure:
    low, high = predict_count(promised, promise.days, days)
    scale = _MONTH / days if days else 0.0
    is_long_enough = days >= _NEEDED_DAYS
    is_enough = name in _HARMFUL or (observed or 0) >= low
    return Figure(
        name=name,
        promised=promised / promise.days * _MONTH,
        low=low * scale if is_long_enough else None,
        high=high * scale if is_long_enough else None,
        observed=None if observed is None else observed * scale,
        holds=is_enough and (observed or 0) <= high if is_long_enough and observed is not None else None,
    )
