"""Proofs made together equal proofs made one by one."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.merkle import Frontier, inclusion_proof
from storage.log.proving import inclusion_proofs

LARGEST = 700
NODES: dict[tuple[int, int], bytes] = {}
_frontier = Frontier.empty()
for _index in range(LARGEST):
    for _level, _place, _node in _frontier.append(hashlib.sha256(bytes([_index % 256])).digest()):
        NODES[_level, _place] = _node


def node(level: int, index: int) -> bytes:
    """Return a complete node of the largest tree."""
    return NODES[level, index]


@given(st.data())
def test_any_range_of_any_tree(data: st.DataObject) -> None:
    """Each proof of a range is that of RFC 6962."""
    size = data.draw(st.integers(0, LARGEST))
    first = data.draw(st.integers(0, size))
    end = data.draw(st.integers(first, size))
    made = list(inclusion_proofs(first, end, Frontier.at(size, node), node))
    assert made == [tuple(inclusion_proof(index, size, node)) for index in range(first, end)]


@pytest.mark.parametrize(("first", "end"), [(-1, 2), (3, 2), (0, 6)])
def test_a_range_outside_the_tree_is_a_mistake(first: int, end: int) -> None:
    """Leaves that are not there have no proof."""
    with pytest.raises(ValueError, match="not in the tree"):
        list(inclusion_proofs(first, end, Frontier.at(5, node), node))
