"""The graph of a run as it becomes known: which values are there, what they are called, and who waits for them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.blobs.artifacts import list_members, read_artifact
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.pipeline import Graph, Node, Ref, contains_refs
from tidemill.errors import TidemillError
from tidemill.flow.inputs import digest_of_value
from tidemill.flow.tasks import Argument, Kept, Made, Plain, Several, Task, with_ids


class Wiring:
    """What the nodes of a graph give and take; `free` are those whose inputs are all known, in no order."""

    def __init__(self, graph: Graph, blobs: Blobs, given: Mapping[str, Mapping[str, Artifact]]) -> None:
        self.free: list[Node] = []
        self.positions = {name: position for position, name in enumerate(graph.nodes)}
        self._blobs = blobs
        self._artifacts: dict[tuple[str, str], Artifact] = {}
        self._verdicts: dict[tuple[str, str], tuple[str, ...]] = {}
        self._members: dict[str, list[str]] = {}
        self._transient: dict[str, Task] = {}
        self._known: set[str] = set()
        self._waits: dict[str, tuple[Node, set[str]]] = {}
        self._takers: dict[str, list[str]] = defaultdict(list)
        for name, artifacts in given.items():
            self.give(name, artifacts)
        for node in graph.nodes.values():
            self._add(node)

    def _add(self, node: Node) -> None:
        missing = {need for need in node.needs if need not in self._known}
        if not missing:
            self.free.append(node)
            return
        self._waits[node.name] = node, missing
        for need in missing:
            self._takers[need].append(node.name)

    def give(
        self,
        name: str,
        artifacts: Mapping[str, Artifact],
        verdicts: Mapping[str, tuple[str, ...]] | None = None,
        made_by: Task | None = None,
    ) -> None:
        """The outputs of a node, and the ids of the verdicts in them; those of a transient node are `made_by` a task
        wherever they are needed.
        """
        self._artifacts |= {(name, output): artifact for output, artifact in artifacts.items()}
        self._verdicts |= {(name, output): ids for output, ids in (verdicts or {}).items()}
        if made_by is not None:
            self._transient[name] = made_by
        self._know(name)

    def _know(self, name: str) -> None:
        self._known.add(name)
        for taker in self._takers.pop(name, ()):
            node, missing = self._waits[taker]
            missing.discard(name)
            if not missing:
                del self._waits[taker]
                if node.step is _JOIN:
                    self._know(node.name)
                else:
                    self.free.append(node)

    def expand(self, node: Node) -> None:
        """Make a node of its own for each member of the list that a node maps over.

        Raises
        ------
        TidemillError
            where it is no list.
        """
        items = self._items(node)
        self._members[node.name] = names = [f"{node.name}[{place}]" for place in range(len(items))]
        if not names:
            self._know(node.name)
            return
        self._waits[node.name] = Node(node.name, _JOIN, {}), set(names)
        for name, item in zip(names, items, strict=True):
            self.positions[name] = self.positions[node.name]
            self._takers[name].append(node.name)
            self._add(Node(name, node.step, node.inputs | {node.over: item}))

    def _items(self, node: Node) -> list[Any]:
        ref = node.inputs[node.over]
        if ref.node in self._members:
            return self._joined(ref)
        artifact = self._artifacts[ref.node, ref.output]
        ids = self._verdicts.get((ref.node, ref.output), ())
        if artifact.kind == "list":
            kept = list_members(self._blobs, artifact)
            each = [(one,) for one in ids] if len(ids) == len(kept) else [()] * len(kept)
            return [Kept(one, ref.node, its) for one, its in zip(kept, each, strict=True)]
        hint: Any = node.step.hints.get(node.over, Any)
        try:
            return list(with_ids(read_artifact(self._blobs, artifact, list[hint]), ids))
        except TidemillError as wrong:
            raise TidemillError(
                f"step {node.name!r} maps over what step {ref.node!r} gave, but that is no list of {hint}",
                "let that step return a list",
            ) from wrong

    def _joined(self, ref: Ref) -> list[Ref]:
        return [Ref(one, ref.output) for one in self._members[ref.node]]

    def digests(self, node: Node) -> dict[str, str]:
        """The digests of a node's inputs by parameter."""
        return {name: self._digest_of(value) for name, value in node.inputs.items()}

    def _digest_of(self, value: Any) -> str:
        match value:
            case Kept(artifact=artifact):
                return artifact.id
            case Ref() if value.node in self._members:
                return digest("list", map(self._digest_of, self._joined(value)))
            case Ref():
                return self._artifacts[value.node, value.output].id
        if contains_refs(value):
            return digest("list", map(self._digest_of, value))
        return digest("value", [digest_of_value(value)])

    def arguments(self, node: Node) -> dict[str, Argument]:
        """Where a process finds a node's inputs, by parameter."""
        return {name: self._argument(value) for name, value in node.inputs.items()}

    def _argument(self, value: Any) -> Argument:
        match value:
            case Kept():
                return value
            case Ref() if value.node in self._members:
                return Several(tuple(map(self._argument, self._joined(value))))
            case Ref() if value.node in self._transient:
                return Made(self._transient[value.node], value.output)
            case Ref():
                output = value.node, value.output
                return Kept(self._artifacts[output], value.node, self._verdicts.get(output, ()))
        return Several(tuple(map(self._argument, value))) if contains_refs(value) else Plain(value)


_JOIN: Any = object()


def digest(kind: str, parts: Iterable[str]) -> str:
    """The name of something that is made of these parts."""
    return hashlib.sha256("\0".join([kind, *parts]).encode()).hexdigest()
