"""Compares policies over the same part of history: the project's own, and the ones that everybody else has."""

import multiprocessing
import os
import queue
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from msgspec.structs import replace

from tidemill.core.policy import Backtest, ModelPolicy, Policy, Rollout
from tidemill.core.trigger import Trigger
from tidemill.data.metrics import Truth, losses, measure
from tidemill.errors import TidemillError
from tidemill.evidence.comparison import Comparison, Moment, Outcome, Span
from tidemill.project.project import Project

if TYPE_CHECKING:
    from tidemill.daemon.backtest import Replay

_WEEK = timedelta(days=7)
_AT_ONCE = 3


def static(policy: Policy) -> Policy:
    """The first model, kept for ever."""
    return replace(policy, triggers=(), backtest=replace(policy.backtest, planted=(), firings=()))


def weekly(policy: Policy, begin: datetime) -> Policy:
    """Retraining on a fixed calendar, once a week, whatever happens; each model goes live as it is."""
    cron = f"{begin.minute} {begin.hour} * * {begin.isoweekday() % 7}"
    models = {name: _ungated(model) for name, model in policy.models.items()}
    calendar = Trigger(name="weekly", pipeline="training", cron=cron)
    return replace(static(policy), triggers=(calendar,), models=models)


def _ungated(model: ModelPolicy) -> ModelPolicy:
    return replace(model, gate=replace(model.gate, enabled=False), rollout=Rollout(canary=False))


def compare(
    project: Project,
    policies: dict[str, Policy],
    model: str,
    part: Span,
    told: Callable[[str, datetime, str], None],
    *,
    keep: Path | None = None,
) -> Comparison:
    """Replay every policy, three at a time, in processes of their own; what is told comes as it happens.

    `keep` is a folder in which the first policy's workspace stays for `tidemill why` and the like.

    Raises
    ------
    TidemillError
        if a replay fails.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-backtest-"))
    try:
        outcomes = _in_processes(project, policies, model, part, folder, told)
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / next(iter(policies)), keep)
            shutil.move(folder / "blobs", keep / "blobs")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    chosen = project.model(model)
    first = next(iter(policies.values())).backtest
    return Comparison(
        project=project.name,
        model=chosen.name,
        metric=chosen.problem.metric or ("log_loss" if chosen.problem.task == "classification" else "rmse"),
        part=part,
        planted=_planted(first),
        outcomes=outcomes,
        cost_of_training=chosen.problem.cost_of_training,
        seconds=time.monotonic() - began,
    )


def _planted(backtest: Backtest) -> list[str]:
    files = [f"{one.day}: {one.about or one.path}" for one in backtest.planted]
    return sorted(files + [f"{one.at[:10]}: {one.about or one.pipeline}" for one in backtest.firings])


def _in_processes(
    project: Project,
    policies: dict[str, Policy],
    model: str,
    part: Span,
    folder: Path,
    told: Callable[[str, datetime, str], None],
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    _share_cores()
    news: Any = context.Queue()
    # What only predicts goes last: it fills the core on which the shorter of the long ones ended.
    waiting = sorted(policies.items(), key=lambda item: not item[1].triggers)
    running: dict[str, Any] = {}
    outcomes: dict[str, Outcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                name, policy = waiting.pop(0)
                given = (str(project.folder), name, msgspec.json.encode(policy), model, part, str(folder), news)
                running[name] = context.Process(target=_replay, args=given, daemon=True)
                running[name].start()
            try:
                name, kind, content = news.get(timeout=1.0)
            except queue.Empty:
                _hold_alive(running)
                continue
            if kind == "told":
                told(name, *content)
            elif kind == "failed":
                raise TidemillError(f"the replay of policy {name!r} failed: {content[0]}", content[1])
            else:
                outcomes[name] = msgspec.json.decode(content, type=Outcome)
                running.pop(name).join()
    finally:
        for process in running.values():
            process.terminate()
    return [outcomes[name] for name in policies]


def _share_cores() -> None:
    """Give each process to come its share of the cores: numeric libraries that fight for them wait in circles."""
    share = str(max(1, (os.cpu_count() or 2) // _AT_ONCE))
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, share)


def _hold_alive(running: dict[str, Any]) -> None:
    for name, process in running.items():
        if not process.is_alive() and process.exitcode:
            raise TidemillError(
                f"the replay of policy {name!r} was ended (exit code {process.exitcode})", "see whether memory ran out"
            )


def _replay(folder: str, name: str, policy: bytes, model: str, part: Span, place: str, news: Any) -> None:
    """One policy, in a process of its own; only here is the training code imported."""
    from tidemill.daemon.backtest import Replay

    began = time.monotonic()
    try:
        project = Project(Path(folder))
        decoded = msgspec.json.decode(policy, type=Policy)
        replay = Replay(
            project, decoded, model, part, Path(place) / name, lambda at, said: news.put((name, "told", (at, said)))
        )
        replay.run()
        outcome = summarize(name, replay, time.monotonic() - began)
        news.put((name, "done", msgspec.json.encode(outcome)))
    except TidemillError as failed:
        news.put((name, "failed", (failed.problem, failed.cure)))
    except KeyboardInterrupt:
        return


def summarize(name: str, replay: "Replay", seconds: float) -> Outcome:
    """Count and measure what a replay left in its ledger and journal."""
    books = replay.books
    verdicts: dict[str, Counter[str]] = {}
    for verdict in books.verdicts.find():
        verdicts.setdefault(verdict.check, Counter())[verdict.outcome] += 1
    runs = Counter(str(run.cause.get("trigger", "hand")) for run in books.runs.find())
    reasons = [route.reason for route in books.routes.find()]
    answers = replay.answers()
    labelled = answers.filter(pl.col("truth").is_not_null())
    truth, scores = _scores(labelled, replay)
    return Outcome(
        name=name,
        predictions=answers.height,
        labels=labelled.height,
        runs=dict(runs),
        verdicts={check: dict(found) for check, found in verdicts.items()},
        promotions=sum(reason.startswith("promoted") for reason in reasons),
        rollbacks=sum(reason.startswith("rolled back") for reason in reasons),
        stops=len(books.verdicts.find(action="stop")),
        trainings=replay.trainings,
        training_seconds=replay.training_seconds,
        seconds=seconds,
        metrics=measure(truth, scores),
        weeks=_weeks(labelled["time"], losses(truth, scores), replay.part),
        releases=[release.label for release in books.releases.find()],
        timeline=_timeline(replay),
    )


def _scores(labelled: pl.DataFrame, replay: "Replay") -> tuple[Truth, Any]:
    if replay.model.problem.task == "regression":
        return Truth("regression", labelled["truth"].cast(pl.Float64).to_numpy()), labelled["value"].to_numpy()
    champion = next(iter(replay.service.live.values())).manifest.signature
    places = {one: place for place, one in enumerate(champion.classes)}
    truth = labelled["truth"].replace_strict(list(places), list(places.values()), return_dtype=pl.Int64).to_numpy()
    return Truth("classification", truth, champion.classes), labelled["probability"].list.to_array(
        len(places)
    ).to_numpy()


def _weeks(times: pl.Series, loss: Any, part: Span) -> list[tuple[datetime, int, float]]:
    """The mean loss of each week since the beginning."""
    weeks = ((times - part.begin).dt.total_seconds() // int(_WEEK.total_seconds())).alias("week")
    means = pl.DataFrame([weeks, pl.Series("loss", loss)]).group_by("week").agg(pl.len(), pl.col("loss").mean())
    return [(part.begin + week * _WEEK, rows, mean) for week, rows, mean in means.sort("week").rows()]


def _timeline(replay: "Replay") -> list[Moment]:
    """What is worth telling: routes that changed, verdicts that called for something, runs that failed."""
    books = replay.books
    lines = []
    for route in books.routes.find():
        arms = " and ".join(f"{arm.release} ({arm.role}, {arm.share:.0%})" for arm in route.arms)
        lines.append(Moment(route.since, "route", f"{arms}: {route.reason}"))
    for verdict in books.verdicts.find():
        if verdict.action not in ("proceed", "hold", "ignore") and verdict.time is not None:
            lines.append(Moment(verdict.time, verdict.check, f"{verdict.subject}: {verdict.reason} → {verdict.action}"))
    for run in books.runs.find(state="failed"):
        lines.append(Moment(run.started, "failed", f"{run.pipeline}: {run.error}"))
    return sorted(lines, key=lambda line: line.time)
