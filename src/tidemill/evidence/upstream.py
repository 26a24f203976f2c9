"""Upstream: one step from a record back to its inputs."""

from typing import Any

from tidemill.core.event import Event
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.run import Run, StepRun
from tidemill.evidence.identify import RecordReference, read_predictions
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

_MAX_RECORDS = 100


class Upstream:
    """Walks from a record to its inputs, within the run of each record; caches the records that it reads."""

    def __init__(self, books: BooksReader, journal: JournalReader | None = None) -> None:
        self._books = books
        self._journal = journal
        self._runs: dict[str, tuple[Run, dict[str, StepRun]]] = {}
        self._steps: dict[str, StepRun] = {}
        self._producers: dict[str, StepRun] = {}
        self._root = ""

    def create_root(self, reference: RecordReference) -> LineageNode:
        """Return the first node of the walk."""
        self._root = reference.id
        if reference.kind == "release":
            return create_release_node(find_release(self._books, reference.id))
        if reference.kind == "run":
            return create_run_node(self._read_run(reference.id)[0])
        if reference.kind == "artifact":
            return create_artifact_node(reference.id, find_artifact(self._books, reference.id))
        assert self._journal is not None
        prediction = read_predictions(self._journal, reference.model, reference.id)[0]
        self._root = str(prediction["release"])
        text = f"prediction {reference.id}  {reference.model} predicted {prediction['value']}"
        text += f"  by {self._root}, as {prediction['role']}"
        return LineageNode("prediction", reference.id, text, {"release": self._root, "key": prediction["key"]})

    def expand(self, node: LineageNode) -> tuple[list[LineageNode], int]:
        """Return the inputs of a node, and the number of hidden further ones."""
        if node.kind == "prediction":
            return [create_release_node(find_release(self._books, self._root))], 0
        if node.kind == "release":
            return self._expand_release(node), 0
        if node.kind == "run":
            run, steps = self._read_run(node.id)
            return [self._create_step(step) for step in find_final_steps(run, steps)] or [_create_start(run)], 0
        if node.kind == "artifact":
            producer = self._producers.get(node.id) or next(iter(self._find_producers(node.id)), None)
            return [self._create_step(producer)] if producer else [], 0
        if node.kind == "step":
            return self._expand_step(self._steps[node.id]), 0
        if node.kind == "start":
            return self._expand_run(self._read_run(str(node.facts["run"]))[0])
        return [], 0

    def _find_producers(self, digest: str) -> list[StepRun]:
        """Return the steps with this output: first those that ran, then those that used the cache."""
        return sorted(find_steps_with(self._books, "out", digest, _MAX_RECORDS), key=lambda step: step.state != "ran")

    def _expand_release(self, node: LineageNode) -> list[LineageNode]:
        if node.id != self._root:
            return []  # a release for comparison or one that served before has its own lineage
        run_id, package = str(node.facts["run"]), str(node.facts["package"])
        producers = (
            [step for step in self._read_run(run_id)[1].values() if package in step.outputs.values()] if run_id else []
        )
        return [self._create_artifact(package, producers[0] if producers else None)]

    def _expand_step(self, step: StepRun) -> list[LineageNode]:
        run, steps = self._read_run(step.run)
        nodes: list[LineageNode] = []
        for source, outputs in find_sources(run, step, steps):
            nodes += [self._create_artifact(source.outputs[name], source) for name in outputs] or [
                self._create_step(source)
            ]
        return nodes or [*self._find_loaded_releases(step), _create_start(run)]

    def _find_loaded_releases(self, step: StepRun) -> list[LineageNode]:
        """Return the releases whose package a step loaded from the registry."""
        releases = [
            release
            for digest in step.outputs.values()
            for release in self._books.releases.find(package=digest, limit=1)
        ]
        return [
            create_release_node(release, f"see `runs lineage {release.label}`")
            for release in releases
            if release.run != step.run
        ]

    def _expand_run(self, run: Run) -> tuple[list[LineageNode], int]:
        code = run.code
        commit = (
            f"commit {str(code['commit'])[:12]}{' with changes' if code.get('dirty') else ''}  "
            if code.get("commit")
            else ""
        )
        digest, policy = str(code.get("digest", "")), str(code.get("policy", ""))
        nodes = [
            LineageNode(
                "code", f"code:{digest}:{policy}", f"code {commit}{digest[:12]}  policy {policy[:12]}", dict(code)
            )
        ]
        cause = self._find_event(run.started_by.event)
        if cause is not None:
            reason = cause.announcement.reason
            nodes.append(
                LineageNode("event", cause.id, f"event {cause.kind} of {cause.subject}  {reason}", {"kind": cause.kind})
            )
        batches = self._books.verdicts.find(run=run.id, check="schema", limit=_MAX_RECORDS)
        nodes += [
            LineageNode(
                "batch",
                verdict.subject,
                f"batch {verdict.subject}  {verdict.outcome}: {verdict.reason}",
                {"verdict": verdict.id},
            )
            for verdict in batches
        ]
        return nodes + self._find_earlier_batches(run, {verdict.subject.partition("/")[0] for verdict in batches}), 0

    def _find_earlier_batches(self, run: Run, sources: set[str]) -> list[LineageNode]:
        """Return the batches that earlier runs accepted into the tables that this run read."""
        for release in self._books.releases.find(run=run.id, limit=1):
            sources |= {release.trained_on.table} - {""}
        accepted: dict[str, Any] = {"check": "schema", "action": "proceed", "environment": run.environment}
        nodes = []
        for source in sorted(sources):
            earlier = self._books.verdicts.find(**accepted, before=run.id, newest=True, limit=_MAX_RECORDS)
            names = [
                verdict.subject
                for verdict in earlier
                if verdict.subject.startswith(f"{source}/") and verdict.run != run.id
            ]
            if names:
                count = f"{len(names)}{'+' if len(earlier) == _MAX_RECORDS else ''}"
                text = f"earlier batches of {source}  {count}, the newest {names[0]}"
                nodes.append(LineageNode("batch", f"batches:{run.id}:{source}", text, {"batches": names}))
        return nodes

    def _find_event(self, identifier: str) -> Event | None:
        events = self._books.events.find(id=identifier, limit=1) if identifier else []
        return events[0] if events else None

    def _read_run(self, identifier: str) -> tuple[Run, dict[str, StepRun]]:
        if identifier not in self._runs:
            run = self._books.runs.get(identifier)
            self._runs[identifier] = run, find_last_attempts(list_steps(self._books, identifier))
        return self._runs[identifier]

    def _create_step(self, step: StepRun) -> LineageNode:
        self._steps[step.id] = step
        return create_step_node(step)

    def _create_artifact(self, digest: str, producer: StepRun | None) -> LineageNode:
        if producer is None:
            return create_artifact_node(digest, find_artifact(self._books, digest))
        self._producers.setdefault(digest, producer)
        name = next(name for name, output in producer.outputs.items() if output == digest)
        return create_artifact_node(digest, find_artifact(self._books, digest), f"{producer.step}.{name}")


def _create_start(run: Run) -> LineageNode:
    cause = run.started_by
    actor = cause.trigger or cause.user or cause.by or "an unknown user"
    text = f"start of run {run.id[:18]}  {run.pipeline} by {actor}"
    return LineageNode("start", f"start:{run.id}", text, {"run": run.id, "params": run.params, "cause": run.cause})
