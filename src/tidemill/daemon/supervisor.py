"""The supervisor: starts deployed processes that ended, and stops those that should not run."""

import hashlib
import threading
from datetime import datetime, timedelta
from typing import cast

from tidemill.core.environment import CONTROL
from tidemill.core.fleet import Fleet
from tidemill.daemon.daemon import Notify
from tidemill.daemon.deliveries import DEPLOYMENT
from tidemill.daemon.patience import Patience
from tidemill.daemon.triggers import Triggers
from tidemill.delivery.reconcile import Difference, ObservedFleet, abandon, compare, mend
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.flow.session import Session
from tidemill.registry.deployments import find_previous

_CHECK_SECONDS = 2.0
_ATTEMPTS = 3
_WINDOW = timedelta(minutes=10)


class Supervisor:
    """A thread in the environment that builds and deploys. Each deployed process runs on if this process ends.

    A deployment whose process cannot be started again is replaced by the build before it, if the rules of an automatic
    rollback allow it: the pipeline `deployment` judges them.
    """

    def __init__(self, session: Session, notify: Notify, every: float = _CHECK_SECONDS) -> None:
        self._session, self._notify, self._every = session, notify, every
        self._patience = Patience(notify)
        self._stopped = threading.Event()
        self._failures: dict[str, list[datetime]] = {}
        self._problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="tidemill-supervisor", daemon=True)
        self._is_needed = session.workspace.environment == CONTROL and bool(session.project.policy.environments)

    def start(self) -> None:
        """Start the thread, if this is the environment that deploys."""
        if self._is_needed:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread, also in the middle of a start that hangs; the deployed processes run on."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(self._session.project.policy.shutdown.seconds / 3)

    def check(self) -> None:
        """Make what runs equal to what should run, once."""
        session = self._session
        books, environments = session.workspace.ledger, session.project.policy.environments
        fleet = cast("ObservedFleet", session.resource(Fleet))
        for line in abandon(books, fleet, session.clock, environments):
            self._notify(line)
        for difference in compare(books, fleet, environments):
            if self._stopped.is_set():
                return
            self._show_problem(difference)
            if difference.action == "move":
                self._move(difference)
                continue
            try:
                done = mend(books, fleet, session.clock, difference)
            except TidemillError as failure:
                self._count_failure(difference, failure.problem)
                continue
            for line in done:
                self._notify(line)
            if difference.action == "start":
                self._count_failure(difference, "its process ended")

    def _show_problem(self, difference: Difference) -> None:
        """Report once why an environment cannot be made right."""
        if difference.problem and self._problems.get(difference.environment) != difference.problem:
            self._notify(f"{difference.environment}: {difference.problem}")
        self._problems[difference.environment] = difference.problem

    def _move(self, difference: Difference) -> None:
        """Deploy the same build again with the present settings of its environment, once for these settings."""
        session = self._session
        books = session.workspace.ledger
        build = books.builds.get(books.deployments.get(difference.deployment).build)
        triggers = Triggers(session.project.policy, books, session.clock, session.workspace.environment)
        params = {
            "environment": difference.environment,
            "build": build.id,
            "change": "move",
            "reason": f"its settings changed: {difference.declared.partition(', with ')[2]}",
        }
        digest = hashlib.sha256(difference.declared.encode()).hexdigest()
        key = f"{difference.deployment}/{digest[:16]}"
        try:
            triggers.create_job(f"move {difference.environment}", DEPLOYMENT, params, key)
        except Conflict:
            return
        self._notify(f"{difference.environment}: {build.label} is deployed again: {params['reason']}")

    def _count_failure(self, difference: Difference, problem: str) -> None:
        """Bring back the build before after several failures of a deployment within some minutes."""
        now = self._session.clock.now()
        times = [time for time in self._failures.get(difference.deployment, []) if now - time < _WINDOW] + [now]
        self._failures[difference.deployment] = times
        self._notify(f"{difference.environment}: {problem}")
        if len(times) >= _ATTEMPTS:
            self._restore(difference, problem, times[-1])

    def _restore(self, difference: Difference, problem: str, since: datetime) -> None:
        session, environment = self._session, difference.environment
        books = session.workspace.ledger
        triggers = Triggers(session.project.policy, books, session.clock, session.workspace.environment)
        try:
            previous = find_previous(books, environment)
            params = {
                "environment": environment,
                "build": previous.id,
                "change": "restore",
                "reason": problem,
                "failed_at": since.isoformat(),
            }
            triggers.create_job(f"restore {environment}", DEPLOYMENT, params, difference.deployment)
        except (Conflict, NotFound):
            return
        self._notify(f"{environment}: {previous.label} is brought back")

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            self._patience.attempt("deployed processes", self.check)
