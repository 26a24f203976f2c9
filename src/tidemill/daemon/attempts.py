"""Attempts: whether a training would have the same rows as the last one, so that it is not repeated in vain."""

from datetime import datetime

from tidemill.blobs.artifacts import read_artifact
from tidemill.core import resources
from tidemill.core.policy import ModelPolicy
from tidemill.core.trigger import Job
from tidemill.errors import NotFound, TidemillError
from tidemill.flow.session import Session
from tidemill.host.git import snapshot_code
from tidemill.recipes.ingestion import find_pending_batches
from tidemill.recipes.rows import Snapshot, find_feedback_until, find_known_until, take_snapshot
from tidemill.registry.withdrawals import find_withdrawn

_OUTCOMES = {"done": "succeeded", "stopped": "was stopped", "failed": "failed", "cancelled": "was cancelled"}
_MOST = 50


class Attempts:
    """The earlier runs of pipelines in one environment, and the rows that they were trained on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._books = session.workspace.ledger

    def find_same_rows(self, pipeline: str, model: str) -> str:
        """Return why a run of a pipeline would train on the same rows as its last one; empty if there are new rows.

        Its last run is the newest one that took a snapshot; without one, nothing is known, and the text is empty. New
        rows are also labels that became known, and batches that were delivered, accepted or withdrawn since.
        """
        policy = self._session.project.policy.models.get(model)
        last = self._find_last(pipeline, model)
        if policy is None or last is None:
            return ""
        job, snapshot = last
        try:
            if self._has_new_code(job) or self._has_new_rows(policy, snapshot, self._session.clock.now()):
                return ""
        except TidemillError:  # the run reports it
            return ""
        return f"no new rows since run {job.run[:13]}, which {_OUTCOMES[job.state]}"

    def _find_last(self, pipeline: str, model: str) -> tuple[Job, Snapshot] | None:
        """Return the newest job that has finished, of any trigger, with the snapshot of its run."""
        finished = [
            job
            for state in _OUTCOMES
            for job in self._books.jobs.find(state=state, model=model, newest=True, limit=_MOST)
            if job.pipeline == pipeline and job.environment == self._session.workspace.environment and job.run
        ]
        for job in sorted(finished, key=lambda job: job.id, reverse=True):
            snapshot = self._read_snapshot(job)
            if snapshot is not None:
                return job, snapshot
            if job.state == "done":
                return None
        return None

    def _read_snapshot(self, job: Job) -> Snapshot | None:
        for step in self._books.steps.find(run=job.run, step=take_snapshot.name, newest=True):
            for digest in step.outputs.values():
                try:
                    artifact = self._books.artifacts.get(digest)
                    value = read_artifact(self._session.workspace.blobs, artifact, Snapshot)
                except (NotFound, TidemillError):
                    continue
                return value if isinstance(value, Snapshot) else None
        return None

    def _has_new_code(self, job: Job) -> bool:
        """Return whether the project's code or policy has changed since a job's run."""
        digest = self._books.runs.get(job.run).code.get("digest", "")
        return bool(digest != snapshot_code(self._session.project.folder).digest)

    def _has_new_rows(self, policy: ModelPolicy, snapshot: Snapshot, now: datetime) -> bool:
        session, environment = self._session, self._session.workspace.environment
        tables, journal = session.resource(resources.TableReader), session.resource(resources.JournalReader)
        source = policy.problem.source
        if source != snapshot.table or tables.last_append(source, snapshot.version) >= 0:
            return True
        if tuple(sorted(find_withdrawn(self._books, environment))) != snapshot.withdrawn:
            return True
        schemas = self._books.schemas.find(source=source)
        if not schemas:
            return True
        schema = max(schemas, key=lambda accepted: accepted.version).schema
        if find_pending_batches(source, now, schema, session.sources, self._books, environment):
            return True
        if find_known_until(policy, now, tables, snapshot.version) != snapshot.known_until:
            return True
        return find_feedback_until(policy, now, journal) != snapshot.feedback_until
