"""Inclusion proofs of neighbouring leaves, made together.

The leaves of one batch share nearly all of their proofs. Walking down the tree once, and only
into those parts where a wanted leaf lies, each hash is read or made once for all of them instead
of once for each. What comes out equals `evidence.merkle.inclusion_proof` leaf by leaf, and a
property test says so. Refuses nothing: who asks for leaves outside the tree made a mistake.

Source: RFC 6962 §2.1.1.
"""

from collections.abc import Generator

from evidence.merkle import Frontier, NodeReader, hash_children

Path = tuple[bytes, ...]


def inclusion_proofs(
    first: int, end: int, frontier: Frontier, node: NodeReader
) -> Generator[Path, None, None]:
    """The proofs of the leaves first ≤ index < end, in their order.

    Args:
        first: ≥ 0.
        end: at most the frontier's size.
        frontier: right edge of the tree to whose root the proofs lead.
        node: reader of that tree's complete subtrees.

    Raises:
        ValueError: the leaves are not in the tree.
    """
    if not 0 <= first <= end <= frontier.size:
        raise ValueError("the leaves are not in the tree")
    above: Path = ()
    rest = _edges(frontier)
    for (level, index), peak in frontier.nodes.items():
        edge = rest.pop()
        yield from _below(level, index, first, end, node, above if edge is None else (edge, *above))
        above = (peak, *above)


def _edges(frontier: Frontier) -> list[bytes | None]:
    """What lies right of each peak, hashed together; the last peak's, which is nothing, first."""
    edges: list[bytes | None] = []
    edge: bytes | None = None
    for peak in reversed(frontier.nodes.values()):
        edges.append(edge)
        edge = peak if edge is None else hash_children(peak, edge)
    return edges


def _below(
    level: int, index: int, first: int, end: int, node: NodeReader, above: Path
) -> Generator[Path, None, None]:
    """The proofs of the wanted leaves below a complete subtree whose own proof is `above`."""
    if end <= index << level or first >= (index + 1) << level:
        return
    if level == 0:
        yield above
        return
    left, right = 2 * index, 2 * index + 1
    middle = right << (level - 1)
    if first < middle:
        yield from _below(level - 1, left, first, end, node, (node(level - 1, right), *above))
    if end > middle:
        yield from _below(level - 1, right, first, end, node, (node(level - 1, left), *above))
