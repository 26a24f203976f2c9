"""Promotions: what the rules need to know about a build and an environment, read from the ledger."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from tidemill.checks.promotion import Approval, Override, PromotionCase
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.environment import Environment
from tidemill.core.resources import BooksReader
from tidemill.core.run import select_test_metrics
from tidemill.evidence.audit import find_first_fault, is_intact
from tidemill.registry.deployments import APPROVED, OVERRODE, find_healthy
from tidemill.registry.pauses import find_pause, format_pause


class Deployable(Struct, frozen=True):
    """A build with the environment that it can be deployed to, and the settings of the project."""

    build: Build
    environment: str
    settings: Environment
    people: Mapping[str, tuple[str, ...]]


def collect_case(
    books: BooksReader, subject: Deployable, now: datetime, by: str = "", *, verify: bool = False
) -> PromotionCase:
    """Return what the rules of promotion need to know, from the ledger; with `verify`, verify the whole audit log.

    An approval or an override that was edited later does not count.
    """
    build, environment, settings = subject.build, subject.environment, subject.settings
    entries = [entry for entry in books.audit.find(subject=build.subject(environment)) if is_intact(entry)]
    overrides = tuple(
        Override(
            actor=entry.actor,
            rule=entry.detail["rule"],
            until=datetime.fromisoformat(entry.detail["until"]),
            reason=entry.reason,
        )
        for entry in entries
        if entry.action == OVERRODE
    )
    after = settings.after
    pause = find_pause(books, "environment", environment, environment=environment, now=now)
    return PromotionCase(
        build=build,
        environment=environment,
        settings=settings,
        now=now,
        by=by,
        authors=_list_authors(books, build, find_healthy(books, environment)),
        people=subject.people,
        approvals=tuple(Approval(actor=e.actor, time=e.time) for e in entries if e.action == APPROVED),
        overrides=overrides,
        healthy_since=_find_healthy_since(books, build, after) if after else None,
        successful_runs=_count_runs(books, build, after, settings.pipeline, "done") if after else 0,
        failed_runs=_count_runs(books, build, after, settings.pipeline, "failed") if after else 0,
        metrics=_find_metrics(books, build, after, settings.pipeline) if after else {},
        stopped=_find_stopped(books, after) if after and settings.valid_data else {},
        paused=format_pause(pause) if pause else "",
        tampered=find_first_fault(books.audit.find()) if verify else "",
    )


def _list_authors(books: BooksReader, build: Build, deployed: Deployment | None) -> frozenset[str]:
    """Return the authors and pushers of the commits between the deployed build and this one."""
    builds = books.builds.find()
    by_commit = {other.commit: other for other in builds if other.state == "passed"}
    last = next((other.commit for other in builds if deployed and other.id == deployed.build), "")
    names: set[str] = set()
    current: Build | None = build
    seen: set[str] = set()
    while current is not None and current.commit not in seen and current.commit != last:
        seen.add(current.commit)
        names |= {*current.authors, *((current.pusher,) if current.pusher else ())}
        current = by_commit.get(current.base)
    return frozenset(names)


def _find_healthy_since(books: BooksReader, build: Build, environment: str) -> datetime | None:
    """Return when a build became healthy in an environment, if it still serves there."""
    serving = find_healthy(books, environment)
    return serving.healthy if serving is not None and serving.build == build.id else None


def _find_metrics(books: BooksReader, build: Build, environment: str, pipeline: str) -> dict[str, float]:
    """Return the metrics on test rows of the newest successful run of a build."""
    runs = books.runs.find(environment=environment, pipeline=pipeline, state="done", newest=True)
    return next((select_test_metrics(run.metrics) for run in runs if run.code.get("build") == build.id), {})


def _find_stopped(books: BooksReader, environment: str) -> dict[str, str]:
    """Return the newest batches of sources that were stopped, with the reasons."""
    newest: dict[str, Verdict] = {}
    for verdict in books.verdicts.find(check="schema", environment=environment):
        source = verdict.subject.partition("/")[0]
        earlier = newest.get(source)
        if earlier is None or (verdict.time, verdict.id) > (earlier.time, earlier.id):
            newest[source] = verdict
    return {verdict.subject: verdict.reason for verdict in newest.values() if verdict.stops}


def _count_runs(books: BooksReader, build: Build, environment: str, pipeline: str, state: str) -> int:
    runs = books.runs.find(environment=environment, pipeline=pipeline, state=state)
    return sum(run.code.get("build") == build.id for run in runs)
