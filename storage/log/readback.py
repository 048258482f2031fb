"""What a log's files say, read back without its database: entries, texts and checkpoints.

1. The published checkpoint is verified under the log's keys; the right edge of the tiles must
   lead to its root.
2. Each entry is hashed and must be the leaf that the tiles, checked up to that root, have at its
   index. So one damaged file is one fault, and what stands beside it is still believed.
   Where a tile is damaged, all entries together must lead to the signed root.
3. Each text opens with its key and hashes to the digest in its entry.
4. Each checkpoint of the bundles is verified under the log's keys, and its root must be the root
   of these leaves. Each size that a text names as its batch's must be among them.
   What 2 to 4 lack is taken from a database as a second source, where it proves itself as well.
5. What the database alone knows, the leaves that are committed and not yet published, is read
   from there in the same form: a leaf is made of its parts, a text must hash to what was signed,
   and the newest checkpoint must be the log's own and have their root.

Does: yields a bundle at a time, so that memory does not grow with the log. Refuses to take the
word of a file or of a row for anything that a signed root can tell.

Codes: published_invalid tile_damaged entry_damaged text_missing text_key_missing text_damaged
checkpoint_missing checkpoint_damaged tail_damaged
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection

from evidence.digest import sha256_hex
from evidence.errors import EvidenceError
from evidence.leaf import Leaf, parse_leaf
from evidence.merkle import EMPTY_ROOT, Frontier, hash_leaf
from evidence.statement import parse_statement
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from evidence.tlog.tiles import TILE_WIDTH, TileName, decode_bundle
from storage.errors import IntegrityAlarm, NotFound
from storage.log.bundle import (
    Bundle,
    Entry,
    at_place,
    fault_of,
    proven_leaf,
    signed_at,
    text_of,
)
from storage.log.notes import decode_notes, notes_name
from storage.log.rows import checkpoints_between, logged_rows
from storage.log.submission import LogStores
from storage.log.texts import LoggedText, open_text, texts_name
from storage.log.tree import LogTree
from storage.records import StoredCheckpoint


class ReadLog:
    """One log, read from its files."""

    def __init__(self, stores: LogStores, log_keys: Sequence[VerifierKey]) -> None:
        """Do step 1.

        Args:
            stores: of the log; its tiles and its texts' keys are read, its database is not.
            log_keys: the log's public keys, from somewhere else than these stores.

        Raises:
            IntegrityAlarm: the published checkpoint is not the log's, or nothing leads to it.
            Unavailable: the tile store does not answer.
        """
        self._stores = stores
        self._log_keys = log_keys
        self._kinds = frozenset(key.kind for key in log_keys)
        self._note = stores.tiles.checkpoint()
        self.size, root = 0, EMPTY_ROOT
        if self._note is not None:
            opened = self._opened(self._note)
            if opened is None:
                raise IntegrityAlarm("the published checkpoint was not signed by this log")
            self.size, root = opened
        self._root = root
        self._whole: bool | None = None  # whether the entries alone lead to the root
        self._tree = self._load(root)
        self._second: Connection | None = None
        self._frontier = Frontier.empty()
        self._roots: dict[int, bytes] = {0: EMPTY_ROOT}
        self._demanded: set[int] = set()

    def bundles(self, second: Connection | None = None) -> Iterator[Bundle]:
        """Steps 2 to 4, once, in the order of the log; the empty log is one bundle too.

        Args:
            second: to a database of this log, for what the files have lost; faults are told
                all the same.
        """
        self._second = second
        for first in range(0, max(self.size, 1), TILE_WIDTH):
            bundle = Bundle(first=first, end=min(first + TILE_WIDTH, self.size), published=True)
            self._read_entries(bundle)
            self._read_notes(bundle)
            yield bundle

    def tail(self, connection: Connection, end: int) -> Iterator[Bundle]:
        """Step 5 for published ≤ index < end, after `bundles`.

        Args:
            connection: in the snapshot whose newest checkpoint has this size.
            end: size of that checkpoint.
        """
        for first in range(self.size, end, TILE_WIDTH):
            bundle = Bundle(first=first, end=min(first + TILE_WIDTH, end), published=False)
            self._take_rows(bundle, connection)
            log = self._stores.log_id
            rows = checkpoints_between(connection, log, bundle.first, bundle.end)
            self._judge_notes(bundle, ((row.committed_at, row.note) for row in rows))
            self._roots = {one: root for one, root in self._roots.items() if one >= bundle.end}
            if bundle.end == end and end not in bundle.checkpoints:
                detail = "the unpublished rows do not lead to the newest signed root"
                bundle.faults.append(fault_of("tail_damaged", f"checkpoint {end}", detail))
            yield bundle

    def root(self) -> bytes:
        """Root of the leaves read so far, 32 bytes."""
        return self._frontier.root()

    def owed(self) -> frozenset[int]:
        """Sizes of batches that texts name and for which no checkpoint has been found so far."""
        return frozenset(self._demanded)

    # ------------------------------------------------------------------ the files

    def _read_entries(self, bundle: Bundle) -> None:
        count = bundle.end - bundle.first
        if not count:
            return
        if self._frontier.size != bundle.first:  # behind a damaged tile: the rest is sound
            with suppress(IntegrityAlarm):
                if self._tree is not None:
                    self._frontier = self._tree.frontier(bundle.first)
        number = bundle.first // TILE_WIDTH
        leaves = self._items(TileName(level=None, index=number).path(), count, bundle)
        sealed = self._items(texts_name(number), count, bundle)
        origin = self._stores.origin
        keys = self._stores.texts.find(origin, bundle.first, count)
        for place in range(count):
            index = bundle.first + place
            leaf_hash = self._leaf_hash(index, leaves, bundle)
            if leaf_hash is None:
                continue
            leaf = proven_leaf(leaves, place, leaf_hash)
            if leaf is None:
                detail = "the entry is not the leaf that the signed tree has here"
                bundle.faults.append(fault_of("entry_damaged", f"entry {index}", detail))
            text = self._text(bundle, index, at_place(sealed, place), keys.get(index), leaf)
            if leaf is None or text is None:
                leaf, text = self._from_second(index, leaf_hash, leaf, text)
            self._grow(bundle, index, leaf_hash, leaf, text)

    def _load(self, root: bytes) -> LogTree | None:
        """The tree of the tiles, or None where its edge is damaged and the entries suffice."""
        try:
            return LogTree.load(self._stores.tiles, self.size, root)
        except IntegrityAlarm:
            if not self._entries_lead_there():
                raise
            return None

    def _entries_lead_there(self) -> bool:
        """Whether the entries alone lead to the signed root; asked where tiles are damaged."""
        if self._whole is None:
            frontier = Frontier.empty()
            for first in range(0, self.size, TILE_WIDTH):
                name = TileName(level=None, index=first // TILE_WIDTH).path()
                for item in self._items(name, min(TILE_WIDTH, self.size - first), None):
                    frontier.append(hash_leaf(item))
            self._whole = (frontier.size, frontier.root()) == (self.size, self._root)
        return self._whole

    def _leaf_hash(self, index: int, leaves: Sequence[bytes], bundle: Bundle) -> bytes | None:
        """The hash that a leaf has in the signed tree, or None where nothing proves it."""
        detail = "the published tiles do not lead to the signed root"
        try:
            if self._tree is not None:
                return self._tree.node(0, index)
        except IntegrityAlarm as alarm:
            detail = alarm.detail
        entry = at_place(leaves, index - bundle.first)
        if entry is not None and self._entries_lead_there():
            if not any(fault.code == "tile_damaged" for fault in bundle.faults):
                bundle.faults.append(fault_of("tile_damaged", f"entry {index}", detail))
            return hash_leaf(entry)
        bundle.faults.append(fault_of("tile_damaged", f"entry {index}", detail))
        return None

    def _grow(
        self,
        bundle: Bundle,
        index: int,
        leaf_hash: bytes,
        leaf: Leaf | None,
        text: LoggedText | None,
    ) -> None:
        if self._frontier.size == index:
            self._frontier.append(leaf_hash)
            self._roots[index + 1] = self._frontier.root()
        statement = None
        try:
            statement = None if text is None else parse_statement(text.statement)
        except EvidenceError as error:
            bundle.faults.append(fault_of("text_damaged", f"text {index}", error.detail))
            text = None
        if text is not None:
            self._demanded.add(text.committed_size)
        bundle.entries.append(
            Entry(index=index, leaf_hash=leaf_hash, leaf=leaf, text=text, statement=statement)
        )

    def _text(
        self, bundle: Bundle, index: int, item: bytes | None, key: bytes | None, leaf: Leaf | None
    ) -> LoggedText | None:
        """Step 3."""
        place = f"text {index}"
        if item is None or key is None:
            code = "text_missing" if item is None else "text_key_missing"
            what = "the text" if item is None else "the key of the text"
            bundle.faults.append(fault_of(code, place, f"{what} is not there"))
            return None
        try:
            text = open_text(key, self._stores.origin, index, item)
        except IntegrityAlarm as error:
            bundle.faults.append(fault_of("text_damaged", place, error.detail))
            return None
        if leaf is not None and sha256_hex(text.statement) != leaf.statement_id:
            detail = "the text is not the one that was signed"
            bundle.faults.append(fault_of("text_damaged", place, detail))
            return None
        return text

    def _from_second(
        self, index: int, leaf_hash: bytes, leaf: Leaf | None, text: LoggedText | None
    ) -> tuple[Leaf | None, LoggedText | None]:
        """What the files lack of an entry, from the row that makes this very leaf."""
        if self._second is None:
            return leaf, text
        try:
            rows = logged_rows(self._second, self._stores.log_id, index, index + 1)
        except IntegrityAlarm:
            return leaf, text
        for row in rows:
            made = row.leaf()
            if made is None or row.public_key is None or hash_leaf(made) != leaf_hash:
                break
            leaf = parse_leaf(made)
            raw = row.statement
            if text is None and raw is not None and sha256_hex(raw) == row.statement_id:
                text = text_of(raw, row)
        return leaf, text

    def _read_notes(self, bundle: Bundle) -> None:
        """Step 4 for a bundle of the files."""
        name = notes_name(bundle.first // TILE_WIDTH)
        notes: list[tuple[datetime, bytes]] = []
        data = self._read(name)
        try:
            notes = decode_notes(data) if data is not None else []
        except IntegrityAlarm as alarm:
            bundle.faults.append(fault_of("checkpoint_damaged", name, alarm.detail))
        self._judge_notes(bundle, notes)
        if not self.size and self._note is not None:  # published before any leaf: the file alone
            self._judge_notes(bundle, [(signed_at(self._note, self._log_keys), self._note)])
        missing = sorted(one for one in self._demanded if one <= bundle.end)
        for size in missing:
            detail = "it was signed for a batch and is not among the published ones"
            bundle.faults.append(fault_of("checkpoint_missing", f"checkpoint {size}", detail))
        if self._second is not None and (missing or (data is None and not bundle.first)):
            with suppress(IntegrityAlarm):
                log, above = self._stores.log_id, bundle.first or -1
                held = checkpoints_between(self._second, log, above, bundle.end)
                wanted = {*missing, *([] if bundle.first else [0])}
                notes = [(row.committed_at, row.note) for row in held if row.size in wanted]
                self._judge_notes(bundle, notes)
        self._roots = {size: root for size, root in self._roots.items() if size >= bundle.end}
        self._demanded = {one for one in self._demanded if one > bundle.end}

    # ---------------------------------------------------------------- both sources

    def _take_rows(self, bundle: Bundle, connection: Connection) -> None:
        """Step 5 for the leaves."""
        rows = logged_rows(connection, self._stores.log_id, bundle.first, bundle.end)
        for row in rows:
            place = f"record {row.idx}"
            made = row.leaf()
            if made is None or row.statement is None or row.public_key is None:
                bundle.faults.append(fault_of("tail_damaged", place, "a part of it is missing"))
                continue
            if sha256_hex(row.statement) != row.statement_id:
                detail = "its text is not the one that was signed"
                bundle.faults.append(fault_of("tail_damaged", place, detail))
                continue
            leaf = Leaf(
                statement_id=row.statement_id, signature=row.signature, public_key=row.public_key
            )
            text = text_of(row.statement, row)
            self._grow(bundle, row.idx, hash_leaf(made), leaf, text)

    def _judge_notes(self, bundle: Bundle, notes: Iterable[tuple[datetime, bytes]]) -> None:
        """Believe the checkpoints that the log signed over these leaves.

        Where a tile is damaged some roots are not known, and the signature alone counts.
        """
        blind = any(fault.code == "tile_damaged" for fault in bundle.faults)
        for committed_at, note in notes:
            opened = self._opened(note)
            if opened is not None and bundle.end % TILE_WIDTH and opened[0] > bundle.end:
                continue  # a running server has published more of this bundle by now
            known = None if opened is None else self._roots.get(opened[0])
            if opened is None or (known != opened[1] and not (blind and known is None)):
                place = "?" if opened is None else opened[0]
                detail = "the log did not sign it over these leaves"
                code = "checkpoint_damaged"
                bundle.faults.append(fault_of(code, f"checkpoint {place}", detail))
                continue
            size, root = opened
            self._demanded.discard(size)
            bundle.checkpoints[size] = StoredCheckpoint(
                size=size, root=root, note=note, committed_at=committed_at
            )

    def _opened(self, note: bytes) -> tuple[int, bytes] | None:
        try:
            said = open_checkpoint(note, self._log_keys, require=self._kinds).checkpoint
        except EvidenceError:
            return None
        return said.size, said.root

    def _items(self, name: str, count: int, bundle: Bundle | None) -> list[bytes]:
        """The items of a bundle, as many as there are."""
        data = self._read(name)
        if data is None:
            return []
        try:
            return decode_bundle(data)[:count]
        except EvidenceError as error:
            if bundle is not None:
                bundle.faults.append(fault_of("entry_damaged", name, error.detail))
            return []

    def _read(self, name: str) -> bytes | None:
        """A full file, or the widest partial form; a running server may just replace it."""
        for _ in range(2):
            try:
                partial = self._stores.tiles.get_partial(name)
                return self._stores.tiles.get(name) if partial is None else partial[1]
            except (NotFound, IntegrityAlarm):
                continue
        return None
