"""The state of a graph during a run: the outputs that exist, their digests, and the nodes that still miss inputs."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.blobs.artifacts import list_members, read_artifact
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph, Node, Ref, contains_refs
from tidemill.errors import TidemillError
from tidemill.flow.inputs import digest_value
from tidemill.flow.tasks import (
    Argument,
    ConstantValue,
    ListValue,
    StoredValue,
    Task,
    TransientValue,
    assign_verdict_ids,
)


class Wiring:
    """The outputs and inputs of the nodes of a graph; `runnable` are the nodes whose inputs all exist, in any order."""

    def __init__(self, graph: Graph, blobs: Blobs, provided: Mapping[str, Mapping[str, Artifact]]) -> None:
        self.runnable: list[Node] = []
        self.positions = {name: position for position, name in enumerate(graph.nodes)}
        self._blobs = blobs
        self._artifacts: dict[tuple[str, str], Artifact] = {}
        self._verdicts: dict[tuple[str, str], tuple[str, ...]] = {}
        self._members: dict[str, list[str]] = {}
        self._transient: dict[str, Task] = {}
        self._digests: dict[int, tuple[Any, str]] = {}
        self._complete: set[str] = set()
        self._waiting: dict[str, tuple[Node, set[str]]] = {}
        self._dependents: dict[str, list[str]] = defaultdict(list)
        for name, artifacts in provided.items():
            self.set_outputs(name, artifacts)
        for node in graph.nodes.values():
            self._add(node)

    def _add(self, node: Node) -> None:
        missing = {need for need in node.needs if need not in self._complete}
        if not missing:
            self.runnable.append(node)
            return
        self._waiting[node.name] = node, missing
        for need in missing:
            self._dependents[need].append(node.name)

    def set_outputs(
        self,
        name: str,
        artifacts: Mapping[str, Artifact],
        verdicts: Mapping[str, tuple[str, ...]] | None = None,
        computed_by: Task | None = None,
    ) -> None:
        """Set the outputs of a node and the ids of the verdicts in them.

        The outputs of a transient node are `computed_by` a task in each process that needs them.
        """
        self._artifacts |= {(name, output): artifact for output, artifact in artifacts.items()}
        self._verdicts |= {(name, output): ids for output, ids in (verdicts or {}).items()}
        if computed_by is not None:
            self._transient[name] = computed_by
        self._mark_complete(name)

    def _mark_complete(self, name: str) -> None:
        self._complete.add(name)
        for dependent in self._dependents.pop(name, ()):
            node, missing = self._waiting[dependent]
            missing.discard(name)
            if not missing:
                del self._waiting[dependent]
                if node.step is _JOIN:
                    self._mark_complete(node.name)
                else:
                    self.runnable.append(node)

    def expand(self, node: Node) -> None:
        """Create a node for each member of the list that a node maps over.

        Raises
        ------
        TidemillError
            If the value is not a list.
        """
        items = self._list_items(node)
        self._members[node.name] = names = [f"{node.name}[{index}]" for index in range(len(items))]
        if not names:
            self._mark_complete(node.name)
            return
        self._waiting[node.name] = Node(node.name, _JOIN, {}), set(names)
        for name, item in zip(names, items, strict=True):
            self.positions[name] = self.positions[node.name]
            self._dependents[name].append(node.name)
            self._add(Node(name, node.step, node.inputs | {node.mapped_parameter: item}))

    def _list_items(self, node: Node) -> list[Any]:
        ref = node.inputs[node.mapped_parameter]
        if ref.node in self._members:
            return self._list_member_refs(ref)
        artifact = self._artifacts[ref.node, ref.output]
        ids = self._verdicts.get((ref.node, ref.output), ())
        if artifact.kind == "list":
            stored = list_members(self._blobs, artifact)
            member_ids = [(verdict,) for verdict in ids] if len(ids) == len(stored) else [()] * len(stored)
            return [
                StoredValue(member, ref.node, verdict_ids)
                for member, verdict_ids in zip(stored, member_ids, strict=True)
            ]
        hint: Any = node.step.hints.get(node.mapped_parameter, Any)
        try:
            return list(assign_verdict_ids(read_artifact(self._blobs, artifact, list[hint]), ids))
        except TidemillError as error:
            raise TidemillError(
                f"step {node.name!r} maps over the output of step {ref.node!r}, which is not a list of {hint}",
                f"return a list from step {ref.node!r}",
            ) from error

    def _list_member_refs(self, ref: Ref) -> list[Ref]:
        return [Ref(member, ref.output) for member in self._members[ref.node]]

    def digest_inputs(self, node: Node) -> dict[str, str]:
        """Return the digests of the inputs of a node, by parameter."""
        return {name: self._digest(value) for name, value in node.inputs.items()}

    def _digest(self, value: Any) -> str:
        match value:
            case StoredValue(artifact=artifact):
                return artifact.id
            case Ref() if value.node in self._members:
                return digest("list", map(self._digest, self._list_member_refs(value)))
            case Ref():
                return self._artifacts[value.node, value.output].id
        if contains_refs(value):
            return digest("list", map(self._digest, value))
        # Several steps get the same policy; the value is kept, so that no other object gets its id.
        if id(value) not in self._digests:
            self._digests[id(value)] = value, digest("value", [digest_value(value)])
        return self._digests[id(value)][1]

    def resolve_arguments(self, node: Node) -> dict[str, Argument]:
        """Return the arguments of a node for a task, by parameter."""
        return {name: self._argument(value) for name, value in node.inputs.items()}

    def _argument(self, value: Any) -> Argument:
        match value:
            case StoredValue():
                return value
            case Ref() if value.node in self._members:
                return ListValue(tuple(map(self._argument, self._list_member_refs(value))))
            case Ref() if value.node in self._transient:
                return TransientValue(self._transient[value.node], value.output)
            case Ref():
                output = value.node, value.output
                return StoredValue(self._artifacts[output], value.node, self._verdicts.get(output, ()))
        return ListValue(tuple(map(self._argument, value))) if contains_refs(value) else ConstantValue(value)


_JOIN: Any = object()


def digest(kind: str, parts: Iterable[str]) -> str:
    """Return the digest of a sequence of texts; `kind` keeps digests for different purposes apart."""
    return hashlib.sha256("\0".join([kind, *parts]).encode()).hexdigest()
