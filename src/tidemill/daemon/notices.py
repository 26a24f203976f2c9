"""Notices: what nobody tells: new rows of tables, changed code, other packages, a model that was never trained."""

import hashlib
import platform

from tidemill.core.event import CodePayload, Event, RowsPayload
from tidemill.core.run import Run
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session
from tidemill.host.git import list_code_files, read_commit, snapshot_code
from tidemill.host.python import list_packages

_NAMED = 5


class Notices:
    """Writes an event for each change that a trigger waits for."""

    def __init__(self, session: Session, triggers: Triggers) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._environment = session.workspace.environment
        self._triggers = triggers
        self._looked_at: tuple[tuple[str, int, int], ...] = ()
        self._compared: set[tuple[str, int]] = set()

    def notice(self) -> None:
        """Look for what triggers wait for."""
        waited = {trigger.on for trigger in self._session.project.policy.triggers}
        if "code" in waited:
            self._code()
        if "packages" in waited:
            self._packages()
        if "rows" in waited:
            self._rows()
        if "champion.missing" in waited:
            self._champions()

    def _code(self) -> None:
        """The project's files say something else than when a daemon or, before there was one, a run last looked."""
        folder = self._session.project.folder
        files = [(str(file), file.stat()) for file in list_code_files(folder)]
        seen = tuple((name, status.st_size, status.st_mtime_ns) for name, status in files)
        if seen == self._looked_at:
            return
        digest = snapshot_code(folder).digest
        last = self._last("code", self._session.project.name)
        before = last.read(CodePayload).digest if last else self._digest_of_last_run()
        if before and before != digest:
            payload = {"before": before, "digest": digest, **read_commit(folder)}
            key = f"code/{last.id if last else 'first'}/{digest}"
            self._triggers.tell("code", self._session.project.name, key, self._session.clock.now(), payload)
        self._looked_at = seen

    def _digest_of_last_run(self) -> str:
        runs = self._books.runs.find(environment=self._environment, newest=True, limit=1)
        return str(runs[0].code.get("digest", "")) if runs else ""

    def _packages(self) -> None:
        """The packages or the Python here are not those that a champion was trained with."""
        here = frozenset(list_packages(self._session.workspace.root)) | {f"python=={platform.python_version()}"}
        for model, route in self._session.workspace.board.routes().items():
            champion = route.arm("champion")
            if champion is None or (champion.release, hash(here)) in self._compared:
                continue
            self._compared.add((champion.release, hash(here)))
            run = self._run_of(champion.release)
            if run is None or not run.packages:
                continue
            listed = self._session.workspace.blobs.get(run.packages).decode().splitlines()
            changed = here ^ {*listed, f"python=={run.software.get('python', platform.python_version())}"}
            if not changed:
                continue
            names = sorted({one.partition("==")[0] for one in changed})
            now = self._session.clock.now()
            state = hashlib.sha256("\n".join(sorted(here)).encode()).hexdigest()
            payload = {"model": model, "changed": names[:_NAMED], "count": len(names)}
            self._triggers.tell("packages", champion.release, f"packages/{champion.release}/{state}", now, payload)

    def _run_of(self, release: str) -> Run | None:
        name, _, version = release.partition("/")
        for found in self._books.releases.find(name=name, version=int(version)):
            return self._books.runs.get(found.run) if found.run else None
        return None

    def _rows(self) -> None:
        """Rows were appended to a table, by whomever; one that is only laid out anew has no new rows."""
        for trigger in self._session.project.policy.triggers:
            table = trigger.where.get("subject", "")
            if trigger.on != "rows" or not table:
                continue
            last = self._last("rows", table)
            version = self._session.workspace.tables.last_append(table, last.read(RowsPayload).version if last else -1)
            if version >= 0:
                now = self._session.clock.now()
                self._triggers.tell("rows", table, f"rows/{table}/{version}", now, {"version": version})

    def _champions(self) -> None:
        """There are rows, and new ones since somebody last tried, but no release was ever made of them here."""
        routed = self._session.workspace.board.routes()
        for model in self._session.project.policy.models.values():
            if model.name in routed or self._is_released(model.name):
                continue
            last = self._last("champion.missing", model.name)
            if last and self._is_at_work(last):
                continue
            source = model.problem.source
            version = self._session.workspace.tables.last_append(source, last.read(RowsPayload).version if last else -1)
            if version >= 0:
                payload = {"model": model.name, "version": version}
                key = f"champion.missing/{model.name}/{version}"
                self._triggers.tell("champion.missing", model.name, key, self._session.clock.now(), payload)

    def _is_released(self, model: str) -> bool:
        return any(one.environment == self._environment for one in self._books.releases.find(name=model))

    def _is_at_work(self, event: Event) -> bool:
        jobs = self._books.jobs.find(environment=self._environment, dedupe_key=event.dedupe_key)
        return any(job.state in ("waiting", "running") for job in jobs)

    def _last(self, kind: str, subject: str) -> Event | None:
        found = self._books.events.find(kind=kind, subject=subject, environment=self._environment, newest=True, limit=1)
        return found[0] if found else None
