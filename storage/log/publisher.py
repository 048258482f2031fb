"""The publisher: what is committed becomes files that anybody may be handed.

For each bundle of 256 leaves, in their order: the encrypted texts, the checkpoints that were signed
meanwhile, then the entries under the same number; then the tiles of hashes that are full; then what
is not full yet, in partial forms; and last the newest committed checkpoint, byte for byte as it was
signed. So no checkpoint points at a file that is not there, and no entry is out before its text is
safe.

Every file is a function of what was committed and of keys that are durable before the first of
them. A crash anywhere therefore leaves a beginning, and doing it again writes the same bytes,
which write-once stores take as success. If they ever differ, the store refuses, nothing more is
published, and the sequencer is stopped before its memory grows beyond a bound.

Refuses: to sign anything, and to publish what the head store does not know.
"""

import threading
import time
from collections.abc import Callable

from evidence.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    TileName,
    encode_bundle,
    width_in_tree,
)
from storage.errors import IntegrityAlarm, NotFound, StorageError
from storage.log.notes import encode_notes, notes_name, sizes_before
from storage.log.rows import LoggedRow, checkpoints_between, logged_rows
from storage.log.submission import CommittedHead, LogStores
from storage.log.texts import LoggedText, seal_text, texts_name
from storage.log.tree import LogTree

PERIOD_S = 1.0
"""At most one publication in this time."""


class Publisher:
    """Publishes one log. `publish` may be called by hand; the thread calls it when woken."""

    def __init__(
        self,
        stores: LogStores,
        tree: LogTree,
        *,
        published_size: int,
        published: Callable[[CommittedHead], None],
        permitted: Callable[[], None] = lambda: None,
        period_s: float = PERIOD_S,
    ) -> None:
        """Take over where the tile store's checkpoint says.

        Args:
            stores: of a log that recovery found whole.
            tree: grown at least as far as anything that will be published.
            published_size: of the published checkpoint, 0 before the first.
            published: called after each publication, in this thread: witnesses and
                time-stamps are waiting for it. It must only wake somebody.
            permitted: raises where another node publishes this log now; asked last, before the
                checkpoint, which alone may be replaced.
            period_s: see `PERIOD_S`.
        """
        self._stores = stores
        self._tree = tree
        self._published_size = published_size
        self._full_size = published_size // TILE_WIDTH * TILE_WIDTH
        self._published = published
        self._permitted = permitted
        self._period_s = period_s
        self._turn = threading.Lock()
        self._due = threading.Event()
        self._closing = threading.Event()
        self._fault: Exception | None = None
        self._thread: threading.Thread | None = None

    @property
    def published_size(self) -> int:
        """Number of leaves under the published checkpoint."""
        return self._published_size

    @property
    def fault(self) -> Exception | None:
        """Why the last attempt failed; None once one succeeded."""
        return self._fault

    def start(self, head: Callable[[], CommittedHead], died: Callable[[Exception], None]) -> None:
        """Publish from now on whenever woken.

        Args:
            head: the newest commit.
            died: called if this thread meets a fault that is not the store's and ends.
        """
        self._thread = threading.Thread(
            target=self._run, args=(head, died), name="log-publisher", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._due.set()

    def close(self) -> None:
        """End the thread; what is not published waits for `publish` or the next start."""
        self._closing.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def publish(self, head: CommittedHead) -> None:
        """Publish everything up to a commit; nothing to do where that has happened.

        Args:
            head: committed, and known to the head store.

        Raises:
            AlreadyExists: a store holds other bytes than those that were committed.
            StorageError: a store does not answer; everything may be tried again.
        """
        with self._turn:
            if head.size > self._published_size or self._stores.tiles.checkpoint() is None:
                self._publish_full(head.size)
                self._publish_edge(head.size)
                self._permitted()
                self._stores.tiles.put_checkpoint(head.note)
                self._published_size = head.size
                self._published(head)

    def publish_full(self, size: int) -> None:
        """Publish the bundles and tiles that are full in the tree of this size, and no checkpoint.

        Recovery does so to keep memory bounded while a long log catches up. Raises as `publish`.
        """
        with self._turn:
            self._publish_full(size)

    def fill_notes(self) -> None:
        """Publish the checkpoints of logs that were published before their bundles existed.

        Goes back from the newest full bundle to the first whose checkpoints are there. Raises as
        `publish`.
        """
        with self._turn:
            for index in reversed(range(self._full_size // TILE_WIDTH)):
                try:
                    self._stores.tiles.get(notes_name(index))
                    break
                except NotFound:
                    self._publish_notes(index, TILE_WIDTH)
            if width := self._published_size % TILE_WIDTH:
                self._publish_notes(self._published_size // TILE_WIDTH, width)

    def _run(self, head: Callable[[], CommittedHead], died: Callable[[Exception], None]) -> None:
        while not self._closing.is_set():
            self._due.wait()
            self._due.clear()
            begun = time.monotonic()
            try:
                self.publish(head())
                self._fault = None
            except StorageError as error:  # kept where health checks look; tried again below
                self._fault = error
                self._due.set()
            except Exception as error:  # noqa: BLE001 - a mistake of ours: halts the log; a thread
                # that merely ended would leave a log that seals and is never published
                self._fault = error
                died(error)
                return
            self._closing.wait(max(0.0, begun + self._period_s - time.monotonic()))

    def _publish_full(self, size: int) -> None:
        """Bundles first, then full tiles of each level; then memory lets go of them."""
        before = self._full_size
        end = size // TILE_WIDTH * TILE_WIDTH
        for first in range(before, end, TILE_WIDTH):
            texts, entries = self._bundles(first, first + TILE_WIDTH)
            self._stores.tiles.put(texts_name(first // TILE_WIDTH), texts)
            self._publish_notes(first // TILE_WIDTH, TILE_WIDTH)
            self._stores.tiles.put(TileName(level=None, index=first // TILE_WIDTH).path(), entries)
        level = 0
        while end >> (TILE_HEIGHT * (level + 1)):
            width_leaves = TILE_HEIGHT * (level + 1)
            for index in range(before >> width_leaves, end >> width_leaves):
                tile = self._tree.tile(level, index, TILE_WIDTH)
                self._stores.tiles.put(TileName(level=level, index=index).path(), tile)
            level += 1
        self._full_size = end
        self._tree.settle(end)

    def _publish_edge(self, size: int) -> None:
        """The partial forms at the right edge of the tree of this size."""
        width = size % TILE_WIDTH
        if width:
            index = size // TILE_WIDTH
            texts, entries = self._bundles(size - width, size)
            self._stores.tiles.put_partial(texts_name(index), width, texts)
            self._publish_notes(index, width)
            name = TileName(level=None, index=index).path()
            self._stores.tiles.put_partial(name, width, entries)
        level = 0
        while size >> (TILE_HEIGHT * level):
            index = size >> (TILE_HEIGHT * (level + 1))
            width = width_in_tree(level, index, size)
            if width:
                tile = self._tree.tile(level, index, width)
                name = TileName(level=level, index=index).path()
                self._stores.tiles.put_partial(name, width, tile)
            level += 1

    def _publish_notes(self, index: int, width: int) -> None:
        """The checkpoints of the first `width` leaves of a bundle, if one was signed for them."""
        stores, end = self._stores, index * TILE_WIDTH + width
        with stores.db.read() as connection:
            signed = checkpoints_between(connection, stores.log_id, sizes_before(index), end)
        if signed and width == TILE_WIDTH:
            stores.tiles.put(notes_name(index), encode_notes(signed))
        elif signed:
            stores.tiles.put_partial(notes_name(index), width, encode_notes(signed))

    def _bundles(self, first: int, end: int) -> tuple[bytes, bytes]:
        """The texts and the entries with first ≤ index < end, as bundles."""
        stores = self._stores
        with stores.db.read() as connection:
            rows = logged_rows(connection, stores.log_id, first, end)
        if [row.idx for row in rows] != list(range(first, end)):
            raise IntegrityAlarm("committed records are missing from the database")
        keys = stores.texts.provide(stores.origin, first, end - first)
        texts = [
            seal_text(key, stores.origin, row.idx, _text_of(row))
            for key, row in zip(keys, rows, strict=True)
        ]
        return encode_bundle(texts), encode_bundle([_entry_of(row) for row in rows])


def _text_of(row: LoggedRow) -> LoggedText:
    if row.statement is None:
        raise IntegrityAlarm("a committed text is missing from the database")
    return LoggedText(
        statement=row.statement, received_at=row.received_at, committed_size=row.committed_size
    )


def _entry_of(row: LoggedRow) -> bytes:
    leaf = row.leaf()
    if leaf is None:
        raise IntegrityAlarm("a committed record lacks its key or its id")
    return leaf
