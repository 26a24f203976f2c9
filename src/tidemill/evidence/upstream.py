"""Upstream: from a thing one step back to what went into it."""

from typing import Any

from tidemill.core.event import Event
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.run import Run, StepRun
from tidemill.evidence.identify import Named, served
from tidemill.evidence.node import Node, artifact_node, release_node, run_node, step_node
from tidemill.evidence.story import artifact_of, feeds, last_tries, sinks, steps_of, steps_with
from tidemill.ledger.releases import find_release

_MANY = 100


class Upstream:
    """Walks from a thing to what it came of, within the run in which it was met; remembers what it read."""

    def __init__(self, books: BooksReader, journal: JournalReader | None = None) -> None:
        self._books = books
        self._journal = journal
        self._runs: dict[str, tuple[Run, dict[str, StepRun]]] = {}
        self._steps: dict[str, StepRun] = {}
        self._made: dict[str, StepRun] = {}
        self._root = ""

    def root(self, named: Named) -> Node:
        """The node from which the walk begins."""
        self._root = named.id
        if named.kind == "release":
            return release_node(find_release(self._books, named.id))
        if named.kind == "run":
            return run_node(self._run(named.id)[0])
        if named.kind == "artifact":
            return artifact_node(named.id, artifact_of(self._books, named.id))
        assert self._journal is not None
        answer = served(self._journal, named.model, named.id)[0]
        self._root = str(answer["release"])
        text = f"prediction {named.id}  {named.model} said {answer['value']}  by {self._root}, as {answer['role']}"
        return Node("prediction", named.id, text, {"release": self._root, "key": answer["key"]})

    def next(self, node: Node) -> tuple[list[Node], int]:
        """What went into a node; and how many more than that there are."""
        if node.kind == "prediction":
            return [release_node(find_release(self._books, self._root))], 0
        if node.kind == "release":
            return self._into_release(node), 0
        if node.kind == "run":
            run, steps = self._run(node.id)
            return [self._step(step) for step in sinks(run, steps)] or [_start(run)], 0
        if node.kind == "artifact":
            made = self._made.get(node.id) or next(iter(self._producers(node.id)), None)
            return [self._step(made)] if made else [], 0
        if node.kind == "step":
            return self._into_step(self._steps[node.id]), 0
        if node.kind == "start":
            return self._into_run(self._run(str(node.facts["run"]))[0])
        return [], 0

    def _producers(self, digest: str) -> list[StepRun]:
        """Who made it: the first that ran, before those that took it from the cache."""
        return sorted(steps_with(self._books, "out", digest, _MANY), key=lambda step: step.state != "ran")

    def _into_release(self, node: Node) -> list[Node]:
        if node.id != self._root:
            return []  # what was compared with, or was served before: it has a lineage of its own
        run_id, package = str(node.facts["run"]), str(node.facts["package"])
        producers = (
            [step for step in self._run(run_id)[1].values() if package in step.outputs.values()] if run_id else []
        )
        return [self._artifact(package, producers[0] if producers else None)]

    def _into_step(self, step: StepRun) -> list[Node]:
        run, steps = self._run(step.run)
        found: list[Node] = []
        for made, outputs in feeds(run, step, steps):
            found += [self._artifact(made.outputs[name], made) for name in outputs] or [self._step(made)]
        return found or [*self._brought_in(step), _start(run)]

    def _brought_in(self, step: StepRun) -> list[Node]:
        """Releases whose package a step took from the registry."""
        releases = [r for digest in step.outputs.values() for r in self._books.releases.find(package=digest, limit=1)]
        return [release_node(one, f"see `runs lineage {one.label}`") for one in releases if one.run != step.run]

    def _into_run(self, run: Run) -> tuple[list[Node], int]:
        code = run.code
        commit = (
            f"commit {str(code['commit'])[:12]}{' with changes' if code.get('dirty') else ''}  "
            if code.get("commit")
            else ""
        )
        digest, policy = str(code.get("digest", "")), str(code.get("policy", ""))
        nodes = [
            Node("code", f"code:{digest}:{policy}", f"code {commit}{digest[:12]}  policy {policy[:12]}", dict(code))
        ]
        cause = self._event(run.started_by.event)
        if cause is not None:
            said = cause.about.reason
            nodes.append(
                Node("event", cause.id, f"event {cause.kind} of {cause.subject}  {said}", {"kind": cause.kind})
            )
        batches = self._books.verdicts.find(run=run.id, check="schema", limit=_MANY)
        nodes += [
            Node("batch", one.subject, f"batch {one.subject}  {one.outcome}: {one.reason}", {"verdict": one.id})
            for one in batches
        ]
        return nodes + self._earlier(run, {one.subject.partition("/")[0] for one in batches}), 0

    def _earlier(self, run: Run, sources: set[str]) -> list[Node]:
        """The batches that earlier runs had let into the tables that this one read."""
        for release in self._books.releases.find(run=run.id, limit=1):
            sources |= {release.trained_on.table} - {""}
        let_in: dict[str, Any] = {"check": "schema", "action": "proceed", "environment": run.environment}
        nodes = []
        for source in sorted(sources):
            earlier = self._books.verdicts.find(**let_in, before=run.id, newest=True, limit=_MANY)
            names = [one.subject for one in earlier if one.subject.startswith(f"{source}/") and one.run != run.id]
            if names:
                count = f"{len(names)}{'+' if len(earlier) == _MANY else ''}"
                text = f"earlier batches of {source}  {count}, the newest {names[0]}"
                nodes.append(Node("batch", f"batches:{run.id}:{source}", text, {"batches": names}))
        return nodes

    def _event(self, identifier: str) -> Event | None:
        found = self._books.events.find(id=identifier, limit=1) if identifier else []
        return found[0] if found else None

    def _run(self, identifier: str) -> tuple[Run, dict[str, StepRun]]:
        if identifier not in self._runs:
            run = self._books.runs.get(identifier)
            self._runs[identifier] = run, last_tries(steps_of(self._books, identifier))
        return self._runs[identifier]

    def _step(self, step: StepRun) -> Node:
        self._steps[step.id] = step
        return step_node(step)

    def _artifact(self, digest: str, made: StepRun | None) -> Node:
        if made is None:
            return artifact_node(digest, artifact_of(self._books, digest))
        self._made.setdefault(digest, made)
        name = next(name for name, one in made.outputs.items() if one == digest)
        return artifact_node(digest, artifact_of(self._books, digest), f"{made.step}.{name}")


def _start(run: Run) -> Node:
    cause = run.started_by
    who = cause.trigger or cause.user or cause.by or "an unknown user"
    text = f"start of run {run.id[:18]}  {run.pipeline} by {who}"
    return Node("start", f"start:{run.id}", text, {"run": run.id, "params": run.params, "cause": run.cause})
