"""Summarize a replay: counts, metrics and training stories from its ledger and journal."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tidemill.backtest.comparison import Ending, Period, PolicyResult, TimelineEntry, TrainingStory, VerdictSummary
from tidemill.backtest.hindsight import count_wrong_promotions
from tidemill.backtest.returns import list_returns
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.model import PredictionTask, Signature
from tidemill.core.resources import BooksReader
from tidemill.core.route import Route
from tidemill.core.run import Run
from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, losses, measure
from tidemill.monitoring.windows import extract_scores, is_labelled

if TYPE_CHECKING:
    from tidemill.backtest.replay import Replay

_WEEK = timedelta(days=7)
_MAX_VALUES = 4


def summarize(name: str, replay: "Replay", seconds: float) -> PolicyResult:
    """Return the result of a replay."""
    books = replay.books
    verdicts: dict[str, Counter[str]] = {}
    for verdict in books.verdicts.find():
        verdicts.setdefault(verdict.check, Counter())[verdict.outcome] += 1
    runs = Counter(run.started_by.trigger or "hand" for run in books.runs.find())
    changes = Counter(route.change for route in books.routes.find())
    predictions = replay.read_predictions()
    times, truth, scores = extract_served(predictions, replay.load_signature, replay.model.problem.task)
    stories = list_stories(books, replay.pipelines_that_train)
    return PolicyResult(
        name=name,
        predictions=predictions.height,
        labels=predictions["truth"].count(),
        runs=dict(sorted(runs.items())),
        verdicts={check: dict(sorted(counts.items())) for check, counts in sorted(verdicts.items())},
        promotions=changes["promote"],
        rollbacks=changes["rollback"],
        stops=len(books.verdicts.find(action="stop")),
        trainings=replay.trainings,
        training_seconds=replay.training_seconds,
        seconds=seconds,
        metrics=measure(truth, scores),
        weeks=compute_weeks(times, losses(truth, scores), replay.period),
        releases=[release.label for release in books.releases.find()],
        timeline=_build_timeline(books),
        stories=stories,
        seed=replay.policy.backtest.seed,
        wrong_promotions=count_wrong_promotions(replay, stories),
        returns=list_returns(replay),
    )


def extract_served(
    predictions: pl.DataFrame, load_signature: Callable[[str], Signature], task: PredictionTask
) -> tuple[pl.Series, Truth, Floats]:
    """Return the times, the truth and the scores of served predictions, over the classes of all releases.

    Rows with a label that their release cannot predict are excluded.
    """
    signatures = {label: load_signature(label) for label in predictions["release"].unique(maintain_order=True)}
    classes = tuple(dict.fromkeys(name for signature in signatures.values() for name in signature.classes))
    times, truths, scores = [], [], []
    for label, signature in signatures.items():
        part = predictions.filter(pl.col("release") == label)
        part = part.filter(is_labelled(part, signature))
        truth, part_scores = extract_scores(part, signature)
        times.append(part["time"])
        if classes:
            indices = np.array([classes.index(name) for name in signature.classes])
            wide = np.zeros((part.height, len(classes)))
            wide[:, indices] = part_scores
            truths.append(indices[truth.values])
            scores.append(wide)
        else:
            truths.append(truth.values)
            scores.append(part_scores)
    return pl.concat(times), Truth(task, np.concatenate(truths), classes), np.concatenate(scores)


def compute_weeks(times: pl.Series, loss: Any, period: Period) -> list[tuple[datetime, int, float]]:
    """Return the begin, the rows and the mean loss of each week of the period."""
    weeks = ((times - period.begin).dt.total_seconds() // int(_WEEK.total_seconds())).alias("week")
    means = pl.DataFrame([weeks, pl.Series("loss", loss)]).group_by("week").agg(pl.len(), pl.col("loss").mean())
    return [(period.begin + week * _WEEK, rows, mean) for week, rows, mean in means.sort("week").rows()]


def _build_timeline(books: BooksReader) -> list[TimelineEntry]:
    """Return the routes that changed, the verdicts that require an action, and the runs that failed, by time."""
    routes = [
        TimelineEntry(
            time=route.since,
            kind="route",
            subject=route.model,
            reason=route.reason,
            change=route.change,
            arms=list(route.arms),
            verdict=route.verdict,
        )
        for route in books.routes.find()
    ]
    verdicts = [
        TimelineEntry(
            time=verdict.time,
            kind="verdict",
            subject=verdict.subject,
            reason=verdict.reason,
            check=verdict.check,
            outcome=verdict.outcome,
            action=verdict.action,
            verdict=verdict.id,
        )
        for verdict in books.verdicts.find()
        if not verdict.needs_no_action and verdict.time is not None
    ]
    failures = [
        TimelineEntry(time=run.started, kind="failure", subject=run.pipeline, reason=run.error)
        for run in books.runs.find(state="failed")
    ]
    return sorted([*routes, *verdicts, *failures], key=lambda entry: entry.time)


def list_stories(
    books: BooksReader, pipelines: set[str], since: datetime | None = None, **equals: Any
) -> list[TrainingStory]:
    """Return the story of each training, by time; `equals` are values of runs and routes: environment or model.

    With `since`, the trainings that started before are left out.
    """
    runs = [run for run in books.runs.find(**equals) if run.pipeline in pipelines]
    runs = [run for run in runs if since is None or run.started >= since]
    routes = [
        route
        for route in books.routes.find()
        if all(getattr(route, column) == value for column, value in equals.items())
    ]
    return [_build_story(books, number, run, routes) for number, run in enumerate(runs, 1)]


def _build_story(books: BooksReader, number: int, run: Run, routes: list[Route]) -> TrainingStory:
    event = _find_event(books, run)
    gates = books.verdicts.find(run=run.id, check="gate")
    label = next((release.label for release in books.releases.find(run=run.id)), "")
    ending, since, settled = _find_ending(run, label, routes)
    verdicts = books.verdicts.find(id=settled.verdict, limit=1) if settled and settled.verdict else []
    return TrainingStory(
        number=number,
        run=run.id,
        pipeline=run.pipeline,
        trigger=run.started_by.trigger or "hand",
        due=event.known_at if event else run.started,
        started=run.started,
        cause=_find_cause(books, event),
        gate=_summarize_verdict(gates[-1]) if gates else None,
        release=label,
        live=since.since if since else None,
        canary=next((_summarize_verdict(verdict) for verdict in verdicts if verdict.check == "traffic"), None),
        ending=ending,
        settled=settled.since if settled else run.ended if not label else None,
        message=run.error or (settled.reason if settled else since.reason if since else ""),
    )


def _find_ending(run: Run, label: str, routes: list[Route]) -> tuple[Ending, Route | None, Route | None]:
    """Return a training's ending, the first route with its release, and the route that settled the ending."""
    if not label:
        endings: dict[str, Ending] = {"stopped": "refused", "done": "unchanged"}
        return endings.get(run.state, "failed"), None, None
    with_release = [index for index, route in enumerate(routes) if any(arm.release == label for arm in route.arms)]
    if not with_release:
        return "waiting", None, None
    since = routes[with_release[0]]
    if (champion := since.arm("champion")) and champion.release == label:
        return ("live" if with_release[0] else "first"), since, since
    after = next((route for route in routes[with_release[0] + 1 :] if not _is_challenger(route, label)), None)
    if after is None:
        return "canary", since, None
    champion = after.arm("champion")
    if champion and champion.release == label:
        return "promoted", since, after
    return ("rolled back" if after.arm("challenger") is None else "superseded"), since, after


def _is_challenger(route: Route, label: str) -> bool:
    return any(arm.release == label and arm.role == "challenger" for arm in route.arms)


def _find_event(books: BooksReader, run: Run) -> Event | None:
    event = run.started_by.event
    events = books.events.find(id=event, limit=1) if event else []
    return events[0] if events else None


def _find_cause(books: BooksReader, event: Event | None) -> VerdictSummary | None:
    verdicts = books.verdicts.find(id=event.cause, limit=1) if event and event.kind == "verdict" else []
    return _summarize_verdict(verdicts[0]) if verdicts else None


def _summarize_verdict(verdict: Verdict) -> VerdictSummary:
    assert verdict.time is not None
    return VerdictSummary(
        time=verdict.time,
        check=verdict.check,
        subject=verdict.subject,
        outcome=verdict.outcome,
        action=verdict.action,
        reason=verdict.reason,
        # Milliseconds and megabytes depend on the machine: they would differ between two equal backtests.
        numbers={
            name: value
            for name, value in verdict.evidence.items()
            if _is_short(value) and not name.endswith(("_ms", "_mb"))
        },
    )


def _is_short(value: Any) -> bool:
    """Return whether a value fits into a line: a number, a text, or an interval."""
    if isinstance(value, list | tuple):
        return len(value) <= _MAX_VALUES and all(isinstance(element, int | float) for element in value)
    return isinstance(value, int | float | str)
