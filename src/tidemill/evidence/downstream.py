"""Downstream: from a thing one step on to what was made from it."""

from datetime import timedelta
from typing import Any

from tidemill.core.artifact import Artifact
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.route import Route
from tidemill.core.run import StepRun
from tidemill.evidence.identify import Named
from tidemill.evidence.node import Node, artifact_node, release_node, run_node, step_node
from tidemill.evidence.story import artifact_of, feeds, last_tries, sinks, steps_of, steps_with
from tidemill.evidence.words import moment
from tidemill.ledger.releases import find_release

_MANY = 200
_TRIVIAL = 64
_LATE = timedelta(hours=1)


class Downstream:
    """Walks from a thing to the artifacts, releases, routes and predictions that came of it."""

    def __init__(self, books: BooksReader, journal: JournalReader | None = None, environment: str = "") -> None:
        self._books = books
        self._journal = journal
        self._environment = environment
        self._steps: dict[str, StepRun] = {}
        self._made: dict[str, StepRun] = {}

    def root(self, named: Named) -> Node:
        """The node from which the walk begins."""
        if named.kind == "release":
            return release_node(find_release(self._books, named.id))
        if named.kind == "run":
            return run_node(self._books.runs.get(named.id))
        if named.kind == "artifact":
            return artifact_node(named.id, artifact_of(self._books, named.id))
        return Node("prediction", named.id, f"prediction {named.id}  of {named.model}")

    def next(self, node: Node) -> tuple[list[Node], int]:
        """What was made from a node; and how many more than that there are at least."""
        if node.kind == "run":
            return self._of_run(node.id), 0
        if node.kind == "step":
            step = self._steps.get(node.id)
            return [self._artifact(step, *given) for given in step.outputs.items()] if step else [], 0
        if node.kind == "artifact":
            return self._of_artifact(node.id)
        if node.kind == "release":
            return self._of_release(find_release(self._books, node.id))
        return [], 0

    def _of_run(self, identifier: str) -> list[Node]:
        run = self._books.runs.get(identifier)
        steps = last_tries(steps_of(self._books, identifier))
        releases = self._books.releases.find(run=identifier)
        return [release_node(one) for one in releases] + [self._step(step) for step in sinks(run, steps)]

    def _of_artifact(self, digest: str) -> tuple[list[Node], int]:
        artifact, made = artifact_of(self._books, digest), self._made.get(digest)
        releases = self._books.releases.find(package=digest, limit=_MANY)
        takers = steps_with(self._books, "in", digest, _MANY)
        more = _MANY if len(takers) == _MANY else 0
        if made is not None and _is_trivial(artifact):
            # Unrelated steps give the same True or 28: only in this run does it mean this one.
            takers = [step for step in takers if step.run == made.run]
        if made is not None:
            takers += self._takers_of_a_list(made)
        nodes = [release_node(one) for one in releases]
        for group in _alike(takers):
            first = next((step for step in group if step.state == "ran"), group[0])
            note = f"the same in {len(group) - 1} more run{'s' * (len(group) > 2)}" if len(group) > 1 else ""
            if releases and first.run not in {one.run for one in releases}:
                nodes.append(step_node(first, "compared with it"))  # what came of that run is not made from it
            else:
                nodes.append(self._step(first, note))
        return nodes, more

    def _takers_of_a_list(self, made: StepRun) -> list[StepRun]:
        """The steps of its run that need it but took none of its values alone: a list has a digest of its own."""
        run = self._books.runs.get(made.run)
        steps = last_tries(steps_of(self._books, made.run))
        return [one for one in steps.values() if any(made == by and not gave for by, gave in feeds(run, one, steps))]

    def _of_release(self, release: Release) -> tuple[list[Node], int]:
        routes = self._books.routes.find(linked=f"release:{release.label}", newest=True, limit=_MANY)
        answering = [route for route in routes if any(arm.release == release.label for arm in route.arms)]
        nodes = [_route(route, release.label) for route in sorted(answering, key=lambda route: route.since)]
        counted = self._predictions(release, answering)
        return ([counted] if counted else []) + nodes, 0

    def _predictions(self, release: Release, routes: list[Route]) -> Node | None:
        """How often it answered in the environment of the journal, by role."""
        if self._journal is None or not routes:
            return None
        import polars as pl  # late: most lineages count no predictions

        begin = min(route.since for route in routes)
        end = self._replaced(release, routes)
        rows = self._journal.read(f"predictions/{release.name}", begin, end)
        counts: dict[str, int] = {}
        if not rows.is_empty():
            told = rows.filter(pl.col("release") == release.label)["role"].value_counts().sort("role")
            counts = dict(zip(told["role"].to_list(), told["count"].to_list(), strict=True))
        by_role = ", ".join(f"{count:,} as {role}" for role, count in counts.items())
        text = f"{sum(counts.values()):,} predictions in {self._environment}" + (f"  {by_role}" if by_role else "")
        return Node("predictions", f"predictions:{release.label}", text, dict(counts))

    def _replaced(self, release: Release, routes: list[Route]) -> Any:
        """When the last route with it was followed by another; None while it answers."""
        last = max(routes, key=lambda route: route.since)
        after = self._books.routes.find(
            environment=last.environment, model=release.name, version=last.version + 1, limit=1
        )
        return after[0].since + _LATE if after else None

    def _step(self, step: StepRun, note: str = "") -> Node:
        self._steps[step.id] = step
        return step_node(step, note)

    def _artifact(self, step: StepRun, name: str, digest: str) -> Node:
        self._made.setdefault(digest, step)
        return artifact_node(digest, artifact_of(self._books, digest), f"{step.step}.{name}")


def _alike(steps: list[StepRun]) -> list[list[StepRun]]:
    """Steps that did the same: one that ran, and those that took its outcome from the cache."""
    groups: dict[tuple[Any, ...], list[StepRun]] = {}
    for step in steps:
        if step.state != "skipped":
            groups.setdefault((step.step, step.key, *sorted(step.outputs.items())), []).append(step)
    return list(groups.values())


def _is_trivial(artifact: Artifact | None) -> bool:
    return artifact is not None and artifact.kind == "json" and artifact.size <= _TRIVIAL


def _route(route: Route, label: str) -> Node:
    arms = ", ".join(f"{arm.role} {arm.share:.0%}" for arm in route.arms if arm.release == label)
    text = f"route in {route.environment}  {arms}  since {moment(route.since)}  {route.reason}"
    return Node("route", route.id, text, {"environment": route.environment, "by": route.by, "verdict": route.verdict})
