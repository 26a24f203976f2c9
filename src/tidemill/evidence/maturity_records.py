"""The records of a model that show how mature its operation is, each read once."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from msgspec import Struct

from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.event import Event
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.route import Route
from tidemill.core.run import Run

MAX_RECORDS = 1000
_SHOWN = 3
_SEARCHED_RUNS = 50
_STARTED_ONCE = ("", "hand", "deployment")


class EvidenceRecord(Struct, frozen=True, kw_only=True):
    """A record of the ledger: the kind of record, its id, what it is, and its time."""

    kind: str
    id: str
    text: str
    time: datetime | None = None


class Finding(Struct, frozen=True, kw_only=True):
    """What was found for a characteristic; with a `cure`, it is not met, and `text` says what is missing."""

    text: str
    records: tuple[EvidenceRecord, ...] = ()
    count: int = 0
    more: bool = False
    newest: datetime | None = None
    cure: str = ""


class Rule(Struct, frozen=True, kw_only=True):
    """A characteristic of a level, and the function that searches for its evidence."""

    name: str
    about: str
    find: Callable[["TrainingRecords"], Finding]
    optional: bool = False


def found(records: Sequence[EvidenceRecord], text: str = "") -> Finding:
    """Return a finding with evidence, newest first; the default text is that of the newest record."""
    return Finding(
        text=text or records[0].text,
        records=tuple(records[:_SHOWN]),
        count=len(records),
        more=len(records) >= MAX_RECORDS,
        newest=max((record.time for record in records if record.time is not None), default=None),
    )


def missing(text: str, cure: str) -> Finding:
    """Return a finding without evidence, with the command or the edit that adds it."""
    return Finding(text=text, cure=cure)


class TrainingRecords:
    """The records of one model in one environment, newest first, at most 1,000 of each type."""

    def __init__(self, books: BooksReader, policy: Policy, environment: str, model: str) -> None:
        self.books = books
        self.policy = policy
        self.environment = environment
        self.model = model

    @property
    def settings(self) -> ModelPolicy | None:
        """The policy of the model; None if the model was only registered."""
        return self.policy.models.get(self.model)

    @property
    def describe_model(self) -> str:
        """The edit that makes a registered model trainable."""
        return (
            f"describe its training in tidemill.toml ([models.{self.model}.problem] with source and label, or "
            "`tidemill init NAME --from TABLE --label COLUMN`), then `tidemill run training`"
        )

    @cached_property
    def releases(self) -> list[Release]:
        """All releases of the model, in any environment."""
        return self.books.releases.find(name=self.model, newest=True, limit=MAX_RECORDS)

    @cached_property
    def routes(self) -> list[Route]:
        """The routes of the model in the environment."""
        routes = self.books.routes.find(environment=self.environment, model=self.model, newest=True, limit=MAX_RECORDS)
        return sorted(routes, key=lambda route: route.version, reverse=True)

    @property
    def champion(self) -> Release | None:
        """The release that serves the model; None if there is none, or the model is withdrawn."""
        arm = self.routes[0].arm("champion") if self.routes else None
        return next((release for release in self.releases if arm and release.label == arm.release), None)

    @cached_property
    def gate_verdicts(self) -> list[Verdict]:
        """The verdicts of the gate on candidates of the model."""
        return self.find_verdicts("gate")

    def find_verdicts(self, check: str, **equals: Any) -> list[Verdict]:
        """Return the verdicts of a check on the model in the environment."""
        columns = {"check": check, "model": self.model, "environment": self.environment, **equals}
        return self.books.verdicts.find(newest=True, limit=MAX_RECORDS, **columns)

    @cached_property
    def trainings(self) -> list[Run]:
        """The runs of pipelines that train the model in the environment: those that made or judged a candidate."""
        known = {release.run for release in self.releases if release.run} | {v.run for v in self.gate_verdicts if v.run}
        newest = sorted(known, reverse=True)[:_SEARCHED_RUNS]
        pipelines = dict.fromkeys(
            run.pipeline for identifier in newest for run in self.books.runs.find(id=identifier, limit=1)
        )
        runs = [
            run
            for pipeline in pipelines
            for run in self.books.runs.find(
                pipeline=pipeline, environment=self.environment, newest=True, limit=MAX_RECORDS
            )
            if run.model in (self.model, "") or run.id in known
        ]
        return sorted(runs, key=lambda run: run.id, reverse=True)

    @cached_property
    def triggered(self) -> list[tuple[Run, Event | None]]:
        """The trainings that a trigger started, each with its event; a clock tick is no event.

        A person's request and the deployment of a build start a training once: they are no triggers.
        """
        started = [run for run in self.trainings if run.started_by.trigger not in _STARTED_ONCE]
        return [(run, self._find_event(run.started_by.event)) for run in started]

    def _find_event(self, identifier: str) -> Event | None:
        events = self.books.events.find(id=identifier, limit=1) if identifier else []
        return events[0] if events else None

    def find_deployments(self, kind: str) -> list[Deployment]:
        """Return the deployments that became healthy in the environments of a kind, such as `test`."""
        return [
            deployment
            for name in sorted(self.books.deployments.values("environment"))
            if self._find_kind(name) == kind
            for deployment in self.books.deployments.find(environment=name, newest=True, limit=MAX_RECORDS)
            if deployment.healthy is not None
        ]

    def _find_kind(self, environment: str) -> str:
        settings = self.policy.environments.get(environment)
        if settings is not None:
            return settings.kind
        return environment if environment in ("test", "preproduction") else "production"


def to_records(kind: str, items: Iterable[tuple[str, str, datetime | None]]) -> list[EvidenceRecord]:
    """Return evidence records of a kind from their ids, texts and times."""
    return [EvidenceRecord(kind=kind, id=identifier, text=text, time=time) for identifier, text, time in items]


def run_records(runs: Iterable[Run], text: Callable[[Run], str] | None = None) -> list[EvidenceRecord]:
    """Return evidence records of runs."""
    return to_records(
        "run",
        ((run.id, text(run) if text else f"{run.pipeline} {run.state}", run.started) for run in runs),
    )


def verdict_records(verdicts: Iterable[Verdict]) -> list[EvidenceRecord]:
    """Return evidence records of verdicts."""
    return to_records("verdict", ((v.id, f"{v.check} of {v.subject}: {v.outcome}", v.time) for v in verdicts))
