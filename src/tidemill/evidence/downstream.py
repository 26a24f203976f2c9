"""Downstream: one step from a record to the records that were created from it."""

from datetime import timedelta
from typing import Any

from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.route import Route
from tidemill.core.run import StepRun
from tidemill.evidence.formatting import format_time
from tidemill.evidence.identify import RecordReference
from tidemill.evidence.node import (
    LineageNode,
    create_artifact_node,
    create_release_node,
    create_run_node,
    create_step_node,
)
from tidemill.evidence.run_details import (
    find_artifact,
    find_final_steps,
    find_last_attempts,
    find_sources,
    find_steps_with,
    list_steps,
)
from tidemill.ledger.releases import find_release

_MAX_RECORDS = 200
_TRIVIAL_SIZE = 64
_DELAY = timedelta(hours=1)


class Downstream:
    """Walks from a record to the artifacts, releases, routes and predictions that were created from it."""

    def __init__(self, books: BooksReader, journal: JournalReader | None = None, environment: str = "") -> None:
        self._books = books
        self._journal = journal
        self._environment = environment
        self._steps: dict[str, StepRun] = {}
        self._producers: dict[str, StepRun] = {}

    def create_root(self, reference: RecordReference) -> LineageNode:
        """Return the first node of the walk."""
        if reference.kind == "release":
            return create_release_node(find_release(self._books, reference.id))
        if reference.kind == "run":
            return create_run_node(self._books.runs.get(reference.id))
        if reference.kind == "artifact":
            return create_artifact_node(reference.id, find_artifact(self._books, reference.id))
        return LineageNode("prediction", reference.id, f"prediction {reference.id}  of {reference.model}")

    def expand(self, node: LineageNode) -> tuple[list[LineageNode], int]:
        """Return the nodes that were created from a node, and the least number of hidden further ones."""
        if node.kind == "run":
            return self._expand_run(node.id), 0
        if node.kind == "step":
            step = self._steps.get(node.id)
            return [self._create_artifact(step, *output) for output in step.outputs.items()] if step else [], 0
        if node.kind == "artifact":
            return self._expand_artifact(node.id)
        if node.kind == "release":
            return self._expand_release(find_release(self._books, node.id))
        return [], 0

    def _expand_run(self, identifier: str) -> list[LineageNode]:
        run = self._books.runs.get(identifier)
        steps = find_last_attempts(list_steps(self._books, identifier))
        releases = self._books.releases.find(run=identifier)
        return [create_release_node(release) for release in releases] + [
            self._create_step(step) for step in find_final_steps(run, steps)
        ]

    def _expand_artifact(self, digest: str) -> tuple[list[LineageNode], int]:
        artifact, producer = find_artifact(self._books, digest), self._producers.get(digest)
        releases = self._books.releases.find(package=digest, limit=_MAX_RECORDS)
        consumers = find_steps_with(self._books, "in", digest, _MAX_RECORDS)
        hidden = _MAX_RECORDS if len(consumers) == _MAX_RECORDS else 0
        if producer is not None and _is_trivial(artifact):
            # Unrelated steps also have the output True or 28: only consumers in the same run are related.
            consumers = [step for step in consumers if step.run == producer.run]
        if producer is not None:
            consumers += self._find_list_consumers(producer)
        nodes = [create_release_node(release) for release in releases]
        for group in _group_equal(consumers):
            first = next((step for step in group if step.state == "ran"), group[0])
            note = f"same in {len(group) - 1} more run{'s' * (len(group) > 2)}" if len(group) > 1 else ""
            if releases and first.run not in {release.run for release in releases}:
                nodes.append(
                    create_step_node(first, "compared with it")
                )  # the results of that run were not created from it
            else:
                nodes.append(self._create_step(first, note))
        return nodes, hidden

    def _find_list_consumers(self, producer: StepRun) -> list[StepRun]:
        """Return the steps of the same run that use an output only within a list, which has its own digest."""
        run = self._books.runs.get(producer.run)
        steps = find_last_attempts(list_steps(self._books, producer.run))
        return [
            step
            for step in steps.values()
            if any(source == producer and not outputs for source, outputs in find_sources(run, step, steps))
        ]

    def _expand_release(self, release: Release) -> tuple[list[LineageNode], int]:
        routes = self._books.routes.find(linked=f"release:{release.label}", newest=True, limit=_MAX_RECORDS)
        serving = [route for route in routes if any(arm.release == release.label for arm in route.arms)]
        nodes = [_create_route(route, release.label) for route in sorted(serving, key=lambda route: route.since)]
        predictions = self._count_predictions(release, serving)
        return ([predictions] if predictions else []) + nodes, 0

    def _count_predictions(self, release: Release, routes: list[Route]) -> LineageNode | None:
        """Return a node with the number of predictions in the environment of the journal, by role."""
        if self._journal is None or not routes:
            return None
        import polars as pl  # imported here, since most lineages count no predictions

        start = min(route.since for route in routes)
        end = self._find_end(release, routes)
        rows = self._journal.read(f"predictions/{release.name}", start, end)
        counts: dict[str, int] = {}
        if not rows.is_empty():
            totals = rows.filter(pl.col("release") == release.label)["role"].value_counts().sort("role")
            counts = dict(zip(totals["role"].to_list(), totals["count"].to_list(), strict=True))
        by_role = ", ".join(f"{count:,} as {role}" for role, count in counts.items())
        text = f"{sum(counts.values()):,} predictions in {self._environment}" + (f"  {by_role}" if by_role else "")
        return LineageNode("predictions", f"predictions:{release.label}", text, dict(counts))

    def _find_end(self, release: Release, routes: list[Route]) -> Any:
        """Return when another route replaced the last one with a release; None while it serves."""
        last = max(routes, key=lambda route: route.since)
        following = self._books.routes.find(
            environment=last.environment, model=release.name, version=last.version + 1, limit=1
        )
        return following[0].since + _DELAY if following else None

    def _create_step(self, step: StepRun, note: str = "") -> LineageNode:
        self._steps[step.id] = step
        return create_step_node(step, note)

    def _create_artifact(self, step: StepRun, name: str, digest: str) -> LineageNode:
        self._producers.setdefault(digest, step)
        return create_artifact_node(digest, find_artifact(self._books, digest), f"{step.step}.{name}")


def _group_equal(steps: list[StepRun]) -> list[list[StepRun]]:
    """Group steps with equal outputs: one that ran, and those whose outputs came from the cache."""
    groups: dict[tuple[Any, ...], list[StepRun]] = {}
    for step in steps:
        if step.state != "skipped":
            groups.setdefault((step.step, step.key, *sorted(step.outputs.items())), []).append(step)
    return list(groups.values())


def _is_trivial(artifact: Artifact | None) -> bool:
    return artifact is not None and artifact.kind == "json" and artifact.size <= _TRIVIAL_SIZE


def _create_route(route: Route, label: str) -> LineageNode:
    arms = ", ".join(f"{arm.role} {arm.portion}" for arm in route.arms if arm.release == label)
    text = f"route in {route.environment}  {arms}  since {format_time(route.since)}  {route.reason}"
    return LineageNode(
        "route", route.id, text, {"environment": route.environment, "by": route.by, "verdict": route.verdict}
    )
