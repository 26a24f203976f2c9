"""Notices: events for changes that no process reports: new rows, changed code or packages, models without a release."""

import hashlib
import platform

from tidemill.core.event import CodePayload, Event, RowsPayload
from tidemill.core.policy import Policy
from tidemill.core.run import Run
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session
from tidemill.host.git import list_code_files, read_commit, snapshot_code
from tidemill.host.python import list_packages

_MAX_NAMES = 5


class Notices:
    """The checks that emit an event for each change that a trigger waits for."""

    def __init__(self, session: Session, policy: Policy, triggers: Triggers) -> None:
        self._session = session
        self._policy = policy
        self._books = session.workspace.ledger
        self._environment = session.workspace.environment
        self._triggers = triggers
        self._last_files: tuple[tuple[str, int, int], ...] = ()
        self._compared: set[tuple[str, int]] = set()

    def emit_events(self) -> None:
        """Check for the changes that triggers wait for."""
        kinds = {trigger.on for trigger in self._policy.triggers}
        if "code" in kinds:
            self._check_code()
        if "packages" in kinds:
            self._check_packages()
        if "rows" in kinds:
            self._check_rows()
        if "champion.missing" in kinds:
            self._check_champions()

    def _check_code(self) -> None:
        """Emit an event if the project's code differs from the code of the last event, or else of the last run."""
        folder = self._session.project.folder
        files = [(str(file), file.stat()) for file in list_code_files(folder)]
        files_now = tuple((name, status.st_size, status.st_mtime_ns) for name, status in files)
        if files_now == self._last_files:
            return
        digest = snapshot_code(folder).digest
        last = self._find_last_event("code", self._session.project.name)
        before = last.read(CodePayload).digest if last else self._find_last_run_digest()
        if before and before != digest:
            payload = {"before": before, "digest": digest, **read_commit(folder)}
            key = f"code/{last.id if last else 'first'}/{digest}"
            self._triggers.emit("code", self._session.project.name, key, self._session.clock.now(), payload)
        self._last_files = files_now

    def _find_last_run_digest(self) -> str:
        runs = self._books.runs.find(environment=self._environment, newest=True, limit=1)
        return str(runs[0].code.get("digest", "")) if runs else ""

    def _check_packages(self) -> None:
        """Emit an event if a champion was trained with other packages or another Python than this environment has."""
        installed = frozenset(list_packages(self._session.workspace.root)) | {f"python=={platform.python_version()}"}
        for model, route in self._session.workspace.board.routes().items():
            champion = route.arm("champion")
            if champion is None or (champion.release, hash(installed)) in self._compared:
                continue
            self._compared.add((champion.release, hash(installed)))
            run = self._find_run(champion.release)
            if run is None or not run.packages:
                continue
            trained_with = self._session.workspace.blobs.get(run.packages).decode().splitlines()
            changed = installed ^ {*trained_with, f"python=={run.software.get('python', platform.python_version())}"}
            if not changed:
                continue
            names = sorted({package.partition("==")[0] for package in changed})
            now = self._session.clock.now()
            state = hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()
            payload = {"model": model, "changed": names[:_MAX_NAMES], "count": len(names)}
            self._triggers.emit("packages", champion.release, f"packages/{champion.release}/{state}", now, payload)

    def _find_run(self, release: str) -> Run | None:
        name, _, version = release.partition("/")
        for entry in self._books.releases.find(name=name, version=int(version)):
            return self._books.runs.get(entry.run) if entry.run else None
        return None

    def _check_rows(self) -> None:
        """Emit an event for each table with new rows; compacting a table adds no rows."""
        for trigger in self._policy.triggers:
            table = trigger.where.get("subject", "")
            if trigger.on != "rows" or not table:
                continue
            last = self._find_last_event("rows", table)
            version = self._session.workspace.tables.last_append(table, last.read(RowsPayload).version if last else -1)
            if version >= 0:
                now = self._session.clock.now()
                self._triggers.emit("rows", table, f"rows/{table}/{version}", now, {"version": version})

    def _check_champions(self) -> None:
        """Emit an event for each model without a release if its source has rows, or new rows since the last attempt."""
        routes = self._session.workspace.board.routes()
        for model in self._policy.models.values():
            if model.name in routes or self._is_released(model.name):
                continue
            if self._has_open_job(model.name):
                continue
            last = self._find_last_event("champion.missing", model.name)
            source = model.problem.source
            version = self._session.workspace.tables.last_append(source, last.read(RowsPayload).version if last else -1)
            if version >= 0:
                payload = {"model": model.name, "version": version}
                key = f"champion.missing/{model.name}/{version}"
                self._triggers.emit("champion.missing", model.name, key, self._session.clock.now(), payload)

    def _is_released(self, model: str) -> bool:
        return any(release.environment == self._environment for release in self._books.releases.find(name=model))

    def _has_open_job(self, model: str) -> bool:
        """Return whether the first model is trained already, such as by the job of a new deployment."""
        pipelines = {trigger.pipeline for trigger in self._policy.triggers if trigger.on == "champion.missing"}
        jobs = (
            job
            for state in ("waiting", "running")
            for job in self._books.jobs.find(environment=self._environment, state=state)
        )
        return any(job.pipeline in pipelines and job.model in (model, "") for job in jobs)

    def _find_last_event(self, kind: str, subject: str) -> Event | None:
        events = self._books.events.find(
            kind=kind, subject=subject, environment=self._environment, newest=True, limit=1
        )
        return events[0] if events else None
