"""The keys that can be destroyed: one for each statement's text and one for each sealed content.

The third truth beside the log and the objects: what is sealed and has lost its key is gone, and
nothing makes it anew. So the store has a backup of its own (`storage.keys.backup`), lies apart from
the database, the tiles and the objects, and knows three states of a key: there, destroyed, and
missing, which is damage.

    text_keys       origin, idx        the key, wrapped, and the id of what wraps it
    content_keys    origin, name       the same; a capture's id, or that and `/facts`
    destroyed_keys  origin, name       when, by whom and why; such a row is never changed

Two stores with one contract: a SQLite file of one machine (`FileKeys`), and a database on a server
that many nodes reach (`SharedKeys`). Refuses to make a second key for a name, a key for a name
whose key was destroyed, and to start with a file that is not there.

Source: docs/adr/0005-text-keys.md, docs/adr/0015-keys-sealing-and-disposal.md.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Table,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from storage.db.engine import Database
from storage.errors import IntegrityAlarm, KeyDestroyed, NotFound
from storage.keys.tables import TURN, content_keys, destroyed_keys, text_keys
from storage.keys.wrapping import KEY_BYTES, KeyWrapper

_AT_ONCE = 500
_PLAIN = ""
"""In the column `kek`: the key is not wrapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """That a key was destroyed; the row outlives it.

    Attributes:
        origin: of the log.
        name: `text` and the index, or `content` and the name.
        at: when, UTC.
        by: who destroyed it, a pseudonym.
        reason: why, one line without personal data.
    """

    origin: str
    name: str
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many keys there are.

    Attributes:
        by_kek: by the id of what wraps them; the empty id is for keys that nothing wraps.
        destroyed: how many were destroyed.
    """

    by_kek: Mapping[str, int]
    destroyed: int


class KeyStore:
    """One random key for each name, made once. Threads and processes may share it."""

    def __init__(self, db: Database, wrapper: KeyWrapper | None) -> None:
        """Use a database that `prepare` has made ready.

        Args:
            db: of keys, and of nothing else.
            wrapper: wraps the keys; without one they are kept as they are, protected by the rights
                on the file alone.
        """
        self._db = db
        self._wrapper = wrapper

    @property
    def db(self) -> Database:
        """The database of keys."""
        return self._db

    @property
    def wrapper(self) -> KeyWrapper | None:
        """What wraps new keys."""
        return self._wrapper

    def provide(self, origin: str, first: int, count: int) -> list[bytes]:
        """The keys of `count` texts from an index on; missing ones are made, durable on return.

        Raises:
            KeyDestroyed: one of them was destroyed.
            Unavailable: the store, or what wraps the keys, cannot be reached.
        """
        found = self.find(origin, first, count)
        if len(found) < count:
            with self._db.write(TURN) as connection:
                names = [_text_name(first + n) for n in range(count)]
                _require_none_destroyed(connection, origin, names)
                fresh = [
                    {"origin": origin, "idx": first + n, **self._wrapped(origin, name)}
                    for n, name in enumerate(names)
                    if first + n not in found
                ]
                insert_new(connection, text_keys, fresh)
            found = self.find(origin, first, count)
        return [found[first + n] for n in range(count)]

    def find(self, origin: str, first: int, count: int) -> dict[int, bytes]:
        """Those of these texts' keys that are there, by index; makes none.

        Raises:
            IntegrityAlarm: a wrapped key does not open.
            Unavailable: as `provide`.
        """
        wanted = (text_keys.c.idx >= first, text_keys.c.idx < first + count)
        with self._db.read() as connection:
            query = select(text_keys).where(text_keys.c.origin == origin, *wanted)
            rows = connection.execute(query).all()
        return {row.idx: self._opened(row, origin, _text_name(row.idx)) for row in rows}

    def provide_content(self, origin: str, name: str) -> bytes:
        """The key of one content; made where there is none, durable on return.

        Raises:
            KeyDestroyed: it was destroyed.
            Unavailable: as `provide`.
        """
        with suppress(NotFound):
            return self.find_content(origin, name)
        with self._db.write(TURN) as connection:
            _require_none_destroyed(connection, origin, [content_key_name(name)])
            fresh = {
                "origin": origin,
                "name": name,
                **self._wrapped(origin, content_key_name(name)),
            }
            insert_new(connection, content_keys, [fresh])
        return self.find_content(origin, name)

    def find_content(self, origin: str, name: str) -> bytes:
        """The key of one content; makes none.

        Raises:
            KeyDestroyed: it was destroyed.
            NotFound: it is missing, and nothing says that it was destroyed.
            IntegrityAlarm, Unavailable: as `find`.
        """
        key = (content_keys.c.origin == origin, content_keys.c.name == name)
        with self._db.read() as connection:
            row = connection.execute(select(content_keys).where(*key)).one_or_none()
            if row is None:
                _require_none_destroyed(connection, origin, [content_key_name(name)])
                raise NotFound("the key of a content is missing, and nobody destroyed it")
        return self._opened(row, origin, content_key_name(name))

    def destroy_content(
        self, origin: str, name: str, *, at: datetime, by: str, reason: str
    ) -> Destroyed:
        """Destroy a content's key for ever; repeating it returns what was noted first.

        On return the key is in no page of the file and in none of its write-ahead log. What a
        server's dead rows and archived log hold is wrapped: see the ADR for what reaches them.

        Raises:
            Unavailable: the key may still be there; do it again.
        """
        mine = (content_keys.c.origin == origin, content_keys.c.name == name)
        row = {"origin": origin, "name": content_key_name(name), "by_whom": by, "reason": reason}
        with self._db.write(TURN) as connection:
            insert_new(connection, destroyed_keys, [{**row, "destroyed_at": at}])
            connection.execute(delete(content_keys).where(*mine))
        self.scrub()
        found = self.destroyed(origin, [content_key_name(name)])
        return found[0]

    def destroyed(self, origin: str | None = None, names: Iterable[str] = ()) -> list[Destroyed]:
        """What was destroyed: everything, or of one log, or these names of it."""
        wanted = list(names)
        query = select(destroyed_keys).order_by(destroyed_keys.c.destroyed_at)
        if origin is not None:
            query = query.where(destroyed_keys.c.origin == origin)
        if wanted:
            query = query.where(destroyed_keys.c.name.in_(wanted))
        with self._db.read() as connection:
            return [_destroyed(row) for row in connection.execute(query)]

    def content_was_destroyed(self, origin: str, name: str) -> bool:
        """Whether a content's key was destroyed; False also where there never was one."""
        return bool(self.destroyed(origin, [content_key_name(name)]))

    def count(self) -> Counted:
        """How many keys there are, by what wraps them."""
        by_kek: dict[str, int] = {}
        with self._db.read() as connection:
            for table in (text_keys, content_keys):
                query = select(table.c.kek, func.count()).group_by(table.c.kek)
                for kek, count in connection.execute(query):
                    by_kek[kek] = by_kek.get(kek, 0) + count
            gone = select(func.count()).select_from(destroyed_keys)
            return Counted(by_kek=by_kek, destroyed=connection.execute(gone).scalar_one())

    def rewrap(self) -> int:
        """Wrap every key with the present key-encryption key; how many were wrapped otherwise.

        A crash leaves some done and some not, each readable; doing it again ends it.

        Raises:
            ValueError: nothing wraps keys here.
            IntegrityAlarm, Unavailable: a key cannot be unwrapped; it stays as it is.
        """
        if self._wrapper is None:
            raise ValueError("nothing wraps keys here")
        changed = 0
        for table in (text_keys, content_keys):
            while rows := self._rewrap_some(table, self._wrapper.current):
                changed += rows
        self.scrub()
        return changed

    def faults(self) -> Iterator[str]:
        """What is wrong: each key that does not open, each that is there and was destroyed."""
        gone = {(one.origin, one.name) for one in self.destroyed()}
        for table in (text_keys, content_keys):
            for row in self.rows(table):
                name = _name_of(table, row)
                if (row.origin, name) in gone:
                    yield f"{name} of {row.origin} was destroyed and has a key again"
                try:
                    self._opened(row, row.origin, name)
                except (IntegrityAlarm, NotFound) as error:
                    yield f"{name} of {row.origin}: {error.detail}"

    def rows(self, table: Table) -> Iterator[Row[Any]]:
        """Every row of a table, in pieces, as it is kept."""
        order = list(table.primary_key.columns)
        last: tuple[object, ...] | None = None
        while True:
            query = select(table).order_by(*order).limit(_AT_ONCE)
            if last is not None:
                query = query.where(_after(order, last))
            with self._db.read() as connection:
                found = connection.execute(query).all()
            yield from found
            if len(found) < _AT_ONCE:
                return
            last = tuple(found[-1][:2])

    def content_rows(self) -> Iterator[Row[Any]]:
        """Every key of a content, as it is kept."""
        return self.rows(content_keys)

    def scrub(self) -> None:
        """Bring what was deleted out of what lies beside the rows, where the store is ours."""

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _rewrap_some(self, table: Table, current: str) -> int:
        order = list(table.primary_key.columns)
        with self._db.write(TURN) as connection:
            query = select(table).where(table.c.kek != current).order_by(*order).limit(_AT_ONCE)
            rows = connection.execute(query).all()
            for row in rows:
                name = _name_of(table, row)
                wrapped = self._wrapped(row.origin, name, self._opened(row, row.origin, name))
                mine = [column == value for column, value in zip(order, row[:2], strict=True)]
                connection.execute(update(table).where(*mine).values(**wrapped))
        return len(rows)

    def _wrapped(self, origin: str, name: str, key: bytes | None = None) -> dict[str, object]:
        """The columns of a key, a fresh one where none is given."""
        key = key or secrets.token_bytes(KEY_BYTES)
        if self._wrapper is None:
            return {"key": key, "kek": _PLAIN}
        kek = self._wrapper.current
        return {"key": self._wrapper.wrap(kek, key, _place(kek, origin, name)), "kek": kek}

    def _opened(self, row: Row[Any], origin: str, name: str) -> bytes:
        key, kek = bytes(row.key), str(row.kek)
        if kek != _PLAIN:
            if self._wrapper is None:
                raise NotFound("a key is wrapped, and what wraps it is not named")
            key = self._wrapper.unwrap(kek, key, _place(kek, origin, name))
        if len(key) != KEY_BYTES:
            raise IntegrityAlarm("a key has another length than keys have")
        return key


def _place(kek: str, origin: str, name: str) -> bytes:
    """What a wrapped key is bound to: no row can be put in another's place."""
    return f"fengni-key/v1 {kek} {origin} {name}".encode()


def _text_name(index: int) -> str:
    return f"text {index}"


def content_key_name(name: str) -> str:
    """How notes of destruction call the key of a content."""
    return f"content {name}"


def _name_of(table: Table, row: Row[Any]) -> str:
    return _text_name(row.idx) if table is text_keys else content_key_name(row.name)


def _after(order: list[Column[Any]], last: tuple[object, ...]) -> ColumnElement[bool]:
    """Rows after one, in the order of a primary key of two columns."""
    return tuple_(*order) > tuple_(*last)


def _require_none_destroyed(connection: Connection, origin: str, names: list[str]) -> None:
    gone = select(destroyed_keys.c.name).where(
        destroyed_keys.c.origin == origin, destroyed_keys.c.name.in_(names)
    )
    if connection.execute(gone).first() is not None:
        raise KeyDestroyed("the key was destroyed, with a note of who did it and why")


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows whose names are free; those that are taken stay as they are."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
    else:
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)


def _destroyed(row: Row[Any]) -> Destroyed:
    return Destroyed(
        origin=row.origin, name=row.name, at=row.destroyed_at, by=row.by_whom, reason=row.reason
    )
