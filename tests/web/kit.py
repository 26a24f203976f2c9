"""A filled ledger and a backtest result for the tests of the pages."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from tidemill.access.control import AccessControl
from tidemill.backtest.comparison import BacktestResult, Disturbance, Period, PolicyResult, TimelineEntry
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Action, Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Arm, Role, Route, RouteChange
from tidemill.core.run import Run, StepRun
from tidemill.core.trigger import Job
from tidemill.web.app import create_app

START = datetime(2013, 3, 1, tzinfo=UTC)
DIGEST = "d4c3b2a1" * 8
EVIL = "<script>alert('in')</script><img src=x onerror=alert(1)>"


class Mill:
    """A workspace in which a loop has run: releases, runs, verdicts, events, jobs."""

    def __init__(self, root: Path) -> None:
        self.workspace = open_workspace(root, "production")
        self.books = self.workspace.ledger
        self.board = self.workspace.board
        self.clock = VirtualClock(START)

    def run(
        self, pipeline: str = "training", state: str = "done", error: str = "", environment: str = "production"
    ) -> Run:
        run = Run(
            id=self._tick(),
            pipeline=pipeline,
            environment=environment,
            state=state,  # type: ignore[arg-type]
            started=self.clock.now(),
            seconds=2.5,
            model="flights",
            params={"until": self.clock.now()},
            cause={"trigger": "daily"},
            metrics={"test_log_loss": 0.4512, "train_log_loss": 0.4011},
            error=error,
        )
        return self.books.runs.add(run)

    def step(
        self, run: Run, name: str, position: int, reason: str = "first time with this code", log: str = ""
    ) -> None:
        step = StepRun(
            id=self._tick(),
            run=run.id,
            step=name,
            position=position,
            state="ran",
            reason=reason,
            key="k" * 64,
            code="c" * 64,
            executor="inline",
            started=self.clock.now(),
            seconds=0.25,
            inputs={"rows": "a1b2c3d4" * 8},
            outputs={"output": DIGEST},
            log=log,
        )
        if not self.books.artifacts.find(id=DIGEST, limit=1):
            self.books.artifacts.add(Artifact(DIGEST, "frame", 51_801, {"rows": 981, "columns": ["a", reason]}))
        self.books.steps.add(step)

    def verdict(
        self,
        check: str = "gate",
        outcome: str = "pass",
        *,
        subject: str = "flights/1",
        reason: str = "better",
        run: str = "",
        action: str = "proceed",
        environment: str = "production",
        evidence: dict[str, object] | None = None,
    ) -> Verdict:
        verdict = Verdict(
            id=self._tick(),
            check=check,
            subject=subject,
            outcome=outcome,  # type: ignore[arg-type]
            action=action,  # type: ignore[arg-type]
            reason=reason,
            evidence=evidence or {},
            run=run,
            model="flights",
            environment=environment,
            time=self.clock.now(),
        )
        return self.books.verdicts.add(verdict)

    def release(self, version: int = 1, run: str = "", metric: float = 0.45) -> Release:
        release = Release(
            id=self._tick(),
            name="flights",
            version=version,
            package=f"{version:064x}",
            flavor="lightgbm",
            environment="production",
            created=self.clock.now(),
            run=run,
            metrics={"test_log_loss": metric, "test_roc_auc": 0.71},
            data={"rows": 51801},
        )
        return self.books.releases.add(release)

    def route(self, release: Release, reason: str = "the first release", verdict: str = "") -> Route:
        earlier = self.books.routes.find(model="flights")
        arm = Arm(release=release.label, version=release.version, package=release.package, role="champion", share=1.0)
        route = Route(
            id=self._tick(),
            environment="production",
            model="flights",
            version=len(earlier) + 1,
            arms=(arm,),
            since=self.clock.now(),
            reason=reason,
            verdict=verdict,
        )
        self.books.routes.add(route)
        self.board.publish(route)
        return route

    def event(self, kind: str, subject: str, reason: str, cause: str = "") -> Event:
        now = self.clock.now()
        event = Event(
            id=self._tick(),
            kind=kind,
            environment="production",
            subject=subject,
            time=now,
            known_at=now,
            dedupe_key=f"{kind}/{subject}/{now}",
            cause=cause,
            payload={"reason": reason},
        )
        return self.books.events.add(event)

    def job(self, run: Run, event: Event) -> Job:
        job = Job(
            id=self._tick(),
            trigger="daily",
            dedupe_key=run.id,
            pipeline=run.pipeline,
            environment="production",
            state="done",
            created=self.clock.now(),
            available=self.clock.now(),
            run=run.id,
            event=event.id,
        )
        return self.books.jobs.add(job)

    def decide(self, release: Release) -> None:
        entry = AuditEntry(
            id=self._tick(),
            actor="ada",
            action="approved",
            subject=release.label,
            time=self.clock.now(),
            reason="looked at it",
            environment="production",
        )
        self.books.audit.add(entry)

    def _tick(self) -> str:
        self.clock.advance(self.clock.now() + timedelta(minutes=1))
        return self.clock.mint()


def create_pages(mill: Mill, **options: Any) -> Starlette:
    """The application of the pages of a workspace."""
    control = AccessControl(mill.board, mill.clock, "production", required=options.pop("required", False))
    return create_app(mill.books, mill.board, "flights", "production", control, **options)


def turned(mill: Mill, reason: str = "better than the trivial baseline") -> dict[str, str]:
    """Record two trainings and their releases; return the paths of their pages."""
    for version in (1, 2):
        run = mill.run()
        mill.step(run, "fit", 0, reason=reason, log=f"fitted\n{reason}")
        verdict = mill.verdict(
            run=run.id, reason=reason, evidence={"rows": 6101, "against": [0.1, 0.2], "note": reason}
        )
        release = mill.release(version, run.id, 0.46 - version / 100)
        mill.route(release, reason, verdict.id)
        event = mill.event("verdict", release.label, reason, verdict.id)
        mill.job(run, event)
    table = [{"column": reason, "rows": 3}, {"column": "distance", "rows": 1}]
    skew = mill.verdict("schema", "fail", action="stop", subject="flights/2013-04-02", evidence={"anomalies": table})
    return {
        "overview": "/",
        "runs": "/runs",
        "run": f"/runs/{run.id}",
        "artifact": f"/artifacts/{DIGEST}",
        "releases": "/releases",
        "release": "/releases/flights/2",
        "routes": "/routes",
        "policy": "/policy",
        "maturity": "/maturity",
        "verdicts": "/verdicts",
        "verdict": f"/verdicts/{verdict.id}",
        "skew": f"/verdicts/{skew.id}",
        "events": "/events",
        "event": f"/events/{event.id}",
        "jobs": "/jobs",
    }


def outcome(
    name: str, loss: float, trainings: int = 1, timeline: list[TimelineEntry] | None = None, metric: str = ""
) -> PolicyResult:
    """The result of a policy with similar weeks."""
    metrics = {metric: loss} if metric else {"log_loss": loss, "brier": loss / 3, "roc_auc": 1 - loss / 2}
    return PolicyResult(
        name=name,
        predictions=57_239,
        labels=55_541,
        runs={"hand": 1, "daily watch": 61},
        verdicts={"gate": {"pass": 3, "fail": 2}, "drift": {"undecided": 3, "fail": 58}},
        promotions=2,
        rollbacks=1,
        stops=3,
        trainings=trainings,
        training_seconds=13.6,
        seconds=46.9,
        metrics=metrics,
        weeks=[(START + timedelta(weeks=week), 6163, loss + week / 100) for week in range(8)],
        releases=["flights/1", "flights/2"],
        timeline=timeline or [],
    )


def routed(
    at: str, change: RouteChange, reason: str, *arms: tuple[str, Role, float], verdict: str = ""
) -> TimelineEntry:
    """A route of a timeline; its arms are (release, role, share)."""
    return TimelineEntry(
        time=_moment(at),
        kind="route",
        subject="flights",
        reason=reason,
        change=change,
        arms=[Arm(release=one, version=1, package="p", role=role, share=share) for one, role, share in arms],
        verdict=verdict,
    )


def judged(at: str, check: str, subject: str, reason: str, action: Action, verdict: str = "") -> TimelineEntry:
    """A verdict of a timeline."""
    return TimelineEntry(
        time=_moment(at),
        kind="verdict",
        subject=subject,
        reason=reason,
        check=check,
        outcome="fail",
        action=action,
        verdict=verdict,
    )


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at).replace(tzinfo=UTC)


TIMELINE = [
    routed("2013-03-01", "first", "the first release", ("flights/1", "champion", 1.0)),
    judged("2013-04-03", "schema", "flights/2013-04-02", "column 'distance' has 981 of 981 values below 10", "stop"),
    judged(
        "2013-04-10T09:00",
        "gate",
        "flights",
        "not better than the trivial baseline: loss 0.5444 against 0.5394",
        "stop",
    ),
    judged("2013-04-12T11:00", "age", "flights/1", "its newest training row is 42.5 days ago (limit 42)", "retrain"),
    routed(
        "2013-04-12T12:00",
        "canary",
        "canary of 20%",
        ("flights/1", "champion", 0.8),
        ("flights/2", "challenger", 0.2),
    ),
    judged("2013-04-13T11:00", "age", "flights/1", "its newest training row is 43.5 days ago (limit 42)", "retrain"),
    routed(
        "2013-04-15T11:00",
        "promote",
        "promoted: not worse: live loss 0.5 against 0.6",
        ("flights/2", "champion", 1.0),
        verdict="v1",
    ),
    judged("2013-04-15T11:00", "traffic", "flights/2", "not worse: live loss 0.5 against 0.6", "promote", "v1"),
    routed(
        "2013-04-16T09:00",
        "canary",
        "canary of 20%",
        ("flights/2", "champion", 0.8),
        ("flights/3", "challenger", 0.2),
    ),
    routed(
        "2013-04-18T11:00",
        "rollback",
        "rolled back: clearly worse: live loss 1.1 against 0.5",
        ("flights/2", "champion", 1.0),
    ),
]


def comparison(
    *outcomes: PolicyResult, metric: str = "log_loss", disturbances: list[Disturbance] | None = None
) -> BacktestResult:
    """Policies over two months."""
    return BacktestResult(
        project="flights",
        model="flights",
        metric=metric,
        period=Period(START, datetime(2013, 5, 1, tzinfo=UTC)),
        disturbances=disturbances or [],
        outcomes=list(outcomes),
        cost_of_training=2.0,
        seconds=59.7,
    )


def three() -> BacktestResult:
    """The demo's three policies."""
    return comparison(
        outcome("loop", 0.45, 5, TIMELINE),
        outcome("static", 0.48),
        outcome("weekly", 0.446, 9),
        disturbances=[
            Disturbance("2013-04-02", "a delivery with negative distances"),
            Disturbance("2013-04-10", "a candidate trained on mixed-up labels"),
            Disturbance("2013-04-16", "a candidate that learns from the departure delay"),
            Disturbance("2013-04-25", "something that nobody noticed"),
        ],
    )


def addresses(pages: dict[str, str]) -> Iterator[str]:
    """Every page, as HTML and as JSON."""
    for address in pages.values():
        yield address
        yield f"{address}?format=json"
