"""The replay of one policy: the daemon's loop on a virtual clock, over historical rows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import json
from msgspec.structs import replace

from tidemill.backtest.answers import add_truth, list_labels
from tidemill.backtest.comparison import Period
from tidemill.backtest.costs import compute_baseline
from tidemill.backtest.policies import parse_firing_time
from tidemill.backtest.requests import Requester
from tidemill.backtest.row_times import RowTimes
from tidemill.backtest.sources import ReplayFeatures, ReplaySources, TimeIndex
from tidemill.clock import VirtualClock, parse_duration
from tidemill.compose.backends import open_workspace
from tidemill.compose.session import open_history, open_session
from tidemill.compose.signing import NoSignatures
from tidemill.core import resources
from tidemill.core.backtest import Rule
from tidemill.core.columns import ROW_ID, TIME
from tidemill.core.model import Signature
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.signing import PackageSigner
from tidemill.core.trigger import Job, JobState
from tidemill.daemon.loop import Loop, to_job_state
from tidemill.data.frame import require_one_answer_each
from tidemill.errors import TidemillError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.flow.engine import run
from tidemill.flow.plan import plan
from tidemill.flow.shared import SharedResults
from tidemill.flow.stated import read_params
from tidemill.journal.buffered import BufferedJournal
from tidemill.journal.files import FileJournal
from tidemill.ledger.releases import find_release
from tidemill.ledger.sqlite import TEMPORARY
from tidemill.project.project import Project
from tidemill.recipes.training import release
from tidemill.serving.service import Service

ReplayProgress = Callable[[datetime, str], None]
"""A callback for progress: the virtual time and a message."""


def _remove_notifications(model: ModelPolicy) -> ModelPolicy:
    """Return the model's policy without notifications: a replay notifies nobody."""
    values = tuple(replace(value, notify=()) for value in model.watch.values)
    return replace(model, watch=replace(model.watch, values=values, notify=()))


def _fingerprint_history(policy: Policy) -> str:
    """Return a digest of the delivered rows: replays with the same digest can share the results of trainings."""
    options = policy.backtest
    parts = (policy.sources, options.planted, options.shuffle, options.seed if options.shuffle else 0)
    return sha256(json.encode(parts, order="deterministic")).hexdigest()


class Replay:
    """The replay of one policy over a period of history, in a temporary workspace.

    The blobs and the results of trainings are outside the workspace, and shared with the other replays.

    The policy's `backtest.seed` determines the ids and the order of requests; nothing else is random.
    """

    def __init__(
        self,
        project: Project,
        policy: Policy,
        model: str,
        period: Period,
        folder: Path,
        report_progress: ReplayProgress,
    ) -> None:
        skip = policy.backtest.skip
        policy = replace(
            policy,
            triggers=tuple(trigger for trigger in policy.triggers if trigger.pipeline not in skip),
            models={name: _remove_notifications(model) for name, model in policy.models.items()},
        )
        self.policy = policy
        self.project = Project(project.folder, policy)
        self.period = period
        self._report_progress = report_progress
        self.model: ModelPolicy = self.project.model(model)
        self.clock = VirtualClock(period.begin, policy.backtest.seed)
        recorded = open_history(self.project)
        source = self.model.problem.source
        self.sources = ReplaySources(project.folder, recorded, source, period.begin, policy.backtest)
        memory = folder.parent / "memory" / _fingerprint_history(policy)
        offline = OfflineFeatures(self.sources)
        self.features = ReplayFeatures(self.project.features(self.model), self.sources, offline, memory)
        ledger = f"sqlite:///{folder / 'ledger.db'}{TEMPORARY}"
        workspace = open_workspace(folder, "backtest", urls={"blobs": str(folder.parent / "blobs"), "ledger": ledger})
        workspace.journal = self.journal = BufferedJournal(FileJournal(Path(workspace.url("journal"))))
        self.session = open_session(
            self.project,
            "backtest",
            self.clock,
            workspace=workspace,
            replacements={
                resources.Sources: self.sources,
                resources.Features: self.features,
                PackageSigner: NoSignatures(),
            },
        )
        self.session.shared_results = SharedResults(memory)
        self.books = workspace.ledger
        packages = self.session.packages
        self.service = Service(workspace.board, packages, self.journal, None, self.clock, with_times=False)
        self.loop = Loop(self.session, self._work, self._delay_job)
        counted = {"predictions": self.features.rows[TIME], "labels": self.labels["known_at"]}
        self._row_times = RowTimes(policy, self.model.name, self.loop.row_counts, counted)
        self._order = np.random.default_rng(policy.backtest.seed)
        self._requester = self._build_requester(policy.backtest.rule) if policy.backtest.rule else None
        self.training_seconds = 0.0
        self.trainings = 0
        self.requests = 0

    def run(self) -> None:
        """Train the first model, then advance the virtual time from one event to the next.

        At one time, labels are added first, then data, then triggers fire; predictions from that time on come last.

        Raises
        ------
        TidemillError
            if the first training releases no model.
        """
        self._train_first_model()
        time = self.period.begin
        while time < self.period.end:
            following = min(self._find_next_time(time), self.period.end)
            self._predict(time, following)
            self.clock.advance(following)
            self._add_labels(time, following)
            for firing in self.policy.backtest.firings:
                if time < parse_firing_time(firing, self.period) <= following:
                    key = f"{firing.at} {firing.pipeline}"
                    self.loop.request_job(firing.pipeline, self.model.name, firing.params, key)
            if following == self._find_next_day(time):
                self._ask_rule(following)
            if following < self.period.end:
                self.loop.run_once()
                self.service.refresh()
            time = following
        self.journal.flush()

    def _find_next_time(self, time: datetime) -> datetime:
        """Return the next time at which data can arrive or a job can start."""
        firings = (parse_firing_time(firing, self.period) for firing in self.policy.backtest.firings)
        jobs = (job.available for job in self.loop.list_waiting_jobs())
        tick = self.loop.triggers.next_tick()
        has_data_trigger = any(trigger.on == "data" for trigger in self.policy.triggers)
        deliveries = self.sources.deliveries if has_data_trigger else []
        times = [*deliveries, *firings, *jobs, *([tick] if tick else []), *self._row_times.list_next()]
        if self._requester is not None:
            times.append(self._find_next_day(time))
        return min((next_time for next_time in times if next_time > time), default=self.period.end)

    def _build_requester(self, rule: Rule) -> Requester:
        before = self.labels.filter(pl.col("time") < self.period.begin)["value"]
        return Requester(rule, self.session, self.model.name, compute_baseline(self.model.problem, before))

    def _ask_rule(self, now: datetime) -> None:
        if self._requester is not None and self._requester.is_due(now):
            self.loop.request_job("training", self.model.name, {}, f"rule {now.isoformat()}")

    def _find_next_day(self, time: datetime) -> datetime:
        """Return the next time at which a rule is asked: whole days after the begin."""
        day = timedelta(days=1)
        return self.period.begin + ((time - self.period.begin) // day + 1) * day

    def _train_first_model(self) -> None:
        self.loop.request_job("training", self.model.name, {}, "first")
        job = self._run_first_job()
        if job.state != "done":
            cure = "fix this error, then run the backtest again"
            if job.state == "stopped":
                half = self.period.begin + (self.period.end - self.period.begin) / 2
                cure = f"replay a shorter period with more training rows before it: --from {half:%Y-%m-%d}; or {cure}"
            raise TidemillError(f"the first training released no model: {job.error}", cure)
        self.service.refresh()

    def _run_first_job(self) -> Job:
        for job in self.loop.run_once():
            if job.dedupe_key == "first":
                return job
        raise AssertionError("the loop did not run the first training")

    def _delay_job(self, job: Job) -> datetime:
        """Return the time at which a job runs: a training runs after the declared delay, except the first one."""
        if job.dedupe_key != "first" and job.pipeline in self.pipelines_that_train:
            return job.created + parse_duration(self.policy.backtest.training_delay)
        return job.available

    @cached_property
    def pipelines_that_train(self) -> set[str]:
        """The pipelines that release a model."""
        names = set()
        for name, pipeline in self.project.code.pipelines.items():
            graph = plan(pipeline, {"model": self.model.name}, self.project, self.clock)
            if any(node.step is release for node in graph.nodes.values()):
                names.add(name)
        return names

    def _work(self, job: Job) -> tuple[JobState, str, str]:
        pipeline = self.project.code.pipeline(job.pipeline)
        params: dict[str, Any] = {"model": job.model or self.model.name, **read_params(job.params)}
        if "until" in pipeline.parameters:
            params["until"] = job.created
        cause = {"trigger": job.trigger, "event": job.event, "job": job.id}
        run_record, failed = run(self.session, pipeline, params, cause=cause)
        if job.pipeline in self.pipelines_that_train:
            self.trainings += 1
            self.training_seconds += run_record.seconds or 0.0
            state = f"stopped: {run_record.error}" if run_record.state == "stopped" else run_record.state
            trigger = "manual" if job.trigger == "hand" else job.trigger
            self._report_progress(self.clock.now(), f"{job.pipeline} ({trigger}) {state}")
        elif failed is not None:
            self._report_progress(self.clock.now(), f"{job.pipeline} {run_record.state}: {failed.problem}")
        return to_job_state(run_record), run_record.id, run_record.error

    def _predict(self, begin: datetime, end: datetime) -> None:
        rows = self._requests.select(begin, end)
        if rows.height:
            rows = rows[self._order.permutation(rows.height)].sort(TIME, maintain_order=True)
            later = [*self.sources.definition(self.model.problem.source).later, self.model.problem.label]
            requests = rows.drop(later, strict=False)
            answers = self.service.predict(self.model.name, requests, rows[TIME], rows[ROW_ID])
            require_one_answer_each(rows.height, answers.height, f"requests before {end:%Y-%m-%d %H:%M}")
            self.requests += rows.height

    @cached_property
    def labels(self) -> pl.DataFrame:
        """All labels of the history in the form of the journal, in the order in which they became known."""
        return list_labels(self.sources.rows, self.model.problem)

    def _add_labels(self, begin: datetime, end: datetime) -> None:
        labels = self._known_labels.select(begin, end, side="right").filter(pl.col("time") >= self.period.begin)
        self.journal.append(f"labels/{self.model.name}", labels)

    @cached_property
    def _requests(self) -> TimeIndex:
        return TimeIndex(self.features.rows, TIME)

    @cached_property
    def _known_labels(self) -> TimeIndex:
        return TimeIndex(self.labels, "known_at")

    def load_signature(self, label: str) -> Signature:
        """Return the signature of a release."""
        return self.session.packages.load(find_release(self.books, label).package).manifest.signature

    def read_predictions(self) -> pl.DataFrame:
        """Return the predictions that were served, without shadow predictions, with `truth` where it is known.

        Raises
        ------
        TidemillError
            if a request has no prediction or several.
        """
        served = self.journal.read(f"predictions/{self.model.name}")
        served = served.filter(pl.col("role") != "shadow")
        return add_truth(served, self.labels, self.requests)
