"""The backtest: the daemon's own loop on a virtual clock, over historical rows."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import json
from msgspec.structs import replace

from tidemill.backtest.comparison import Period
from tidemill.backtest.policies import due
from tidemill.backtest.sources import ReplayFeatures, ReplaySources, between
from tidemill.clock import VirtualClock, parse_duration
from tidemill.compose.backends import open_sources, open_workspace
from tidemill.compose.session import open_session
from tidemill.core import resources
from tidemill.core.model import Signature
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.trigger import Job, JobState
from tidemill.daemon.loop import Loop, state_of_job
from tidemill.data.frame import TIME
from tidemill.data.keys import as_classes, row_keys
from tidemill.errors import TidemillError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.flow.engine import run
from tidemill.flow.plan import plan
from tidemill.flow.shared import SharedResults
from tidemill.ledger.releases import find_release
from tidemill.project.project import Project
from tidemill.recipes.training import release
from tidemill.serving.service import Service

ReplayProgress = Callable[[datetime, str], None]


def _silent(model: ModelPolicy) -> ModelPolicy:
    """The same policy, telling nobody: history is no news."""
    values = tuple(replace(value, notify=()) for value in model.watch.values)
    return replace(model, watch=replace(model.watch, values=values, notify=()))


def _history(policy: Policy) -> str:
    """A name for what is delivered: replays that share it make the same trainings of it."""
    options = policy.backtest
    told = (policy.sources, options.planted, options.shuffle, options.seed if options.shuffle else 0)
    return sha256(json.encode(told, order="deterministic")).hexdigest()


class Replay:
    """One policy over one part of history, in a throwaway workspace.

    What lies beside that, blobs and what trainings gave, is shared with the other replays.

    The policy's `backtest.seed` decides ids and the order of requests; nothing else is left to chance.
    """

    def __init__(
        self, project: Project, policy: Policy, model: str, part: Period, folder: Path, told: ReplayProgress
    ) -> None:
        skip = policy.backtest.skip
        policy = replace(
            policy,
            triggers=tuple(t for t in policy.triggers if t.pipeline not in skip),
            models={name: _silent(model) for name, model in policy.models.items()},
        )
        self.policy = policy
        self.project = Project(project.folder, policy)
        self.part = part
        self.told = told
        self.model: ModelPolicy = self.project.model(model)
        self.clock = VirtualClock(part.begin, policy.backtest.seed)
        files = open_sources(project.folder, policy.sources)
        source = self.model.problem.source
        self.sources = ReplaySources(project.folder, files, source, part.begin, policy.backtest)
        self.features = ReplayFeatures(self.project.features(self.model), self.sources, OfflineFeatures(self.sources))
        self.session = open_session(
            self.project,
            "backtest",
            self.clock,
            workspace=open_workspace(folder, "backtest", urls={"blobs": str(folder.parent / "blobs")}),
            given={resources.Sources: self.sources, resources.Features: self.features},
        )
        self.session.shared_results = SharedResults(folder.parent / "memory" / _history(policy))
        workspace = self.session.workspace
        self.books = workspace.ledger
        self.service = Service(workspace.board, self.session.packages, workspace.journal, None, self.clock)
        self.loop = Loop(self.session, self._work, self._available)
        self._order = np.random.default_rng(policy.backtest.seed)
        self.training_seconds = 0.0
        self.trainings = 0

    def run(self) -> None:
        """Train the first model, then let time pass; of what falls on one instant, labels come first, then data,
        triggers, and the predictions that are asked for from then on.

        Raises
        ------
        TidemillError
            if the first training gives no model to start with.
        """
        self._first_training()
        moment = self.part.begin
        while moment < self.part.end:
            following = min(self._next(moment), self.part.end)
            self._predict(moment, following)
            self.clock.advance(following)
            self._label(moment, following)
            for firing in self.policy.backtest.firings:
                if moment < due(firing, self.part) <= following:
                    self.loop.ask(firing.pipeline, self.model.name, firing.params, firing.at)
            if following < self.part.end:
                self.loop.turn()
                self.service.refresh()
            moment = following

    def _next(self, moment: datetime) -> datetime:
        """The next instant at which anything can happen but predictions and labels."""
        firings = (due(firing, self.part) for firing in self.policy.backtest.firings)
        waiting = (job.available for job in self.loop.waiting())
        tick = self.loop.triggers.next_tick()
        awaited = any(trigger.on == "data" for trigger in self.policy.triggers)
        deliveries = self.sources.deliveries if awaited else []
        all_known = [*deliveries, *firings, *waiting, *([tick] if tick else [])]
        return min((one for one in all_known if one > moment), default=self.part.end)

    def _first_training(self) -> None:
        self.loop.ask("training", self.model.name, {}, "first")
        done = self._do_first()
        if done.state != "done":
            raise TidemillError(f"the first training gave no model: {done.error}", "mend that, then run it again")
        self.service.refresh()

    def _do_first(self) -> Job:
        for job in self.loop.turn():
            if job.dedupe_key == "first":
                return job
        raise AssertionError("the first training was not worked on")

    def _available(self, job: Job) -> datetime:
        """A training's effects come after the time that a training takes."""
        if job.dedupe_key != "first" and job.pipeline in self.pipelines_that_train:
            return job.created + parse_duration(self.policy.backtest.training_delay)
        return job.available

    @cached_property
    def pipelines_that_train(self) -> set[str]:
        """The pipelines that end in a release."""
        found = set()
        for name, pipeline in self.project.code.pipelines.items():
            graph = plan(pipeline, {"model": self.model.name}, self.project, self.clock)
            if any(node.step is release for node in graph.nodes.values()):
                found.add(name)
        return found

    def _work(self, job: Job) -> tuple[JobState, str, str]:
        pipeline = self.project.code.pipeline(job.pipeline)
        params: dict[str, Any] = {"model": job.model or self.model.name, **job.params}
        if "until" in pipeline.parameters:
            params["until"] = job.created
        cause = {"trigger": job.trigger, "event": job.event, "job": job.id}
        ran, failed = run(self.session, pipeline, params, cause=cause)
        if job.pipeline in self.pipelines_that_train:
            self.trainings += 1
            self.training_seconds += ran.seconds or 0.0
            said = f"stopped: {ran.error}" if ran.state == "stopped" else ran.state
            self.told(self.clock.now(), f"{job.pipeline} ({job.trigger}) {said}")
        elif failed is not None:
            self.told(self.clock.now(), f"{job.pipeline} {ran.state}: {failed.problem}")
        return state_of_job(ran), ran.id, ran.error

    def _predict(self, begin: datetime, end: datetime) -> None:
        rows = between(self.features.rows, begin, end)
        if rows.height:
            rows = rows[self._order.permutation(rows.height)].sort(TIME, maintain_order=True)
            later = [*self.sources.definition(self.model.problem.source).later, self.model.problem.label]
            self.service.predict(self.model.name, rows.drop(later, strict=False), rows[TIME])

    @cached_property
    def labels(self) -> pl.DataFrame:
        """Every label of the history, as the journal holds them, in the order in which they became known."""
        problem = self.model.problem
        known = pl.col(problem.label_known_at) if problem.label_known_at else pl.col("_known_at")
        rows = self.sources.rows.filter(pl.col(problem.label).is_not_null())
        values = (
            as_classes(rows[problem.label]) if problem.task == "classification" else rows[problem.label].cast(float)
        )
        key = self.sources.definition(problem.source).key
        return rows.select(
            known.cast(pl.Datetime("us", "UTC")).alias("known_at"),
            pl.lit("").alias("id"),
            row_keys(rows, key).fill_null("").alias("key") if key else pl.lit("").alias("key"),
            pl.col(TIME).alias("time"),
            values.alias("value"),
        ).sort("known_at", maintain_order=True)

    def _label(self, begin: datetime, end: datetime) -> None:
        times = self.labels["known_at"]
        first, last = times.search_sorted(begin, "right"), times.search_sorted(end, "right")
        known = self.labels[first:last].filter(pl.col("time") >= self.part.begin)
        self.session.workspace.journal.append(f"labels/{self.model.name}", known)

    def signature(self, label: str) -> Signature:
        """What a release takes and answers."""
        return self.session.packages.load(find_release(self.books, label).package).manifest.signature

    def answers(self) -> pl.DataFrame:
        """Every answer that was given, with its truth: `key, time, release, truth` and the `score` of each class."""
        served = self.session.workspace.journal.read(f"predictions/{self.model.name}")
        served = served.filter(pl.col("role") != "shadow")
        truth = self.labels.select("key", "time", pl.col("value").alias("truth"))
        return served.join(truth, on=["key", "time"], how="left", maintain_order="left")
