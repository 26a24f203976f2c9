"""Lineage: what went into a thing, back to its first inputs, and what was made from it."""

from collections import deque
from typing import Literal

from msgspec import Struct, field

from tidemill.core.resources import BooksReader, JournalReader
from tidemill.evidence.downstream import Downstream
from tidemill.evidence.identify import Named
from tidemill.evidence.node import Node
from tidemill.evidence.upstream import Upstream

Direction = Literal["up", "down"]
_FAN = 20
_MOST = 500


class Lineage(Struct, frozen=True, kw_only=True):
    """A graph without cycles: `edges` lead from a node to what went into it (up) or was made from it (down).

    `folded` tells of a node how many more there are than are shown, `cut` which nodes were not followed further.
    """

    subject: str
    direction: Direction
    nodes: dict[str, Node]
    edges: dict[str, list[str]]
    folded: dict[str, int] = field(default_factory=dict)
    cut: tuple[str, ...] = ()


def lineage(
    books: BooksReader,
    named: Named,
    direction: Direction = "up",
    *,
    depth: int = 0,
    journal: JournalReader | None = None,
    environment: str = "",
) -> Lineage:
    """The lineage of what a text named, at most `depth` levels far (0: to its end) and 500 nodes large.

    Parameters
    ----------
    journal : where the predictions of releases are counted; without one they are not.
    environment : whose journal that is.
    """
    walk: Upstream | Downstream
    walk = Upstream(books, journal) if direction == "up" else Downstream(books, journal, environment)
    root = walk.root(named)
    nodes, edges, folded = {root.id: root}, dict[str, list[str]](), dict[str, int]()
    cut = []
    waiting = deque([(root, 0)])
    while waiting:
        node, level = waiting.popleft()
        found, beyond = walk.next(node)
        if not found:
            continue
        if (depth and level >= depth) or len(nodes) >= _MOST:
            cut.append(node.id)
            continue
        found = list({one.id: one for one in found}.values())
        more = max(0, len(found) - _FAN) + beyond
        if more:
            folded[node.id] = more
        for one in found[:_FAN]:
            if one.id not in nodes:
                nodes[one.id] = one
                waiting.append((one, level + 1))
            elif _leads(edges, one.id, node.id):
                continue
            edges.setdefault(node.id, []).append(one.id)
    return Lineage(subject=root.id, direction=direction, nodes=nodes, edges=edges, folded=folded, cut=tuple(cut))


def _leads(edges: dict[str, list[str]], start: str, end: str) -> bool:
    """Whether there is a way from one node to another."""
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        if here == end:
            return True
        following = [node for node in edges.get(here, ()) if node not in seen]
        seen.update(following)
        waiting += following
    return False
