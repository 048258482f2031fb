"""fsck on SQLite: whatever is wrong with the file, something is found and nothing breaks down."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evidence.keys import P256Signer
from tests.storage.log_material import Place, append, captures
from tests.storage.test_log_fsck import flip, found

SIGNER = P256Signer.generate()
PAGE_BYTES = 4096
TREES = frozenset({2, 5, 10, 13})  # what the first byte of a page says that is part of a tree


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A published log of 600 leaves."""
    place = Place(tmp_path_factory.mktemp("original") / "log").make()
    with place.open() as log:
        append(log, captures(SIGNER, 600))
    return place


@pytest.fixture
def place(original: Place, tmp_path: Path) -> Place:
    """Return a copy of the log that the test may spoil."""
    return original.copy(tmp_path / "log")


def filled_pages(database: Path) -> list[int]:
    """The pages of trees that hold rows: of an empty one most bytes mean nothing."""
    data = database.read_bytes()
    pages = range(1, len(data) // PAGE_BYTES)
    heads = {page: data[page * PAGE_BYTES : page * PAGE_BYTES + 5] for page in pages}
    return [page for page, head in heads.items() if head[0] in TREES and any(head[3:5])]


@pytest.mark.parametrize("tenth", [0, 2, 5, 9])
def test_a_flipped_byte_in_the_database_file_is_found(place: Place, tenth: int) -> None:
    """Whatever a flipped byte of a used page hits, something is found and nothing breaks down."""
    with closing(sqlite3.connect(place.database)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    filled = filled_pages(place.database)
    page = filled[len(filled) * tenth // 10]
    for offset in (0, 6, 9):
        copy = place.copy(place.folder.parent / f"copy-{page}-{offset}")
        flip(copy.database, page * PAGE_BYTES + offset)
        assert copy.fsck() != []


def test_a_value_of_another_type_is_found(place: Place) -> None:
    """Bytes that became text are damage of the file, and the walk does not break down on them."""
    place.edit("UPDATE records SET signature = 'text' WHERE idx = 17")
    assert found(place) == {("database_damaged", "database")}


def test_a_text_that_is_no_utf8_is_found(place: Place) -> None:
    """A column that cannot even be decoded is named as unreadable."""
    place.edit("UPDATE records SET organ = CAST(x'ff' AS TEXT) WHERE idx = 17")
    assert found(place) == {("unreadable", "stores")}
