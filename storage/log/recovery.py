"""The start of a log: what was signed before, anywhere, must be what we have.

1. The newest checkpoint of the database is read; our own keys must verify it.
2. Claims are gathered: the head store, the tile store's checkpoint, and each witness's answer.
3. A claim to more leaves than the database has means that it was put back: refused.
4. The published tree is loaded from its tiles and must have the published root.
5. The database's leaves beyond it are appended and must lead to the database's own root, so
   what is published is a beginning of what is in the database.
6. Each claim's root must be the root of our tree at that size: else two histories exist.
7. A head behind the database (killed between commit and swap) is moved up. The steps before
   wrote nothing, and nothing was signed.

Refuses, with `LogRolledBack` naming who knows better, in 3 and 6: under that origin nothing is
ever signed again. A successor log with a new origin begins with a statement that says so.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evidence.errors import EvidenceError
from evidence.merkle import EMPTY_ROOT, Frontier, tree_root
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from storage import records
from storage.errors import IntegrityAlarm, LogRolledBack, NotFound
from storage.log.heads import Head
from storage.log.publisher import Publisher
from storage.log.rows import leaf_hashes
from storage.log.submission import CommittedHead, LogStores, WitnessAnswer
from storage.log.tree import LogTree

CATCH_UP_LEAVES = 65_536
"""Unpublished leaves kept in memory at most while a log catches up: 64 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's word that our log had this size, and perhaps this root.

    Attributes:
        source: who says so, for the operator.
        size: number of leaves.
        root: 32 bytes, or None where only the size is known.
    """

    source: str
    size: int
    root: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A log that may go on.

    Attributes:
        organ: of the log.
        head: the newest commit.
        tree: the published tree; `catch_up` grows it to the head.
        published: size and root of the published checkpoint; the empty tree before the first.
    """

    organ: str
    head: CommittedHead
    tree: LogTree
    published: Head


def recover(
    stores: LogStores, log_keys: tuple[VerifierKey, ...], witnessed: Iterable[WitnessAnswer]
) -> Recovered:
    """Do the steps of the module's procedure.

    Args:
        stores: with the head held by this process.
        log_keys: public keys of the log's signer.
        witnessed: what each witness that could be reached answered.

    Raises:
        NotFound: the log was never made here.
        LogRolledBack: somebody saw more, or something else, than we have.
        IntegrityAlarm: a checkpoint, a tile or a row of ours is damaged.
    """
    organ, head = _newest(stores, log_keys)  # 1
    published = published_head(stores, log_keys)
    in_head_store = stores.heads.read()
    claims = [  # 2
        Claim(source="the head store", size=in_head_store.size, root=in_head_store.root),
        Claim(source="the tile store", size=published.size, root=published.root),
        *_claims(witnessed),
    ]
    _require_no_more(claims, head.size)  # 3
    tree = LogTree.load(stores.tiles, published.size, published.root)  # 4
    root_at = _append_unpublished(stores, tree, published.size, head, claims)  # 5
    _require_same(claims, lambda size: root_at[size])  # 6
    if in_head_store.size < head.size:  # 7
        stores.heads.swap(in_head_store, Head(size=head.size, root=head.root))
    return Recovered(organ=organ, head=head, tree=tree, published=published)


def compare(witnessed: Iterable[WitnessAnswer], size: int, root_at: Callable[[int], bytes]) -> None:
    """Do steps 3 and 6 for witnesses that answer after the start.

    Args:
        witnessed: what they answered.
        size: of our tree.
        root_at: our root at any size up to that.

    Raises:
        LogRolledBack: one of them saw more, or something else, than we have.
    """
    claims = _claims(witnessed)
    _require_no_more(claims, size)
    _require_same(claims, root_at)


def catch_up(stores: LogStores, recovered: Recovered, publisher: Publisher) -> None:
    """Grow the tree to the head, publishing full bundles on the way so that memory is bounded.

    Checkpoints that an older version did not publish are published now.
    """
    tree, start, end = recovered.tree, recovered.published.size, recovered.head.size
    frontier = tree.frontier(start)
    for first in range(start, end, CATCH_UP_LEAVES):
        last = min(first + CATCH_UP_LEAVES, end)
        with stores.db.read() as connection:
            for _index, leaf_hash in leaf_hashes(connection, stores.log_id, first, last):
                tree.add(frontier.append(leaf_hash))
        if last < end:
            publisher.publish_full(last)
    publisher.fill_notes()


def _newest(stores: LogStores, log_keys: tuple[VerifierKey, ...]) -> tuple[str, CommittedHead]:
    with stores.db.read() as connection:
        known = records.log_of(connection, stores.log_id)
        newest = records.newest_checkpoint(connection, stores.log_id)
    if known is None or newest is None:
        raise NotFound("the database does not know this log")
    organ, origin = known
    if origin != stores.origin:
        raise IntegrityAlarm("the database knows this log under another origin")
    claimed = _verified(newest.note, log_keys, "the database")
    if claimed != Head(size=newest.size, root=newest.root):
        raise IntegrityAlarm("the newest checkpoint's row is not what its note says")
    return organ, CommittedHead(
        size=newest.size, root=newest.root, note=newest.note, committed_at=newest.committed_at
    )


def published_head(stores: LogStores, log_keys: tuple[VerifierKey, ...]) -> Head:
    """Size and root of the published checkpoint; the empty tree before the first.

    Raises:
        IntegrityAlarm: it was not signed by this log.
        Unavailable: the tile store does not answer.
    """
    note = stores.tiles.checkpoint()
    if note is None:
        return Head(size=0, root=EMPTY_ROOT)
    return _verified(note, log_keys, "the tile store")


def _verified(note: bytes, log_keys: tuple[VerifierKey, ...], place: str) -> Head:
    kinds = frozenset(key.kind for key in log_keys)
    try:
        checkpoint = open_checkpoint(note, log_keys, require=kinds).checkpoint
    except EvidenceError as error:
        raise IntegrityAlarm(f"the checkpoint in {place} was not signed by this log") from error
    return Head(size=checkpoint.size, root=checkpoint.root)


def _claims(witnessed: Iterable[WitnessAnswer]) -> Sequence[Claim]:
    return [
        Claim(source=f"witness {answer.witness}", size=answer.size, root=answer.root)
        for answer in witnessed
    ]


def _require_no_more(claims: Iterable[Claim], size: int) -> None:
    for claim in claims:
        if claim.size > size:
            raise LogRolledBack(
                f"{claim.source} saw {claim.size} leaves and the database has {size}: "
                "it was put back, and this log must not sign again"
            )


def _require_same(claims: Iterable[Claim], root_at: Callable[[int], bytes]) -> None:
    for claim in claims:
        if claim.root is not None and claim.root != root_at(claim.size):
            raise LogRolledBack(f"{claim.source} saw another tree of {claim.size} leaves than ours")


def _append_unpublished(
    stores: LogStores, tree: LogTree, start: int, head: CommittedHead, claims: Iterable[Claim]
) -> dict[int, bytes]:
    """Append the leaves beyond what is published; returns our root at each claimed size."""
    sizes = {claim.size for claim in claims}
    root_at = {size: tree_root(size, tree.node) for size in sizes if size <= start}
    frontier: Frontier = tree.frontier(start)
    with stores.db.read() as connection:
        for index, leaf_hash in leaf_hashes(connection, stores.log_id, start, head.size):
            if index != frontier.size:
                raise IntegrityAlarm(f"the database lacks the record at index {frontier.size}")
            frontier.append(leaf_hash)
            if frontier.size in sizes:
                root_at[frontier.size] = frontier.root()
    if frontier.size != head.size:
        raise IntegrityAlarm(f"the database lacks the record at index {frontier.size}")
    if frontier.root() != head.root:
        raise LogRolledBack("the published tree is no beginning of the tree in the database")
    return root_at
