"""Sums up a replay: counts, measures and stories from what it left in its ledger and journal."""

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tidemill.backtest.comparison import Case, Ending, Judged, Period, PolicyResult, TimelineEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.resources import BooksReader
from tidemill.core.route import Route
from tidemill.core.run import Run
from tidemill.data.metrics import Floats, Truth, losses, measure
from tidemill.monitoring.windows import judged, labelled

if TYPE_CHECKING:
    from tidemill.backtest.replay import Replay

_WEEK = timedelta(days=7)
_LONGEST = 4


def summarize(name: str, replay: "Replay", seconds: float) -> PolicyResult:
    """What a replay came to."""
    books = replay.books
    verdicts: dict[str, Counter[str]] = {}
    for verdict in books.verdicts.find():
        verdicts.setdefault(verdict.check, Counter())[verdict.outcome] += 1
    runs = Counter(run.started_by.trigger or "hand" for run in books.runs.find())
    changes = Counter(route.change for route in books.routes.find())
    answers = replay.answers()
    times, truth, scores = _scores(answers, replay)
    return PolicyResult(
        name=name,
        predictions=answers.height,
        labels=answers["truth"].count(),
        runs=dict(sorted(runs.items())),
        verdicts={check: dict(sorted(found.items())) for check, found in sorted(verdicts.items())},
        promotions=changes["promote"],
        rollbacks=changes["rollback"],
        stops=len(books.verdicts.find(action="stop")),
        trainings=replay.trainings,
        training_seconds=replay.training_seconds,
        seconds=seconds,
        metrics=measure(truth, scores),
        weeks=_weeks(times, losses(truth, scores), replay.part),
        releases=[release.label for release in books.releases.find()],
        timeline=_timeline(books),
        cases=_cases(books, replay.pipelines_that_train),
        seed=replay.policy.backtest.seed,
    )


def _scores(answers: pl.DataFrame, replay: "Replay") -> tuple[pl.Series, Truth, Floats]:
    """When, the truth, and the scores of all releases, over the classes of all; what none could say is left out."""
    signatures = {label: replay.signature(label) for label in answers["release"].unique(maintain_order=True)}
    classes = tuple(dict.fromkeys(name for one in signatures.values() for name in one.classes))
    times, truths, scores = [], [], []
    for label, signature in signatures.items():
        part = answers.filter(pl.col("release") == label)
        part = part.filter(labelled(part, signature))
        truth, said = judged(part, signature)
        times.append(part["time"])
        if classes:
            places = np.array([classes.index(name) for name in signature.classes])
            wide = np.zeros((part.height, len(classes)))
            wide[:, places] = said
            truths.append(places[truth.values])
            scores.append(wide)
        else:
            truths.append(truth.values)
            scores.append(said)
    task = replay.model.problem.task
    return pl.concat(times), Truth(task, np.concatenate(truths), classes), np.concatenate(scores)


def _weeks(times: pl.Series, loss: Any, part: Period) -> list[tuple[datetime, int, float]]:
    """The mean loss of each week since the beginning."""
    weeks = ((times - part.begin).dt.total_seconds() // int(_WEEK.total_seconds())).alias("week")
    means = pl.DataFrame([weeks, pl.Series("loss", loss)]).group_by("week").agg(pl.len(), pl.col("loss").mean())
    return [(part.begin + week * _WEEK, rows, mean) for week, rows, mean in means.sort("week").rows()]


def _timeline(books: BooksReader) -> list[TimelineEntry]:
    """The routes that changed, the verdicts that call for an action, and the runs that failed, by time."""
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


def _cases(books: BooksReader, pipelines: set[str]) -> list[Case]:
    """The story of each training, in their order."""
    runs = [run for run in books.runs.find() if run.pipeline in pipelines]
    routes = books.routes.find()
    return [_case(books, number, run, routes) for number, run in enumerate(runs, 1)]


def _case(books: BooksReader, number: int, run: Run, routes: list[Route]) -> Case:
    event = _event(books, run)
    gates = books.verdicts.find(run=run.id, check="gate")
    label = next((release.label for release in books.releases.find(run=run.id)), "")
    ending, since, settled = _fate(run, label, routes)
    trials = books.verdicts.find(id=settled.verdict, limit=1) if settled and settled.verdict else []
    return Case(
        number=number,
        run=run.id,
        pipeline=run.pipeline,
        trigger=run.started_by.trigger or "hand",
        due=event.known_at if event else run.started,
        started=run.started,
        cause=_cause(books, event),
        gate=_judged(gates[-1]) if gates else None,
        release=label,
        live=since.since if since else None,
        trial=next((_judged(one) for one in trials if one.check == "traffic"), None),
        ending=ending,
        ended=settled.since if settled else run.ended if not label else None,
        said=run.error or (settled.reason if settled else since.reason if since else ""),
    )


def _fate(run: Run, label: str, routes: list[Route]) -> tuple[Ending, Route | None, Route | None]:
    """How a training ended, the route that let its release answer, and the one that settled it."""
    if not label:
        without: dict[str, Ending] = {"stopped": "refused", "done": "the same"}
        return without.get(run.state, "failed"), None, None
    answering = [place for place, route in enumerate(routes) if any(arm.release == label for arm in route.arms)]
    if not answering:
        return "waiting", None, None
    since = routes[answering[0]]
    if (champion := since.arm("champion")) and champion.release == label:
        return ("live" if answering[0] else "first"), since, since
    after = next((route for route in routes[answering[0] + 1 :] if not _tried(route, label)), None)
    if after is None:
        return "on trial", since, None
    champion = after.arm("champion")
    if champion and champion.release == label:
        return "promoted", since, after
    return ("rolled back" if after.arm("challenger") is None else "superseded"), since, after


def _tried(route: Route, label: str) -> bool:
    return any(arm.release == label and arm.role == "challenger" for arm in route.arms)


def _event(books: BooksReader, run: Run) -> Event | None:
    event = run.started_by.event
    found = books.events.find(id=event, limit=1) if event else []
    return found[0] if found else None


def _cause(books: BooksReader, event: Event | None) -> Judged | None:
    found = books.verdicts.find(id=event.cause, limit=1) if event and event.kind == "verdict" else []
    return _judged(found[0]) if found else None


def _judged(verdict: Verdict) -> Judged:
    assert verdict.time is not None
    return Judged(
        time=verdict.time,
        check=verdict.check,
        subject=verdict.subject,
        outcome=verdict.outcome,
        action=verdict.action,
        reason=verdict.reason,
        # What a machine took (milliseconds, megabytes) is never twice the same.
        numbers={
            name: value
            for name, value in verdict.evidence.items()
            if _short(value) and not name.endswith(("_ms", "_mb"))
        },
    )


def _short(value: Any) -> bool:
    """Whether a piece of evidence fits into a line: a number, a word, an interval."""
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST and all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float | str)
