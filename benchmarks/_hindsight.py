"""Judges the decisions of a replay in hindsight: the two models of each decision on the rows that came after it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.backtest.comparison import PolicyResult, TrainingStory
from tidemill.backtest.sources import TimeIndex
from tidemill.blobs.artifacts import read_artifact
from tidemill.compose.backends import open_workspace
from tidemill.compose.session import open_history, open_session
from tidemill.core.columns import TIME
from tidemill.core.model import Model
from tidemill.data.metrics import losses
from tidemill.flow.session import Session
from tidemill.ledger.releases import find_release
from tidemill.project.project import Project
from tidemill.recipes.scoring import score_rows, select_learned

_AFTER = timedelta(days=14)
_NEEDED_ROWS = 10


class Hindsight(NamedTuple):
    """Decisions, and how many of them were wrong by more than the margin on the rows of the next 14 days.

    A refusal or a rollback is wrong if the candidate was better than the champion, a promotion if it was worse.
    Decisions with fewer than ten rows after them are not judged; `judged_refusals` are the others.
    """

    refusals: int = 0
    judged_refusals: int = 0
    wrong_refusals: int = 0
    promotions: int = 0
    wrong_promotions: int = 0
    rollbacks: int = 0
    wrong_rollbacks: int = 0


def judge_decisions(project: Project, workspace: Path, result: PolicyResult) -> Hindsight:
    """Compare the candidate of each decision of a replay with the champion of that time, on the next 14 days.

    `workspace` is the folder of the replay that was kept. A refused candidate is the last model that its run fitted.
    """
    session = open_session(project, "backtest", workspace=open_workspace(workspace, "backtest", urls={}))
    policy = project.model("")
    rows = open_history(project).source_history(policy.problem.source).sort(TIME)
    index = TimeIndex(rows, TIME)
    counts = dict.fromkeys(Hindsight._fields, 0)
    for story in result.stories:
        kind = {"refused": "refusals", "promoted": "promotions", "rolled back": "rollbacks"}.get(story.ending)
        if kind is None or story.settled is None:
            continue
        counts[kind] += 1
        candidate, champion = _find_candidate(session, story), _find_champion(session, story)
        after = index.select(story.settled, story.settled + _AFTER)
        if candidate is None or champion is None or after.height < _NEEDED_ROWS:
            continue
        excess = _compute_excess(project, candidate, champion, after)
        if excess is None:
            continue
        counts["judged_refusals"] += kind == "refusals"
        wrong = excess > policy.rollout.margin if kind == "promotions" else -excess > policy.gate.margin
        counts[f"wrong_{kind}"] += bool(wrong)
    return Hindsight(**counts)


def _compute_excess(project: Project, candidate: Model, champion: Model, rows: pl.DataFrame) -> float | None:
    """Return the mean loss of the candidate minus that of the champion, on labelled rows of classes that both know.

    It is None if there are fewer than ten such rows.
    """
    policy = project.model("")
    source = open_history(project).definition(policy.problem.source)
    rows = rows.filter(pl.col(policy.problem.label).is_not_null())
    for model in (candidate, champion):
        rows = select_learned(model, rows, policy.problem)
    if rows.height < _NEEDED_ROWS:
        return None
    both = [losses(*score_rows(model, rows, policy.problem, source)) for model in (candidate, champion)]
    return float(np.mean(both[0] - both[1]))


def _find_candidate(session: Session, story: TrainingStory) -> Model | None:
    """Return the release of a training, or the last model that its run fitted."""
    books = session.workspace.ledger
    if story.release:
        return session.packages.load(find_release(books, story.release).package)
    steps = [step for step in books.steps.find(run=story.run) if step.step != "find_champion"]
    for step in sorted(steps, key=lambda step: step.position, reverse=True):
        for digest in step.outputs.values():
            artifact = next(iter(books.artifacts.find(id=digest, limit=1)), None)
            if artifact is not None and artifact.kind == "model":
                model: Model = read_artifact(session.workspace.blobs, artifact, Model)
                return model
    return None


def _find_champion(session: Session, story: TrainingStory) -> Model | None:
    """Return the champion that served before a decision."""
    settled: datetime | None = story.settled
    assert settled is not None
    routes = [route for route in session.workspace.ledger.routes.find() if route.since < settled]
    arm = max(routes, key=lambda route: route.version).arm("champion") if routes else None
    return session.packages.load(arm.package) if arm else None
