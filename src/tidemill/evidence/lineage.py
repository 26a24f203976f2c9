"""Lineage: the inputs of a record back to the first ones, and everything that was created from it."""

from collections import deque
from typing import Literal

from msgspec import Struct, field

from tidemill.core.resources import BooksReader, JournalReader
from tidemill.evidence.downstream import Downstream
from tidemill.evidence.identify import RecordReference
from tidemill.evidence.node import LineageNode
from tidemill.evidence.upstream import Upstream

Direction = Literal["up", "down"]
_MAX_CHILDREN = 20
_MAX_NODES = 500


class Lineage(Struct, frozen=True, kw_only=True):
    """A graph without cycles: `edges` lead from a node to its inputs (up) or to the nodes created from it (down).

    `folded` is the number of hidden further nodes of a node; `cut` are the nodes that were not followed further.
    """

    subject: str
    direction: Direction
    nodes: dict[str, LineageNode]
    edges: dict[str, list[str]]
    folded: dict[str, int] = field(default_factory=dict)
    cut: tuple[str, ...] = ()


def trace_lineage(
    books: BooksReader,
    reference: RecordReference,
    direction: Direction = "up",
    *,
    depth: int = 0,
    journal: JournalReader | None = None,
    environment: str = "",
) -> Lineage:
    """Return the lineage of a record, at most `depth` levels deep (0: no limit) and with at most 500 nodes.

    Parameters
    ----------
    journal : the journal with the predictions of releases; without it they are not counted.
    environment : the environment of the journal.
    """
    walker: Upstream | Downstream
    walker = Upstream(books, journal) if direction == "up" else Downstream(books, journal, environment)
    root = walker.create_root(reference)
    nodes, edges, folded = {root.id: root}, dict[str, list[str]](), dict[str, int]()
    cut = []
    pending = deque([(root, 0)])
    while pending:
        node, level = pending.popleft()
        children, hidden = walker.expand(node)
        if not children:
            continue
        if (depth and level >= depth) or len(nodes) >= _MAX_NODES:
            cut.append(node.id)
            continue
        children = list({child.id: child for child in children}.values())
        more = max(0, len(children) - _MAX_CHILDREN) + hidden
        if more:
            folded[node.id] = more
        for child in children[:_MAX_CHILDREN]:
            if child.id not in nodes:
                nodes[child.id] = child
                pending.append((child, level + 1))
            elif _is_reachable(edges, child.id, node.id):
                continue
            edges.setdefault(node.id, []).append(child.id)
    return Lineage(subject=root.id, direction=direction, nodes=nodes, edges=edges, folded=folded, cut=tuple(cut))


def _is_reachable(edges: dict[str, list[str]], start: str, end: str) -> bool:
    """Return whether edges lead from one node to another."""
    seen, pending = {start}, [start]
    while pending:
        node = pending.pop()
        if node == end:
            return True
        following = [child for child in edges.get(node, ()) if child not in seen]
        seen.update(following)
        pending += following
    return False
